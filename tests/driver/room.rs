//! Cells that have as many regions as they can have: what a change amounts to counts, also if it fails.

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::NoFrame;
use cofferdam::iommu::{DeviceConfig, Edit, Error};
use cofferdam::limits::{Full, Limits};
use cofferdam_model::{Answer, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, RW, assert_nothing_differs, reach};

const MEMORY: u64 = 0x6000_0000;

/// A machine's front whose cells have room for two regions.
fn two_regions(machine: &Machine) -> Front<&Machine> {
    limited(machine, &Limits { regions: 2, root_regions: 2, ..Limits::DEFAULT })
}

/// Four pages from `MEMORY` on, and one page a large page above.
fn map_two_regions(iommu: &Front<&Machine>, cell: CellId, input: u64) {
    iommu.map(cell, region(input, MEMORY, 4 * PAGE, RW)).unwrap();
    iommu.map(cell, region(input + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
}

/// A cell with two regions.
fn full_cell(iommu: &Front<&Machine>) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    map_two_regions(iommu, cell, INPUT);
    cell
}

/// The same for the root cell.
fn full_root_cell(iommu: &Front<&Machine>) -> CellId {
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    map_two_regions(iommu, root, MEMORY);
    root
}

/// Two cells: one has the second region of the full root cell, the other the second page of its first.
fn cells_with_parts_of_both(iommu: &Front<&Machine>) -> [CellId; 2] {
    [LARGE, PAGE].map(|offset| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY + offset, PAGE, RW)).unwrap();
        cell
    })
}

/// Gives a cell a device with a device-TLB.
fn assign_with_device_tlb(machine: &Machine, iommu: &Front<&Machine>, device: SourceId, cell: CellId) {
    machine.add_ats(device, 32);
    iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
}

/// A root cell that is refused, since there is one, takes no cell's place.
#[test]
fn a_second_root_cell_takes_no_place() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { cells: 2, ..Limits::DEFAULT });
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    for _ in 0..4 {
        assert_eq!(iommu.create_root_cell(UNSAFE_INTERRUPTS), Err(Error::RootExists(root)));
    }
    iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(iommu.create_cell(UNSAFE_INTERRUPTS), Err(Error::Full(Full { what: "cells", capacity: 2 })));
}

/// L3: the root cell has room for the holes that all other cells make, whichever slot it has, and no other cell has that room.
#[test]
fn the_root_cell_has_room_of_its_own() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 2, root_regions: 9, cells: 7, ..Limits::DEFAULT });
    let full = |capacity| Err(Error::Full(Full { what: "regions in this cell", capacity }));
    let at = |piece: u64| MEMORY + (2 * piece + 1) * PAGE;
    // The second time the first slot is another cell's.
    let mut others = vec![];
    for disk in [function(0, 1), function(0, 2)] {
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        let cells = [(); 4].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
        for piece in 0..8 {
            iommu.map(cells[piece as usize / 2], region(INPUT + at(piece), at(piece), PAGE, RW)).unwrap();
        }
        for page in 0..17 {
            assert_eq!(write(&machine, disk, MEMORY + page * PAGE, page), page % 2 == 0, "page {page}");
        }
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_eq!(iommu.map(cell, region(INPUT, at(8), PAGE, RW)).map(drop), full(9), "one hole more");
        assert_nothing_differs(&iommu, "all room is taken");
        for gone in cells.iter().chain(&[cell, root]).chain(&others) {
            iommu.destroy_cell(*gone).unwrap();
        }
        // The slot that the root cell had is an ordinary one again.
        let other = full_cell(&iommu);
        assert_eq!(iommu.map(other, region(INPUT + 2 * LARGE, MEMORY + 8 * PAGE, PAGE, RW)).map(drop), full(2));
        iommu.destroy_cell(other).unwrap();
        others = vec![iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()];
        assert_eq!(reach(&iommu), []);
    }
}

/// What was taken from a cell in a change that failed is not in its configuration any more, also when the cell had as many
/// regions as it can have: a device that comes later must not be given it.
#[test]
fn what_a_failed_change_revoked_is_not_given_to_the_next_device() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    let (silent, next) = (function(0, 3), function(0, 4));
    let cell = full_cell(&iommu);
    assign_with_device_tlb(&machine, &iommu, silent, cell);
    machine.set_device_tlb(silent, Answer::Never, 32);
    assert!(ats_write(&machine, silent, INPUT + PAGE, 1));
    // The second region goes, so the first may be split.
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT + LARGE, PAGE)).unmap(cell, range(INPUT + PAGE, PAGE));
    change.commit().unwrap_err();
    machine.set_device_tlb(silent, Answer::After(0), 32);
    iommu.release(silent).unwrap();
    iommu.assign(next, cell).unwrap();
    assert!(!write(&machine, next, INPUT + PAGE, 1), "it was taken from the cell");
}

