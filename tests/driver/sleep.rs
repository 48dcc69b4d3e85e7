//! Units that were reset since they were switched on, as in a sleep state.

use cofferdam::addr::Rights;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::{DeviceConfig, Difference, Error, Owner, UnitState};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

const MEMORY: u64 = 0x6000_0000;
const RW: Rights = Rights::all();

/// What is said of the first unit, whose GSTS_REG shows this bit no more.
fn reset(machine: &Machine, bit: &'static str) -> UnitError {
    UnitError::Reset { unit: machine.windows()[0], register: "GSTS_REG", bit }
}

/// I10: after a reset nothing claims that a unit is on or blocks: no state, no audit, no assignment, no change.
#[test]
fn nothing_claims_on_or_blocking_after_a_reset() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (device, other) = (function(0, 3), function(0, 4));
        let cell = cell_with(&iommu, region(0, MEMORY, 4 * PAGE, RW), device);
        machine.reset_unit(0);
        assert!(write(&machine, other, 0x1000, 1), "{name}: memory is open");
        let error = reset(&machine, "TES");
        assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: false }], "{name}");
        let mut found = Vec::new();
        iommu.audit(|difference| found.push(difference)).unwrap();
        assert_eq!(found, [Difference::NotTranslating { unit: machine.windows()[0] }], "{name}");
        assert_eq!(iommu.unblocked(&mut |_| ()).unwrap().units, 1, "{name}");
        assert!(matches!(iommu.assign(other, cell), Err(Error::Unit(UnitError::Reset { .. }))), "{name}");
        let before = machine.now_ns();
        let failed = iommu.unmap(cell, range(0, PAGE)).unwrap_err();
        assert!(matches!(failed, Error::Unit(UnitError::Reset { .. })), "{name}: {failed}");
        assert!(machine.now_ns() - before < 10_000_000, "{name}: at once");
        assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }]), "{name}");
        machine.abandon();
    }
}

/// I10: `enable` after a reset programs a unit again with the tables that it had, its queue and its fault event.
#[test]
fn enable_after_a_reset_gives_a_unit_all_that_it_had() {
    for (name, unit) in presets() {
        for fails_before in [false, true] {
            let machine = machine([unit.clone()]);
            let iommu = discover(&machine, &[]).unwrap();
            iommu.enable().unwrap();
            iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
            let (device, other) = (function(2, 3), function(0, 4));
            let cell = cell_with(&iommu, region(0, MEMORY, 4 * PAGE, RW), device);
            let frames = machine.frames_in_use();
            machine.reset_unit(0);
            if fails_before {
                iommu.unmap(cell, range(PAGE, PAGE)).unwrap_err();
            }
            assert!(iommu.enable().unwrap().is_nothing(), "{name}");
            assert_eq!(states(&iommu), [UnitState::On], "{name}");
            assert!(!iommu.units().next().unwrap().found_on, "{name}");
            assert!(write(&machine, device, 8, 1) && !write(&machine, other, 8, 1), "{name}");
            assert_eq!(read(&machine, device, PAGE).is_none(), fails_before, "{name}: what was taken away stays so");
            assert!(!machine.messages().is_empty(), "{name}: the fault of the other is told");
            assert!(iommu.faults(|fault| assert!([device, other].contains(&fault.source))).records > 0, "{name}");
            if !fails_before {
                assert_eq!(machine.frames_in_use(), frames, "{name}");
            }
            iommu.map(cell, region(LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
            assert!(write(&machine, device, LARGE, 1), "{name}");
            iommu.unmap(cell, range(0, PAGE)).unwrap();
            assert!(!write(&machine, device, 0, 1), "{name}");
            assert_eq!(iommu.audit(|difference| panic!("{name}: {difference}")).unwrap().differences, 0);
            iommu.destroy_cell(cell).unwrap();
            iommu.disable().unwrap();
            assert_eq!(machine.frames_in_use(), 0, "{name}");
        }
    }
}

/// I10: what a change could not have a device-TLB forget while its unit was reset is withheld until that was repeated.
#[test]
fn a_device_tlb_is_asked_again_after_a_reset() {
    for (name, unit) in presets_with_device_tlbs() {
        for fails_before in [false, true] {
            let machine = machine([unit.clone()]);
            let iommu = enabled_with_ats(&machine);
            let (device, other) = (function(0, 3), function(0, 4));
            machine.add_ats(device, 32);
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map(cell, region(0, MEMORY, 4 * PAGE, RW)).unwrap();
            iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
            let next = cell_with(&iommu, region(LARGE, MEMORY + LARGE, PAGE, RW), other);
            assert!(ats_write(&machine, device, 0, 1), "{name}: it caches where the page is");
            if fails_before {
                machine.break_unit(0, Defect::QueueDead);
            } else {
                machine.reset_unit(0);
            }
            iommu.unmap(cell, range(0, PAGE)).unwrap_err();
            if fails_before {
                machine.mend_unit(0);
                machine.reset_unit(0);
            }
            iommu.enable().unwrap();
            assert!(iommu.units().all(|unit| unit.needs_flush), "{name}");
            let same = region(0, MEMORY, PAGE, RW);
            let owned = iommu.map(next, same).unwrap_err();
            assert!(matches!(owned, Error::Owned { owner: Owner::Withheld(_), .. }), "{name}: {owned}");
            iommu.commit(&[]).unwrap();
            iommu.map(next, same).unwrap();
            assert!(!ats_write(&machine, device, 0, 1), "{name}: the page is another cell's");
            machine.check();
        }
    }
}

/// I10: a unit that was reset is handed back without a wait for what is not on, and its frames come back.
#[test]
fn a_unit_that_was_reset_is_handed_back() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = discover(&machine, &[]).unwrap();
        iommu.enable().unwrap();
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
        machine.reset_unit(0);
        iommu.disable().unwrap();
        assert_eq!(machine.frames_in_use(), 0, "{name}");
        assert_eq!(states(&iommu), [UnitState::Off], "{name}");
        iommu.enable().unwrap();
        assert!(!write(&machine, function(0, 3), 0, 1), "{name}");
        assert!(machine.messages().is_empty(), "{name}: a fault event ends with the unit");
    }
}

