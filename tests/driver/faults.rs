use cofferdam::addr::{Iova, Rights};
use cofferdam::error::UnitError;
use cofferdam::iommu::Error;
use cofferdam::vtd::{Access, Destination, FaultReason};
use cofferdam_model::UnitConfig;

use crate::machine::*;

#[test]
fn each_blocked_request_is_read_once_with_its_reason() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let blocked = |access| {
            match access {
                Access::Read => assert_eq!(read(&machine, device, 0x5678), None),
                _ => assert!(!write(&machine, device, 0x5678, 0)),
            }
            let mut faults = Vec::new();
            let log = iommu.faults(|fault| faults.push(fault));
            assert_eq!((log.records, log.overflowed, log.busy), (1, false, false), "{name}");
            assert_eq!((faults[0].source, faults[0].access), (device, access), "{name}");
            assert_eq!(faults[0].address, Some(Iova::new(0x5000)), "{name}");
            assert_eq!(iommu.faults(|fault| panic!("{fault}")).records, 0, "{name}: read once");
            faults[0].reason
        };
        assert_eq!(blocked(Access::Write), FaultReason::ROOT_ENTRY_ABSENT, "{name}");
        cell_with(&iommu, region(0x10_0000, 0x10_0000, PAGE, Rights::all()), function(0, 4));
        assert_eq!(blocked(Access::Read), FaultReason::CONTEXT_ENTRY_ABSENT, "{name}");
        cell_with(&iommu, region(0x10_0000, 0x20_0000, PAGE, Rights::all()), device);
        assert_eq!(blocked(Access::Read), FaultReason::NO_READ, "{name}");
        assert_eq!(blocked(Access::Write), FaultReason::NO_WRITE, "{name}");
    }
}

#[test]
fn all_records_are_read_oldest_first_wherever_the_first_one_is() {
    for count in [1, 2, 8, 256] {
        let machine = machine([UnitConfig::server().fault_records(count)]);
        let iommu = enabled(&machine);
        let mut next = 0_u8;
        for round in [1, count / 2 + 1, count] {
            let devices: Vec<_> = (0..round).map(|_| (next, next = next.wrapping_add(1)).0).collect();
            for &device in &devices {
                assert!(!write(&machine, function(device, 1), 0, 0));
            }
            let mut seen = Vec::new();
            let log = iommu.faults(|fault| seen.push(fault.source.bus()));
            assert_eq!((seen, log.overflowed), (devices, false), "{count} records, {round} faults");
        }
    }
}

#[test]
fn an_overflow_is_told_and_cleared() {
    let machine = machine([UnitConfig::server().fault_records(2)]);
    let iommu = enabled(&machine);
    for bus in 0..5 {
        assert!(!write(&machine, function(bus, 1), 0, 0));
    }
    let log = iommu.faults(|_| ());
    assert_eq!((log.records, log.overflowed), (2, true));
    assert_eq!(iommu.faults(|_| ()), Default::default());
    assert!(!write(&machine, function(9, 1), 0, 0));
    let log = iommu.faults(|fault| assert_eq!(fault.source, function(9, 1)));
    assert_eq!((log.records, log.overflowed), (1, false), "new faults are recorded again");
}

#[test]
fn what_firmware_left_pending_is_gone_after_bring_up() {
    let machine = machine([UnitConfig::qemu_10_0(false)]);
    let iommu = enabled(&machine);
    assert!(!write(&machine, function(1, 1), 0, 0));
    drop(iommu);
    let mut again = discover(&machine, &[]).unwrap();
    again.enable().unwrap();
    assert_eq!(again.faults(|fault| panic!("{fault}")).records, 0);
}

#[test]
fn a_fault_interrupts_the_cpu_that_was_named_and_no_other() {
    for (unit, apic_id, message) in [
        (UnitConfig::client(), 3, Some((0xfee0_3000, 0x41))),
        (UnitConfig::client(), 0x1_2345, Some((0x0001_2300_fee4_5000, 0x41))),
        (UnitConfig::qemu_10_0(false), 255, Some((0xfeef_f000, 0x41))),
        (UnitConfig::qemu_10_0(false), 256, None),
    ] {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        assert!(!write(&machine, function(0, 1), 0, 0));
        assert_eq!(machine.messages(), [], "masked at first");
        iommu.faults(|_| ());
        let result = iommu.set_fault_event(Some(Destination { apic_id, vector: 0x41 }));
        let Some(message) = message else {
            assert!(matches!(result, Err(Error::Unit(UnitError::Unsupported { bit: "EIM", .. }))));
            continue;
        };
        result.unwrap();
        assert!(!write(&machine, function(0, 1), 0, 0) && !write(&machine, function(0, 1), 0, 0));
        assert_eq!(machine.messages(), [message], "{apic_id:#x}: one until it is read");
        iommu.faults(|_| ());
        assert!(!write(&machine, function(0, 1), 0, 0));
        assert_eq!(machine.messages().len(), 2, "{apic_id:#x}: and one more afterwards");
        iommu.faults(|_| ());
        iommu.set_fault_event(None).unwrap();
        assert!(!write(&machine, function(0, 1), 0, 0));
        assert_eq!(machine.messages().len(), 2, "{apic_id:#x}: masked again");
    }
}
