//! What units are found doing in every combination is what they do once they are handed back, also after a take-over that failed,
//! and after a reset in the midst of it.

use std::cell::Cell;

use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::Route;
use cofferdam::iommu::{Edit, Error, MainMemory, Options, UnitState};
use cofferdam_model::{Defect, Machine, Reason, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use super::audit::audit;
use super::hand_back::{registers, root_with, running};
use super::interrupts::*;

pub(super) const MEMORY: u64 = 0x6000_0000;
pub(super) const DISK: SourceId = SourceId::from_requester(0, 3 << 3);
pub(super) const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const GCMD: u32 = 0x18;
pub(super) const GSTS: u32 = 0x1c;
const RTADDR: u32 = 0x20;
const ABORT_MODE: u64 = 0xc00;
const PMEN: u32 = 0x64;
const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
pub(super) const IRE: u32 = 1 << 25;
pub(super) const CFI: u32 = 1 << 23;

pub(super) fn register(machine: &Machine, at: u32) -> u32 {
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.read32(mapped(machine.windows()[0]), at) }
}

/// A bit of GCMD, and nothing else.
pub(super) fn switch(machine: &Machine, bit: u32, on: bool) {
    let carried = register(machine, GSTS) & 0x96ff_ffff & !bit;
    // SAFETY: as above.
    unsafe { machine.write32(mapped(machine.windows()[0]), GCMD, carried | if on { bit } else { 0 }) };
    machine.pass(1_000_000);
}

fn tried(machine: &Machine) -> Result<(), Reason> {
    machine.dma_write(DISK, Iova::new(MEMORY), &[1; 8]).map_err(|fault| fault.reason)
}

