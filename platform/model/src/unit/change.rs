//! What a change of an entry means: for what the unit can reach, for what its caches may still hold, and for the rules.
#![forbid(unsafe_code)]

use super::entry::{ContextEntry, PageEntry, RootEntry, Translation, page_bytes};
use super::interrupts::InterruptEntry;
use super::reach::{Parent, Use};
use super::stale::{Leaf, Table};
use super::{Board, Unit, global};
use crate::memory::arena::WORDS;

impl Unit {
    pub(super) fn on(&self) -> bool {
        self.global.on(global::TE)
    }

    pub(super) fn seen(&self, index: usize, board: &Board) -> u64 {
        match &self.buffer {
            Some(buffer) => buffer.seen(index),
            None => board.memory.seen(self.capability.view(), index),
        }
    }

    /// The frame behind an address that hardware follows.
    fn frame(&self, address: u64, what: &str, board: &mut Board) -> Option<usize> {
        let index = board.memory.index(address).filter(|index| board.memory.is_allocated(*index));
        if index.is_none() {
            board.journal.violation("R31", format_args!("{what} at {address:#x} is in no frame that is allocated"));
        }
        index.map(|index| index / WORDS)
    }

    /// Words from `first` on have changed, as this unit sees memory; `old` is what it saw before.
    pub(crate) fn changed(&mut self, first: usize, old: &[u64], board: &mut Board) {
        let frame = first / WORDS;
        if self.reach.uses(frame).is_empty() {
            return;
        }
        for level in self.reach.levels(frame) {
            for (index, old) in (first..).zip(old) {
                self.page_entry_changed(index, level, PageEntry(*old), board);
            }
        }
        if self.reach.uses(frame).iter().all(|(what, _)| matches!(what, Use::Table { .. })) {
            return;
        }
        // All other entries have two words.
        let was = |index: usize, board: &Board| match old.get(index.wrapping_sub(first)) {
            Some(old) => *old,
            None => self.seen(index, board),
        };
        let pairs: Vec<(usize, [u64; 2])> = (first / 2..=(first + old.len() - 1) / 2)
            .map(|pair| (pair * 2, [was(pair * 2, board), was(pair * 2 + 1, board)]))
            .collect();
        let uses: Vec<Use> = self.reach.uses(frame).iter().map(|(what, _)| *what).collect();
        for what in uses {
            for (index, old) in &pairs {
                let entry = (index % WORDS / 2) as u8;
                match what {
                    Use::Root => self.root_entry_changed(*index, entry, RootEntry(*old), board),
                    Use::Contexts(bus) => {
                        let new = ContextEntry([self.seen(*index, board), self.seen(index + 1, board)]);
                        self.context_changed(u16::from(bus) << 8 | u16::from(entry), ContextEntry(*old), new, board);
                    }
                    Use::Interrupts(part) => {
                        let new = InterruptEntry([self.seen(*index, board), self.seen(index + 1, board)]);
                        let number = u16::from(part) << 8 | u16::from(entry);
                        self.interrupt_changed(number, InterruptEntry(*old), new, board);
                    }
                    Use::Table { .. } => {}
                }
            }
        }
    }

    fn root_entry_changed(&mut self, index: usize, bus: u8, old: RootEntry, board: &mut Board) {
        let new = RootEntry([self.seen(index, board), self.seen(index + 1, board)]);
        if old == new {
            return;
        }
        if old.present() {
            self.unlink_contexts(old, bus, board);
        }
        if new.present() {
            self.link_contexts(new, bus, board);
        }
    }

    /// Follows the root table that SRTP has made current.
    pub(super) fn link_root(&mut self, board: &mut Board) {
        // In abort mode there is no table.
        if self.root >> 10 & 3 != 0 {
            return;
        }
        let Some(frame) = self.frame(self.root & !0xfff, "the root table", board) else { return };
        self.reach.add(frame, Use::Root);
        for bus in 0..=255_u8 {
            let index = frame * WORDS + usize::from(bus) * 2;
            let entry = RootEntry([self.seen(index, board), self.seen(index + 1, board)]);
            if entry.present() {
                self.link_contexts(entry, bus, board);
            }
        }
    }

    /// Lets go of the root table that was current.
    pub(super) fn unlink_root(&mut self, root: u64, board: &mut Board) {
        let Some(frame) = board.memory.index(root & !0xfff).map(|index| index / WORDS) else { return };
        if !self.reach.uses(frame).iter().any(|(what, _)| *what == Use::Root) {
            return;
        }
        self.reach.remove(frame, Use::Root);
        for bus in 0..=255_u8 {
            let index = frame * WORDS + usize::from(bus) * 2;
            let entry = RootEntry([self.seen(index, board), self.seen(index + 1, board)]);
            if entry.present() {
                self.unlink_contexts(entry, bus, board);
            }
        }
    }

