//! Faults are read from a handler that can come between any two accesses of the driver to the machine, as that of an NMI
//! does: also while a change is under way, and while faults are being read.

use std::cell::Cell;

use cofferdam::addr::Rights;
use cofferdam::error::UnitError;
use cofferdam::iommu::{Error, Options};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

type Interrupted = Watched<Machine, dyn Fn(Call, &Machine) + Sync>;
type Shared = Front<&'static Interrupted>;

thread_local! {
    static FRONT: Cell<Option<&'static Shared>> = const { Cell::new(None) };
    /// Handlers that run now: one may interrupt another.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// More faults come than there are records, whenever the handler does.
    static FLOOD: Cell<bool> = const { Cell::new(false) };
    static SEEN: Cell<Seen> = const { Cell::new(Seen { handlers: 0, records: 0, busy: 0 }) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    handlers: u32,
    records: u32,
    busy: u32,
}

fn handler(_: Call, machine: &Machine) {
    let (front, depth) = (FRONT.get(), DEPTH.get());
    let Some(front) = front.filter(|_| depth < 2) else { return };
    if FLOOD.get() {
        (0..2).for_each(|_| assert!(!write(machine, function(0, 9), 0, 0)));
    }
    DEPTH.set(depth + 1);
    let log = front.faults(|_| ());
    let Seen { handlers, records, busy } = SEEN.get();
    SEEN.set(Seen { handlers: handlers + 1, records: records + log.records, busy: busy + u32::from(log.busy) });
    DEPTH.set(depth);
}

fn interrupted(machine: Machine) -> (&'static Shared, &'static Machine) {
    interrupted_after(machine, |_, _| ())
}

/// The same, after something else.
fn interrupted_after(
    machine: Machine,
    first: impl Fn(&Front<&'static Interrupted>, &Machine),
) -> (&'static Shared, &'static Machine) {
    let hal: &'static Interrupted = Box::leak(Box::new(Interrupted::shared(machine, handler)));
    let table = of_machine(&hal.machine, &[]).table();
    let iommu = enabled_front(hal, &table, Options::default());
    first(&iommu, &hal.machine);
    (Box::leak(Box::new(iommu)), &hal.machine)
}

#[test]
fn faults_are_read_at_any_moment_of_a_change_or_a_reading() {
    let (iommu, machine) = interrupted(machine([UnitConfig::client()]));
    let (device, other) = (function(0, 3), function(0, 4));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    FRONT.set(Some(iommu));
    let mut expected = 0;
    for round in 1..=3 {
        iommu.map(cell, region(0, 0x6000_0000, LARGE, Rights::all())).unwrap();
        iommu.assign(device, cell).unwrap();
        assert!(write(machine, device, 8, round));
        assert!(!write(machine, other, 8, round));
        expected += 1;
        iommu.unmap(cell, range(0, LARGE)).unwrap();
        iommu.release(device).unwrap();
    }
    assert!(!write(machine, other, 8, 0));
    let log = iommu.faults(|fault| assert_eq!(fault.source, other));
    FRONT.set(None);
    let seen = SEEN.get();
    assert_eq!(seen.records + log.records, expected + 1, "each fault is read once, whoever reads it");
    assert!(seen.handlers > 1000 && seen.busy > 1000, "{seen:?}");
    machine.check();
}

#[test]
fn reading_leaves_an_error_of_the_queue_to_whoever_waits() {
    errors_are_left(interrupted(machine([UnitConfig::server().fault_records(1)])));
}

/// A unit that had failed, and is on again after a reset, is one like any other.
#[test]
fn reading_leaves_an_error_also_in_a_unit_that_had_failed() {
    errors_are_left(interrupted_after(machine([UnitConfig::server().fault_records(1)]), |iommu, machine| {
        let device = function(0, 5);
        let cell = cell_with(iommu, region(0, 0x7000_0000, PAGE, Rights::all()), device);
        machine.break_unit(0, Defect::QueueDead);
        iommu.unmap(cell, range(0, PAGE)).unwrap_err();
        iommu.faults(|_| ());
        machine.mend_unit(0);
        machine.reset_unit(0);
        iommu.enable().unwrap();
        iommu.release(device).unwrap();
        iommu.destroy_cell(cell).unwrap();
    }));
}

fn errors_are_left((iommu, machine): (&'static Shared, &'static Machine)) {
    let device = function(0, 3);
    let cell = cell_with(iommu, region(0, 0x6000_0000, PAGE, Rights::all()), device);
    FRONT.set(Some(iommu));
    FLOOD.set(true);
    for _ in 0..20 {
        iommu.map(cell, region(LARGE, 0x6000_0000, PAGE, Rights::all())).unwrap();
        assert!(write(machine, device, LARGE, 1));
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        let error = iommu.unmap(cell, range(LARGE, PAGE)).unwrap_err();
        assert!(matches!(error, Error::Unit(UnitError::Queue { bit: "IQE", .. })), "{error}");
        // Flushed by the next change of the cell.
        iommu.map(cell, region(2 * LARGE, 0x6000_0000, PAGE, Rights::all())).unwrap();
        iommu.unmap(cell, range(2 * LARGE, PAGE)).unwrap();
    }
    FRONT.set(None);
    machine.take_violations();
}
