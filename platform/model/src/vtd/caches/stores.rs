//! How an entry may be stored while hardware may read it.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::formats::entry::{ContextEntry, PageEntry, RootEntry};
use crate::vtd::interrupts::table;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::global;
use crate::vtd::state::reach::Use;
use crate::vtd::walks::{tables, view};

/// The driver is about to store two words at `index`, as one. An entry for interrupts may be stored so at any time (R54).
pub(crate) fn check_pair(unit: &VtdUnit, index: usize, value: [u64; 2], board: &mut Board) {
    if !unit.reach.uses(index / WORDS).iter().any(|(what, _)| matches!(what, Use::Interrupts(_))) {
        (index..).zip(value).for_each(|(index, value)| check(unit, index, value, board));
    }
}

/// The driver is about to store `value` at `index`.
pub(crate) fn check(unit: &VtdUnit, index: usize, value: u64, board: &mut Board) {
    let address = board.arena.address(index);
    if unit.global.on(global::QIE) && unit.queue.owns(address) && !unit.faults.stops_queue() {
        let text = format_args!("{address:#x} is in a descriptor that is not fetched yet");
        board.journal.violation("R15", text);
    }
    let frame = index / WORDS;
    if unit.reach.uses(frame).iter().any(|(what, _)| matches!(what, Use::Interrupts(_))) {
        table::check_store(unit, index, value, board);
    }
    if !unit.translates() {
        return;
    }
    let mut target = None;
    for (what, _) in unit.reach.uses(frame) {
        match *what {
            Use::Table { level, .. } => target = target.or(tables::child(unit, PageEntry(value), level, board)),
            Use::Contexts(bus) => {
                check_context(unit, bus, index, value, board);
                let entry = ContextEntry([value, board.memory.stored(index + 1)]);
                if index.is_multiple_of(2)
                    && let Some((table, _)) = tables::page_table(unit, entry)
                {
                    target = board.memory.index(table).map(|index| index / WORDS);
                }
            }
            Use::Root if index.is_multiple_of(2) && value & 1 != 0 => {
                target = board.memory.index(RootEntry([value, 0]).context_table()).map(|index| index / WORDS);
            }
            Use::Root | Use::Interrupts(_) => {}
        }
    }
    if let Some(frame) = target
        && !unit.snoops()
        && !board.memory.lines.is_written_back(frame)
    {
        let table = board.arena.address(frame * WORDS);
        board.journal.violation("R37", format_args!("the table at {table:#x} is linked before it is written back"));
    }
}

/// R35 and R36: how an entry of 128 bits changes while hardware may read it.
fn check_context(unit: &VtdUnit, bus: u8, index: usize, value: u64, board: &mut Board) {
    let even = index & !1;
    let old = ContextEntry([board.memory.stored(even), board.memory.stored(even + 1)]);
    let device = (even % WORDS / 2) as u16;
    let source = u16::from(bus) << 8 | device;
    let name = unit.source_id(source);
    if index == even {
        // FPD stands alone, so one store of its half leaves the entry consistent (section 6.2.2.1).
        if old.present() && value & 1 != 0 && (value ^ old.0[0]) & !2 != 0 {
            board.journal.violation("R36", format_args!("{name}: its context entry changes while it is present"));
        }
    } else if value != old.0[1] {
        let seen = ContextEntry([view::seen(unit, even, board), view::seen(unit, even + 1, board)]);
        let cached = unit.stale.contexts.get(&source).is_some_and(|entry| entry.present());
        if old.present() {
            let text = format_args!("{name}: the upper half of its context entry changes while it is present");
            board.journal.violation("R35", text);
        } else if seen.present() || cached {
            let text = format_args!("{name}: its context entry is rewritten before the old one is invalidated");
            board.journal.violation("R35", text);
        }
    }
}
