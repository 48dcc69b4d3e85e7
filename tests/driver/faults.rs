use std::cell::Cell;

use cofferdam::CellId;
use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::fault::{Access, Cause, FaultLog};
use cofferdam::hal::{Hal, NoFrame};
use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::{DeviceConfig, Error, Options};
use cofferdam::limits;
use cofferdam_model::{Answer, BridgeKind, Defect, GIVES_UP_NS, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::Watched;

#[test]
fn each_blocked_request_is_read_once_with_its_reason() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let blocked = |access| {
            match access {
                Access::Read => assert_eq!(read(&machine, device, 0x2b_cdef_5678), None),
                _ => assert!(!write(&machine, device, 0x2b_cdef_5678, 0)),
            }
            let mut faults = Vec::new();
            let log = iommu.faults(|fault| faults.push(fault));
            assert_eq!((log.records, log.overflowed, log.busy), (1, false, false), "{name}");
            assert_eq!((faults[0].source, faults[0].access), (device, access), "{name}");
            assert_eq!(faults[0].address, Some(Iova::new(0x2b_cdef_5000)), "{name}");
            assert_eq!(iommu.faults(|fault| panic!("{fault}")).records, 0, "{name}: read once");
            (faults[0].cause, faults[0].code)
        };
        assert_eq!(blocked(Access::Write), (Cause::Blocked, 0x1), "{name}");
        cell_with(&iommu, region(0x10_0000, 0x10_0000, PAGE, Rights::all()), function(0, 4));
        assert_eq!(blocked(Access::Read), (Cause::Blocked, 0x2), "{name}");
        cell_with(&iommu, region(0x10_0000, 0x20_0000, PAGE, Rights::all()), device);
        assert_eq!(blocked(Access::Read), (Cause::NotMapped, 0x6), "{name}");
        assert_eq!(blocked(Access::Write), (Cause::NotMapped, 0x5), "{name}");
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
fn an_overflow_is_reported_and_cleared() {
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
    enabled(&machine);
    assert!(!write(&machine, function(1, 1), 0, 0));
    let again = discover(&machine, &[]).unwrap();
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
        let result = iommu.set_fault_event(Some(FaultEvent::to(apic_id, 0x41)));
        let Some(message) = message else {
            assert!(matches!(result, Err(Error::Unit(UnitError::Unsupported { bit: "EIM", .. }))));
            // It is not kept for the next time that the unit is switched on.
            let iommu = iommu;
            machine.reset_unit(0);
            iommu.enable().unwrap();
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

/// A message that moves to another CPU has nothing of the address that it had before.
#[test]
fn a_fault_event_that_moves_has_its_own_address_whole() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let messages =
        [(0x1_2345, (0x0001_2300_fee4_5000, 0x41)), (3, (0xfee0_3000, 0x42)), (0x100, (0x100_fee0_0000, 0x43))];
    for (number, (apic_id, message)) in messages.into_iter().enumerate() {
        iommu.set_fault_event(Some(FaultEvent::to(apic_id, message.1 as u8))).unwrap();
        assert!(!write(&machine, function(0, 1), 0, 0));
        assert_eq!(machine.messages()[number..], [message], "{apic_id:#x}");
        iommu.faults(|_| ());
    }
}

#[test]
fn a_fault_comes_as_an_nmi_from_a_unit_that_can_send_one() {
    let able = machine([UnitConfig::server()]);
    let iommu = enabled(&able);
    iommu.set_fault_event(Some(FaultEvent::Nmi { apic_id: 3 })).unwrap();
    assert!(!write(&able, function(0, 1), 0, 0));
    assert_eq!(able.messages(), [(0xfee0_3000, 0x400)]);

    let unable = UnitConfig { narrow_events: true, ..UnitConfig::server() };
    let machine = machine([unable]);
    let iommu = enabled(&machine);
    iommu.set_fault_event(Some(FaultEvent::to(1, 0x41))).unwrap();
    let refused = iommu.set_fault_event(Some(FaultEvent::Nmi { apic_id: 3 }));
    assert!(matches!(refused, Err(Error::Unit(UnitError::Unsupported { register: "FEDATA_REG", .. }))), "{refused:?}");
    assert!(!write(&machine, function(0, 1), 0, 0));
    assert_eq!(machine.messages(), [(0xfee0_1000, 0x41)], "as before");
}

/// The event is tried when the unit is the driver's. One that cannot send it says so, and its devices reach nothing.
#[test]
fn a_unit_that_cannot_send_an_nmi_says_so_when_it_is_switched_on() {
    let machine = machine([UnitConfig { narrow_events: true, ..UnitConfig::server() }]);
    let iommu = discover(&machine, &[]).unwrap();
    iommu.set_fault_event(Some(FaultEvent::Nmi { apic_id: 3 })).unwrap();
    let failed = iommu.enable();
    assert!(matches!(failed, Err(Error::Unit(UnitError::Unsupported { register: "FEDATA_REG", .. }))), "{failed:?}");
    assert!(!write(&machine, function(0, 1), 0, 0));
    assert_eq!(machine.messages(), []);
}

#[test]
fn no_fault_event_has_the_vector_of_an_exception() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    for vector in [0, 2, 15] {
        let refused = iommu.set_fault_event(Some(FaultEvent::to(0, vector)));
        assert_eq!(refused, Err(Error::Vector(vector)));
        assert!(!machine.journal(10).contains("fault event :="), "{}", machine.journal(10));
    }
    assert_eq!(iommu.set_fault_event(Some(FaultEvent::to(0, 16))), Ok(()));
}

/// Whose faults are recorded, when each of these has one request blocked.
fn recorded(machine: &Machine, iommu: &Front<&Machine>, devices: &[SourceId]) -> Vec<SourceId> {
    let mut seen = Vec::new();
    for &device in devices {
        assert!(!write(machine, device, LARGE, 0), "{device}");
        iommu.faults(|fault| seen.push(fault.source));
    }
    seen
}

#[test]
fn a_flooding_device_is_muted_and_the_others_are_heard() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (flooding, quiet) = (function(2, 3), function(2, 4));
        let both = [flooding, quiet];
        assert_eq!(recorded(&machine, &iommu, &both), both, "{name}");
        iommu.mute(flooding, true).unwrap();
        assert_eq!(recorded(&machine, &iommu, &both), [quiet], "{name}: without a cell");
        machine.check();

        let cell = cell_with(&iommu, region(0, 0x6000_0000, LARGE, Rights::all()), flooding);
        iommu.assign(quiet, cell).unwrap();
        assert_eq!(recorded(&machine, &iommu, &both), [quiet], "{name}: still muted in a cell");
        iommu.mute(flooding, false).unwrap();
        assert_eq!(recorded(&machine, &iommu, &both), both, "{name}: heard again");
        iommu.mute(flooding, true).unwrap();
        iommu.mute(flooding, true).unwrap();
        assert_eq!(recorded(&machine, &iommu, &both), [quiet], "{name}: muted while it works");
        assert!(write(&machine, flooding, 0, 1), "{name}: it reaches what it reached");
        machine.check();

        iommu.release(flooding).unwrap();
        assert_eq!(recorded(&machine, &iommu, &both), [quiet], "{name}: released");
        iommu.mute(flooding, false).unwrap();
        assert_eq!(recorded(&machine, &iommu, &both), both, "{name}: heard again without a cell");
    }
}

