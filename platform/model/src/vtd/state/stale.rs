//! What a unit's caches may hold that memory does not say any more (sections 6.1 and 6.2).
//!
//! In the strictest hardware, every entry that a walk could reach is cached at every moment. Such caches hold what
//! memory says, and in addition what it said before, until an invalidation covers it. Only the latter is kept here: it
//! is what goes wrong. So the caches cost nothing for what does not change.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::vtd::formats::descriptor::{ContextScope, IotlbScope};
use crate::vtd::formats::entry::{ContextEntry, PageEntry, RootEntry};
use crate::vtd::formats::interrupt_entry::InterruptEntry;

/// A translation in the IOTLB, for the pages up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) last: u64,
    /// The input address that the entry itself starts at.
    pub(crate) base: u64,
    /// The entry; `None` for "not present", which is cached in caching mode.
    pub(crate) entry: Option<PageEntry>,
    pub(crate) level: u8,
}

/// An entry of a paging-structure cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) domain: u16,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The entry, which leads to a table of the level below; `None` for "not present".
    pub(crate) entry: Option<PageEntry>,
    /// Rights of the walk up to and with the entry.
    pub(crate) rights: u64,
    /// Level of the entry.
    pub(crate) level: u8,
    /// An invalidation passed it by because of IH = 1.
    pub(crate) hinted: bool,
}

/// The IOTLB entries of one source under a context entry that it does not have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Residue {
    pub(crate) source: u16,
    pub(crate) domain: u16,
    /// The former context entry; `None` where nothing was present before, in caching mode.
    pub(crate) entry: Option<ContextEntry>,
}

#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// By domain-id, then by first address. Ranges of one domain-id do not overlap: the oldest entry counts.
    pub(crate) leaves: FxHashMap<u16, BTreeMap<u64, Leaf>>,
    pub(crate) tables: BTreeMap<u32, Table>,
    /// Root entries that the context-cache was filled by, or found not present: by bus.
    pub(crate) roots: BTreeMap<u8, RootEntry>,
    /// Context-cache: by source-id. Of an entry that is not present there is its [effect](ContextEntry::effect) alone.
    pub(crate) contexts: FxHashMap<u16, ContextEntry>,
    pub(crate) residues: Vec<Residue>,
    /// Interrupt-entry-cache: by index; `None` for "not present".
    pub(crate) interrupts: FxHashMap<u16, Option<InterruptEntry>>,
    next_table: u32,
}

impl Stale {
    pub(crate) fn add_leaf(&mut self, domain: u16, first: u64, leaf: Leaf) {
        let pieces = self.leaves.entry(domain).or_default();
        // Fill the gaps between what is there already.
        let before = pieces.range(..=first).next_back().map(|(_, piece)| piece.last);
        let mut at = before.filter(|last| *last >= first).map_or(Some(first), |last| last.checked_add(1));
        let taken: Vec<(u64, u64)> =
            pieces.range(first..=leaf.last).map(|(first, piece)| (*first, piece.last)).collect();
        for (taken_first, taken_last) in taken {
            if let Some(start) = at
                && start < taken_first
            {
                pieces.insert(start, Leaf { last: taken_first - 1, ..leaf });
            }
            at = taken_last.checked_add(1);
        }
        if let Some(start) = at.filter(|start| *start <= leaf.last) {
            pieces.insert(start, leaf);
        }
    }

    /// Takes the range out of the IOTLB of a domain.
    fn cut_leaves(&mut self, domain: u16, first: u64, last: u64) {
        let Some(pieces) = self.leaves.get_mut(&domain) else { return };
        let before = pieces.range(..first).next_back().map(|(start, piece)| (*start, *piece));
        if let Some((start, piece)) = before.filter(|(_, piece)| piece.last >= first) {
            pieces.insert(start, Leaf { last: first - 1, ..piece });
            if piece.last > last {
                pieces.insert(last + 1, piece);
            }
        }
        let inside: Vec<u64> = pieces.range(first..=last).map(|(start, _)| *start).collect();
        for start in inside {
            if let Some(piece) = pieces.remove(&start)
                && piece.last > last
            {
                pieces.insert(last + 1, piece);
            }
        }
    }

    pub(crate) fn leaf(&self, domain: u16, address: u64) -> Option<Leaf> {
        let (_, piece) = self.leaves.get(&domain)?.range(..=address).next_back()?;
        (piece.last >= address).then_some(*piece)
    }

    /// Adds a paging-structure cache entry and returns its name.
    pub(crate) fn add_table(&mut self, table: Table) -> u32 {
        self.next_table += 1;
        self.tables.insert(self.next_table, table);
        self.next_table
    }

    /// The lowest entry for an address: the one that a walk starts from (section 6.2.7).
    pub(crate) fn table(&self, domain: u16, address: u64) -> Option<Table> {
        let tables = self.tables.values();
        tables
            .filter(|table| table.domain == domain && (table.first..=table.last).contains(&address))
            .min_by_key(|table| table.level)
            .copied()
    }

