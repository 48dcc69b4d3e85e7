//! Devices that do not answer an invalidation of their device-TLB: they are quarantined, and everybody else is served.

use std::thread;

use cofferdam::CellId;
use cofferdam::addr::{Requester, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, UnitState};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, Defect, GIVES_UP_NS, Machine, UnitConfig};
use cofferdam_support::cost::{Cost, cost};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::watched::{Call, Watched};

use crate::device_tlb::{DEVICE_TLB, INPUT, MEMORY, OTHER, RW, cell_of, is_on};

#[test]
fn a_device_that_does_not_answer_is_named_and_others_are_served() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (dead, alive) = (function(0, 3), function(0, 4));
        let cell = cell_of(&machine, &iommu, &[dead]);
        let other = cell_of(&machine, &iommu, &[alive]);
        assert!(ats_write(&machine, alive, INPUT + PAGE, 1) && ats_write(&machine, dead, INPUT + LARGE, 2), "{name}");
        machine.set_device_tlb(dead, Answer::Never, 32);
        let error = iommu.unmap(cell, range(INPUT + LARGE, LARGE)).unwrap_err();
        let named = UnitError::Device { unit: machine.windows()[0], requester: Requester::new(0x18) };
        assert_eq!(error, Error::Unit(named), "{name}");
        assert_eq!(iommu.units().next().unwrap().state, UnitState::On, "{name}");
        iommu.unmap(other, range(INPUT + PAGE, PAGE)).unwrap();
        assert!(!ats_write(&machine, alive, INPUT + PAGE, 1), "{name}");
        iommu.release(alive).unwrap();
        assert!(!ats_write(&machine, dead, INPUT + LARGE, 3), "{name}");
    }
}

/// Three devices of one cell with 8 pages cached in each that has a device-TLB; the first of two does not answer any more.
fn with_unresponsive(machine: &Machine, iommu: &Front<&Machine>) -> (CellId, [SourceId; 3]) {
    let (unresponsive, answering, plain) = (function(0, 3), function(0, 4), function(0, 5));
    let cell = cell_of(machine, iommu, &[unresponsive, answering]);
    iommu.assign(plain, cell).unwrap();
    for device in [unresponsive, answering] {
        assert!((0..8).all(|page| ats_write(machine, device, INPUT + LARGE + page * PAGE, 1)));
    }
    // I/O space, memory space, bus master.
    machine.set_config(unresponsive, 4, 0x0010_0007);
    machine.set_device_tlb(unresponsive, Answer::Never, 32);
    (cell, [unresponsive, answering, plain])
}

fn not_answered(machine: &Machine, device: SourceId) -> Result<(), Error> {
    Err(Error::Unit(UnitError::Device { unit: machine.windows()[0], requester: device.into() }))
}

#[test]
fn one_is_quarantined_and_everybody_else_is_served() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (cell, [unresponsive, answering, plain]) = with_unresponsive(&machine, &iommu);
        let (frames, gone) = (machine.frames_in_use(), INPUT + LARGE);
        assert_eq!(iommu.unmap(cell, range(gone, LARGE)).map(drop), not_answered(&machine, unresponsive), "{name}");
        machine.check();
        assert_eq!(machine.frames_in_use(), frames, "{name}: what it might reach is kept back");
        assert_eq!((is_on(&machine, unresponsive), machine.config_read(unresponsive, 4)), (false, 3), "{name}");
        for at in [gone, INPUT + PAGE] {
            assert!(
                ats_read(&machine, unresponsive, at).is_none() && read(&machine, unresponsive, at).is_none(),
                "{name}"
            );
        }
        for (device, reads) in [(answering, ats_read as fn(&Machine, SourceId, u64) -> Option<u64>), (plain, read)] {
            assert!(
                reads(&machine, device, gone).is_none() && reads(&machine, device, INPUT + PAGE).is_some(),
                "{name}"
            );
        }
        // It is asked no more.
        iommu.map(cell, region(gone, OTHER, PAGE, RW)).unwrap();
        assert!(ats_write(&machine, answering, gone, 2) && peek(&machine, OTHER) == 2, "{name}");
        assert_eq!(cost(&iommu, || iommu.unmap(cell, range(gone, PAGE)).unwrap()), Cost::batch(3), "{name}");
        assert!(read(&machine, unresponsive, INPUT + PAGE).is_none(), "{name}");
        // But before it goes to anybody else.
        assert_eq!(iommu.release(unresponsive).map(drop), not_answered(&machine, unresponsive), "{name}");
        assert_eq!(
            iommu.assign(unresponsive, cell).map(drop),
            Err(Error::Busy { device: unresponsive, cell }),
            "{name}"
        );
        machine.check();
        machine.set_device_tlb(unresponsive, Answer::After(100), 32);
        iommu.release(unresponsive).unwrap();
        iommu.assign_with(unresponsive, cell, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, unresponsive, INPUT + PAGE, 3), "{name}");
    }
}

