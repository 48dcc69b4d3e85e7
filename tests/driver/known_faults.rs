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

/// "The handle of a destroyed cell never names another", nor does an answer that was given about another.
#[test]
#[ignore = "a fault that is known"]
fn the_handle_of_a_cell_that_is_gone_names_no_later_one() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let gone = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.destroy_cell(gone).unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.destroy_cell(root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map_shared(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    let committed = iommu.assign(function(0, 2), cell).unwrap();
    let audit = iommu.audit(|_| ()).unwrap();
    let of =
        |cell| (committed.coherency_change(cell).is_some(), audit.shares(cell), audit.allows_unsafe_interrupts(cell));
    assert_eq!((of(cell).1, of(other)), (true, (false, false, true)));
    assert_eq!(of(gone), (false, false, false), "the cell that is there now: {:?}", of(cell));
}
