//! Faults that are known: each test fails, and says what ought to be. What they are is in docs/testing.md.

use cofferdam::iommu::Error;
use cofferdam::limits::Limits;
use cofferdam_model::{Defect, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, RW, assert_nothing_differs};

const MEMORY: u64 = 0x6000_0000;

/// Without frames the tables lose more than the configuration says, and the next device is not given what its cell has.
#[test]
#[ignore = "a fault that is known"]
fn a_failed_change_without_frames_leaves_no_difference() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (card, next) = (function(0, 2), function(0, 3));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), card);
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    machine.allow_allocations(Some(0));
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE)).release(card);
    let result = change.commit();
    assert!(matches!(result, Err(Error::Unit(_))), "{result:?}");
    machine.allow_allocations(None);
    machine.mend_unit(0);
    iommu.assign(next, cell).unwrap();
    assert_nothing_differs(&iommu, "after the change");
    assert!(write(&machine, next, INPUT + PAGE, 1), "its cell has it");
}

/// A unit that refused a command once goes on, and has confirmed that it forgot the table: its frames are given back.
#[test]
#[ignore = "a fault that is known"]
fn no_frame_is_lost_to_a_unit_that_goes_on() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = limited(&machine, &Limits::DEFAULT);
    let card = function(0, 4);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    iommu.release(card).unwrap();
    for _ in 0..4 {
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        assert!(matches!(iommu.assign(card, cell), Err(Error::Unit(_))));
        machine.mend_unit(0);
        iommu.assign(card, cell).or_else(|_| iommu.release(card)).unwrap();
        let _ = iommu.release(card);
    }
    iommu.destroy_cell(cell).unwrap();
    assert_eq!(machine.frames_in_use(), iommu.statistics().table_frames as usize);
}

/// What there is no room for does not keep from the root cell what there is room for: a page that joins two of its regions.
#[test]
#[ignore = "a fault that is known"]
fn the_root_cell_has_again_what_there_is_room_for() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, ..Limits::DEFAULT });
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
