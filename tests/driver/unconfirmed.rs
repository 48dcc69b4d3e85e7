//! What a unit has not confirmed: devices may still reach memory, or have rights, that their cell has no more.

use cofferdam::CellId;
use cofferdam::addr::{Region, Rights, SourceId};
use cofferdam::iommu::{Edit, Error, Remains, SharedMemory, WithheldMemory};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, RW, assert_nothing_differs};

const MEMORY: u64 = 0x6000_0000;

fn page() -> Region {
    region(INPUT, MEMORY, PAGE, RW)
}

/// A unit that will fail, and one that works; a cell with a card behind the first, and one with a disk behind the second.
fn two_cells(machine: &Machine) -> (Front<&Machine>, [CellId; 2], [SourceId; 2]) {
    let iommu = discover(machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let devices = [function(1, 0), function(0, 1)];
    let cells = devices.map(|device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign(device, cell).unwrap();
        cell
    });
    (iommu, cells, devices)
}

fn two_units() -> Machine {
    machine([UnitConfig::server().serving(&[1]), UnitConfig::server()])
}

fn withheld(iommu: &Front<&Machine>) -> Vec<WithheldMemory> {
    let mut all = Vec::new();
    iommu.withheld(|one| all.push(one)).unwrap();
    all
}

/// As they are named: by their slots.
fn ordered(one: CellId, other: CellId) -> [CellId; 2] {
    let mut cells = [one, other];
    cells.sort_by_key(|cell| cell.to_string());
    cells
}

fn shared(iommu: &Front<&Machine>) -> Vec<SharedMemory> {
    let mut all = Vec::new();
    iommu.shared_memory(|one| all.push(one)).unwrap();
    all
}

/// Rights that a unit has not confirmed gone are named as memory is, by the change that fails and later, until it has.
#[test]
fn rights_that_may_still_be_there_are_withheld() {
    for is_root in [false, true] {
        let machine = two_units();
        let (iommu, [a, b], [card, disk]) = two_cells(&machine);
        let (a, at) = if is_root {
            iommu.destroy_cell(a).unwrap();
            let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.assign(card, root).unwrap();
            (root, MEMORY)
        } else {
            (a, INPUT)
        };
        iommu.map_shared(a, region(at, MEMORY, PAGE, RW)).unwrap();
        assert!(write(&machine, card, at, 1));
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        let mut remains = Vec::new();
        let edit = Edit::Protect(a, range(at, PAGE), Rights::READ);
        iommu.commit_reporting(&[edit], |one| remains.push(one)).unwrap_err();
        let [left] = withheld(&iommu)[..] else { panic!("{:?}", withheld(&iommu)) };
        assert_eq!((left.cell, left.memory), (a, outputs(MEMORY, PAGE)));
        assert_eq!(remains, [Remains::Withheld(left)]);
        // Who shares memory has no say in the rights of others, but it is named who reaches it.
        iommu.map_shared(b, page()).unwrap();
        assert!(write(&machine, card, at, 2) && write(&machine, disk, INPUT, 3));
        let pair = SharedMemory { memory: left.memory, cells: ordered(a, b) };
        assert_eq!(shared(&iommu), [pair; 2], "root cell {is_root}");
        // The unit goes on, and is asked again.
        iommu.protect(a, range(at, PAGE), Rights::READ).unwrap();
        assert_eq!((withheld(&iommu), write(&machine, card, at, 2)), (vec![], false));
        assert_eq!(shared(&iommu), [pair]);
        assert_nothing_differs(&iommu, "confirmed");
    }
}

/// More rights than were granted in the end, since their unit failed, may be cached as well.
#[test]
fn rights_that_were_taken_back_are_withheld() {
    let machine = two_units();
    let (iommu, [a, _], _) = two_cells(&machine);
    iommu.map_shared(a, region(INPUT, MEMORY, PAGE, Rights::READ)).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    iommu.protect(a, range(INPUT, PAGE), RW).unwrap_err();
    assert!(matches!(withheld(&iommu)[..], [left] if (left.cell, left.memory) == (a, outputs(MEMORY, PAGE))));
    machine.abandon();
}

/// While a unit that is out of service may know another place for a cell's memory, or more rights, no change of that memory is said
/// to be done: not one that finds nothing to do, not one that needs nothing from the unit, and not one without edits.
#[test]
fn nothing_is_said_to_be_done_that_a_dead_unit_may_know_otherwise() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let card = function(0, 3);
    let cell = cell_with(&iommu, page(), card);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert!(write(&machine, card, INPUT, 1));
    machine.break_unit(0, Defect::QueueDead);
    let protect = || iommu.protect(cell, range(INPUT, PAGE), Rights::READ).map(drop);
    assert!(matches!(protect(), Err(Error::Unit(_))));
    assert!(matches!(protect(), Err(Error::Unit(_))), "the same again");
    assert!(matches!(iommu.commit(&[]), Err(Error::Unit(_))), "no edits");
    assert!(write(&machine, card, INPUT, 2), "it has the right still");
    assert!(matches!(iommu.unmap(cell, range(INPUT, PAGE)), Err(Error::Unit(_))));
    let elsewhere = region(INPUT, MEMORY + LARGE, PAGE, RW);
    assert!(matches!(iommu.map(cell, elsewhere), Err(Error::Unit(_))));
    assert!(write(&machine, card, INPUT, 3));
    assert_eq!((peek(&machine, MEMORY), peek(&machine, MEMORY + LARGE)), (3, 0));
    // A cell without a device behind that unit is as free as ever.
    iommu.map(other, elsewhere).unwrap();
    machine.abandon();
}

/// Memory that devices of a cell may still reach is named among what two cells reach.
#[test]
fn memory_that_two_cells_may_still_reach_is_named() {
    let machine = two_units();
    let (iommu, [a, b], devices) = two_cells(&machine);
    [a, b].iter().for_each(|cell| iommu.map_shared(*cell, page()).map(drop).unwrap());
    assert!(devices.iter().all(|device| write(&machine, *device, INPUT, 1)));
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(a, range(INPUT, PAGE)).unwrap_err();
    let memory = outputs(MEMORY, PAGE);
    assert_eq!(shared(&iommu), [SharedMemory { memory, cells: [a, b] }]);
    assert!(devices.iter().all(|device| write(&machine, *device, INPUT, 1)));
    // One that comes to share it now is named as well.
    let third = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map_shared(third, page()).unwrap();
    assert_eq!(shared(&iommu), [[a, b], [a, third], [b, third]].map(|cells| SharedMemory { memory, cells }));
    machine.abandon();
}