/// The same for the root cell's memory as if there were no other cell.
#[test]
fn what_the_root_cell_gave_up_in_a_failed_change_stays_away() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    let (silent, disk) = (function(0, 3), function(0, 1));
    let root = full_root_cell(&iommu);
    iommu.assign(disk, root).unwrap();
    assign_with_device_tlb(&machine, &iommu, silent, root);
    machine.set_device_tlb(silent, Answer::Never, 32);
    assert!(ats_write(&machine, silent, MEMORY + PAGE, 1));
    let mut change = iommu.change();
    change.unmap(root, range(MEMORY + LARGE, PAGE)).unmap(root, range(MEMORY + PAGE, PAGE));
    change.commit().unwrap_err();
    assert!(!write(&machine, disk, MEMORY + PAGE, 1));
    machine.set_device_tlb(silent, Answer::After(0), 32);
    iommu.release(silent).unwrap();
    // Any change that the root cell has part in.
    iommu.unmap(root, range(MEMORY + 3 * PAGE, PAGE)).unwrap();
    assert_nothing_differs(&iommu, "after the change");
    assert!(!write(&machine, disk, MEMORY + PAGE, 1), "nobody granted it again");
}

/// U8: after a failed change the configuration and the tables say the same.
#[test]
fn a_failed_change_in_a_full_cell_leaves_no_difference() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, root_regions: 3, ..Limits::DEFAULT });
    let (silent, other) = (function(0, 3), function(0, 4));
    let cell = full_cell(&iommu);
    iommu.map(cell, region(INPUT + 2 * LARGE, MEMORY + 2 * LARGE, PAGE, RW)).unwrap();
    assign_with_device_tlb(&machine, &iommu, silent, cell);
    iommu.assign(other, cell).unwrap();
    machine.set_device_tlb(silent, Answer::Never, 32);
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT + LARGE, PAGE)).unmap(cell, range(INPUT + 2 * LARGE, PAGE));
    change.protect(cell, range(INPUT + PAGE, PAGE), Rights::READ);
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    assert_nothing_differs(&iommu, "after the change");
}

/// What is granted may join what is left of several regions. Without it they are more than before, and more than after.
#[test]
fn a_change_has_room_for_what_is_left_if_it_fails() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    let [cell, other] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    for (cell, input) in [(cell, INPUT), (root, MEMORY + LARGE)] {
        let memory = if cell == root { input } else { MEMORY };
        let page = |first: u64, pages: u64| region(input + first * PAGE, memory + first * PAGE, pages * PAGE, RW);
        iommu.map(cell, page(0, 4)).unwrap();
        iommu.map(cell, page(5, 6)).unwrap();
        if cell == root {
            // What counts is what the root cell would have without the others.
            iommu.map(other, region(INPUT + LARGE, memory + 5 * PAGE, 6 * PAGE, RW)).unwrap();
        }
        let before = reach(&iommu);
        // The hole is filled, and another one made below.
        let mut change = iommu.change();
        change.map(cell, page(4, 1)).unmap(cell, page(1, 1).input);
        let full = Full { what: "regions in this cell", capacity: 2 };
        assert_eq!(change.commit().map(drop), Err(Error::Full(full)));
        assert_eq!(reach(&iommu), before);
        assert_nothing_differs(&iommu, "after the change");
        iommu.map(cell, page(4, 1)).unwrap();
        iommu.unmap(cell, page(1, 1).input).unwrap();
    }
}

/// Destroying a cell gives memory back to the root cell, and cannot be refused for that.
#[test]
fn a_cell_can_be_destroyed_when_the_root_cell_is_full() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    let root = full_root_cell(&iommu);
    iommu.assign(function(0, 1), root).unwrap();
    let [a, _] = cells_with_parts_of_both(&iommu);
    iommu.destroy_cell(a).unwrap();
}

/// A change that takes one region of the root cell and splits another has room for the outcome.
#[test]
fn the_root_cell_is_full_only_if_what_is_left_does_not_fit() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    full_root_cell(&iommu);
    cells_with_parts_of_both(&iommu);
}

