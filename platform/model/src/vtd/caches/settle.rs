//! After a change is done: nothing in the caches differs from memory, and nothing that hardware reads is still on its
//! way there.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::caches::{ats, buffer};
use crate::vtd::formats::entry::{PageEntry, index, page_bytes};
use crate::vtd::interrupts::cache;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::global;
use crate::vtd::state::progress::RootState;
use crate::vtd::state::stale::{Leaf, Table};
use crate::vtd::walks::{tables, translate, view};

/// Reports what a driver has left undone that says it is done.
pub(crate) fn settle(unit: &mut VtdUnit, board: &mut Board) {
    if unit.defects.ever {
        return;
    }
    if unit.translates() {
        check_translation(unit, board);
    }
    if unit.remaps() {
        cache::settle(unit, board);
    }
    if unit.global.on(global::TE | global::IRE) {
        check_memory(unit, board);
        buffer::check(unit, false, board);
    }
}

fn check_translation(unit: &mut VtdUnit, board: &mut Board) {
    if unit.root_state != RootState::Ready {
        board.journal.violation("R8", "caches are not invalidated since the last SRTP");
    }
    if unit.context_flushed {
        board.journal.violation("R24", "no IOTLB invalidation follows the last one of the context-cache");
    }
    check_contexts(unit, board);
    let leaves: Vec<(u16, u64, Leaf)> = unit
        .stale
        .leaves
        .iter()
        .flat_map(|(domain, leaves)| leaves.iter().map(|(first, leaf)| (*domain, *first, *leaf)))
        .collect();
    for (domain, first, leaf) in leaves {
        check_leaf(unit, domain, first, leaf, board);
    }
    let tables: Vec<Table> = unit.stale.tables.values().copied().collect();
    for table in tables {
        check_table(unit, table, board);
    }
    ats::settle(unit, board);
}

fn check_contexts(unit: &mut VtdUnit, board: &mut Board) {
    let name = |source| unit.source_id(source);
    for (bus, entry) in &unit.stale.roots {
        if *entry != translate::root_entry(unit, *bus, board) {
            let rule = if entry.present() { "R33" } else { "R33b" };
            let text = format_args!("bus {bus:#x}: the context-cache still has its old root entry");
            board.journal.violation(rule, text);
        }
    }
    for (source, entry) in &unit.stale.contexts {
        let current = translate::current(unit, *source, board);
        if *entry != current.effect() {
            let rule = if entry.present() { "R33" } else { "R33b" };
            let text = format_args!("{}: the context-cache still has its old entry", name(*source));
            board.journal.violation(rule, text);
        }
    }
    for residue in &unit.stale.residues {
        let current = translate::current(unit, residue.source, board);
        let harmless = residue.entry.is_some_and(|entry| entry == current);
        if !harmless {
            let rule = if residue.entry.is_some() { "R33" } else { "R33b" };
            let (name, domain) = (name(residue.source), residue.domain);
            let text = format_args!("{name}: the IOTLB still has its old translations, of domain-id {domain}");
            board.journal.violation(rule, text);
        }
    }
}

fn check_leaf(unit: &VtdUnit, domain: u16, first: u64, leaf: Leaf, board: &mut Board) {
    if unit.domains.get(&domain).is_none_or(|(_, count)| *count == 0) {
        return;
    }
    let mut at = first;
    loop {
        let (entry, level, rights) = tables::says(unit, domain, at, board);
        let bytes = page_bytes(level);
        let text = |what| format!("domain-id {domain}: the IOTLB still has {what} at {at:#x}");
        match (leaf.entry, entry) {
            (None, Some(_)) => return board.journal.violation("R29", text("\"not present\"")),
            (Some(_), None) => return board.journal.violation("R31", text("a page that is not mapped any more")),
            (Some(old), Some(new)) => {
                let (from, to) = (old.address() + (at - leaf.base), new.address() + (at & (bytes - 1)));
                if from != to || old.0 & 3 & !rights != 0 {
                    return board.journal.violation("R31", text("an old translation"));
                }
                if old.0 & 3 != rights {
                    return board.journal.violation("R30", text("a page with fewer rights"));
                }
            }
            (None, None) => {}
        }
        match (at & !(bytes - 1)).checked_add(bytes).filter(|next| *next <= leaf.last) {
            Some(next) => at = next,
            None => return,
        }
    }
}

fn check_table(unit: &VtdUnit, table: Table, board: &mut Board) {
    let Some(((root, levels), _)) = unit.domains.get(&table.domain).filter(|(_, count)| *count != 0) else {
        return;
    };
    // The entry that memory has in the same place.
    let (mut place, mut level) = (*root, *levels);
    let now = loop {
        let index = index(table.first, level);
        let entry = PageEntry(view::word(unit, place + index * 8, board));
        if level == table.level {
            break Some(entry);
        }
        if !entry.present() || entry.leaf(level) {
            break None;
        }
        (place, level) = (entry.address(), level - 1);
    };
    let was = table.entry.map_or(0, |entry| entry.0);
    if now.map_or(0, |entry| entry.0) == was {
        return;
    }
    let rule = match table.entry {
        _ if table.hinted => "R28",
        None => "R29",
        Some(_) => "R31",
    };
    let (domain, first) = (table.domain, table.first);
    let text = format_args!("domain-id {domain}: a paging-structure cache still has {was:#x} at {first:#x}");
    board.journal.violation(rule, text);
}

/// R37: nothing of what this unit reads waits in the CPU's caches.
pub(crate) fn check_memory(unit: &VtdUnit, board: &mut Board) {
    if unit.snoops() {
        return;
    }
    for frame in 0..board.memory.frames() {
        if !unit.reach.uses(frame).is_empty() && !board.memory.lines.is_written_back(frame) {
            let address = board.arena.address(frame * WORDS);
            board.journal.violation("R37", format_args!("the table at {address:#x} is not written back"));
        }
    }
}
