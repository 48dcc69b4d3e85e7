//! The interrupt-remapping table: where it is, and how its entries change (sections 5.1.3, 6.7, 9.9 and 9.10).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::formats::interrupt_entry::InterruptEntry;
use crate::vtd::interrupts::remap::entry;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::reach::Use;

/// Local APICs take no message with a vector below this one (SDM 3A, section 11.5.2).
const FIRST_VECTOR: u64 = 16;

/// SIRTP (section 6.7). While interrupts are remapped, what both tables have has to be the same: either may be used until the
/// cache is invalidated.
pub(crate) fn set(unit: &mut VtdUnit, board: &mut Board) {
    let before: Vec<_> = if unit.remaps() { present(unit, board) } else { Vec::new() };
    let extended = unit.extended();
    link(unit, false, board);
    unit.interrupt_table = unit.interrupt_register;
    link(unit, true, board);
    if !before.is_empty() && unit.extended() != extended {
        board.journal.violation("R52", "the mode of destinations changes while entries are cached");
    }
    for (index, old) in before {
        let new =
            if u32::from(index) < unit.interrupt_entries() { entry(unit, index, board) } else { Default::default() };
        // Requests of others are blocked by one of the two.
        let same_source = old.validation() == 0 || new.accepts(old.source());
        if new.present() && same_source && new.result(unit.extended()) != old.result(extended) {
            let text = format_args!("interrupt entry {index} goes elsewhere in the table that takes over");
            board.journal.violation("R52", text);
        }
        if new != old && board.fills() {
            unit.stale.interrupts.entry(index).or_insert(Some(old));
        }
    }
    if unit.capability.interrupt_table_flushes() {
        unit.stale.interrupts.clear();
    }
}

fn present(unit: &VtdUnit, board: &Board) -> Vec<(u16, InterruptEntry)> {
    let all = (0..unit.interrupt_entries()).map(|index| (index as u16, entry(unit, index as u16, board)));
    all.filter(|(_, entry)| entry.present()).collect()
}

fn link(unit: &mut VtdUnit, link: bool, board: &mut Board) {
    if unit.interrupt_table == 0 {
        return;
    }
    let base = unit.interrupt_table & !0xfff;
    for part in 0..unit.interrupt_entries().div_ceil(256) {
        let address = base + u64::from(part) * 4096;
        let what = Use::Interrupts(part as u8);
        match board.memory.index(address).filter(|index| board.memory.is_allocated(*index)) {
            Some(index) if link => {
                unit.reach.add(index / WORDS, what);
            }
            Some(index) => {
                unit.reach.remove(index / WORDS, what);
            }
            None if link => {
                let text = format_args!("the interrupt table at {address:#x} is in no frame that is allocated");
                board.journal.violation("R31", text);
            }
            None => {}
        }
    }
}

/// An entry has changed, as this unit sees it.
pub(crate) fn changed(unit: &mut VtdUnit, index: u16, old: InterruptEntry, new: InterruptEntry, board: &mut Board) {
    if old == new || !old.present() && !new.present() {
        return;
    }
    if unit.remaps() {
        let cached = unit.stale.interrupts.get(&index).copied().flatten();
        if !old.present() && cached.is_some_and(|cached| cached != new) {
            let text = format_args!("interrupt index {index} is reused before it is invalidated");
            board.journal.violation("R54", text);
        }
        let remembers = old.present() || unit.capability.caching_mode();
        if remembers && board.fills() {
            unit.stale.interrupts.entry(index).or_insert(old.present().then_some(old));
        }
    }
    if new.present() {
        check_entry(unit, index, new, board);
    }
}

fn check_entry(unit: &VtdUnit, index: u16, entry: InterruptEntry, board: &mut Board) {
    if entry.validation() == 0 {
        let text = format_args!("interrupt entry {index} accepts any source");
        board.journal.violation("R56", text);
    }
    if entry.destination_reserved(unit.extended()) {
        let text = format_args!("the destination of interrupt entry {index} has bits that this mode does not have");
        board.journal.violation("R57", text);
    }
    let descriptor = board.memory.index(entry.descriptor());
    if unit.reserved(entry) {
        board.journal.violation("R58", format_args!("reserved bits in interrupt entry {index}"));
    } else if entry.posted() && descriptor.is_none_or(|index| !board.memory.is_allocated(index)) {
        let text = format_args!("interrupt entry {index} posts to what is no memory of the driver's side");
        board.journal.violation("R60", text);
    } else if !entry.posted() && entry.delivery() > 1 {
        let text = format_args!("interrupt entry {index} is delivered as SMI, NMI, INIT or ExtINT, which no cell has");
        board.journal.violation("R58", text);
    } else if entry.vector() < FIRST_VECTOR {
        board.journal.violation("R58", format_args!("interrupt entry {index} has the vector of an exception"));
    }
}

/// R54: the half with the source never changes while the entry is present. The other half is one atomic store.
pub(crate) fn check_store(unit: &VtdUnit, index: usize, value: u64, board: &mut Board) {
    let upper = index % 2 == 1;
    if unit.remaps() && upper && board.memory.stored(index - 1) & 1 != 0 && board.memory.stored(index) != value {
        let address = board.arena.address(index - 1);
        let text = format_args!("the upper half of the interrupt entry at {address:#x} changes while it is present");
        board.journal.violation("R54", text);
    }
}