/// What waits for room in the root cell does not stand in the way of an edit after which there is room for all it had.
#[test]
fn the_root_cell_gives_up_memory_while_other_memory_waits() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    let root = full_root_cell(&iommu);
    iommu.assign(function(0, 1), root).unwrap();
    let [a, _] = cells_with_parts_of_both(&iommu);
    iommu.destroy_cell(a).unwrap();
    iommu.unmap(root, range(MEMORY + 3 * PAGE, PAGE)).unwrap();
}

/// What there is no room for does not keep from the root cell what there is room for: a page that joins two of its regions.
#[test]
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
    // From three regions on: two of them are one again, and there is room for one page that waits.
    iommu.destroy_cell(c).unwrap();
    assert!(write(&machine, disk, at(3), 2), "nobody else has it");
    assert!(write(&machine, disk, at(100), 2) && !write(&machine, disk, at(200), 2), "from the lowest on");
    assert_nothing_differs(&iommu, "with two of three pages");
    iommu.destroy_cell(b).unwrap();
    assert!(write(&machine, disk, at(1), 3) && write(&machine, disk, at(200), 3), "and for the other one");
}

/// What the root cell is granted itself is no gift that may wait: without a frame the change fails, also if it asks for rights
/// alone.
#[test]
fn what_is_granted_to_the_root_cell_does_not_wait_for_frames() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let disk = function(0, 1);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, LARGE, Rights::READ)).unwrap();
    iommu.assign(disk, root).unwrap();
    let (part, more) = (range(MEMORY, LARGE / 2), region(MEMORY + LARGE, MEMORY + LARGE, PAGE, RW));
    for edit in [Edit::Protect(root, part, RW), Edit::Map(root, more)] {
        machine.allow_allocations(Some(0));
        assert_eq!(iommu.commit(&[edit]).map(drop), Err(Error::NoFrame(NoFrame::NoneLeft)), "{edit:?}");
        machine.allow_allocations(None);
        assert_nothing_differs(&iommu, "nothing is granted");
        iommu.commit(&[edit]).unwrap();
    }
    assert!([MEMORY, MEMORY + LARGE].iter().all(|at| write(&machine, disk, *at, 1)), "both are granted now");
    assert!(!write(&machine, disk, MEMORY + LARGE / 2, 1), "and no more");
}

/// The same in one change: a cell is destroyed, and the root cell gives something up.
#[test]
fn a_cell_is_destroyed_while_the_root_cell_gives_something_up() {
    let machine = machine([UnitConfig::server()]);
    let iommu = two_regions(&machine);
    let root = full_root_cell(&iommu);
    iommu.assign(function(0, 1), root).unwrap();
    let [a, _] = cells_with_parts_of_both(&iommu);
    let mut change = iommu.change();
    change.unmap(root, range(MEMORY + 3 * PAGE, PAGE)).destroy(a);
    change.commit().unwrap();
}

/// "For the root cell itself this is `Map`", and regions that continue each other with the same rights count as one.
#[test]
fn shared_memory_of_the_root_cell_is_memory_of_the_root_cell() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 1, root_regions: 1, ..Limits::DEFAULT });
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, PAGE, RW)).unwrap();
    iommu.map_shared(root, region(MEMORY + PAGE, MEMORY + PAGE, PAGE, RW)).unwrap();
}

/// L5: destroying a cell, or taking its memory away, needs no frame: what there is no frame for, the root cell has later.
#[test]
fn a_cell_can_be_destroyed_without_a_frame() {
    for destroy in [true, false] {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled(&machine);
        let (disk, card) = (function(0, 1), function(0, 2));
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        // All of it, so that the root cell has no table there.
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * LARGE, RW), card);
        iommu.unmap(root, range(MEMORY, PAGE)).unwrap();
        machine.allow_allocations(Some(0));
        if destroy {
            iommu.destroy_cell(cell).unwrap();
        } else {
            iommu.unmap(cell, range(INPUT, 8 * LARGE)).unwrap();
        }
        assert!(!write(&machine, card, INPUT, 1) && !write(&machine, disk, MEMORY + PAGE, 1));
        assert_nothing_differs(&iommu, "without a frame");
        machine.allow_allocations(None);
        iommu.unmap(root, range(MEMORY + PAGE, PAGE)).unwrap();
        assert!(!write(&machine, disk, MEMORY + PAGE, 2) && write(&machine, disk, MEMORY + 2 * PAGE, 2));
        assert_nothing_differs(&iommu, "with frames");
    }
}