    fn link_contexts(&mut self, entry: RootEntry, bus: u8, board: &mut Board) {
        if entry.reserved(&self.capability) {
            let text = format_args!("reserved bits in the root entry of bus {bus:#x}");
            return board.journal.violation("R41", text);
        }
        let Some(frame) = self.frame(entry.context_table(), "a context table", board) else { return };
        self.reach.add(frame, Use::Contexts(bus));
        self.each_context(frame, bus, board, |unit, source, entry, board| {
            unit.context_changed(source, ContextEntry::default(), entry, board);
        });
    }

    fn unlink_contexts(&mut self, entry: RootEntry, bus: u8, board: &mut Board) {
        let Some(frame) = board.memory.index(entry.context_table()).map(|index| index / WORDS) else { return };
        if self.reach.remove(frame, Use::Contexts(bus)) {
            self.each_context(frame, bus, board, |unit, source, entry, board| {
                unit.context_changed(source, entry, ContextEntry::default(), board);
            });
        }
    }

    fn each_context(
        &mut self,
        frame: usize,
        bus: u8,
        board: &mut Board,
        mut found: impl FnMut(&mut Self, u16, ContextEntry, &mut Board),
    ) {
        for entry in 0..=255_u8 {
            let index = frame * WORDS + usize::from(entry) * 2;
            let context = ContextEntry([self.seen(index, board), self.seen(index + 1, board)]);
            if context.present() {
                found(self, u16::from(bus) << 8 | u16::from(entry), context, board);
            }
        }
    }

    /// The page table that a context entry uses, if it is one that hardware follows.
    pub(super) fn page_table(&self, entry: ContextEntry) -> Option<(u64, u8)> {
        let walks = !entry.reserved(&self.capability)
            && self.capability.levels(entry.levels())
            && entry.translation(&self.capability).is_some_and(|kind| kind != Translation::PassThrough);
        (entry.present() && walks).then(|| (entry.table(), entry.levels()))
    }

    fn context_changed(&mut self, source: u16, old: ContextEntry, new: ContextEntry, board: &mut Board) {
        // Of an entry that is not present, FPD counts all the same (section 9.3).
        if old == new || !old.present() && !new.present() && old.silent() == new.silent() {
            return;
        }
        if self.on() {
            self.check_ats_off(source, old, new, board);
        }
        if self.on() && Self::fills(board) && !self.stale.contexts.contains_key(&source) {
            if old.present() {
                self.keep_context(old, board);
                self.stale.contexts.insert(source, Some(old));
            } else if self.capability.caching_mode() {
                self.stale.contexts.insert(source, None);
            }
        }
        if new.present() {
            self.check_context(source, new, board);
            self.add_domain(source, new, board);
            self.keep_context(new, board);
        }
        if old.present() {
            self.remove_domain(old);
            self.drop_context(old, board);
        }
    }

    /// A context entry, in memory or in a cache, leads to its page table.
    fn keep_context(&mut self, entry: ContextEntry, board: &mut Board) {
        if let Some((table, levels)) = self.page_table(entry)
            && let Some(frame) = self.frame(table, "a page table", board)
        {
            self.link_table(frame, levels, Parent::Domain(entry.domain()), board);
        }
    }

    pub(super) fn drop_context(&mut self, entry: ContextEntry, board: &mut Board) {
        if let Some((table, levels)) = self.page_table(entry)
            && let Some(index) = board.memory.index(table)
        {
            self.unlink_table(index / WORDS, levels, Parent::Domain(entry.domain()), board);
        }
    }

    /// R38, and R33 for a domain-id that is used anew.
    fn add_domain(&mut self, source: u16, entry: ContextEntry, board: &mut Board) {
        let (domain, format) = (entry.domain(), entry.format());
        let name = cofferdam::addr::SourceId::from_requester(self.scope.segment, source);
        let (current, count) = self.domains.entry(domain).or_insert((format, 0));
        if *count != 0 && *current != format {
            let text = format_args!("{name}: domain-id {domain} is in use with another page table or address width");
            board.journal.violation("R38", text);
        }
        if *count == 0 {
            *current = format;
            self.snooping.remove(&domain);
            let stale = &self.stale;
            let other = |entry: &Option<ContextEntry>| {
                entry.is_some_and(|entry| entry.domain() == domain && entry.format() != format)
            };
            let translations = stale.leaves.get(&domain).is_some_and(|leaves| !leaves.is_empty())
                || stale.tables.values().any(|table| table.domain == domain);
            if translations
                || stale.residues.iter().any(|residue| other(&residue.entry))
                || stale.contexts.values().any(other)
            {
                let text = format_args!("{name}: domain-id {domain} is used anew before it was invalidated");
                board.journal.violation("R33", text);
            }
        }
        *count += 1;
    }

