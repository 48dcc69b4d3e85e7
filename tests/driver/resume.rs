//! The machine sleeps and wakes: what was granted is there again, and nothing else.

use std::cell::Cell;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{FaultEvent, Route};
use cofferdam::iommu::{Difference, Edit, Error, Options, UnitState};
use cofferdam_model::{BridgeKind, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use super::audit::{assert_nothing_differs, audit};
use super::device_tlb::{DEVICE_TLB, is_on};
use super::interrupts::*;

const MEMORY: u64 = 0x6000_0000;
const RW: Rights = Rights::all();
const EVENT: FaultEvent = FaultEvent::to(0, 0x41);

/// What each call says that may not be made until the machine is resumed.
fn assert_asleep<H: Hal>(iommu: &Front<H>, device: SourceId) {
    assert_eq!(iommu.commit(&[Edit::Release(device)]).map(drop), Err(Error::Asleep));
    assert_eq!(iommu.commit(&[]).map(drop), Err(Error::Asleep));
    assert_eq!(iommu.mute(device, true), Err(Error::Asleep));
    assert_eq!(iommu.set_fault_event(None), Err(Error::Asleep));
    assert_eq!(iommu.enable().map(drop), Err(Error::Asleep));
    assert_eq!([iommu.prepare(), iommu.disable(), iommu.hand_back()], [const { Err(Error::Asleep) }; 3]);
}

#[test]
fn units_that_lost_power_have_all_that_they_had() {
    for (name, unit) in presets() {
        let machine = machine([unit.clone().serving(&[1]), unit]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        assert_eq!((iommu.suspend(), iommu.resume(|_| ())), (Err(Error::NotEnabled), Err(Error::NotEnabled)));
        iommu.enable().unwrap();
        iommu.set_fault_event(Some(EVENT)).unwrap();
        let (device, far, other) = (function(0, 3), function(1, 3), function(0, 4));
        let cell = cell_with(&iommu, region(0, MEMORY, 4 * PAGE, RW), device);
        iommu.assign(far, cell).unwrap();
        let frames = machine.frames_in_use();
        iommu.suspend().unwrap();
        iommu.suspend().unwrap();
        assert_asleep(&iommu, device);
        assert!(!write(&machine, other, 8, 1) && write(&machine, device, 8, 1), "{name}: they translate");
        assert_eq!(machine.messages().len(), 0, "{name}: nobody is sent an event");
        iommu.faults(|_| ());
        [0, 1].iter().for_each(|unit| machine.reset_unit(*unit));
        iommu.resume(|device| panic!("{name}: {device}")).unwrap();
        assert_eq!((states(&iommu), machine.frames_in_use()), (vec![UnitState::On; 2], frames), "{name}");
        assert!(
            write(&machine, device, 8, 1) && write(&machine, far, PAGE, 1) && !write(&machine, other, 8, 1),
            "{name}"
        );
        assert!(!machine.messages().is_empty(), "{name}: the event goes where it went");
        assert_nothing_differs(&iommu, name);
        iommu.unmap(cell, range(0, PAGE)).unwrap();
        assert!(!write(&machine, device, 8, 1), "{name}");
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
        machine.check();
    }
}

thread_local! {
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// On a machine that did not sleep no request is lost, whatever the driver is at.
#[test]
fn nothing_is_lost_on_a_machine_that_did_not_sleep() {
    for (name, unit) in presets() {
        let hal = Watched::new(machine([unit]), |_: Call, machine: &Machine| {
            if RUNS.get() {
                assert!(write(machine, function(0, 3), 8, 1) && !write(machine, function(0, 4), 8, 1));
            }
        });
        let iommu = enabled_front(&hal, &hal.machine.dmar(), Options::default());
        cell_with(&iommu, region(0, MEMORY, PAGE, RW), function(0, 3));
        RUNS.set(true);
        for _ in 0..2 {
            iommu.suspend().unwrap();
            iommu.resume(|device| panic!("{name}: {device}")).unwrap();
        }
        // And without a word before.
        iommu.resume(|device| panic!("{name}: {device}")).unwrap();
        RUNS.set(false);
        assert_nothing_differs(&iommu, name);
        hal.machine.check();
    }
}

/// Interrupts go where they went, also by another unit's table, and what a unit had cached before is gone.
#[test]
fn interrupts_go_where_they_went() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        let iommu = remapping(&machine, false);
        let (card, other) = (function(0, 5), function(0, 6));
        let cell = iommu.create_cell(CONFIG).unwrap();
        iommu.assign_with(card, cell, messages(2)).unwrap();
        iommu.route(cell, of(card, 1), Route::to(2, 0x52)).unwrap();
        let message = iommu.message(of(card, 1)).unwrap();
        iommu.suspend().unwrap();
        machine.reset_unit(0);
        iommu.resume(|device| panic!("{name}: {device}")).unwrap();
        assert_eq!(send(&machine, card, message, 0), Ok((2, 0x52)), "{name}");
        assert!(send(&machine, other, message, 0).is_err(), "{name}");
        assert_nothing_differs(&iommu, name);
        iommu.route(cell, of(card, 1), Route::to(2, 0x53)).unwrap();
        assert_eq!(send(&machine, card, message, 0), Ok((2, 0x53)), "{name}");
        machine.check();
    }
}

/// Ports isolate again, and device-TLBs are used again: a device that lost power has nothing cached.
#[test]
fn what_stands_in_configuration_space_is_there_again() {
    let machine = machine([UnitConfig::server()]);
    let (port, device, plain) = (function(0, 1), function(1, 0), function(0, 3));
    machine.add_bridge(port, BridgeKind::RootPort, 1..=1);
    machine.add_acs(port, 0x1f);
    machine.add_ats(device, 32);
    let iommu = enabled_with_ats(&machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(0, MEMORY, PAGE, RW)).unwrap();
    iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    iommu.assign(plain, cell).unwrap();
    let before = (0..0x200).step_by(4).map(|at| machine.config_read(port, at)).collect::<Vec<_>>();
    let now = || (0..0x200).step_by(4).map(|at| machine.config_read(port, at)).collect::<Vec<_>>();
    iommu.suspend().unwrap();
    machine.reset_unit(0);
    machine.cut_power(device);
    let control = (0..0x200).step_by(4).find(|at| now()[usize::from(*at) / 4] & 0xffff == 0x000d).unwrap() + 4;
    machine.set_config(port, control, now()[usize::from(control) / 4] & 0xffff);
    assert!(!is_on(&machine, device) && now() != before);
    iommu.resume(|device| panic!("{device}")).unwrap();
    assert!(is_on(&machine, device) && now() == before);
    assert!(ats_write(&machine, device, 8, 1) && write(&machine, plain, 8, 1));
    assert_nothing_differs(&iommu, "after sleep");
    iommu.unmap(cell, range(0, PAGE)).unwrap();
    assert!(!ats_write(&machine, device, 8, 1));
    machine.check();
}

/// Another device in the place of one, or none, is blocked in its cell until it is released.
#[test]
fn another_device_is_blocked() {
    for id in [0xdead_beee, u32::MAX] {
        let machine = machine([UnitConfig::server()]);
        let (device, stays) = (function(0, 3), function(0, 4));
        [device, stays].iter().for_each(|device| machine.add_express(*device));
        let iommu = enabled(&machine);
        let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), device);
        iommu.assign(stays, cell).unwrap();
        iommu.suspend().unwrap();
        machine.reset_unit(0);
        machine.set_config(device, 0, id);
        let mut blocked = Vec::new();
        iommu.resume(|device| blocked.push(device)).unwrap();
        assert_eq!(blocked, [device], "{id:#x}");
        assert!(!write(&machine, device, 8, 1) && write(&machine, stays, 8, 1), "{id:#x}");
        // Once more, it is no news.
        iommu.resume(|device| panic!("{device}")).unwrap();
        assert!(!write(&machine, device, 8, 1));
        let mut quarantined = Vec::new();
        iommu.assigned(|it| quarantined.push((it.device, it.quarantined))).unwrap();
        assert_eq!(quarantined, [(device, true), (stays, false)]);
        assert!(audit(&iommu).iter().all(|it| matches!(it, Difference::OtherDevice { .. })));
        if id == u32::MAX {
            machine.pull_out(device);
        }
        iommu.release(device).unwrap();
        iommu.destroy_cell(cell).unwrap();
        machine.check();
    }
}