/// A front that is to take the machine over, interrupts too.
pub(super) fn taker<H: Hal>(hal: H, machine: &Machine) -> Front<H> {
    let iommu = front(hal, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu
}

/// Somebody who translates and remaps interrupts; then these bits are off.
pub(super) fn formerly(machine: &Machine, off: u32) -> Front<&Machine> {
    let former = remapping(machine, false);
    let root = former.create_cell(CONFIG).unwrap();
    let own = region(MEMORY, MEMORY, PAGE, Rights::all());
    former.commit(&[Edit::Map(root, own), Edit::Assign(DISK, root, messages(1))]).unwrap();
    former.route(root, of(DISK, 0), Route::to(2, 0x41)).unwrap();
    [TE, IRE].into_iter().filter(|bit| off & bit != 0).for_each(|bit| switch(machine, bit, false));
    machine.take_violations();
    former
}

/// Who had tables set, and did not use them, goes on by them once it does: the unit has neither the driver's, whose frames are
/// somebody else's by then, nor anything that it cached of them.
#[test]
fn tables_that_are_found_set_and_unused_are_set_again() {
    for unit in [UnitConfig::server(), UnitConfig::client(), UnitConfig::qemu_10_0(true), UnitConfig::everything()] {
        for unused in [TE, IRE, TE | IRE] {
            let machine = machine([unit.clone()]);
            let former = formerly(&machine, unused);
            let message = former.message(of(DISK, 0)).unwrap();
            let before = registers(&machine, 0);
            let iommu = taker(&machine, &machine);
            iommu.enable().unwrap();
            let cell = iommu.create_cell(CONFIG).unwrap();
            let other = region(MEMORY, MEMORY + LARGE, PAGE, Rights::all());
            iommu.commit(&[Edit::Map(cell, other), Edit::Assign(DISK, cell, messages(1))]).unwrap();
            iommu.route(cell, of(DISK, 0), Route::to(3, 0x42)).unwrap();
            assert!(write(&machine, DISK, MEMORY, 1));
            send(&machine, DISK, iommu.message(of(DISK, 0)).unwrap(), 0).unwrap();
            iommu.destroy_cell(cell).unwrap();
            iommu.hand_back().unwrap();
            assert_eq!(registers(&machine, 0), before, "{unused:#x}");
            for bit in [TE, IRE].into_iter().filter(|bit| unused & bit != 0) {
                switch(&machine, bit, true);
            }
            poke(&machine, MEMORY, 0);
            assert!(write(&machine, DISK, MEMORY, 0x77), "{unused:#x}");
            assert_eq!(peek(&machine, MEMORY), 0x77, "{unused:#x}");
            assert_eq!(send(&machine, DISK, message, 0), Ok((2, 0x41)), "{unused:#x}");
            assert!(!write(&machine, CARD, MEMORY, 1), "{unused:#x}");
            assert_eq!(audit(&former), [], "{unused:#x}");
            machine.abandon();
        }
    }
}

#[test]
fn abort_mode_that_was_set_and_unused_is_set_again() {
    let machine = machine([UnitConfig::everything()]);
    // SAFETY: as above.
    unsafe { machine.write64(mapped(machine.windows()[0]), RTADDR, ABORT_MODE) };
    switch(&machine, SRTP, true);
    let before = registers(&machine, 0);
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.enable().unwrap();
    iommu.hand_back().unwrap();
    assert_eq!((registers(&machine, 0), machine.frames_in_use()), (before, 0));
    switch(&machine, TE, true);
    assert_eq!(tried(&machine), Err(Reason::AbortMode));
    machine.abandon();
}

/// Wherever take-over ends for lack of frames, translation that was off goes by the former owner's table.
#[test]
fn a_take_over_that_found_no_frames_leaves_none_of_its_tables() {
    for (name, unit) in remapping_presets() {
        for left in 0..12 {
            let machine = machine([unit.clone()]);
            let _former = formerly(&machine, TE);
            let before = registers(&machine, 0);
            let iommu = taker(&machine, &machine);
            machine.allow_allocations(Some(left));
            let _ = iommu.enable();
            machine.allow_allocations(None);
            iommu.hand_back().unwrap();
            assert_eq!(registers(&machine, 0), before, "{name}, {left} frames");
            switch(&machine, TE, true);
            assert_eq!(tried(&machine), Ok(()), "{name}, {left} frames");
            machine.abandon();
        }
    }
}

#[test]
fn compatibility_format_is_as_it_was_found() {
    for (name, unit) in remapping_presets() {
        for remaps in [false, true] {
            let machine = machine([unit.clone()]);
            switch(&machine, CFI, true);
            let before = registers(&machine, 0);
            let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
            if remaps {
                iommu.remap_interrupts(&[0], false).unwrap();
            }
            iommu.enable().unwrap();
            iommu.hand_back().unwrap();
            assert_eq!(registers(&machine, 0), before, "{name}, remaps: {remaps}");
            machine.abandon();
        }
    }
}

/// Protection that a failed take-over has switched on is off again.
#[test]
fn memory_that_nobody_had_protected_is_not_protected_afterwards() {
    let page = |at: u64| cofferdam::addr::PhysAddr::new(at);
    let memory = Some(MainMemory { low_end: page(0x8000_0000), high_end: page(0x1_0000_0000) });
    let mut failed = 0;
    for (after, hands_back) in (0..12).flat_map(|after| [(after, false), (after, true)]) {
        let machine = machine([UnitConfig::client()]);
        let _former = formerly(&machine, 0);
        let iommu = front(&machine, &machine.dmar(), Options { memory, ..TAKES_OVER }).unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(after));
        let enabled = iommu.enable();
        machine.mend_unit(0);
        failed += u32::from(enabled.is_err() && register(&machine, PMEN) & 1 != 0);
        if hands_back { iommu.hand_back() } else { iommu.disable() }.unwrap();
        assert_eq!(register(&machine, PMEN) & 1, 0, "after {after}, {enabled:?}");
        machine.abandon();
    }
    assert_ne!(failed, 0, "no take-over failed with memory protected");
}

/// A unit is not said to be off while it blocks by the driver's tables.
#[test]
fn a_unit_that_fails_while_interrupts_are_given_back_is_off() {
    for after in 0..4 {
        let machine = machine([UnitConfig::server()]);
        running(&machine, 0);
        let iommu = taker(&machine, &machine);
        iommu.enable().unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(after));
        let result = iommu.hand_back();
        machine.mend_unit(0);
        let translates = register(&machine, GSTS) & TE != 0;
        assert!(states(&iommu) != [UnitState::Off] || !translates, "after {after}, {result:?}");
        machine.abandon();
    }
}