    /// Removes what an IOTLB invalidation covers (table 23). Returns the paging-structure entries that went, with their
    /// names; the caller gives back what they held.
    pub(crate) fn invalidate(&mut self, scope: IotlbScope) -> Vec<(u32, Table)> {
        match scope {
            IotlbScope::Global => self.leaves.clear(),
            IotlbScope::Domain(domain) => drop(self.leaves.remove(&domain)),
            IotlbScope::Pages { domain, first, last, leaf_only } => {
                self.cut_leaves(domain, first, last);
                if leaf_only {
                    let hit = self.tables.values_mut().filter(|table| table.touches(domain, first, last));
                    hit.for_each(|table| table.hinted = true);
                    return Vec::new();
                }
            }
        }
        let gone: Vec<(u32, Table)> =
            self.tables.iter().filter(|(_, table)| table.goes(scope)).map(|(id, table)| (*id, *table)).collect();
        self.tables.retain(|_, table| !table.goes(scope));
        gone
    }

    /// Removes the residues that an IOTLB invalidation covers; a page-selective one never covers all pages of a source.
    pub(crate) fn take_residues(&mut self, scope: IotlbScope) -> Vec<Residue> {
        let covered = |residue: &Residue| match scope {
            IotlbScope::Global => true,
            IotlbScope::Domain(domain) => residue.domain == domain,
            IotlbScope::Pages { .. } => false,
        };
        let gone = self.residues.iter().copied().filter(covered).collect();
        self.residues.retain(|residue| !covered(residue));
        gone
    }

    /// Removes what a context-cache invalidation covers (section 6.5.2.1); entries that are not present carry domain-id 0
    /// (section 6.2.2).
    pub(crate) fn take_contexts(&mut self, scope: ContextScope) -> Vec<(u16, ContextEntry)> {
        // Table 28: a root entry goes with a global invalidation alone.
        if scope == ContextScope::Global {
            self.roots.clear();
        }
        let covered = |source: u16, entry: &ContextEntry| {
            let tag = entry.if_present().map_or(0, ContextEntry::domain);
            match scope {
                ContextScope::Global => true,
                ContextScope::Domain(domain) => tag == domain,
                ContextScope::Device { source: target, mask, domain } => {
                    (source ^ target) & !mask == 0 && tag == domain
                }
            }
        };
        let gone: Vec<_> =
            self.contexts.iter().filter(|(source, entry)| covered(**source, entry)).map(|(s, e)| (*s, *e)).collect();
        self.contexts.retain(|source, entry| !covered(*source, entry));
        gone
    }
}

impl Table {
    pub(crate) fn touches(&self, domain: u16, first: u64, last: u64) -> bool {
        self.domain == domain && self.first <= last && first <= self.last
    }

    fn goes(&self, scope: IotlbScope) -> bool {
        match scope {
            IotlbScope::Global => true,
            IotlbScope::Domain(domain) => self.domain == domain,
            IotlbScope::Pages { domain, first, last, .. } => self.touches(domain, first, last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(last: u64, entry: u64) -> Leaf {
        Leaf { last, base: 0, entry: Some(PageEntry(entry)), level: 1 }
    }

    fn ranges(stale: &Stale) -> Vec<(u64, u64, u64)> {
        stale.leaves[&1].iter().map(|(first, leaf)| (*first, leaf.last, leaf.entry.unwrap().0)).collect()
    }

    #[test]
    fn the_oldest_entry_counts_and_gaps_are_filled() {
        let mut stale = Stale::default();
        stale.add_leaf(1, 0x2000, leaf(0x2fff, 1));
        stale.add_leaf(1, 0x5000, leaf(0x5fff, 2));
        stale.add_leaf(1, 0x1000, leaf(0x7fff, 3));
        let expected =
            [(0x1000, 0x1fff, 3), (0x2000, 0x2fff, 1), (0x3000, 0x4fff, 3), (0x5000, 0x5fff, 2), (0x6000, 0x7fff, 3)];
        assert_eq!(ranges(&stale), expected);
        stale.add_leaf(1, 0x1000, leaf(0x7fff, 4));
        assert_eq!(ranges(&stale), expected);
    }

    #[test]
    fn an_invalidation_cuts_an_entry_that_it_covers_in_part() {
        let mut stale = Stale::default();
        stale.add_leaf(1, 0, leaf(0x7fff, 1));
        let pages = IotlbScope::Pages { domain: 1, first: 0x2000, last: 0x3fff, leaf_only: true };
        stale.invalidate(pages);
        assert_eq!(ranges(&stale), [(0, 0x1fff, 1), (0x4000, 0x7fff, 1)]);
        assert_eq!(stale.leaf(1, 0x3fff), None);
        assert!(stale.leaf(1, 0x4000).is_some() && stale.leaf(2, 0x4000).is_none());
        stale.invalidate(IotlbScope::Pages { domain: 1, first: 0, last: 0x4fff, leaf_only: true });
        assert_eq!(ranges(&stale), [(0x5000, 0x7fff, 1)]);
        stale.invalidate(IotlbScope::Domain(2));
        assert_eq!(ranges(&stale).len(), 1);
        stale.invalidate(IotlbScope::Domain(1));
        assert!(!stale.leaves.contains_key(&1));
    }
}