#[test]
fn to_hear_a_device_that_was_never_muted_makes_no_table() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let frames = machine.frames_in_use();
        iommu.mute(function(2, 5), false).unwrap();
        assert_eq!(machine.frames_in_use(), frames, "{name}");
        machine.check();
    }
}

#[test]
fn a_device_behind_a_bridge_is_muted_by_every_id_that_it_has() {
    for kind in [BridgeKind::ExpressToPci, BridgeKind::Conventional] {
        let machine = machine([UnitConfig::qemu_10_0(true)]);
        machine.add_bridge(function(0, 0x1e), kind, 3..=4);
        let iommu = enabled(&machine);
        let (device, neighbour) = (function(3, 5), function(3, 6));
        iommu.mute(device, true).unwrap();
        assert_eq!(recorded(&machine, &iommu, &[device, neighbour, function(0, 2)]), [function(0, 2)]);
        let cell = cell_with(&iommu, region(0, 0x6000_0000, LARGE, Rights::all()), neighbour);
        // The entry that both share has the neighbour's domain-id.
        iommu.mute(device, false).unwrap();
        assert_eq!(recorded(&machine, &iommu, &[device, neighbour]).len(), 2);
        assert!(write(&machine, neighbour, 0, 1));
        iommu.destroy_cell(cell).unwrap();
    }
}

