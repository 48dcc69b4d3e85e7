//! What a change of memory means to a unit: which of its entries are other ones now.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::caches::{contexts, pages};
use crate::vtd::formats::entry::{ContextEntry, PageEntry, RootEntry};
use crate::vtd::formats::interrupt_entry::InterruptEntry;
use crate::vtd::interrupts::table;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::reach::Use;
use crate::vtd::walks::view;

/// Words from `first` on have changed, as this unit sees memory; `old` is what it saw before.
pub(crate) fn changed(unit: &mut VtdUnit, first: usize, old: &[u64], board: &mut Board) {
    let frame = first / WORDS;
    if unit.reach.uses(frame).is_empty() {
        return;
    }
    for level in unit.reach.levels(frame) {
        for (index, old) in (first..).zip(old) {
            pages::changed(unit, index, level, PageEntry(*old), board);
        }
    }
    if unit.reach.uses(frame).iter().all(|(what, _)| matches!(what, Use::Table { .. })) {
        return;
    }
    // All other entries have two words.
    let was = |index: usize, board: &Board| match old.get(index.wrapping_sub(first)) {
        Some(old) => *old,
        None => view::seen(unit, index, board),
    };
    let pairs: Vec<(usize, [u64; 2])> = (first / 2..=(first + old.len() - 1) / 2)
        .map(|pair| (pair * 2, [was(pair * 2, board), was(pair * 2 + 1, board)]))
        .collect();
    let uses: Vec<Use> = unit.reach.uses(frame).iter().map(|(what, _)| *what).collect();
    for what in uses {
        for (index, old) in &pairs {
            let entry = (index % WORDS / 2) as u8;
            match what {
                Use::Root => contexts::root_changed(unit, *index, entry, RootEntry(*old), board),
                Use::Contexts(bus) => {
                    let new = ContextEntry([view::seen(unit, *index, board), view::seen(unit, index + 1, board)]);
                    contexts::changed(unit, u16::from(bus) << 8 | u16::from(entry), ContextEntry(*old), new, board);
                }
                Use::Interrupts(part) => {
                    let new = InterruptEntry([view::seen(unit, *index, board), view::seen(unit, index + 1, board)]);
                    let number = u16::from(part) << 8 | u16::from(entry);
                    table::changed(unit, number, InterruptEntry(*old), new, board);
                }
                Use::Table { .. } => {}
            }
        }
    }
}