    fn remove_domain(&mut self, entry: ContextEntry) {
        if let Some((_, count)) = self.domains.get_mut(&entry.domain()) {
            *count = count.saturating_sub(1);
        }
    }

    fn link_table(&mut self, frame: usize, level: u8, parent: Parent, board: &mut Board) {
        if !self.reach.add(frame, Use::Table { level, parent }) {
            return;
        }
        let mut known = None;
        for index in 0..WORDS {
            let entry = PageEntry(self.seen(frame * WORDS + index, board));
            if entry.present() {
                self.check_page_entry(entry, level, board);
                if entry.leaf(level) && !entry.reserved(level, &self.capability) && known != Some(entry.snoops()) {
                    self.check_snoop(frame, level, entry.snoops(), board);
                    known = Some(entry.snoops());
                }
                if matches!(parent, Parent::Domain(_)) {
                    self.check_width(index as u64 * page_bytes(level), board);
                }
                self.link_child(entry, level, Parent::Entry(frame, index as u16), board);
            }
        }
    }

    fn link_child(&mut self, entry: PageEntry, level: u8, parent: Parent, board: &mut Board) {
        if !entry.leaf(level)
            && !entry.reserved(level, &self.capability)
            && let Some(child) = self.frame(entry.address(), "a page table", board)
        {
            self.link_table(child, level - 1, parent, board);
        }
    }

    pub(super) fn unlink_table(&mut self, frame: usize, level: u8, parent: Parent, board: &mut Board) {
        if !self.reach.remove(frame, Use::Table { level, parent }) {
            return;
        }
        for index in 0..WORDS {
            let entry = PageEntry(self.seen(frame * WORDS + index, board));
            self.unlink_child(entry, level, Parent::Entry(frame, index as u16), board);
        }
    }

    fn unlink_child(&mut self, entry: PageEntry, level: u8, parent: Parent, board: &mut Board) {
        if let Some(child) = self.child(entry, level, board) {
            self.unlink_table(child, level - 1, parent, board);
        }
    }

    /// The frame of the table that a non-leaf entry leads to.
    pub(super) fn child(&self, entry: PageEntry, level: u8, board: &Board) -> Option<usize> {
        let follows = entry.present() && !entry.leaf(level) && !entry.reserved(level, &self.capability);
        follows.then(|| board.memory.index(entry.address()))?.map(|index| index / WORDS)
    }

    fn page_entry_changed(&mut self, index: usize, level: u8, old: PageEntry, board: &mut Board) {
        let new = PageEntry(self.seen(index, board));
        if old == new || !old.present() && !new.present() {
            return;
        }
        let (frame, slot) = (index / WORDS, (index % WORDS) as u16);
        let bytes = page_bytes(level);
        let mut owners = Vec::new();
        if self.on() && Self::fills(board) {
            self.owners(frame, level, &mut |domain, base| {
                let owner = (domain, base + u64::from(slot) * bytes);
                if !owners.contains(&owner) {
                    owners.push(owner);
                }
            });
        }
        let caching = self.capability.caching_mode();
        let child = self.child(old, level, board);
        let rights = self.rights_above(frame, level, board) & old.0 & 3;
        for (domain, base) in &owners {
            let (domain, base) = (*domain, *base);
            let last = base + (bytes - 1);
            let valid = old.present() && !old.reserved(level, &self.capability);
            if let Some(child) = child {
                let table = Table { domain, first: base, last, entry: Some(old), rights, level, hinted: false };
                let id = self.stale.add_table(table);
                self.reach.add(child, Use::Table { level: level - 1, parent: Parent::Stale(id) });
            } else if valid || caching {
                let entry = valid.then_some(old.with_rights(rights));
                if new.present() && !new.leaf(level) && !valid {
                    let table = Table { domain, first: base, last, entry: None, rights: 0, level, hinted: false };
                    self.stale.add_table(table);
                } else {
                    self.stale.add_leaf(domain, base, Leaf { last, base, entry, level });
                }
            }
            if new.present() {
                self.check_size(domain, base, level, new, board);
                self.check_width(base, board);
            }
        }
        if new.present() {
            self.check_page_entry(new, level, board);
            if new.leaf(level) && !new.reserved(level, &self.capability) {
                self.check_snoop(frame, level, new.snoops(), board);
            }
            self.link_child(new, level, Parent::Entry(frame, slot), board);
            // Pages that are now reached for the first time may be cached as not present, each for itself.
            if caching && let Some(child) = self.child(new, level, board) {
                for (domain, base) in &owners {
                    let mut pages = Vec::new();
                    self.each_leaf(child, level - 1, *base, board, &mut |first, level, _| pages.push((first, level)));
                    for (first, level) in pages {
                        let last = first + (page_bytes(level) - 1);
                        self.stale.add_leaf(*domain, first, Leaf { last, base: first, entry: None, level });
                    }
                }
            }
        }
        if let Some(child) = child {
            self.unlink_table(child, level - 1, Parent::Entry(frame, slot), board);
        }
    }

