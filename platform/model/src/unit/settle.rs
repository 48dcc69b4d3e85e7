//! After a change is done: nothing in the caches differs from memory, and nothing that hardware reads is still on its
//! way there.
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;

use super::command::RootState;
use super::entry::PageEntry;
use super::stale::{Leaf, Table};
use super::{Board, Unit, global};
use crate::memory::arena::WORDS;

impl Unit {
    /// Reports what a driver has left undone that says it is done.
    pub(crate) fn settle(&mut self, board: &mut Board) {
        if self.defects.ever {
            return;
        }
        if self.global.on(global::TE) {
            self.settle_translation(board);
        }
        if self.global.on(global::IRE) {
            self.settle_interrupts(board);
        }
        if self.global.on(global::TE | global::IRE) {
            self.settle_memory(board);
            self.check_buffer(false, board);
        }
    }

    fn settle_translation(&mut self, board: &mut Board) {
        if self.root_state != RootState::Ready {
            board.journal.violation("R8", "caches are not invalidated since the last SRTP");
        }
        if self.context_flushed {
            board.journal.violation("R24", "no IOTLB invalidation follows the last one of the context-cache");
        }
        self.settle_contexts(board);
        let leaves: Vec<(u16, u64, Leaf)> = self
            .stale
            .leaves
            .iter()
            .flat_map(|(domain, leaves)| leaves.iter().map(|(first, leaf)| (*domain, *first, *leaf)))
            .collect();
        for (domain, first, leaf) in leaves {
            self.settle_leaf(domain, first, leaf, board);
        }
        let tables: Vec<Table> = self.stale.tables.values().copied().collect();
        for table in tables {
            self.settle_table(table, board);
        }
        self.settle_devices(board);
    }

    fn settle_contexts(&mut self, board: &mut Board) {
        let name = |source| SourceId::from_requester(self.scope.segment, source);
        for (source, entry) in &self.stale.contexts {
            let current = self.current(*source, board);
            if entry.unwrap_or_default() != current {
                let rule = if entry.is_some() { "R33" } else { "R33b" };
                let text = format_args!("{}: the context-cache still has its old entry", name(*source));
                board.journal.violation(rule, text);
            }
        }
        for residue in &self.stale.residues {
            let current = self.current(residue.source, board);
            let harmless = residue.entry.is_some_and(|entry| entry == current);
            if !harmless {
                let rule = if residue.entry.is_some() { "R33" } else { "R33b" };
                let (name, domain) = (name(residue.source), residue.domain);
                let text = format_args!("{name}: the IOTLB still has its old translations, of domain-id {domain}");
                board.journal.violation(rule, text);
            }
        }
    }

    /// What memory says for an input address of a domain: the entry, its level, and the rights of the whole walk.
    pub(super) fn memory_says(&self, domain: u16, address: u64, board: &Board) -> (Option<PageEntry>, u8, u64) {
        let Some(((table, levels), _)) = self.domains.get(&domain).filter(|(_, count)| *count != 0) else {
            return (None, 5, 0);
        };
        if *levels == 0 {
            return (None, 5, 0);
        }
        let (mut table, mut level, mut rights) = (*table, *levels, 3);
        loop {
            let place = table + super::entry::index(address, level) * 8;
            let entry = PageEntry(self.read_memory(place, board));
            rights &= entry.0 & 3;
            if !entry.present() || entry.reserved(level, &self.capability) {
                return (None, level, 0);
            }
            if entry.leaf(level) || level == 1 {
                return (Some(entry), level, rights);
            }
            (table, level) = (entry.address(), level - 1);
        }
    }

    fn settle_leaf(&self, domain: u16, first: u64, leaf: Leaf, board: &mut Board) {
        if self.domains.get(&domain).is_none_or(|(_, count)| *count == 0) {
            return;
        }
        let mut at = first;
        loop {
            let (entry, level, rights) = self.memory_says(domain, at, board);
            let bytes = super::entry::page_bytes(level);
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

    fn settle_table(&self, table: Table, board: &mut Board) {
        let Some(((root, levels), _)) = self.domains.get(&table.domain).filter(|(_, count)| *count != 0) else {
            return;
        };
        // The entry that memory has in the same place.
        let (mut place, mut level) = (*root, *levels);
        let now = loop {
            let index = super::entry::index(table.first, level);
            let entry = PageEntry(self.read_memory(place + index * 8, board));
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
    pub(super) fn settle_memory(&self, board: &mut Board) {
        if self.snoops() {
            return;
        }
        for frame in 0..board.memory.frames() {
            if !self.reach.uses(frame).is_empty() && !board.memory.lines.is_written_back(frame) {
                let address = board.arena.address(frame * WORDS);
                board.journal.violation("R37", format_args!("the table at {address:#x} is not written back"));
            }
        }
    }
}