#[test]
fn a_cell_stays_until_its_devices_have_answered() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (cell, [unresponsive, answering, plain]) = with_unresponsive(&machine, &iommu);
        for _ in 0..2 {
            assert_eq!(iommu.destroy_cell(cell).map(drop), not_answered(&machine, unresponsive), "{name}");
            machine.check();
            for device in [unresponsive, answering, plain] {
                assert_eq!(read(&machine, device, INPUT + PAGE), None, "{name}: {device}");
            }
            assert!(!is_on(&machine, unresponsive) && !is_on(&machine, answering), "{name}");
        }
        machine.set_device_tlb(unresponsive, Answer::After(100), 32);
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(iommu.coherency(cell), Err(Error::NoSuchCell(cell)), "{name}");
    }
}

#[test]
fn a_device_that_does_not_answer_keeps_no_other_in_its_cell() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (cell, [unresponsive, answering, plain]) = with_unresponsive(&machine, &iommu);
        machine.set_device_tlb(answering, Answer::Never, 32);
        iommu.unmap(cell, range(INPUT + LARGE, LARGE)).unwrap_err();
        // One of two that are quarantined by now answers again.
        machine.set_device_tlb(answering, Answer::After(100), 32);
        assert_eq!(iommu.destroy_cell(cell).map(drop), not_answered(&machine, unresponsive), "{name}");
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(INPUT, OTHER, PAGE, RW)).unwrap();
        for device in [answering, plain] {
            iommu.assign(device, other).unwrap();
            assert!(write(&machine, device, INPUT, 1), "{name}");
        }
        assert_eq!(
            iommu.assign(unresponsive, other).map(drop),
            Err(Error::Busy { device: unresponsive, cell }),
            "{name}"
        );
        machine.check();
    }
}

/// A cell of 2 MiB for each of these devices, of which the first has a device-TLB.
fn cells_of<H: Hal, const N: usize>(machine: &Machine, iommu: &Front<H>, devices: [SourceId; N]) -> [CellId; N] {
    machine.add_ats(devices[0], 32);
    devices.map(|device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map_shared(cell, region(INPUT, MEMORY, LARGE, RW)).unwrap();
        iommu.assign_with(device, cell, DeviceConfig { device_tlb: device == devices[0], messages: 0 }).unwrap();
        cell
    })
}

/// A change that repeats a failed flush asks each device behind the unit; one of them does not answer that.
#[test]
fn one_that_another_change_releases_is_that_changes_business() {
    let machine = machine([UnitConfig::server()]);
    let (first, second) = (Stop::new(), Stop::new());
    let looks = |call: Call, _: &Machine| {
        let _ = first.look(call) || second.look(call);
    };
    let hal = Watched::shared(&machine, looks);
    let iommu = enabled_front(&hal, &table_with_ats(&machine), Options::default());
    let unresponsive = function(0, 3);
    let [cell, other, third] = cells_of(&machine, &iommu, [unresponsive, function(0, 4), function(0, 5)]);
    let answer = |answer| machine.set_device_tlb(unresponsive, answer, 32);
    let unmap = |cell, page| iommu.unmap(cell, range(INPUT + page * PAGE, PAGE)).map(drop);
    let leave_something = |page| {
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        unmap(third, page).unwrap_err();
        machine.mend_unit(0);
        answer(Answer::Never);
    };
    let release = || iommu.release(unresponsive).map(drop);

    leave_something(0);
    let mut meanwhile = Ok(());
    let released = first.meanwhile(release, || meanwhile = unmap(other, 0));
    assert_eq!(
        (released, meanwhile),
        (not_answered(&machine, unresponsive), Ok(())),
        "it is asked by its release alone"
    );
    assert_eq!(iommu.assign(unresponsive, other).map(drop), Err(Error::Busy { device: unresponsive, cell }));

    answer(Answer::After(100));
    release().unwrap();
    iommu.assign_with(unresponsive, cell, DEVICE_TLB).unwrap();
    leave_something(1);
    thread::scope(|scope| {
        // The second sees that neither is answered.
        let asked = first.halt(scope, || unmap(other, 1));
        assert_eq!(unmap(third, 2), not_answered(&machine, unresponsive));
        answer(Answer::After(100));
        let released = second.halt(scope, release);
        assert_eq!(asked(), not_answered(&machine, unresponsive));
        assert_eq!(released(), Ok(()), "it has answered meanwhile");
    });
    iommu.assign(unresponsive, other).unwrap();
}

#[test]
fn several_are_quarantined_one_after_the_other() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let (cell, [unresponsive, answering, plain]) = with_unresponsive(&machine, &iommu);
    let elsewhere = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(elsewhere, region(INPUT, OTHER, PAGE, RW)).unwrap();
    machine.add_ats(function(1, 0), 32);
    iommu.assign_with(function(1, 0), elsewhere, DEVICE_TLB).unwrap();
    machine.set_device_tlb(answering, Answer::Never, 32);
    assert_eq!(iommu.unmap(cell, range(INPUT + LARGE, LARGE)).map(drop), not_answered(&machine, unresponsive));
    for quarantined in [unresponsive, answering] {
        assert!(ats_read(&machine, quarantined, INPUT + PAGE).is_none() && !is_on(&machine, quarantined));
    }
    assert!(read(&machine, plain, INPUT + PAGE).is_some() && read(&machine, plain, INPUT + LARGE).is_none());
    assert!(ats_write(&machine, function(1, 0), INPUT, 1), "another cell's device keeps what it has");
}