/// What a unit has cached of the former table goes when interrupts are given back that the driver did not remap.
#[test]
fn no_command_is_wasted_and_no_cache_is_left() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        running(&machine, 0);
        machine.take_violations();
        let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
        iommu.enable().unwrap();
        iommu.hand_back().unwrap();
        assert_eq!(machine.abandon(), [], "{name}");
    }
    let machine = machine([UnitConfig::server()]);
    let _former = formerly(&machine, TE | IRE);
    let iommu = taker(&machine, &machine);
    iommu.enable().unwrap();
    machine.reset_unit(0);
    iommu.hand_back().unwrap();
    assert_eq!(machine.abandon(), []);
}

#[test]
fn a_unit_that_was_reset_after_a_failed_take_over_is_not_said_to_be_given_back() {
    let machine = machine([UnitConfig::server()]);
    let _former = formerly(&machine, 0);
    let before = registers(&machine, 0);
    let iommu = taker(&machine, &machine);
    machine.allow_allocations(Some(0));
    iommu.enable().unwrap_err();
    machine.allow_allocations(None);
    machine.reset_unit(0);
    let refused = iommu.hand_back();
    assert!(matches!(refused, Err(Error::Unit(UnitError::Reset { .. }))), "{refused:?}");
    assert_eq!(register(&machine, GSTS), 0, "nothing is on that has no table");
    // Once the driver has it, it can be given back.
    iommu.enable().unwrap();
    iommu.hand_back().unwrap();
    assert_eq!(registers(&machine, 0), before);
    machine.abandon();
}

thread_local! {
    /// Accesses until the unit is reset.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// So many come at most after the last look at whether the unit goes on.
const UNSEEN: u32 = 4;

/// What came of the call, if the unit is reset at its n-th access, whether registers are as they were, and how many accesses were left.
fn reset_at(nth: u32, off: u32, devices: &[SourceId]) -> (Result<(), Error>, bool, u32) {
    let hal = Watched::new(machine([UnitConfig::server()]), |_: Call, machine: &Machine| {
        if LEFT.get() == Some(0) {
            machine.reset_unit(0);
        }
        LEFT.set(LEFT.get().map(|left| left.wrapping_sub(1)));
    });
    let machine = &hal.machine;
    let _former = formerly(machine, off);
    let before = registers(machine, 0);
    let iommu = front(&hal, &machine.dmar(), Options { timeout_ns: 200_000, ..TAKES_OVER }).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    root_with(&iommu, devices, &[], CONFIG);
    iommu.enable().unwrap();
    LEFT.set(Some(nth));
    let result = iommu.hand_back();
    let left = LEFT.take().unwrap_or_default();
    let is_as_before = registers(machine, 0) == before;
    if result.is_err() {
        // It may have lost what was of the driver's, or what was the former owner's by then, and has lost all after this.
        machine.reset_unit(0);
        iommu.enable().unwrap();
        assert_eq!(audit(&iommu), [], "reset at access {nth}, and once more");
        iommu.hand_back().unwrap();
        assert_eq!(registers(machine, 0), before, "reset at access {nth}, and once more");
    }
    hal.machine.abandon();
    (result, is_as_before, left)
}

/// The unit is reset at each access of the call: it has succeeded only if all is as it was found.
#[test]
fn a_reset_at_any_access_is_not_success() {
    for off in [0, TE, IRE, TE | IRE] {
        let (result, is_as_before, left) = reset_at(u32::MAX, off, &[]);
        assert!(result.is_ok() && is_as_before);
        let accesses = u32::MAX - left;
        assert!(accesses > 200, "{accesses}");
        for nth in (0..accesses - UNSEEN).rev().step_by(2) {
            let (result, is_as_before, _) = reset_at(nth, off, &[]);
            assert!(result.is_err() || is_as_before, "off {off:#x}, access {nth} of {accesses}");
        }
    }
}

/// Devices of a unit that failed there have what they had once it is the driver's again, or are not the root cell's any more.
#[test]
fn a_reset_at_any_access_leaves_no_device_half_assigned() {
    for off in [0, TE | IRE] {
        let (result, is_as_before, left) = reset_at(u32::MAX, off, &[DISK, CARD]);
        assert!(result.is_ok() && is_as_before);
        for nth in (0..u32::MAX - left).step_by(3) {
            let _ = reset_at(nth, off, &[DISK, CARD]);
        }
    }
}
