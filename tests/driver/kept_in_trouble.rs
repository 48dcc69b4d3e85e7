//! Interrupts that go on from a table that is found, where something stands in the way: failures, edits that come too early, devices
//! that leave, tables in another mode.

use std::cell::Cell;

use cofferdam::CellConfig;
use cofferdam::CellId;
use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{Message, Route, Source};
use cofferdam::iommu::{Edit, Error, Unroutable};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::peek;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::Watched;

use super::interrupts::*;
use super::take_over::remap_interrupts;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);
const PIN: Source = Source::Pin { io_apic: 0, pin: 3 };
const SIZE: u64 = 7;
const EXTENDED: u64 = 1 << 11;
const IRES: u32 = 1 << 25;

fn entry(index: usize, source: SourceId) -> [(usize, u64); 2] {
    [(index * 2, 0x0200_0041_0001), (index * 2 + 1, 1 << 18 | u64::from(source.requester()))]
}

fn message(index: u64) -> Message {
    Message { address: 0xfee0_0010 | index << 5, data: 0 }
}

fn irta(machine: &Machine) -> u64 {
    // SAFETY: each unit that remaps interrupts has this register.
    unsafe { machine.read64(mapped(machine.windows()[0]), 0xb8) }
}

fn status(machine: &Machine) -> u32 {
    // SAFETY: each unit has this register.
    unsafe { machine.read32(mapped(machine.windows()[0]), 0x1c) }
}

/// A front that is prepared, with a cell that has the card.
fn prepared<H: Hal>(hal: H, dmar: &[u8]) -> (Front<H>, CellId) {
    let iommu = front(hal, dmar, TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.prepare().unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(CARD, cell, messages(0)).unwrap();
    (iommu, cell)
}

/// A machine that is found with these entries.
fn found(words: &[(usize, u64)]) -> Machine {
    let machine = machine([UnitConfig::server()]);
    remap_interrupts(&machine, 0, SIZE, words);
    machine.take_violations();
    machine
}

/// The rules that were broken.
fn broken(machine: Machine) -> Vec<String> {
    machine
        .abandon()
        .iter()
        .map(|violation| format!("{violation:?}").lines().next().unwrap_or_default().into())
        .collect()
}

/// S 9.9: with RH an interrupt goes to one of the CPUs in DST, without it to all of them.
#[test]
fn an_interrupt_for_one_of_several_cpus_does_not_become_one_for_all() {
    // Fixed delivery, logical destination, RH: as Linux writes them.
    let to_one_of_two = [(74, 0x0c00_0041_000d), (75, 1 << 18 | u64::from(CARD.requester()))];
    let machine = found(&to_one_of_two);
    let sent = |machine: &Machine| machine.interrupt(CARD, message(37).address as u32, 0).ok();
    let before = sent(&machine);
    assert!(before.is_some());
    let (iommu, cell) = prepared(&machine, &machine.dmar());
    let kept = iommu.commit(&[Edit::Keep(cell, of(CARD, 0), 37)]);
    iommu.enable().unwrap();
    let after = sent(&machine);
    drop(iommu);
    let broken = broken(machine);
    assert!(kept.is_err() || before == after, "{before:x?} became {after:x?}");
    assert_eq!(broken, [] as [String; 0]);
}

/// R52: a table that takes over has what the other had, or nothing.
#[test]
fn what_is_kept_goes_nowhere_else_in_the_table_that_takes_over() {
    let machine = found(&entry(37, CARD));
    let (iommu, cell) = prepared(&machine, &machine.dmar());
    iommu.commit(&[Edit::Keep(cell, of(CARD, 0), 37)]).unwrap();
    let _ = iommu.route(cell, of(CARD, 0), Route::to(3, 0x55));
    iommu.enable().unwrap();
    drop(iommu);
    assert_eq!(broken(machine), [] as [String; 0]);
}

/// R52, for an entry that nobody keeps, and that is given to another source before its unit is switched on.
#[test]
fn an_entry_that_is_found_in_use_is_no_other_sources_in_the_table_that_takes_over() {
    let machine = found(&entry(37, CARD));
    let (iommu, cell) = prepared(&machine, &machine.dmar());
    iommu.assign_with(OTHER, cell, messages(64)).unwrap();
    for index in 0..64 {
        let _ = iommu.route(cell, of(OTHER, index), Route::to(3, 0x60));
    }
    iommu.enable().unwrap();
    drop(iommu);
    assert_eq!(broken(machine), [] as [String; 0]);
}

/// `RemappingUnit::found_interrupts`: remapping was switched off if the driver's table could not follow. `disable` gives back the
/// table that the driver's followed, and nothing else.
#[test]
fn a_table_that_was_not_followed_is_not_given_back() {
    let machine = machine([UnitConfig::everything()]);
    remap_interrupts(&machine, 0, SIZE | EXTENDED, &[]);
    machine.take_violations();
    let theirs = irta(&machine);
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    iommu.disable().unwrap();
    let (status, table) = (status(&machine), irta(&machine));
    drop(iommu);
    machine.abandon();
    assert!(status & IRES == 0, "interrupts are remapped by {table:#x}, found was {theirs:#x}");
}

/// A unit that lost translation alone is switched on again, and then off: it uses no frame any more that was given back.
#[test]
fn the_drivers_own_table_is_not_taken_for_one_that_was_found() {
    for is_found in [false, true] {
        let machine = if is_found { found(&entry(37, CARD)) } else { machine([UnitConfig::server()]) };
        let (before, frames) = (irta(&machine), machine.frames_in_use());
        let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        iommu.enable().unwrap();
        let own = irta(&machine);
        // Somebody else switches translation off: all other bits stay.
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.write32(mapped(machine.windows()[0]), 0x18, status(&machine) & 0x96ff_ffff & !(1 << 31)) };
        machine.pass(1_000_000);
        machine.take_violations();
        iommu.enable().unwrap();
        let reported = iommu.units().next().unwrap().found_interrupts.map(|table| table.address.as_u64());
        iommu.disable().unwrap();
        let remaps = status(&machine) & IRES != 0;
        let (after, left) = (irta(&machine), machine.frames_in_use());
        drop(iommu);
        let broken = broken(machine);
        assert!(!(remaps && after == own), "found {is_found}: the table {own:#x} is in use and was freed: {broken:?}");
        assert_ne!(reported, Some(own & !0xfff), "found {is_found}: that is the driver's own");
        assert_eq!(left, frames);
        assert!(!is_found || after == before, "found {is_found}");
    }
}

