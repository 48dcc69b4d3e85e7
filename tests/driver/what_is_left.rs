//! What a step of hand-back, of switching off or of a sleep leaves that fails, or comes after a reset.

use cofferdam::addr::SourceId;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{Route, Source};
use cofferdam::iommu::{Error, UnitState};
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use super::device_tlb::{DEVICE_TLB, is_on};
use super::hand_back::{registers, root_with, running};
use super::interrupts::*;

const MEMORY: u64 = 0x6000_0000;
const DISK: SourceId = SourceId::from_requester(0, 3 << 3);
const CARD: SourceId = SourceId::from_requester(0, 5 << 3);

fn get32(machine: &Machine, at: u32) -> u32 {
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.read32(mapped(machine.windows()[0]), at) }
}

fn set32(machine: &Machine, at: u32, value: u32) {
    // SAFETY: as above.
    unsafe { machine.write32(mapped(machine.windows()[0]), at, value) };
}

fn set64(machine: &Machine, at: u32, value: u64) {
    // SAFETY: as above.
    unsafe { machine.write64(mapped(machine.windows()[0]), at, value) };
}

/// The former owner's root table lets the card through to all memory.
fn translating(machine: &Machine) {
    let [root, context] = [(); 2].map(|()| machine.allocate(0).unwrap());
    let card = usize::from(CARD.requester() as u8) * 2;
    for (frame, word, value) in
        [(root, 0, context.as_u64() | 1), (context, card, 0b1001), (context, card + 1, 2 | 1 << 8)]
    {
        // SAFETY: the frame is the test's.
        let first = unsafe { machine.phys_to_virt(frame) };
        // SAFETY: a frame has 512 words.
        let at = unsafe { first.add(word) };
        // SAFETY: as above.
        unsafe { machine.store(at, value) };
        // SAFETY: as above.
        unsafe { machine.write_back(first, 4096) };
    }
    machine.fence();
    set64(machine, 0x20, root.as_u64());
    set32(machine, 0x18, 0b11 << 25 | 1 << 30);
    machine.pass(1_000_000);
    set32(machine, 0x18, 0b11 << 25 | 1 << 31);
    machine.pass(1_000_000);
    assert_eq!(get32(machine, 0x1c) >> 30, 0b11);
}

/// A soft failure while interrupts are given back: the driver says that the unit is on, and the former owner's table is in use.
#[test]
fn interrupts_of_a_failed_hand_back_are_not_the_former_owners_for_good() {
    let machine = machine([UnitConfig::server()]);
    running(&machine, 0);
    machine.take_violations();
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    root_with(&iommu, &[DISK], &[], CONFIG);
    iommu.enable().unwrap();
    let sent = || machine.interrupt(CARD, 0xfee0_0010 | 37 << 5, 0).is_ok();
    assert!(!sent(), "blocked, since nobody routed it");
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    let failed = iommu.hand_back();
    assert!(matches!(failed, Err(Error::Unit(UnitError::Queue { .. }))), "{failed:?}");
    machine.mend_unit(0);
    let (state, after) = (states(&iommu), sent());
    let enabled = iommu.enable().map(drop);
    let (again, at_last) = (states(&iommu), sent());
    machine.abandon();
    assert!(
        enabled.is_err() || !at_last,
        "failed: {state:?}, sent {after}; then enable said {enabled:?}, the unit is {again:?}, sent {at_last}"
    );
}