/// Each source-id of a device is muted at the unit that serves it.
#[test]
fn a_source_id_is_muted_at_its_own_unit() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    let (device, alias) = (function(0, 3), function(1, 3));
    iommu.add_alias(device, alias.into()).unwrap();
    iommu.enable().unwrap();
    assert_eq!(recorded(&machine, &iommu, &[device, alias]), [device, alias]);
    iommu.mute(device, true).unwrap();
    assert_eq!(recorded(&machine, &iommu, &[device, alias]), []);
}

#[test]
fn a_device_that_cannot_be_muted_is_named() {
    let machine = machine_with_a_frame_too_high(UnitConfig::server());
    let iommu = discover(&machine, &[]).unwrap();
    assert_eq!(iommu.mute(function(2, 3), true), Err(Error::NotEnabled));
    iommu.enable().unwrap();
    let elsewhere = SourceId::new(7, 0, 0, 0).unwrap();
    assert_eq!(iommu.mute(elsewhere, true), Err(Error::NoSuchDevice(elsewhere)));
    let unit = machine.windows()[0];
    let no_frame = |reason| Err(Error::Unit(UnitError::NoFrame { unit, reason }));
    frames_before_too_high(&machine, 0);
    assert_eq!(iommu.mute(function(2, 3), true), no_frame(TOO_HIGH));
    machine.allow_allocations(Some(0));
    assert_eq!(iommu.mute(function(2, 3), true), no_frame(NoFrame::NoneLeft));
    assert_eq!(recorded(&machine, &iommu, &[function(2, 3)]), [function(2, 3)]);
}

#[test]
fn reading_ends_while_a_device_floods_and_says_what_is_left() {
    for records in [1, 8] {
        let floods = Cell::new(false);
        let look = |_, machine: &Machine| {
            if floods.get() {
                assert!(!write(machine, function(0, 1), 0, 0));
            }
        };
        let hal = Watched::new(machine([UnitConfig::server().fault_records(records)]), look);
        let table = of_machine(&hal.machine, &[]).table();
        let iommu = enabled_front(&hal, &table, Options::default());
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
        floods.set(true);
        let logs = [(); 4].map(|()| iommu.faults(|_| ()));
        assert!(logs.iter().all(|log| log.pending && log.records <= records.into()), "{logs:?}");
        assert!(logs.iter().any(|log| log.records == records.into()) && logs.iter().any(|log| log.overflowed));
        floods.set(false);
        let events = hal.machine.messages().len();
        assert!((0..4).any(|_| !iommu.faults(|_| ()).pending), "what is left has an end");
        assert_eq!(iommu.faults(|_| ()), FaultLog::default());
        assert!(!write(&hal.machine, function(0, 1), 0, 0));
        assert_eq!(hal.machine.messages().len(), events + 1, "the next one is told again");
    }
}

/// What is left at one unit is pending, though nothing is left at another.
#[test]
fn faults_that_are_left_at_any_unit_are_pending() {
    for device in [function(1, 1), function(0, 1)] {
        let floods = Cell::new(false);
        let look = |_, machine: &Machine| {
            if floods.get() {
                assert!(!write(machine, device, 0, 0));
            }
        };
        let units = [UnitConfig::server().serving(&[1]), UnitConfig::server()].map(|unit| unit.fault_records(1));
        let hal = Watched::new(machine(units), look);
        let iommu = enabled_front(&hal, &of_machine(&hal.machine, &[&[1]]).table(), Options::default());
        floods.set(true);
        let logs = [(); 4].map(|()| iommu.faults(|_| ()));
        floods.set(false);
        assert!(logs.iter().all(|log| log.pending), "{device}: {logs:?}");
    }
}

fn with_a_device_that_answers_twice(machine: &Machine) -> (Front<&Machine>, CellId) {
    let (iommu, device) = (enabled_with_ats(machine), function(0, 3));
    machine.add_ats(device, 32);
    machine.set_device_tlb(device, Answer::Twice, 32);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
    (iommu, cell)
}

#[test]
fn an_answer_without_a_question_holds_back_no_fault_event() {
    let machine = machine([UnitConfig::server()]);
    let (iommu, cell) = with_a_device_that_answers_twice(&machine);
    iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
    for round in 1..=3 {
        iommu.map(cell, region(0, 0x6000_0000, PAGE, Rights::all())).unwrap();
        let events = machine.messages().len();
        iommu.unmap(cell, range(0, PAGE)).unwrap();
        assert_eq!(machine.messages().len(), events + 1, "the answer is told");
        assert_eq!(iommu.faults(|fault| panic!("{fault}")), Default::default());
        assert_eq!(iommu.statistics().completion_errors, round);
        assert!(!write(&machine, function(0, 9), 0, 0));
        assert_eq!(machine.messages().len(), events + 2, "and a fault as well");
        assert_eq!(iommu.faults(|_| ()).records, 1);
    }
}

