//! Units are switched on and off while other CPUs use the front, and NMIs come.

use std::cell::Cell;
use std::sync::OnceLock;

use cofferdam::addr::Rights;
use cofferdam::iommu::{Error, Options, UnitState};
use cofferdam::limits::{Limits, Memory};
use cofferdam::{CellConfig, Iommu};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

static STOP: Stop = Stop::new();
type Watch<M> = Watched<M, dyn Fn(Call, &Machine) + Sync>;
type Stopped<'m> = Front<&'m Watch<&'m Machine>>;

/// What a call that waits for a unit has begun is neither lost nor taken for what a later unit did.
#[test]
fn units_are_not_switched_while_somebody_waits_for_one() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let looks = STOP.looks();
    let hal: Watch<&Machine> = Watched::shared(&machine, looks);
    let iommu: Stopped<'_> = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
    machine.break_unit(0, Defect::Slow(100_000));
    let switches = [Iommu::disable, |iommu: &Stopped<'_>| iommu.enable().map(drop), Iommu::prepare];
    for (round, switch) in switches.into_iter().enumerate() {
        // It is about no cell, so no cell is in a change.
        let muted = STOP.meanwhile(
            || iommu.mute(function(0, 3), round % 2 == 0),
            || assert_eq!(switch(&iommu), Err(Error::InChange { cell: None })),
        );
        muted.unwrap();
        assert_eq!(states(&iommu), [UnitState::On]);
    }
    iommu.disable().unwrap();
    assert_eq!(states(&iommu), [UnitState::Off]);
    machine.check();
}

thread_local! {
    static FRONT: Cell<Option<&'static Shared>> = const { Cell::new(None) };
    static BUSY: Cell<u32> = const { Cell::new(0) };
}

type Shared = Front<&'static Watch<Machine>>;

/// An NMI between any two accesses of a call that switches units finds them busy, and comes back.
#[test]
fn an_nmi_reads_faults_whatever_is_done_to_units() {
    let handler = |_: Call, _: &Machine| {
        if let Some(front) = FRONT.get() {
            BUSY.set(BUSY.get() + u32::from(front.faults(|_| ()).busy));
            front.faults_by_device(|_, _| ());
        }
    };
    let hal = Box::leak(Box::new(Watch::<Machine>::shared(machine([UnitConfig::client()]), handler)));
    let table = of_machine(&hal.machine, &[]).table();
    let iommu: &'static Shared = Box::leak(Box::new(front(&*hal, &table, Options::default()).unwrap()));
    FRONT.set(Some(iommu));
    for _ in 0..2 {
        iommu.prepare().unwrap();
        iommu.enable().unwrap();
        iommu.disable().unwrap();
    }
    FRONT.set(None);
    assert!(BUSY.get() > 20, "{}", BUSY.get());
    hal.machine.check();
}

/// A front in a static that is neither mutable nor wrapped: what a hypervisor has.
#[test]
fn a_front_lives_in_a_static() {
    static MEMORY: Memory<{ Limits::DEFAULT.words() }> = Memory::new();
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    static IOMMU: OnceLock<Iommu<'static, &'static Machine>> = OnceLock::new();
    let hal = MACHINE.get_or_init(|| machine([UnitConfig::client()]));
    let iommu: &'static Iommu<'static, _> = IOMMU.get_or_init(|| Iommu::new(hal, Options::DEFAULT));
    let table = of_machine(hal, &[]).table();
    assert_eq!(iommu.topology().units(), []);
    assert_eq!(iommu.enable(), Err(Error::NotProbed));
    let given = MEMORY.take().unwrap();
    iommu.probe_acpi(given, &Limits::DEFAULT, &table, |finding| panic!("{finding}")).unwrap();
    let again = iommu.probe_acpi(memory(&SMALL).leak(), &SMALL, &table, |_| ());
    assert_eq!(again, Err(Error::Probed));
    iommu.enable().unwrap();
    let cell = cell_with(iommu, region(0, 0x6000_0000, PAGE, Rights::all()), function(0, 3));
    assert!(write(hal, function(0, 3), 0, 1));
    iommu.destroy_cell(cell).unwrap();
    iommu.disable().unwrap();
    assert_eq!(iommu.create_cell(CellConfig::DEFAULT).map(drop), Ok(()));
    hal.check();
}

/// The closure that findings go to runs while the front is locked: what it calls fails, and ends.
#[test]
fn a_finding_calls_the_front_without_harm() {
    let machine = machine([UnitConfig::client()]);
    let iommu = empty_front(&machine, Options { timeout_ns: 1000, ..Options::default() });
    let table = of_machine(&machine, &[]).structure(0, &[0; 4]).table();
    let mut errors = Vec::new();
    let probed = iommu.probe_acpi(memory(&SMALL).leak(), &SMALL, &table, |_| errors.push(iommu.enable()));
    assert!(probed.is_ok() && !errors.is_empty());
    assert!(errors.iter().all(|error| *error == Err(Error::InChange { cell: None })), "{errors:?}");
}
