//! What comes between the steps of a change: requests of devices, and other changes while it waits for a unit.

use std::cell::Cell;

use cofferdam::addr::{Iova, Rights};
use cofferdam::iommu::{DeviceConfig, Error, Options, UnitState};
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{Answer, BridgeKind, Config, Defect, Late, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

type Shared = Watched<Machine, dyn Fn(Call, &Machine) + Sync>;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
const OTHER: u64 = 0x7000_0000;

thread_local! {
    static FRONT: Cell<Option<&'static Front<&'static Shared>>> = const { Cell::new(None) };
    /// The cell that a change is about.
    static CHANGED: Cell<Option<CellId>> = const { Cell::new(None) };
    /// How often another call came between.
    static BETWEEN: Cell<u32> = const { Cell::new(0) };
}

/// A front over a machine that `before` looks at, both of which stay.
fn shared(machine: Machine, before: fn(Call, &Machine), options: Options) -> &'static Front<&'static Shared> {
    let hal: &'static Shared = Box::leak(Box::new(Watched::shared(machine, before)));
    let table = of_machine(&hal.machine, &[]).atsr(1, 0, &[]).table();
    Box::leak(Box::new(enabled_front(hal, &table, options)))
}

/// Gives a device to another cell as soon as the first unit has failed and the change that found out waits for the second.
fn intrude(call: Call, machine: &Machine) {
    let Some(iommu) = FRONT.get().filter(|_| call == Call::Pause) else { return };
    if !matches!(states(iommu)[..], [UnitState::Failed { .. }, UnitState::On]) {
        return;
    }
    FRONT.set(None);
    let (cell, device) = (iommu.create_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 9));
    iommu.map(cell, region(0, OTHER, PAGE, RW)).unwrap();
    iommu.assign(device, cell).unwrap();
    assert_eq!(read(machine, device, INPUT), None, "what the cell was granted that the change failed for");
    assert_eq!(read(machine, device, 0), Some(0xb));
    assert_eq!(machine.violations(), []);
}

#[test]
fn a_failed_assignments_domain_id_is_free_once_no_unit_knows_it() {
    let units = [UnitConfig::server().caching_mode(true).serving(&[1]), UnitConfig::server()];
    let hal: &'static Shared = Box::leak(Box::new(Watched::shared(machine(units), intrude)));
    let iommu = enabled_front(hal, &of_machine(&hal.machine, &[&[1]]).table(), Options::default());
    let iommu = &*Box::leak(Box::new(iommu));
    poke(&hal.machine, MEMORY, 0xa);
    poke(&hal.machine, OTHER, 0xb);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    // So that no root entry changes.
    iommu.assign(function(0, 3), cell).unwrap();
    iommu.release(function(0, 3)).unwrap();
    hal.machine.break_unit(0, Defect::QueueDead);
    FRONT.set(Some(iommu));
    let mut change = iommu.change();
    change.assign(function(1, 0), cell).assign(function(0, 3), cell);
    assert!(change.commit().is_err());
    assert!(FRONT.take().is_none(), "nobody came between");
    assert_eq!(read(&hal.machine, function(0, 3), INPUT), None);
}

/// Units that cache now this and now that, so that a walk may begin at any table that was there, and find any page.
#[test]
fn what_a_device_keeps_it_reaches_at_every_moment_of_a_change() {
    const GIB: u64 = 1 << 30;
    let device = function(0, 3);
    for (name, unit) in presets() {
        for seed in 0..2 {
            let kept = Cell::new([None; 3]);
            let look = |_: Call, machine: &Machine| {
                for at in kept.get().into_iter().flatten() {
                    assert!(read(machine, device, at).is_some(), "{name}, seed {seed}: {at:#x}");
                }
            };
            let config = Config { seed: Some(seed), ..Config::new([unit.clone()]) };
            let hal = Watched::new(Machine::new(config), look);
            let table = of_machine(&hal.machine, &[]).table();
            let iommu = enabled_front(&hal, &table, Options::default());
            for bytes in [LARGE, GIB] {
                let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
                // All but a page in the middle: the rest joins to one page with it, and is split without it.
                let (first, hole) = (INPUT, INPUT + bytes / 2);
                iommu.map(cell, region(first, 0x8000_0000, bytes, RW)).unwrap();
                iommu.unmap(cell, range(hole, PAGE)).unwrap();
                iommu.assign(device, cell).unwrap();
                kept.set([Some(first), Some(hole + PAGE), Some(first + bytes - PAGE)]);
                iommu.map(cell, region(hole, 0x8000_0000 + bytes / 2, PAGE, RW)).unwrap();
                iommu.protect(cell, range(hole, PAGE), Rights::READ).unwrap();
                iommu.protect(cell, range(hole, PAGE), RW).unwrap();
                iommu.protect(cell, range(first, PAGE), Rights::READ).unwrap();
                iommu.protect(cell, range(first, PAGE), RW).unwrap();
                iommu.unmap(cell, range(hole, PAGE)).unwrap();
                kept.set([None; 3]);
                iommu.destroy_cell(cell).unwrap();
            }
        }
    }
}

