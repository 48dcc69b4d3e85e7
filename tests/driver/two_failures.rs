//! Changes in which two units or devices do not do their part, each in a way of its own: one failure hides no other.

use cofferdam::CellId;
use cofferdam::addr::SourceId;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::{Error, Options, Owner, UnitState};
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::Watched;

use crate::device_tlb::{DEVICE_TLB, INPUT, MEMORY, OTHER, RW, is_on};

/// Two units: the first serves bus 1, the second bus 0.
fn two_units() -> Machine {
    machine([UnitConfig::server().serving(&[1]), UnitConfig::server()])
}

/// A front over them, whose devices may have device-TLBs.
fn front_of(machine: &Machine) -> Front<&Machine> {
    enabled_front(machine, &of_machine(machine, &[&[1]]).atsr(1, 0, &[]).table(), Options::default())
}

/// A device behind one of them.
fn behind(unit: usize, device: u8) -> SourceId {
    function(1 - unit as u8, device)
}

/// Has these devices in the cell, each with a page in its device-TLB, and answering nothing any more.
fn assign_silent(machine: &Machine, iommu: &Front<&Machine>, cell: CellId, devices: &[SourceId]) {
    for &device in devices {
        machine.add_ats(device, 32);
        iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
        assert!(ats_write(machine, device, INPUT, 1), "{device}");
    }
    devices.iter().for_each(|device| machine.set_device_tlb(*device, Answer::Never, 32));
}

/// A device-TLB behind one unit does not answer, and the other unit fails: no cell gets what that unit may still reach, nor is
/// a table given back that it may walk, whichever of the two comes first.
#[test]
fn a_silent_device_hides_no_unit_that_fails() {
    for failing in 0..2 {
        for defect in [Defect::QueueDead, Defect::QueueErrorAfter(0)] {
            let machine = two_units();
            let iommu = front_of(&machine);
            let (card, silent) = (behind(failing, 2), behind(1 - failing, 3));
            let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), card);
            let other = cell_with(&iommu, region(INPUT, OTHER, PAGE, RW), behind(1 - failing, 4));
            assign_silent(&machine, &iommu, cell, &[silent]);
            assert!(write(&machine, card, INPUT, 2));
            let frames = machine.frames_in_use();
            machine.break_unit(failing, defect);
            assert!(matches!(iommu.unmap(cell, range(INPUT, 8 * PAGE)), Err(Error::Unit(_))));
            assert_eq!(machine.frames_in_use(), frames, "{failing}, {defect:?}: the unit may still walk the tables");
            let granted = iommu.map(other, region(INPUT + PAGE, MEMORY, PAGE, RW));
            machine.abandon();
            let refused = Error::Owned { memory: outputs(MEMORY, PAGE), owner: Owner::Withheld(cell) };
            assert_eq!(granted, Err(refused), "{failing}, {defect:?}");
        }
    }
}

/// Behind each of two units a device does not answer: both are quarantined by the same change, and their neighbours go on.
#[test]
fn a_silent_device_of_each_unit_is_quarantined() {
    let machine = two_units();
    let iommu = front_of(&machine);
    let (silent, plain) = ([0, 1].map(|unit| behind(unit, 3)), [0, 1].map(|unit| behind(unit, 4)));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 2 * PAGE, RW), plain[0]);
    iommu.assign(plain[1], cell).unwrap();
    assign_silent(&machine, &iommu, cell, &silent);
    let named = UnitError::Device { unit: machine.windows()[0], requester: silent[0].into() };
    assert_eq!(iommu.unmap(cell, range(INPUT, PAGE)).map(drop), Err(Error::Unit(named)));
    for device in silent {
        let reads = read(&machine, device, INPUT + PAGE);
        assert_eq!((is_on(&machine, device), reads), (false, None), "{device}");
    }
    for device in plain {
        assert!(write(&machine, device, INPUT + PAGE, 1) && !write(&machine, device, INPUT, 1), "{device}");
    }
    machine.check();
}

/// A device does not answer: the device with the same source-id in another segment keeps its device-TLB and its memory, be it in
/// the same cell or in another.
#[test]
fn a_silent_device_quarantines_no_namesake() {
    for one_cell in [false, true] {
        let machine = machine(two_segments());
        let iommu = enabled_with_ats(&machine);
        let [silent, namesake] = [0, 1].map(|segment| SourceId::new(segment, 2, 3, 0).unwrap());
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
        let other = if one_cell { cell } else { iommu.create_cell(UNSAFE_INTERRUPTS).unwrap() };
        if !one_cell {
            iommu.map(other, region(INPUT, OTHER, 2 * PAGE, RW)).unwrap();
        }
        machine.add_ats(namesake, 32);
        iommu.assign_with(namesake, other, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, namesake, INPUT + PAGE, 1));
        assign_silent(&machine, &iommu, cell, &[silent]);
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        assert!(!is_on(&machine, silent) && !write(&machine, silent, INPUT + PAGE, 1), "one cell: {one_cell}");
        let goes_on = is_on(&machine, namesake) && ats_write(&machine, namesake, INPUT + PAGE, 1);
        assert!(goes_on && write(&machine, namesake, INPUT + PAGE, 1), "one cell: {one_cell}");
        assert_eq!(ats_write(&machine, namesake, INPUT, 1), !one_cell, "one cell: {one_cell}");
        machine.check();
    }
}

