//! What comes between the steps of a change: requests of devices, and other changes while it waits for a unit.

use std::cell::Cell;

use cofferdam::addr::Rights;
use cofferdam::iommu::Options;
use cofferdam::iommu::UnitState;
use cofferdam_model::{Config, Defect, Machine, UnitConfig};
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