    /// The logical AND of R and W of what leads to a table (section 3.7.1).
    fn rights_above(&self, frame: usize, level: u8, board: &Board) -> u64 {
        let mut parents = self.reach.uses(frame).iter().filter_map(|(what, _)| match what {
            Use::Table { level: at, parent } if *at == level => Some(*parent),
            _ => None,
        });
        match parents.next() {
            Some(Parent::Entry(above, slot)) => {
                let entry = self.seen(above * WORDS + usize::from(slot), board);
                entry & self.rights_above(above, level + 1, board)
            }
            Some(Parent::Stale(id)) => self.stale.tables.get(&id).map_or(3, |table| table.rights),
            Some(Parent::Domain(_)) | None => 3,
        }
    }

    pub(super) fn owners(&self, frame: usize, level: u8, found: &mut dyn FnMut(u16, u64)) {
        let stale = |id: u32| self.stale.tables.get(&id).map(|table| (table.domain, table.first));
        self.reach.owners(frame, level, &stale, found);
    }

    /// All pages below a table, in order: input address, level and entry.
    pub(super) fn each_leaf(
        &self,
        frame: usize,
        level: u8,
        base: u64,
        board: &Board,
        found: &mut dyn FnMut(u64, u8, PageEntry),
    ) {
        for slot in 0..WORDS {
            let entry = PageEntry(self.seen(frame * WORDS + slot, board));
            let first = base + slot as u64 * page_bytes(level);
            if let Some(child) = self.child(entry, level, board) {
                self.each_leaf(child, level - 1, first, board, found);
            } else if entry.present() && entry.leaf(level) && !entry.reserved(level, &self.capability) {
                found(first, level, entry);
            }
        }
    }

    /// Frames are about to be freed.
    pub(crate) fn check_free(&mut self, frames: std::ops::Range<usize>, board: &mut Board) {
        let inside = |address: u64| board.memory.index(address).is_some_and(|index| frames.contains(&(index / WORDS)));
        let mut queue = (self.queue.base()..self.queue.base() + self.queue.bytes()).step_by(4096);
        if self.global.on(global::QIE) && queue.any(inside) {
            board.journal.violation("R31", "the queue's frames are freed while it is on");
        }
        for frame in frames {
            while let Some((what, _)) = self.reach.uses(frame).first().copied() {
                let live = if matches!(what, Use::Interrupts(_)) { self.remaps() } else { self.on() };
                if live {
                    let address = board.arena.address(frame * WORDS);
                    let through = match what {
                        Use::Table { parent: Parent::Stale(_), .. } => "a paging-structure cache",
                        Use::Table { parent: Parent::Domain(domain), .. }
                            if self.domains.get(&domain).is_none_or(|(_, count)| *count == 0) =>
                        {
                            "the context-cache or the IOTLB"
                        }
                        _ => "its tables",
                    };
                    let text = format_args!("{address:#x} is freed, and unit {} reaches it by {through}", self.number);
                    board.journal.violation("R31", text);
                }
                self.forget(frame, what, board);
            }
        }
    }

    /// Ends a use of a frame that goes away.
    fn forget(&mut self, frame: usize, what: Use, board: &mut Board) {
        match what {
            Use::Table { level, parent } => self.unlink_table(frame, level, parent, board),
            Use::Contexts(bus) => {
                let entry = RootEntry([board.arena.address(frame * WORDS) | 1, 0]);
                self.unlink_contexts(entry, bus, board);
            }
            Use::Root => {
                let root = board.arena.address(frame * WORDS);
                self.unlink_root(root, board);
            }
            Use::Interrupts(_) => {
                self.reach.remove(frame, what);
            }
        }
    }
}
