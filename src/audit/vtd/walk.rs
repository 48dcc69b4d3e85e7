//! A page table, walked whole.
#![forbid(unsafe_code)]

use super::Target;
use super::second_stage::{Leads, PageEntry, bytes};
use super::tables::{LiveTables, Seen};
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use crate::audit::{Difference, Reach};
use crate::hal::Hal;

/// Entries of a table.
const ENTRIES: u64 = 512;

struct Walk<'w, 'h, H> {
    tables: &'w LiveTables<'h, H>,
    source: SourceId,
    /// The last input address that is translated.
    last: u64,
    /// So many tables may still be read.
    left: &'w mut usize,
    /// What was found last, and may go on.
    run: Option<Reach>,
    each: &'w mut dyn FnMut(Seen),
}

impl<H: Hal> LiveTables<'_, H> {
    /// Tells all that a source-id reaches by its context entry: rights are those that every level grants (S 3.7.1), input
    /// addresses end where the unit's or the table's width does (S 9.3, CAP.MGAW).
    ///
    /// Reads at most `left` tables and takes off what it has read: tables that are linked in a circle would have no end.
    pub(crate) fn walk(&self, source: SourceId, target: Target, left: &mut usize, each: &mut dyn FnMut(Seen)) {
        let Some((root, levels)) = target.table else {
            let everything = IovaRange::new(Iova::new(0), 1 << self.host_bits);
            if let Some(input) = everything {
                let region = Region { input, output: PhysAddr::zero(), rights: Rights::all() };
                each(Seen::Run(Reach { source, region, snoop: false }));
            }
            return;
        };
        let width = self.registers.input_bits().min(12 + 9 * levels);
        let last = 1_u64.checked_shl(width.into()).map_or(u64::MAX, |end| end.wrapping_sub(1));
        let mut walk = Walk { tables: self, source, last, left, run: None, each };
        walk.table(root.as_u64(), levels, 0, Rights::all());
        walk.page(None);
    }
}

impl<H: Hal> Walk<'_, '_, H> {
    /// Goes through a table at `level`, whose first entry is for `base` and to which `above` is granted. False if no more
    /// tables may be read.
    fn table(&mut self, table: u64, level: u8, base: u64, above: Rights) -> bool {
        if self.tables.word(table, 0).is_none() {
            self.tables.unreadable(table, self.each);
            return true;
        }
        let Some(left) = self.left.checked_sub(1) else {
            (self.each)(Seen::Wrong(Difference::Endless { source: self.source }));
            return false;
        };
        *self.left = left;
        for index in 0..ENTRIES {
            // All of a table is in one frame.
            let word = self.tables.word(table, index).unwrap_or_default();
            if word == 0 {
                continue;
            }
            let at = PhysAddr::new_truncate(table.wrapping_add(8 * index));
            let input = base.wrapping_add(index.wrapping_mul(bytes(level)));
            if let Some((next, rights)) = self.entry(PageEntry { word, level }, at, input, above)
                && !self.table(next, level - 1, input, rights)
            {
                return false;
            }
        }
        true
    }

    /// Looks at an entry. Gives the table that it leads to, if any, and what is granted there.
    fn entry(&mut self, entry: PageEntry, at: PhysAddr, input: u64, above: Rights) -> Option<(u64, Rights)> {
        let unit = self.tables.window;
        let is_translated = input <= self.last;
        let unused = if is_translated { entry.ignored() } else { entry.word };
        if unused != 0 {
            (self.each)(Seen::Wrong(Difference::Stray { unit, at, bits: unused }));
        }
        if !is_translated || entry.rights().is_empty() {
            return None;
        }
        let bits = entry.reserved(&self.tables.registers, self.tables.host_bits);
        if bits != 0 {
            (self.each)(Seen::Wrong(Difference::Malformed { unit, at, bits }));
            return None;
        }
        let rights = above & entry.rights();
        match entry.leads() {
            Leads::Table(next) => {
                if entry.rights() != Rights::all() {
                    (self.each)(Seen::Wrong(Difference::Narrows { unit, at, rights: entry.rights() }));
                }
                Some((next, rights))
            }
            Leads::Page { output, snoop } => {
                let last = input.wrapping_add(bytes(entry.level) - 1).min(self.last);
                let input = IovaRange::new(Iova::new(input), last.wrapping_sub(input).saturating_add(1));
                if let Some(input) = input.filter(|_| !rights.is_empty()) {
                    let region = Region { input, output, rights };
                    self.page(Some(Reach { source: self.source, region, snoop }));
                }
                None
            }
        }
    }

    /// Adds a page to the run, or tells the run and begins another.
    fn page(&mut self, page: Option<Reach>) {
        match (self.run, page) {
            (Some(run), Some(page)) if continues(run, page) => {
                let input = run.region.input.hull(page.region.input);
                self.run = Some(Reach { region: Region { input, ..run.region }, ..run });
            }
            (run, page) => {
                if let Some(run) = run {
                    (self.each)(Seen::Run(run));
                }
                self.run = page;
            }
        }
    }
}

fn continues(run: Reach, page: Reach) -> bool {
    let (low, high) = (run.region, page.region);
    low.input.last().checked_add(1) == Some(high.input.start())
        && low.output.as_u64().checked_add(low.input.bytes()) == Some(high.output.as_u64())
        && (low.rights, run.snoop) == (high.rights, page.snoop)
}