/// Write-backs come to memory in any order until a fence.
#[test]
fn joined_pages_are_one_in_memory_before_hardware_finds_it() {
    for seed in 0..16 {
        let unit = UnitConfig::server().coherent(false);
        let machine = Machine::new(Config { seed: Some(seed), ..Config::new([unit]) });
        let iommu = enabled(&machine);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), function(0, 3));
        for page in [0, LARGE / 2, LARGE - PAGE] {
            iommu.protect(cell, range(INPUT + page, PAGE), Rights::READ).unwrap();
            assert!(!write(&machine, function(0, 3), INPUT + page, 1));
            iommu.protect(cell, range(INPUT + page, PAGE), RW).unwrap();
            assert!(write(&machine, function(0, 3), INPUT + page, 1));
        }
        assert_eq!(machine.violations(), [], "seed {seed} (R32)");
    }
}

/// T2: each time that a change waits, another call of the same cell finds the cell in that change.
#[test]
fn a_cell_is_in_its_change_whenever_that_waits() {
    const MICROSECOND: u64 = 1_000;
    let before = |call: Call, _: &Machine| {
        let Some(iommu) = FRONT.get().filter(|_| call == Call::Pause) else { return };
        FRONT.set(None);
        let cell = CHANGED.get().unwrap();
        let number = BETWEEN.get();
        let more = iommu.map(cell, region(INPUT + 8 * LARGE, OTHER, PAGE, RW));
        assert_eq!(more, Err(Error::InChange { cell: Some(cell) }), "wait {number}");
        BETWEEN.set(number + 1);
        FRONT.set(Some(iommu));
    };
    let unit = UnitConfig::server().caching_mode(true);
    let options = Options { timeout_ns: 200 * MICROSECOND, ..Options::DEFAULT };
    let iommu = shared(machine([unit]), before, options);
    let (machine, device_tlb) = (&iommu.hal().machine, DeviceConfig { device_tlb: true, messages: 0 });
    let [leaves, stays, arrives] = [3, 4, 5].map(|device| function(0, device));
    for device in [leaves, stays, arrives] {
        machine.add_ats(device, 32);
        machine.set_device_tlb(device, Answer::After(50 * MICROSECOND), 32);
    }
    machine.add_express(leaves);
    machine.add_reset(leaves, Reset::Express, 0);
    let cell = iommu.create_cell(CellConfig { reset: ResetPolicy::IfPossible, ..UNSAFE_INTERRUPTS }).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
    iommu.assign_with(leaves, cell, device_tlb).unwrap();
    iommu.assign_with(stays, cell, device_tlb).unwrap();
    // Somebody else has switched the ATS of the one that arrives on.
    machine.set_config(arrives, 0x144, 1 << 31);
    machine.write_late(leaves, Iova::new(INPUT), &[1; 8], 100 * MICROSECOND, Late::UnderWay);
    CHANGED.set(Some(cell));
    FRONT.set(Some(iommu));
    let mut change = iommu.change();
    change.release(leaves).unmap(cell, range(INPUT, PAGE)).assign_with(arrives, cell, device_tlb);
    change.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW));
    change.commit().unwrap();
    FRONT.set(None);
    assert_eq!(machine.resets(leaves), 1);
    assert!(ats_write(machine, arrives, INPUT + LARGE, 1) && !ats_write(machine, stays, INPUT, 1));
    assert!(BETWEEN.get() > 100, "{}", BETWEEN.get());
    machine.check();
}

/// T2: whenever `isolate` looks at configuration space or writes there, nobody else has the lock: no device is reset
/// between what it has read and what it writes.
#[test]
fn nobody_changes_anything_while_isolate_is_at_configuration_space() {
    let before = |call: Call, _: &Machine| {
        let is_access = matches!(call, Call::ConfigRead | Call::ConfigWrite);
        let Some(iommu) = FRONT.get().filter(|_| is_access) else { return };
        FRONT.set(None);
        let released = iommu.release(function(1, 0));
        assert_eq!(released, Err(Error::InChange { cell: None }), "{call:?}");
        BETWEEN.set(BETWEEN.get() + u32::from(call == Call::ConfigWrite));
        FRONT.set(Some(iommu));
    };
    let iommu = shared(machine([UnitConfig::server()]), before, Options { timeout_ns: 5_000, ..Options::DEFAULT });
    let machine = &iommu.hal().machine;
    let ports = [1, 2, 3].map(|number| (function(0, number), function(number, 0)));
    for (port, device) in ports {
        machine.add_bridge(port, BridgeKind::RootPort, device.bus()..=device.bus());
        [port, device].iter().for_each(|function| machine.add_acs(*function, 0x1d));
        machine.add_express(device);
        machine.add_reset(device, Reset::Express, 0);
    }
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(function(1, 0), cell).unwrap();
    FRONT.set(Some(iommu));
    iommu.isolate().unwrap();
    FRONT.set(None);
    assert_eq!(BETWEEN.get(), 6, "each of the functions is written to");
    machine.check();
}
