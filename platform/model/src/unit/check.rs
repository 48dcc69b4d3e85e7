//! What an entry may say, and how it may be stored (rules of sections 4 and 5, C1).
#![forbid(unsafe_code)]

use super::entry::{ContextEntry, INTERRUPTS, PageEntry, RootEntry, Translation, page_bytes};
use super::reach::Use;
use super::stale::Leaf;
use super::{Board, Unit, global};
use crate::memory::arena::WORDS;

impl Unit {
    pub(super) fn check_context(&self, source: u16, entry: ContextEntry, board: &mut Board) {
        let journal = &mut board.journal;
        let name = cofferdam::addr::SourceId::from_requester(self.scope.segment, source);
        if u32::from(entry.domain()) >> self.capability.domain_bits().min(31) != 0 {
            journal.violation("R39", format_args!("{name}: domain-id {} is above CAP.ND", entry.domain()));
        } else if entry.reserved(&self.capability) {
            journal.violation("R41", format_args!("{name}: reserved bits in its context entry"));
        }
        if self.capability.caching_mode() && entry.domain() == 0 {
            journal.violation("R38", format_args!("{name}: domain-id 0 in caching mode"));
        }
        let largest = (3..=5).rev().find(|levels| self.capability.levels(*levels));
        match entry.translation(&self.capability) {
            None => journal.violation("R40", format_args!("{name}: a translation type that the unit does not have")),
            Some(Translation::PassThrough) if Some(entry.levels()) != largest => {
                journal.violation("R40", format_args!("{name}: pass-through without the largest address width"));
            }
            Some(_) if !self.capability.levels(entry.levels()) => {
                journal.violation("R40", format_args!("{name}: an address width that the unit does not have"));
            }
            Some(_) => {}
        }
    }

    pub(super) fn check_page_entry(&self, entry: PageEntry, level: u8, board: &mut Board) {
        let value = entry.0;
        if entry.reserved(level, &self.capability) {
            board.journal.violation("R41", format_args!("reserved bits in the level {level} entry {value:#x}"));
        } else if entry.leaf(level) {
            let (first, last) = (entry.address(), entry.address() + page_bytes(level) - 1);
            if first <= *INTERRUPTS.end() && *INTERRUPTS.start() <= last {
                let text = format_args!("the level {level} entry {value:#x} leads into the interrupt range");
                board.journal.violation("R43", text);
            }
        }
    }

    /// C1: all pages of a table snoop, or none.
    pub(super) fn check_snoop(&mut self, frame: usize, level: u8, snoops: bool, board: &mut Board) {
        let mut domains = Vec::new();
        self.owners(frame, level, &mut |domain, _| domains.push(domain));
        for domain in domains {
            if *self.snooping.entry(domain).or_insert(snoops) != snoops {
                let text = format_args!("domain-id {domain} has pages with SNP and pages without");
                board.journal.violation("C1", text);
            }
        }
    }

    /// R40: CAP.MGAW bounds what may be mapped.
    pub(super) fn check_width(&self, input: u64, board: &mut Board) {
        let width = self.capability.guest_width();
        if input.checked_shr(width.into()).unwrap_or(0) != 0 {
            let text = format_args!("input address {input:#x} is mapped, beyond the {width} bits of MGAW");
            board.journal.violation("R40", text);
        }
    }

    /// R32: another page size is set only after what was there is invalidated, unless it translates alike.
    pub(super) fn check_size(&self, domain: u16, base: u64, level: u8, new: PageEntry, board: &mut Board) {
        let stale_page = |leaf: &Leaf| leaf.entry.is_some() && leaf.level == level;
        let differs = match (self.child(new, level, board), self.stale.leaf(domain, base).filter(stale_page)) {
            (Some(child), Some(leaf)) => !self.same_pages(child, level - 1, base, leaf, board),
            (None, _) if new.leaf(level) => {
                let tables = self.stale.tables.values();
                tables.filter(|table| (table.domain, table.first, table.level) == (domain, base, level)).any(|table| {
                    table.entry.and_then(|entry| self.child(entry, level, board)).is_some_and(|child| {
                        let leaf = Leaf { last: table.last, base, entry: Some(new), level };
                        !self.same_pages(child, level - 1, base, leaf, board)
                    })
                })
            }
            _ => false,
        };
        if differs {
            let text = format_args!("the page size at {base:#x} changes before the old translation is invalidated");
            board.journal.violation("R32", text);
        }
    }

    /// True if the table translates each page as the leaf does.
    fn same_pages(&self, frame: usize, level: u8, base: u64, leaf: Leaf, board: &Board) -> bool {
        let Some(page) = leaf.entry else { return false };
        let (mut bytes, mut same) = (0, true);
        self.each_leaf(frame, level, base, board, &mut |first, level, entry| {
            bytes += page_bytes(level);
            same &= entry.address() == page.address() + (first - leaf.base) && entry.0 & 3 == page.0 & 3;
        });
        same && bytes == page_bytes(level + 1)
    }

    /// The driver is about to store `value` at `index`.
    pub(crate) fn check_store(&self, index: usize, value: u64, board: &mut Board) {
        let address = board.arena.address(index);
        if self.global.on(global::QIE) && self.queue.owns(address) && !self.faults.stops_queue() {
            let text = format_args!("{address:#x} is in a descriptor that is not fetched yet");
            board.journal.violation("R15", text);
        }
        let frame = index / WORDS;
        if self.reach.uses(frame).iter().any(|(what, _)| matches!(what, Use::Interrupts(_))) {
            self.check_interrupt_store(index, value, board);
        }
        if !self.on() {
            return;
        }
        let mut target = None;
        for (what, _) in self.reach.uses(frame) {
            match *what {
                Use::Table { level, .. } => target = target.or(self.child(PageEntry(value), level, board)),
                Use::Contexts(bus) => {
                    self.check_context_store(bus, index, value, board);
                    let entry = ContextEntry([value, board.memory.stored(index + 1)]);
                    if index.is_multiple_of(2)
                        && let Some((table, _)) = self.page_table(entry)
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
            && !self.snoops()
            && !board.memory.lines.is_written_back(frame)
        {
            let table = board.arena.address(frame * WORDS);
            board.journal.violation("R37", format_args!("the table at {table:#x} is linked before it is written back"));
        }
    }

    /// R35 and R36: how an entry of 128 bits changes while hardware may read it.
    fn check_context_store(&self, bus: u8, index: usize, value: u64, board: &mut Board) {
        let even = index & !1;
        let old = ContextEntry([board.memory.stored(even), board.memory.stored(even + 1)]);
        let device = (even % WORDS / 2) as u16;
        let source = u16::from(bus) << 8 | device;
        let name = cofferdam::addr::SourceId::from_requester(self.scope.segment, source);
        if index == even {
            // FPD stands alone, so one store of its half leaves the entry consistent (section 6.2.2.1).
            if old.present() && value & 1 != 0 && (value ^ old.0[0]) & !2 != 0 {
                board.journal.violation("R36", format_args!("{name}: its context entry changes while it is present"));
            }
        } else if value != old.0[1] {
            let seen = ContextEntry([self.seen(even, board), self.seen(even + 1, board)]);
            let cached = matches!(self.stale.contexts.get(&source), Some(Some(_)));
            if old.present() {
                let text = format_args!("{name}: the upper half of its context entry changes while it is present");
                board.journal.violation("R35", text);
            } else if seen.present() || cached {
                let text = format_args!("{name}: its context entry is rewritten before the old one is invalidated");
                board.journal.violation("R35", text);
            }
        }
    }
}
