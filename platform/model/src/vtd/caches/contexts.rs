//! Root and context entries that come and go: what the unit can reach by them, and what its caches still hold.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::caches::{ats, domains, entries, pages};
use crate::vtd::formats::entry::{ContextEntry, RootEntry};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::reach::{Parent, Use};
use crate::vtd::walks::{tables, view};

/// A root entry has changed, as this unit sees it.
pub(crate) fn root_changed(unit: &mut VtdUnit, index: usize, bus: u8, old: RootEntry, board: &mut Board) {
    let new = RootEntry([view::seen(unit, index, board), view::seen(unit, index + 1, board)]);
    if old == new {
        return;
    }
    if unit.translates() && board.fills() && (old.present() || unit.capability.caching_mode()) {
        unit.stale.roots.entry(bus).or_insert(old);
    }
    if old.present() {
        unlink_contexts(unit, old, bus, board);
    }
    if new.present() {
        link_contexts(unit, new, bus, board);
    }
}

/// Follows the root table that SRTP has made current.
pub(crate) fn link_root(unit: &mut VtdUnit, board: &mut Board) {
    // In abort mode there is no table.
    if unit.root >> 10 & 3 != 0 {
        return;
    }
    let Some(frame) = pages::frame(unit.root & !0xfff, "the root table", board) else { return };
    unit.reach.add(frame, Use::Root);
    each_bus(unit, frame, board, link_contexts);
}

/// Lets go of the root table that was current.
pub(crate) fn unlink_root(unit: &mut VtdUnit, root: u64, board: &mut Board) {
    let Some(frame) = board.memory.index(root & !0xfff).map(|index| index / WORDS) else { return };
    if !unit.reach.uses(frame).iter().any(|(what, _)| *what == Use::Root) {
        return;
    }
    unit.reach.remove(frame, Use::Root);
    each_bus(unit, frame, board, unlink_contexts);
}

/// Each root entry of this table that is present.
fn each_bus(
    unit: &mut VtdUnit,
    frame: usize,
    board: &mut Board,
    found: impl Fn(&mut VtdUnit, RootEntry, u8, &mut Board),
) {
    for bus in 0..=255_u8 {
        let index = frame * WORDS + usize::from(bus) * 2;
        let entry = RootEntry([view::seen(unit, index, board), view::seen(unit, index + 1, board)]);
        if entry.present() {
            found(unit, entry, bus, board);
        }
    }
}

/// A root entry leads to its context table.
fn link_contexts(unit: &mut VtdUnit, entry: RootEntry, bus: u8, board: &mut Board) {
    if entry.reserved(&unit.capability) {
        let text = format_args!("reserved bits in the root entry of bus {bus:#x}");
        return board.journal.violation("R41", text);
    }
    let Some(frame) = pages::frame(entry.context_table(), "a context table", board) else { return };
    unit.reach.add(frame, Use::Contexts(bus));
    each_context(unit, frame, bus, board, |unit, source, entry, board| {
        changed(unit, source, ContextEntry::default(), entry, board);
    });
}

/// It does not any more.
pub(crate) fn unlink_contexts(unit: &mut VtdUnit, entry: RootEntry, bus: u8, board: &mut Board) {
    let Some(frame) = board.memory.index(entry.context_table()).map(|index| index / WORDS) else { return };
    if unit.reach.remove(frame, Use::Contexts(bus)) {
        each_context(unit, frame, bus, board, |unit, source, entry, board| {
            changed(unit, source, entry, ContextEntry::default(), board);
        });
    }
}

fn each_context(
    unit: &mut VtdUnit,
    frame: usize,
    bus: u8,
    board: &mut Board,
    mut found: impl FnMut(&mut VtdUnit, u16, ContextEntry, &mut Board),
) {
    for entry in 0..=255_u8 {
        let index = frame * WORDS + usize::from(entry) * 2;
        let context = ContextEntry([view::seen(unit, index, board), view::seen(unit, index + 1, board)]);
        if context.present() {
            found(unit, u16::from(bus) << 8 | u16::from(entry), context, board);
        }
    }
}

/// A context entry has changed, as this unit sees it.
pub(crate) fn changed(unit: &mut VtdUnit, source: u16, old: ContextEntry, new: ContextEntry, board: &mut Board) {
    // Of an entry that is not present, FPD counts all the same (section 9.3).
    if old == new || !old.present() && !new.present() && old.faults_disabled() == new.faults_disabled() {
        return;
    }
    if unit.translates() {
        ats::check_off(unit, source, old, new, board);
    }
    if unit.translates() && board.fills() && !unit.stale.contexts.contains_key(&source) {
        if old.present() {
            link_table(unit, old, board);
        }
        if old.present() || unit.capability.caching_mode() {
            unit.stale.contexts.insert(source, old.effect());
        }
    }
    if new.present() {
        entries::check_context(unit, source, new, board);
        domains::add(unit, source, new, board);
        link_table(unit, new, board);
    }
    if old.present() {
        domains::remove(unit, old);
        unlink_table(unit, old, board);
    }
}

/// A context entry, in memory or in a cache, leads to its page table.
fn link_table(unit: &mut VtdUnit, entry: ContextEntry, board: &mut Board) {
    if let Some((table, levels)) = tables::page_table(unit, entry)
        && let Some(frame) = pages::frame(table, "a page table", board)
    {
        pages::link(unit, frame, levels, Parent::Domain(entry.domain()), board);
    }
}

/// It does not any more.
pub(crate) fn unlink_table(unit: &mut VtdUnit, entry: ContextEntry, board: &mut Board) {
    if let Some((table, levels)) = tables::page_table(unit, entry)
        && let Some(index) = board.memory.index(table)
    {
        pages::unlink(unit, index / WORDS, levels, Parent::Domain(entry.domain()), board);
    }
}