/// The same while translation is given back.
#[test]
fn memory_of_a_failed_hand_back_is_not_the_former_owners_for_good() {
    let mut wrong = Vec::new();
    for defect in [Defect::QueueErrorAfter(0), Defect::QueueDead] {
        let machine = machine([UnitConfig::server()]);
        running(&machine, 0);
        translating(&machine);
        assert!(write(&machine, CARD, MEMORY, 1), "by the former owner's table");
        machine.take_violations();
        let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        root_with(&iommu, &[DISK], &[], CONFIG);
        iommu.enable().unwrap();
        assert!(!write(&machine, CARD, MEMORY, 1) && write(&machine, DISK, MEMORY, 1));
        machine.break_unit(0, defect);
        let failed = iommu.hand_back();
        assert!(failed.is_err());
        machine.mend_unit(0);
        let (state, after) = (states(&iommu), write(&machine, CARD, MEMORY, 1));
        let enabled = iommu.enable().map(drop);
        let (again, at_last) = (states(&iommu), write(&machine, CARD, MEMORY, 1));
        machine.abandon();
        let says_blocking =
            |states: &[UnitState]| matches!(states, [UnitState::On | UnitState::Failed { blocking: true, .. }]);
        if says_blocking(&state) && after || says_blocking(&again) && at_last {
            wrong.push(format!(
                "{defect:?}: {state:?}, reached {after}; enable: {enabled:?}, {again:?}, reached {at_last}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A soft failure of `disable` is followed by `enable` and `hand_back`: the unit was found off, and no frame is given back while its
/// queue is on.
#[test]
fn what_a_failed_disable_left_is_not_what_was_found() {
    let machine = machine([UnitConfig::server()]);
    let before = registers(&machine, 0);
    let iommu = enabled(&machine);
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    let failed = iommu.disable();
    machine.mend_unit(0);
    let (state, frames) = (states(&iommu), machine.frames_in_use());
    let open = write(&machine, CARD, MEMORY, 1);
    let enabled = iommu.enable().map(drop);
    let handed_back = iommu.hand_back();
    let (status, after, left) = (get32(&machine, 0x1c), registers(&machine, 0), machine.frames_in_use());
    let found = machine.abandon();
    assert!(
        status >> 26 & 1 == 0 || left != 0,
        "{failed:?}, then {state:?}, {frames} frames, open {open}; {enabled:?}, {handed_back:?}: GSTS {status:#x}, {left} frames in \
         use\n{before:x?}\n{after:x?}\n{found:?}"
    );
}

/// A unit that keeps blocking after `disable` failed is still the driver's: its faults are read.
#[test]
fn faults_of_a_unit_that_disable_could_not_switch_off_are_read() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    machine.break_unit(0, Defect::Slow(1_000_000_000_000));
    let failed = iommu.disable();
    assert!(failed.is_err());
    let state = states(&iommu);
    assert!(!write(&machine, CARD, MEMORY, 1), "it blocks");
    let log = iommu.faults(|_| ());
    machine.abandon();
    assert!(log.records > 0, "{failed:?}, {state:?}, {log:?}");
}

/// The registers of the two other events are lost in a reset, too: an event that is on again has its message.
#[test]
fn no_event_is_given_back_without_its_message() {
    let machine = machine([UnitConfig::server()]);
    running(&machine, 0);
    let before = [0xa0, 0xa4, 0xa8].map(|at| get32(&machine, at));
    machine.take_violations();
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    machine.reset_unit(0);
    iommu.enable().unwrap();
    iommu.hand_back().unwrap();
    let after = [0xa0, 0xa4, 0xa8].map(|at| get32(&machine, at));
    machine.abandon();
    assert_eq!(before, [0, 0x32, 0xfee0_1000]);
    assert_eq!(after, before);
}

/// Memory that was protected when the unit was found is protected again, after a reset as well.
#[test]
fn memory_that_was_protected_is_protected_again_after_a_reset() {
    for disables in [false, true] {
        let machine = machine([UnitConfig::client()]);
        for (at, value) in [(0x68, 0), (0x6c, 0x7fff_ffff), (0x70, 0), (0x74, 1), (0x78, 0x3fff_ffff), (0x7c, 1)] {
            set32(&machine, at, value);
        }
        set32(&machine, 0x64, 1 << 31);
        machine.pass(1_000_000);
        let all = |machine: &Machine| [0x64, 0x68, 0x6c, 0x70, 0x74, 0x78, 0x7c].map(|at| get32(machine, at));
        let before = all(&machine);
        let blocked_before = !write(&machine, CARD, MEMORY, 1);
        machine.take_violations();
        let iommu = enabled(&machine);
        machine.reset_unit(0);
        iommu.enable().unwrap();
        if disables {
            iommu.disable().unwrap()
        } else {
            iommu.hand_back().unwrap()
        }
        let (after, blocked_after) = (all(&machine), !write(&machine, CARD, MEMORY, 1));
        machine.abandon();
        assert!(blocked_before);
        assert_eq!((after, blocked_after), (before, true), "disables: {disables}");
    }
}

/// Another device in the place of one sends none of its interrupts, once it is said to be blocked.
#[test]
fn another_device_sends_no_interrupt_of_the_one_before() {
    let machine = machine([UnitConfig::server()]);
    machine.add_express(CARD);
    let iommu = remapping(&machine, false);
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(CARD, cell, messages(1)).unwrap();
    let source = Source::Message { device: CARD, index: 0 };
    iommu.route(cell, source, Route::to(2, 0x41)).unwrap();
    let message = iommu.message(source).unwrap();
    assert_eq!(send(&machine, CARD, message, 0), Ok((2, 0x41)));
    iommu.suspend().unwrap();
    machine.reset_unit(0);
    machine.set_config(CARD, 0, 0xdead_beee);
    let mut blocked = Vec::new();
    iommu.resume(|device| blocked.push(device)).unwrap();
    let sent = send(&machine, CARD, message, 0);
    machine.abandon();
    assert_eq!(blocked, [CARD]);
    assert!(sent.is_err(), "{sent:?}");
}

/// "Its ATS is off, and nothing else was done": that of another device is as it was.
#[test]
fn a_device_that_does_not_answer_costs_no_other_its_device_tlb() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    for device in [DISK, CARD] {
        machine.add_ats(device, 32);
        iommu.assign_with(device, root, DEVICE_TLB).unwrap();
    }
    machine.set_device_tlb(DISK, Answer::Never, 32);
    let failed = iommu.hand_back();
    let on = [DISK, CARD].map(|device| is_on(&machine, device));
    machine.abandon();
    assert!(matches!(failed, Err(Error::Unit(UnitError::Device { .. }))), "{failed:?}");
    assert_eq!(on, [false, true]);
}
