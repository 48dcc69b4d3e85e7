//! Paging entries that come and go: what the unit can reach by them, and what its caches still hold.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::caches::entries;
use crate::vtd::formats::entry::{PageEntry, page_bytes};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::reach::{Parent, Use};
use crate::vtd::state::stale::{Leaf, Table};
use crate::vtd::walks::{tables, view};

/// The frame behind an address that hardware follows.
pub(crate) fn frame(address: u64, what: &str, board: &mut Board) -> Option<usize> {
    let index = board.memory.index(address).filter(|index| board.memory.is_allocated(*index));
    if index.is_none() {
        board.journal.violation("R31", format_args!("{what} at {address:#x} is in no frame that is allocated"));
    }
    index.map(|index| index / WORDS)
}

/// Something leads to a page table: its entries are followed if nothing did before.
pub(crate) fn link(unit: &mut VtdUnit, frame: usize, level: u8, parent: Parent, board: &mut Board) {
    if !unit.reach.add(frame, Use::Table { level, parent }) {
        return;
    }
    let mut known = None;
    for index in 0..WORDS {
        let entry = PageEntry(view::seen(unit, frame * WORDS + index, board));
        if entry.present() {
            entries::check_page(unit, entry, level, board);
            if entry.leaf(level) && !entry.reserved(level, &unit.capability) && known != Some(entry.snoops()) {
                entries::check_snoop(unit, frame, level, entry.snoops(), board);
                known = Some(entry.snoops());
            }
            if matches!(parent, Parent::Domain(_)) {
                entries::check_width(unit, index as u64 * page_bytes(level), board);
            }
            link_child(unit, entry, level, Parent::Entry(frame, index as u16), board);
        }
    }
}

fn link_child(unit: &mut VtdUnit, entry: PageEntry, level: u8, parent: Parent, board: &mut Board) {
    if !entry.leaf(level)
        && !entry.reserved(level, &unit.capability)
        && let Some(child) = frame(entry.address(), "a page table", board)
    {
        link(unit, child, level - 1, parent, board);
    }
}

/// It does not any more.
pub(crate) fn unlink(unit: &mut VtdUnit, frame: usize, level: u8, parent: Parent, board: &mut Board) {
    if !unit.reach.remove(frame, Use::Table { level, parent }) {
        return;
    }
    for index in 0..WORDS {
        let entry = PageEntry(view::seen(unit, frame * WORDS + index, board));
        unlink_child(unit, entry, level, Parent::Entry(frame, index as u16), board);
    }
}

fn unlink_child(unit: &mut VtdUnit, entry: PageEntry, level: u8, parent: Parent, board: &mut Board) {
    if let Some(child) = tables::child(unit, entry, level, board) {
        unlink(unit, child, level - 1, parent, board);
    }
}

/// A paging entry has changed, as this unit sees it.
pub(crate) fn changed(unit: &mut VtdUnit, index: usize, level: u8, old: PageEntry, board: &mut Board) {
    let new = PageEntry(view::seen(unit, index, board));
    if old == new || !old.present() && !new.present() {
        return;
    }
    let (frame, slot) = (index / WORDS, (index % WORDS) as u16);
    let bytes = page_bytes(level);
    let mut owners = Vec::new();
    if unit.translates() && board.fills() {
        tables::owners(unit, frame, level, &mut |domain, base| {
            let owner = (domain, base + u64::from(slot) * bytes);
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        });
    }
    let caching = unit.capability.caching_mode();
    let child = tables::child(unit, old, level, board);
    let rights = tables::rights_above(unit, frame, level, board) & old.0 & 3;
    for (domain, base) in &owners {
        let (domain, base) = (*domain, *base);
        let last = base + (bytes - 1);
        let valid = old.present() && !old.reserved(level, &unit.capability);
        if let Some(child) = child {
            let table = Table { domain, first: base, last, entry: Some(old), rights, level, hinted: false };
            let id = unit.stale.add_table(table);
            unit.reach.add(child, Use::Table { level: level - 1, parent: Parent::Stale(id) });
        } else if valid || caching {
            let entry = valid.then_some(old.with_rights(rights));
            if new.present() && !new.leaf(level) && !valid {
                let table = Table { domain, first: base, last, entry: None, rights: 0, level, hinted: false };
                unit.stale.add_table(table);
            } else {
                unit.stale.add_leaf(domain, base, Leaf { last, base, entry, level });
            }
        }
        if new.present() {
            entries::check_size(unit, domain, base, level, new, board);
            entries::check_width(unit, base, board);
        }
    }
    if new.present() {
        entries::check_page(unit, new, level, board);
        if new.leaf(level) && !new.reserved(level, &unit.capability) {
            entries::check_snoop(unit, frame, level, new.snoops(), board);
        }
        link_child(unit, new, level, Parent::Entry(frame, slot), board);
        // Pages that are now reached for the first time may be cached as not present, each for itself.
        if caching && let Some(child) = tables::child(unit, new, level, board) {
            for (domain, base) in &owners {
                let mut pages = Vec::new();
                tables::each_leaf(unit, child, level - 1, *base, board, &mut |first, level, _| {
                    pages.push((first, level))
                });
                for (first, level) in pages {
                    let last = first + (page_bytes(level) - 1);
                    unit.stale.add_leaf(*domain, first, Leaf { last, base: first, entry: None, level });
                }
            }
        }
    }
    if let Some(child) = child {
        unlink(unit, child, level - 1, Parent::Entry(frame, slot), board);
    }
}
