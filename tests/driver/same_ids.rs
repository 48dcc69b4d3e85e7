//! Domain-ids that two cells have at a time, each on another unit: the tables of one are no matter of the other.

use cofferdam::iommu::Options;
use cofferdam::limits::Limits;
use cofferdam::{CellId, Coherency};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;

use crate::audit::{INPUT, RW, assert_nothing_differs};

const MEMORY: u64 = 0x6000_0000;

/// A unit with 15 domain-ids for cells, which cannot make requests snoop, for bus 1; and one with many ids for bus 0.
fn few_and_many() -> Machine {
    let many = UnitConfig::server();
    let few = UnitConfig { cap: many.cap & !7, ecap: many.ecap & !(1 << 7), ..many.clone() };
    machine([few.serving(&[1]), many])
}

/// 15 cells with a device behind the second unit each, so that each id of the first is one of theirs; the last cell has a device
/// behind the first unit. And how many frames the tables of one cell take.
fn cells_with_same_ids(machine: &Machine) -> (Front<&Machine>, Vec<CellId>, CellId, usize) {
    let limits = Limits { cells: 16, ..Limits::DEFAULT };
    let iommu = limited_front(machine, &of_machine(machine, &[&[1]]).table(), &limits, Options::default());
    let memory = |n: u64| region(INPUT, MEMORY + n * PAGE, PAGE, RW);
    let (mut cells, mut tables) = (Vec::new(), 0);
    for n in 0..15 {
        let before = machine.frames_in_use();
        cells.push(cell_with(&iommu, memory(n), function(0, n as u8 + 1)));
        tables = machine.frames_in_use() - before;
    }
    let last = cell_with(&iommu, memory(15), function(1, 0));
    (iommu, cells, last, tables)
}

/// The table of a cell is given back with the last device of that cell, and the cell is as coherent as without it, whoever has
/// its id on another unit.
#[test]
fn a_table_goes_with_the_last_device_of_its_own_cell() {
    let machine = few_and_many();
    let (iommu, cells, last, tables) = cells_with_same_ids(&machine);
    let before = machine.frames_in_use();
    let released = iommu.release(function(1, 0)).unwrap();
    assert_eq!(machine.frames_in_use(), before - tables);
    assert_eq!(coherency_changes(&iommu, &released, &[last]), [(last, Coherency::Enforced)]);
    iommu.assign(function(1, 0), last).unwrap();
    assert_eq!(machine.frames_in_use(), before);
    for (n, cell) in (1..).zip(cells) {
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(machine.frames_in_use(), before - n * tables, "cell {n}");
    }
    assert!(write(&machine, function(1, 0), INPUT, 1));
    assert_nothing_differs(&iommu, "one cell is left");
    iommu.destroy_cell(last).unwrap();
}

/// A unit that does nothing any more fails no change of a cell that has no device behind it, whoever has the cell's id there.
#[test]
fn a_unit_is_asked_nothing_about_a_table_with_an_id_it_knows() {
    let machine = few_and_many();
    let (iommu, cells, last, _) = cells_with_same_ids(&machine);
    machine.break_unit(0, Defect::QueueDead);
    for (n, cell) in (1..).zip(cells) {
        assert!(write(&machine, function(0, n), INPUT, 1));
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        assert!(!write(&machine, function(0, n), INPUT, 1), "cell {n}");
    }
    iommu.unmap(last, range(INPUT, PAGE)).unwrap_err();
    machine.abandon();
}

/// A table that is kept for a device which did not leave counts as kept, although a device of another cell uses its id.
#[test]
fn a_kept_table_counts_as_kept_whoever_has_its_id_elsewhere() {
    let machine = few_and_many();
    let (iommu, _, _, tables) = cells_with_same_ids(&machine);
    machine.break_unit(0, Defect::QueueDead);
    iommu.release(function(1, 0)).unwrap_err();
    let kept = iommu.audit(|_| ()).unwrap().quarantined_frames;
    machine.abandon();
    assert_eq!(kept, tables as u64);
}