#[test]
fn one_change_quarantines_all_that_do_not_answer_it() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let devices: Vec<SourceId> = (0..8).map(|device| function(0, device)).collect();
    let cell = cell_of(&machine, &iommu, &devices);
    for &device in &devices {
        assert!(ats_write(&machine, device, INPUT + LARGE, 1));
        machine.set_device_tlb(device, Answer::Never, 32);
    }
    assert_eq!(iommu.unmap(cell, range(INPUT + LARGE, LARGE)).map(drop), not_answered(&machine, devices[0]));
    for device in devices {
        assert!(!is_on(&machine, device) && read(&machine, device, INPUT + PAGE).is_none(), "{device}");
    }
}

#[test]
fn a_device_that_moves_is_quarantined_once() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let (cell, [unresponsive, ..]) = with_unresponsive(&machine, &iommu);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let moved = cost(&iommu, || {
        let mut change = iommu.change();
        change.release(unresponsive).assign_with(unresponsive, other, DEVICE_TLB);
        assert_eq!(change.commit().map(drop), not_answered(&machine, unresponsive));
    });
    // Each time that it is asked, the unit waits long for it.
    assert!(moved.doorbells <= 5, "{moved:?}");
    assert_eq!(iommu.assign_with(unresponsive, other, DEVICE_TLB), Err(Error::Busy { device: unresponsive, cell }));
}

/// The unit gives a device up after twice that time.
const TIME: u64 = GIVES_UP_NS;

/// How it goes with an invalidation that a device does not answer, with a flush for another device that is behind it
/// in the queue, and with the unit, if they have so much time.
fn in_time(
    machine: &Machine,
    timeout_ns: u64,
    device_timeout_ns: u64,
) -> (Result<(), Error>, Result<(), Error>, UnitState) {
    let stop = Stop::new();
    let hal = Watched::shared(machine, stop.looks());
    let options = Options { timeout_ns, device_timeout_ns, ..Options::default() };
    let iommu = enabled_front(&hal, &table_with_ats(machine), options);
    let unresponsive = function(0, 3);
    let [cell, other] = cells_of(machine, &iommu, [unresponsive, function(0, 5)]);
    machine.set_device_tlb(unresponsive, Answer::Never, 32);
    let mut behind = Ok(());
    let unmap = |cell| iommu.unmap(cell, range(INPUT, PAGE)).map(drop);
    let result = stop.meanwhile(|| unmap(cell), || behind = unmap(other));
    (result, behind, states(&iommu)[0])
}

#[test]
fn a_device_has_time_of_its_own_and_so_has_what_waits_behind_it() {
    for (timeout_ns, device_timeout_ns) in [(TIME / 10, 3 * TIME), (3 * TIME, 0)] {
        let machine = machine([UnitConfig::server()]);
        let named = not_answered(&machine, function(0, 3));
        assert_eq!(in_time(&machine, timeout_ns, device_timeout_ns), (named, Ok(()), UnitState::On));
    }
}

#[test]
fn one_that_its_unit_does_not_report_in_time_costs_the_unit() {
    let machine = machine([UnitConfig::server()]);
    let (result, behind, state) = in_time(&machine, TIME / 10, TIME);
    assert!(result.is_err() && behind.is_err());
    let UnitState::Failed { error: UnitError::Timeout { waited_ns, .. }, blocking: true } = state else { panic!() };
    assert!((TIME..2 * TIME).contains(&waited_ns), "{waited_ns}");
    machine.abandon();
}

/// A device that does not answer costs itself: the page tables that others used, which no unit walks any more, are given back.
#[test]
fn no_frame_is_lost_to_a_device_that_does_not_answer() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits::DEFAULT);
    let (unresponsive, card) = (function(0, 3), function(0, 4));
    machine.add_ats(unresponsive, 32);
    for _ in 0..4 {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign_with(unresponsive, cell, DEVICE_TLB).unwrap();
        let other = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
        machine.set_device_tlb(unresponsive, Answer::Never, 32);
        let mut change = iommu.change();
        change.release(unresponsive).destroy(other);
        assert!(matches!(change.commit(), Err(Error::Unit(_))));
        machine.set_device_tlb(unresponsive, Answer::After(0), 32);
        iommu.commit(&[Edit::Destroy(cell), Edit::Destroy(other)]).unwrap();
    }
    let (in_use, counted) = (machine.frames_in_use() as u64, iommu.statistics().table_frames);
    let iommu = iommu;
    iommu.disable().unwrap();
    assert_eq!((in_use, machine.frames_in_use()), (counted, 0), "the second when all units are off");
}