/// `commit`: as if one edit came after the other. A device that the cell has no more has no route (`Unroutable::NotHeld`).
#[test]
fn nothing_is_routed_in_vain_for_a_device_that_leaves() {
    for comes_back in [false, true] {
        let machine = found(&entry(37, CARD));
        let (iommu, cell) = prepared(&machine, &machine.dmar());
        iommu.commit(&[Edit::Keep(cell, of(CARD, 0), 37)]).unwrap();
        iommu.enable().unwrap();
        let mut edits = vec![Edit::Release(CARD)];
        edits.extend(comes_back.then_some(Edit::Assign(CARD, cell, messages(0))));
        edits.push(Edit::Route(cell, of(CARD, 0), Route::to(3, 0x55)));
        let done = iommu.commit(&edits);
        let mut routed = 0;
        iommu.routes(|_| routed += 1).unwrap();
        drop(iommu);
        machine.abandon();
        assert!(done.is_err() || routed == 1, "comes back {comes_back}: {done:?}, and nothing is routed");
    }
}

/// `commit`: as if one edit came after the other. One after the other, these do succeed.
#[test]
fn a_device_moves_with_what_is_kept_in_one_change() {
    let moved = |in_one: bool| {
        let machine = found(&entry(37, CARD));
        let (iommu, cell) = prepared(&machine, &machine.dmar());
        let other = iommu.create_cell(CellConfig { ..CONFIG }).unwrap();
        iommu.commit(&[Edit::Keep(cell, of(CARD, 0), 37)]).unwrap();
        let edits = [Edit::Release(CARD), Edit::Assign(CARD, other, messages(0)), Edit::Keep(other, of(CARD, 0), 37)];
        let result = match in_one {
            true => iommu.commit(&edits).map(drop),
            false => edits.iter().try_for_each(|edit| iommu.commit(&[*edit]).map(drop)),
        };
        drop(iommu);
        machine.abandon();
        result
    };
    assert_eq!(moved(false), Ok(()));
    assert_eq!(moved(true), Ok(()));
}