/// Both stand when faults are read, and clearing the one leaves the other to be reported.
#[test]
fn an_answer_without_a_question_hides_no_overflow() {
    let machine = machine([UnitConfig::server().fault_records(2)]);
    let (iommu, cell) = with_a_device_that_answers_twice(&machine);
    iommu.map(cell, region(0, 0x6000_0000, PAGE, Rights::all())).unwrap();
    for bus in 1..6 {
        assert!(!write(&machine, function(bus, 1), 0, 0));
    }
    iommu.unmap(cell, range(0, PAGE)).unwrap();
    let log = iommu.faults(|_| ());
    assert_eq!((log.records, log.overflowed), (2, true));
    assert_eq!(iommu.statistics().completion_errors, 1);
}

#[test]
fn faults_count_by_device_and_together_when_room_ends() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let fault = |device| {
        assert!(!write(&machine, device, 0, 0));
        assert_eq!(iommu.faults(|_| ()).records, 1);
    };
    let room = limits::FAULTING_DEVICES as u8;
    // The last two find no room, the first one has its own already.
    (0..room + 2).chain([0]).for_each(|number| fault(function(0, number)));
    fault(function(1, 3));
    let expected = [(function(1, 3), 1)].into_iter().chain((0..room).map(|n| (function(0, n), 1 + u64::from(n == 0))));
    assert_eq!(faults_by_device(&iommu), Vec::from_iter(expected));
    assert_eq!(iommu.statistics().other_faults, 2);
    iommu.disable().unwrap();
    iommu.enable().unwrap();
    assert_eq!((faults_by_device(&iommu), iommu.statistics().other_faults), (vec![], 0));
}

/// U7: a unit that is out of service goes on sending fault events: an error of its queue, which nobody uses any more, does not
/// stay.
#[test]
fn a_unit_out_of_service_still_sends_fault_events() {
    for dies in [false, true] {
        let (machine, is_slow) = (machine([UnitConfig::server()]), Cell::new(false));
        let before = |_, machine: &Machine| machine.pass(if is_slow.get() { 100_000 } else { 0 });
        let hal = Watched::new(&machine, before);
        let options = Options { timeout_ns: 1_000_000, device_timeout_ns: 2_000_000, ..Options::default() };
        let iommu = enabled_front(&hal, &table_with_ats(&machine), options);
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x40))).unwrap();
        let device = function(0, 3);
        machine.add_ats(device, 32);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(0, 0x6000_0000, 4 * PAGE, Rights::all())).unwrap();
        iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
        machine.set_device_tlb(device, Answer::Never, 32);
        assert!(matches!(iommu.unmap(cell, range(0, PAGE)), Err(Error::Unit(UnitError::Timeout { .. }))));
        if dies {
            machine.break_unit(0, Defect::QueueErrorAfter(0));
        }
        // Until the unit gives up on the device.
        machine.pass(2 * GIVES_UP_NS);
        let told = machine.messages().len();
        assert_eq!(told, 1, "that the device did not answer");
        let pointers = || {
            // SAFETY: IQH and IQT of the machine's unit.
            [0x80, 0x88].map(|at| unsafe { machine.read64(mapped(machine.windows()[0]), at) })
        };
        let [head, tail] = pointers();
        if dies {
            // What was submitted last, and is no descriptor at all.
            // SAFETY: IQT of the machine's unit.
            unsafe { machine.write64(mapped(machine.windows()[0]), 0x88, tail + 0x20) };
            machine.pass(1_000_000);
        }
        // The unit has time to fetch between two accesses of the driver.
        is_slow.set(true);
        assert_eq!(iommu.faults(|fault| panic!("{fault}")), FaultLog::default());
        is_slow.set(false);
        assert_eq!(pointers(), [head; 2], "nothing is fetched any more");
        assert_eq!(machine.messages().len(), told, "and so there is no further error");
        for round in 1..=3 {
            assert!(!write(&machine, function(0, 9), 0, 1));
            assert_eq!(machine.messages().len(), told + round);
            assert_eq!(iommu.faults(|fault| assert_eq!(fault.source, function(0, 9))).records, 1);
        }
        machine.take_violations();
    }
}
