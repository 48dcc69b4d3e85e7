//! What an invalidation takes out of the caches (sections 6.5.2.1 and 6.5.2.3).
#![forbid(unsafe_code)]

use super::command::RootState;
use super::descriptor::{ContextScope, IotlbScope};
use super::entry::{ContextEntry, page_bytes};
use super::reach::Parent;
use super::stale::{Leaf, Residue, Table};
use super::{Board, Unit};

impl Unit {
    pub(super) fn invalidate_context(&mut self, scope: ContextScope, board: &mut Board) {
        self.flush_buffer(board);
        if scope == ContextScope::Global && self.root_state == RootState::Set {
            self.root_state = RootState::ContextFlushed;
        }
        self.context_flushed = true;
        for (source, entry) in self.stale.take_contexts(scope) {
            // What was translated with the cached entry stays in the IOTLB.
            let domain = match entry {
                Some(old) => Some(old.domain()),
                None => Some(self.current(source, board)).filter(|now| now.present()).map(ContextEntry::domain),
            };
            self.stale.residues.extend(domain.map(|domain| Residue { source, domain, entry }));
        }
    }

    pub(super) fn invalidate_iotlb(&mut self, scope: IotlbScope, board: &mut Board) {
        self.flush_buffer(board);
        if scope == IotlbScope::Global && self.root_state == RootState::ContextFlushed {
            self.root_state = RootState::Ready;
        }
        self.context_flushed = false;
        for residue in self.stale.take_residues(scope) {
            if let Some(entry) = residue.entry {
                self.drop_context(entry, board);
            }
        }
        for (id, table) in self.stale.invalidate(scope) {
            self.paging_structure_gone(id, table, scope, board);
        }
    }

    /// The cached entry is gone, but pages below it that the invalidation does not cover are still in the IOTLB.
    fn paging_structure_gone(&mut self, id: u32, table: Table, scope: IotlbScope, board: &mut Board) {
        let Some(entry) = table.entry else { return };
        let Some(child) = self.child(entry, table.level, board) else { return };
        if let IotlbScope::Pages { first, last, .. } = scope
            && (first > table.first || last < table.last)
        {
            let mut left = Vec::new();
            self.each_leaf(child, table.level - 1, table.first, board, &mut |base, level, entry| {
                let end = base + (page_bytes(level) - 1);
                let leaf = Leaf { last: end, base, entry: Some(entry.with_rights(table.rights)), level };
                if base < first {
                    left.push((base, Leaf { last: end.min(first - 1), ..leaf }));
                }
                if end > last {
                    left.push((base.max(last + 1), leaf));
                }
            });
            left.into_iter().for_each(|(start, leaf)| self.stale.add_leaf(table.domain, start, leaf));
        }
        self.unlink_table(child, table.level - 1, Parent::Stale(id), board);
    }

    /// All caches are empty: after SRTP where that flushes, and before translation is switched on.
    pub(super) fn drop_caches(&mut self, board: &mut Board) {
        for (_, entry) in self.stale.take_contexts(ContextScope::Global) {
            if let Some(entry) = entry {
                self.drop_context(entry, board);
            }
        }
        for residue in self.stale.take_residues(IotlbScope::Global) {
            if let Some(entry) = residue.entry {
                self.drop_context(entry, board);
            }
        }
        for (id, table) in self.stale.invalidate(IotlbScope::Global) {
            self.paging_structure_gone(id, table, IotlbScope::Global, board);
        }
    }

    /// The context entry of a requester as memory has it.
    pub(super) fn current(&self, source: u16, board: &Board) -> ContextEntry {
        self.context(source, board).unwrap_or_default()
    }
}