/// The same for a pin, which `Edit::Route` moves in one change.
#[test]
fn a_pin_that_is_kept_moves_in_one_change() {
    let machine = found(&entry(5, IO_APIC));
    let (iommu, cell) = prepared(&machine, &machine.dmar());
    let other = iommu.create_cell(CellConfig { ..CONFIG }).unwrap();
    iommu.commit(&[Edit::Keep(cell, PIN, 5)]).unwrap();
    let moved = iommu.commit(&[Edit::Unroute(cell, PIN), Edit::Keep(other, PIN, 5)]).map(drop);
    drop(iommu);
    machine.abandon();
    assert_eq!(moved, Ok(()));
}

/// `Unroutable::NotHeld`: the device is quarantined.
#[test]
fn nothing_is_routed_for_a_quarantined_device() {
    for after in 0..4 {
        let machine = found(&entry(37, CARD));
        let (iommu, cell) = prepared(&machine, &machine.dmar());
        iommu.commit(&[Edit::Keep(cell, of(CARD, 0), 37)]).unwrap();
        iommu.enable().unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(after));
        let released = iommu.release(CARD);
        machine.mend_unit(0);
        let mut quarantined = false;
        iommu.assigned(|it| quarantined |= it.device == CARD && it.quarantined).unwrap();
        let routed = iommu.route(cell, of(CARD, 0), Route::to(3, 0x55));
        let sent = send(&machine, CARD, message(37), 0);
        drop(iommu);
        machine.abandon();
        let refused = Error::Route { source: of(CARD, 0), reason: Unroutable::NotHeld };
        assert!(
            !quarantined || routed == Err(refused),
            "after {after}: {released:?}, then {routed:?}, and it sends {sent:?}"
        );
    }
}

/// R52, S 6.7: the entry cache is invalidated after a table took over. It may have what is not present (S 6.1).
#[test]
fn a_disable_that_is_repeated_invalidates_what_is_cached() {
    let mut tried = 0;
    for after in 0..12 {
        let (looks, tail, seen) = (Cell::new(false), Cell::new(0), Cell::new(0_u32));
        let before = |_, machine: &Machine| {
            if !looks.get() {
                return;
            }
            // SAFETY: each unit with a queue has these registers.
            let [new, base] = [0x88, 0x90].map(|at| unsafe { machine.read64(mapped(machine.windows()[0]), at) });
            let base = base & !0xfff;
            while tail.get() != new && base != 0 {
                // Of an interrupt-entry-cache (S 6.5.2).
                seen.set(seen.get() + u32::from(peek(machine, base + tail.get()) & 0xf == 4));
                tail.set((tail.get() + 16) % 4096);
            }
        };
        let machine = machine([UnitConfig::server().caching_mode(true)]);
        remap_interrupts(&machine, 0, SIZE, &entry(38, OTHER));
        machine.take_violations();
        let theirs = irta(&machine);
        let hal = Watched::new(machine, before);
        let iommu = front(&hal, &hal.machine.dmar(), TAKES_OVER).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        iommu.enable().unwrap();
        hal.machine.break_unit(0, Defect::QueueErrorAfter(after));
        let first = iommu.disable();
        hal.machine.mend_unit(0);
        let has_taken_over = irta(&hal.machine) == theirs;
        if first.is_err() && has_taken_over {
            // SAFETY: as above.
            tail.set(unsafe { hal.machine.read64(mapped(hal.machine.windows()[0]), 0x88) });
            looks.set(true);
            let second = iommu.disable();
            looks.set(false);
            tried += u32::from(second.is_ok());
            let text = format!("after {after}: {first:?}, then {second:?}, with {} invalidations", seen.get());
            drop(iommu);
            hal.machine.abandon();
            assert!(second.is_err() || seen.get() > 0, "{text}");
        } else {
            drop(iommu);
            hal.machine.abandon();
        }
    }
    assert!(tried > 0);
}
