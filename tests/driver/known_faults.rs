//! Faults that are known: each test fails, and says what ought to be. What they are is in docs/testing.md.

use cofferdam::limits::Limits;
use cofferdam_model::UnitConfig;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, RW};

const MEMORY: u64 = 0x6000_0000;

/// What there is no room for does not keep from the root cell what there is room for: a page that joins two of its regions.
#[test]
#[ignore = "a fault that is known"]
fn the_root_cell_has_again_what_there_is_room_for() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, root_regions: 3, ..Limits::DEFAULT });
    let disk = function(0, 1);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let at = |page: u64| MEMORY + page * PAGE;
    for (page, pages) in [(0, 5), (100, 1), (200, 1)] {
        iommu.map(root, region(at(page), at(page), pages * PAGE, RW)).unwrap();
    }
    iommu.assign(disk, root).unwrap();
    let [a, b, c] = [0; 3].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.map(a, region(INPUT, at(100), PAGE, RW)).unwrap();
    iommu.map(a, region(INPUT + LARGE, at(200), PAGE, RW)).unwrap();
    iommu.map(b, region(INPUT, at(1), PAGE, RW)).unwrap();
    iommu.map(c, region(INPUT, at(3), PAGE, RW)).unwrap();
    // There is no room for either page.
    iommu.destroy_cell(a).unwrap();
    assert!(write(&machine, disk, at(2), 1) && !write(&machine, disk, at(3), 1) && write(&machine, disk, at(4), 1));
    // From three regions on: two of them are one again.
    iommu.destroy_cell(c).unwrap();
    assert!(write(&machine, disk, at(3), 2), "nobody else has it");
}