/// A unit that does not come back costs itself alone, and is resumed by a further call.
#[test]
fn a_unit_that_does_not_wake_costs_itself_alone() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (device, far) = (function(0, 3), function(1, 3));
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), device);
    iommu.assign(far, cell).unwrap();
    iommu.suspend().unwrap();
    [0, 1].iter().for_each(|unit| machine.reset_unit(*unit));
    machine.break_unit(0, Defect::AllOnes);
    let failed = iommu.resume(|device| panic!("{device}"));
    assert!(matches!(failed, Err(Error::Unit(UnitError::Dead { .. }))), "{failed:?}");
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }, UnitState::On]));
    assert!(write(&machine, device, 8, 1) && !write(&machine, function(0, 4), 8, 1));
    machine.mend_unit(0);
    machine.reset_unit(0);
    iommu.resume(|device| panic!("{device}")).unwrap();
    assert!(write(&machine, far, 8, 1) && !write(&machine, function(1, 4), 8, 1));
    machine.check();
}

/// Units that were only prepared are not switched on by that.
#[test]
fn what_was_off_stays_off() {
    let machine = machine([UnitConfig::server()]);
    let iommu = discover(&machine, &[]).unwrap();
    iommu.prepare().unwrap();
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), function(0, 3));
    iommu.suspend().unwrap();
    assert_asleep(&iommu, function(0, 3));
    machine.reset_unit(0);
    iommu.resume(|device| panic!("{device}")).unwrap();
    assert_eq!(states(&iommu), [UnitState::Off]);
    iommu.enable().unwrap();
    assert!(write(&machine, function(0, 3), 8, 1) && !write(&machine, function(0, 4), 8, 1));
    iommu.destroy_cell(cell).unwrap();
    machine.check();
}