/// I10: one of two units is reset; the other is not touched.
#[test]
fn only_the_unit_that_was_reset_is_programmed_again() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), function(1, 3));
    iommu.assign(function(0, 3), cell).unwrap();
    machine.reset_unit(1);
    iommu.enable().unwrap();
    assert!(write(&machine, function(1, 3), 0, 1) && write(&machine, function(0, 3), 0, 1));
    assert!(!write(&machine, function(1, 4), 0, 1) && !write(&machine, function(0, 4), 0, 1));
    assert_eq!(states(&iommu), [UnitState::On; 2]);
}

/// I10: a unit in which somebody else set a root table is not on, and is taken back as one that was found on.
#[test]
fn a_unit_that_somebody_else_has_programmed_is_not_on() {
    const RTADDR: u32 = 0x20;
    let machine = machine([UnitConfig::server()]);
    let iommu = discover(&machine, &[]).unwrap();
    iommu.enable().unwrap();
    let window = machine.windows()[0];
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write64(mapped(window), RTADDR, 0x0800_0000) };
    let error = UnitError::Reset { unit: window, register: "RTADDR_REG", bit: "RTA" };
    assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: false }]);
    iommu.enable().unwrap();
    assert_eq!(states(&iommu), [UnitState::On]);
    assert!(iommu.units().next().unwrap().found_on);
    assert!(!write(&machine, function(0, 3), 0, 1));
    machine.abandon();
}

/// I10: a queue that is off in a unit that still translates is switched on again without a gap.
#[test]
fn a_queue_that_was_lost_alone_comes_back_without_a_gap() {
    let machine = machine([UnitConfig::server()]);
    let iommu = discover(&machine, &[]).unwrap();
    iommu.enable().unwrap();
    cell_with(&iommu, region(0, MEMORY, PAGE, RW), function(0, 3));
    machine.break_unit(0, Defect::StatusStuckLow(1 << 26));
    let error = reset(&machine, "QIES");
    assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: true }]);
    assert!(!write(&machine, function(0, 4), 0, 1));
    iommu.enable().unwrap_err();
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: true, .. }]), "it still does");
    assert!(write(&machine, function(0, 3), 0, 1) && !write(&machine, function(0, 4), 0, 1));
    machine.abandon();
}
