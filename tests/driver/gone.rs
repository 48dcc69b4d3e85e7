//! Units that are gone: from some moment on their registers read all ones.

use std::cell::Cell;

use cofferdam::addr::Rights;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::{DeviceConfig, Error, Options, UnitState};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

const MEMORY: u64 = 0x6000_0000;

/// U1: of a unit whose registers read all ones no fault is read, and the log says that it is gone.
#[test]
fn a_unit_that_is_gone_has_no_faults() {
    for (name, unit) in presets() {
        let machine = machine([unit.serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        assert!(!write(&machine, function(1, 3), 0, 1) && !write(&machine, function(0, 3), 0, 1));
        machine.break_unit(0, Defect::AllOnes);
        let mut seen = Vec::new();
        let log = iommu.faults(|fault| seen.push(fault.source));
        assert_eq!(seen, [function(0, 3)], "{name}: only the other unit's");
        assert!(log.unresponsive && !log.pending && !log.overflowed && log.records == 1, "{name}: {log:?}");
        assert_eq!(faults_by_device(&iommu), [(function(0, 3), 1)], "{name}");
        assert_eq!(iommu.statistics().completion_errors, 0, "{name}");
        assert!(machine.violations().is_empty(), "{name}: nothing is written to it");
    }
}

/// U1: whenever a unit disappears while its faults are read, none is invented, and a handler that goes on while some are
/// pending ends.
#[test]
fn no_fault_is_invented_whenever_the_unit_disappears() {
    let mut at = 0;
    loop {
        let (armed, accesses) = (Cell::new(false), Cell::new(0));
        let (armed, accesses) = (&armed, &accesses);
        let look = move |_: Call, machine: &Machine| {
            if armed.get() && accesses.replace(accesses.get() + 1) == at {
                machine.break_unit(0, Defect::AllOnes);
            }
        };
        let hal = Watched::new(machine([UnitConfig::everything()]), look);
        let table = of_machine(&hal.machine, &[]).table();
        let iommu = enabled_front(&hal, &table, Options::default());
        let sources = [function(0, 3), function(2, 4), function(7, 31)];
        sources.iter().for_each(|source| assert!(!write(&hal.machine, *source, 0x1234_5000, 1)));
        armed.set(true);
        let mut seen = Vec::new();
        let log = iommu.faults(|fault| {
            assert_eq!(fault.address.map(|at| at.as_u64()), Some(0x1234_5000));
            seen.push(fault.source);
        });
        assert_eq!(seen, sources[..seen.len()], "before access {at}");
        assert!(!iommu.faults(|fault| panic!("{fault}")).pending, "before access {at}");
        let gone = accesses.get() > at;
        assert!(gone || seen == sources && !log.unresponsive, "before access {at}");
        // The record that was read last may be cleared too late.
        hal.machine.take_violations();
        if !gone && at > 0 {
            assert!(at > 20);
            return;
        }
        at += 1;
    }
}

/// U2: a unit that disappears is noticed at once, by the change that waits for it, and nothing is claimed about its devices.
#[test]
fn a_unit_that_is_gone_at_run_time_is_not_waited_for() {
    for (name, unit) in presets() {
        for device_tlb in [false, true] {
            if device_tlb && unit.ecap & 0b110 != 0b110 {
                continue;
            }
            let machine = machine([unit.clone()]);
            let iommu = enabled_with_ats(&machine);
            let (device, other) = (function(0, 3), function(0, 4));
            machine.add_ats(device, 32);
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map(cell, region(0, MEMORY, 4 * PAGE, Rights::all())).unwrap();
            iommu.assign_with(device, cell, DeviceConfig { device_tlb, messages: 0 }).unwrap();
            machine.break_unit(0, Defect::AllOnes);
            let unit = machine.windows()[0];
            let (error, before) =
                (UnitError::Dead { unit, register: "GSTS_REG", value: u32::MAX.into() }, machine.now_ns());
            assert_eq!(
                states(&iommu),
                [UnitState::Failed { error, blocking: false }],
                "{name}: as soon as it is asked"
            );
            let refused = iommu.assign(other, cell);
            assert!(matches!(refused, Err(Error::Unit(UnitError::Dead { .. } | UnitError::Failed { .. }))), "{name}");
            let failed = iommu.unmap(cell, range(0, PAGE)).unwrap_err();
            assert!(matches!(failed, Error::Unit(UnitError::Dead { .. })), "{name}: {failed}");
            assert!(matches!(iommu.release(device), Err(Error::Unit(_))), "{name}");
            let waited = machine.now_ns() - before;
            assert!(waited < 10_000_000, "{name}, device-TLB {device_tlb}: {waited} ns");
            assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }]), "{name}");
            machine.abandon();
        }
    }
}

/// U2: the fault event of all other units is set although one is gone, and nothing is written to that one.
#[test]
fn a_unit_that_is_gone_keeps_no_other_from_its_event() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    machine.break_unit(0, Defect::AllOnes);
    let failed = iommu.set_fault_event(Some(FaultEvent::to(0, 0x40)));
    assert!(matches!(failed, Err(Error::Unit(UnitError::Dead { .. }))), "{failed:?}");
    assert!(!write(&machine, function(0, 9), 0, 1));
    assert_eq!(machine.messages().len(), 1);
    assert!(machine.violations().is_empty());
}
