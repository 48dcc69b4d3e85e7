//! What an invalidation takes out of the caches (sections 6.5.2.1 and 6.5.2.3).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::caches::{buffer, contexts, pages};
use crate::vtd::formats::descriptor::{ContextScope, IotlbScope};
use crate::vtd::formats::entry::{ContextEntry, page_bytes};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::progress::RootState;
use crate::vtd::state::reach::Parent;
use crate::vtd::state::stale::{Leaf, Residue, Table};
use crate::vtd::walks::{tables, translate};

pub(crate) fn context(unit: &mut VtdUnit, scope: ContextScope, board: &mut Board) {
    buffer::flush(unit, board);
    if scope == ContextScope::Global && unit.root_state == RootState::Set {
        unit.root_state = RootState::ContextFlushed;
    }
    unit.context_flushed = true;
    for (source, entry) in unit.stale.take_contexts(scope) {
        // What was translated with the cached entry stays in the IOTLB.
        let entry = entry.if_present();
        let domain = match entry {
            Some(old) => Some(old.domain()),
            None => Some(translate::current(unit, source, board)).filter(|now| now.present()).map(ContextEntry::domain),
        };
        unit.stale.residues.extend(domain.map(|domain| Residue { source, domain, entry }));
    }
}

pub(crate) fn iotlb(unit: &mut VtdUnit, scope: IotlbScope, board: &mut Board) {
    buffer::flush(unit, board);
    if scope == IotlbScope::Global && unit.root_state == RootState::ContextFlushed {
        unit.root_state = RootState::Ready;
    }
    unit.context_flushed = false;
    for residue in unit.stale.take_residues(scope) {
        if let Some(entry) = residue.entry {
            contexts::unlink_table(unit, entry, board);
        }
    }
    for (id, table) in unit.stale.invalidate(scope) {
        paging_structure_gone(unit, id, table, scope, board);
    }
}

/// The cached entry is gone, but pages below it that the invalidation does not cover are still in the IOTLB.
fn paging_structure_gone(unit: &mut VtdUnit, id: u32, table: Table, scope: IotlbScope, board: &mut Board) {
    let Some(entry) = table.entry else { return };
    let Some(child) = tables::child(unit, entry, table.level, board) else { return };
    if let IotlbScope::Pages { first, last, .. } = scope
        && (first > table.first || last < table.last)
    {
        let mut left = Vec::new();
        tables::each_leaf(unit, child, table.level - 1, table.first, board, &mut |base, level, entry| {
            let end = base + (page_bytes(level) - 1);
            let leaf = Leaf { last: end, base, entry: Some(entry.with_rights(table.rights)), level };
            if base < first {
                left.push((base, Leaf { last: end.min(first - 1), ..leaf }));
            }
            if end > last {
                left.push((base.max(last + 1), leaf));
            }
        });
        left.into_iter().for_each(|(start, leaf)| unit.stale.add_leaf(table.domain, start, leaf));
    }
    pages::unlink(unit, child, table.level - 1, Parent::Stale(id), board);
}

/// All caches are empty: after SRTP where that flushes, and before translation is switched on.
pub(crate) fn all(unit: &mut VtdUnit, board: &mut Board) {
    for (_, entry) in unit.stale.take_contexts(ContextScope::Global) {
        if let Some(entry) = entry.if_present() {
            contexts::unlink_table(unit, entry, board);
        }
    }
    for residue in unit.stale.take_residues(IotlbScope::Global) {
        if let Some(entry) = residue.entry {
            contexts::unlink_table(unit, entry, board);
        }
    }
    for (id, table) in unit.stale.invalidate(IotlbScope::Global) {
        paging_structure_gone(unit, id, table, IotlbScope::Global, board);
    }
}