/// Of two devices that leave in one change, one is behind a unit that fails: the other is free for another cell.
#[test]
fn a_device_leaves_although_the_unit_of_another_fails() {
    for failing in 0..2 {
        let machine = two_units();
        let iommu = front_of(&machine);
        let (kept, free) = (behind(failing, 2), behind(1 - failing, 2));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), kept);
        iommu.assign(free, cell).unwrap();
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(INPUT, OTHER, PAGE, RW)).unwrap();
        machine.break_unit(failing, Defect::QueueDead);
        let mut change = iommu.change();
        change.release(kept).release(free);
        assert!(matches!(change.commit(), Err(Error::Unit(_))));
        assert_eq!(iommu.assign(kept, other), Err(Error::Busy { device: kept, cell }), "{failing}");
        iommu.assign(free, other).unwrap();
        assert!(write(&machine, free, INPUT, 7) && peek(&machine, OTHER) == 7, "{failing}");
        machine.abandon();
    }
}

/// A unit fails a change that takes several ranges from several cells: each of them is withheld.
#[test]
fn each_range_that_a_failed_unit_may_reach_is_withheld() {
    let machine = two_units();
    let iommu = front_of(&machine);
    let cells = [0, 1].map(|n| {
        let cell = cell_with(&iommu, region(INPUT, MEMORY + n * LARGE, PAGE, RW), behind(0, n as u8));
        iommu.map(cell, region(INPUT + LARGE, OTHER + n * LARGE, PAGE, RW)).unwrap();
        cell
    });
    let other = cell_with(&iommu, region(INPUT, OTHER - LARGE, PAGE, RW), behind(1, 0));
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    for cell in cells {
        change.unmap(cell, range(INPUT, PAGE)).unmap(cell, range(INPUT + LARGE, PAGE));
    }
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    for (cell, n) in cells.into_iter().zip(0..) {
        for memory in [MEMORY + n * LARGE, OTHER + n * LARGE] {
            let refused = Error::Owned { memory: outputs(memory, PAGE), owner: Owner::Withheld(cell) };
            assert_eq!(iommu.map(other, region(INPUT + LARGE, memory, PAGE, RW)), Err(refused), "{memory:#x}");
        }
    }
    machine.abandon();
}

/// Why the only unit of a machine is out of service.
fn failure<H: Hal>(iommu: &Front<H>) -> UnitError {
    match states(iommu)[..] {
        [UnitState::Failed { error, .. }] => error,
        ref other => panic!("{other:?}"),
    }
}

/// A unit that is out of service goes by what came first, whatever else calls find out about it later.
#[test]
fn a_unit_is_known_by_its_first_failure() {
    for gone in [false, true] {
        let machine = machine([UnitConfig::server().caching_mode(true)]);
        let iommu = enabled(&machine);
        machine.break_unit(0, Defect::QueueDead);
        iommu.mute(function(0, 3), true).unwrap_err();
        let first = failure(&iommu);
        assert!(matches!(first, UnitError::Timeout { .. }), "{first}");
        if gone {
            machine.break_unit(0, Defect::AllOnes);
        } else {
            machine.mend_unit(0);
        }
        let _ = iommu.set_fault_event(Some(FaultEvent::to(0, 0x40)));
        assert_eq!(failure(&iommu), first, "the event, gone: {gone}");
        let _ = iommu.mute(function(0, 3), false);
        assert_eq!(failure(&iommu), first, "a flush, gone: {gone}");
        // SAFETY: no device has a cell.
        unsafe { iommu.forget_unit(machine.windows()[0]) }.unwrap();
        assert_eq!(failure(&iommu), first, "forgotten, gone: {gone}");
        iommu.disable().unwrap_err();
        assert_eq!(failure(&iommu), first, "disable, gone: {gone}");
        machine.abandon();
    }
}

/// Two CPUs wait for a unit, which fails in another way for each: it goes by the failure that was found first.
#[test]
fn a_second_cpus_failure_takes_no_others_place() {
    for unit in [UnitConfig::server(), UnitConfig::client()] {
        let (machine, stop) = (machine([unit]), Stop::new());
        let hal = Watched::shared(&machine, stop.looks());
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        let page = |n: u64| region(INPUT, MEMORY + n * LARGE, PAGE, RW);
        let [one, two] = [0, 1].map(|n| cell_with(&iommu, page(n), function(0, n as u8 + 3)));
        machine.break_unit(0, Defect::QueueDead);
        let slow = || iommu.unmap(one, range(INPUT, PAGE));
        let mut first = None;
        let result = stop.meanwhile(slow, || {
            machine.break_unit(0, Defect::AllOnes);
            assert!(iommu.unmap(two, range(INPUT, PAGE)).is_err());
            first = Some(failure(&iommu));
            machine.mend_unit(0);
            machine.break_unit(0, Defect::QueueDead);
        });
        assert!(matches!(first, Some(UnitError::Dead { .. })), "{first:?}");
        assert!(result.is_err(), "{result:?}");
        assert_eq!(Some(failure(&iommu)), first, "{result:?}");
        machine.abandon();
    }
}
