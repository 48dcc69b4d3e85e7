//! A page table, walked whole.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::LiveTarget;
use super::second_stage::{Leads, PageEntry, bytes};
use super::tables::{LiveTables, Seen};
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use crate::audit::{Difference, Reach};
use crate::hal::Hal;

/// Entries of a table.
const ENTRIES: u16 = 512;
/// Levels of a page table, at most (S 9.3, AW).
const MAX_LEVELS: usize = 5;

/// A table that is being read.
struct WalkedTable {
    start: u64,
    level: u8,
    /// The input address of its first entry.
    input: u64,
    /// What every entry above grants.
    rights: Rights,
    /// The entry that is read next.
    next: u16,
}

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

/// From the top down.
type Path = Vec<WalkedTable, MAX_LEVELS>;

impl WalkedTable {
    /// The next entry that is not zero, with where it is and the input address that it is for.
    fn next<H: Hal>(&mut self, tables: &LiveTables<'_, H>) -> Option<(PageEntry, PhysAddr, u64)> {
        while self.next < ENTRIES {
            let index = u64::from(self.next);
            self.next += 1;
            // All of a table is in one frame.
            let word = tables.word(self.start, index).unwrap_or_default();
            if word != 0 {
                let at = PhysAddr::new_truncate(self.start.wrapping_add(8 * index));
                let input = self.input.wrapping_add(index.wrapping_mul(bytes(self.level)));
                return Some((PageEntry { word, level: self.level }, at, input));
            }
        }
        None
    }
}

impl<H: Hal> LiveTables<'_, H> {
    /// Tells all that a source-id reaches by its context entry: rights are those that every level grants (S 3.7.1), input
    /// addresses end where the unit's or the table's width does (S 9.3, CAP.MGAW).
    ///
    /// Reads at most `left` tables and takes off what it has read: tables that are linked in a circle would have no end.
    pub(crate) fn walk(&self, source: SourceId, target: LiveTarget, left: &mut usize, each: &mut dyn FnMut(Seen)) {
        let Some((root, levels)) = target.table else {
            return self.everything(source, each);
        };
        let width = self.registers.input_bits().min(12 + 9 * levels);
        let last = 1_u64.checked_shl(width.into()).map_or(u64::MAX, |end| end.wrapping_sub(1));
        let mut walk = Walk { tables: self, source, last, left, run: None, each };
        walk.tables(WalkedTable { start: root.as_u64(), level: levels, input: 0, rights: Rights::all(), next: 0 });
        walk.page(None);
    }

    /// Tells all memory, which requests reach that pass through.
    #[inline(never)]
    fn everything(&self, source: SourceId, each: &mut dyn FnMut(Seen)) {
        if let Some(input) = IovaRange::new(Iova::new(0), 1 << self.host_bits) {
            let region = Region { input, output: PhysAddr::zero(), rights: Rights::all() };
            each(Seen::Run(Reach { source, region, snoop: false }));
        }
    }
}

impl<H: Hal> Walk<'_, '_, H> {
    /// Goes through a table and all tables below it. What is under way is on `path`, so that the stack does not grow with the
    /// levels.
    fn tables(&mut self, top: WalkedTable) {
        let mut path = Path::new();
        let mut is_within = self.enter(&mut path, top);
        while is_within && let Some(table) = path.last_mut() {
            let Some((entry, at, input)) = table.next(self.tables) else {
                path.pop();
                continue;
            };
            let above = table.rights;
            if let Some((start, rights)) = self.entry(entry, at, input, above) {
                is_within =
                    self.enter(&mut path, WalkedTable { start, level: entry.level - 1, input, rights, next: 0 });
            }
        }
    }

    /// Adds a table to the path, if it can be read. False if no more tables may be read.
    #[inline(never)]
    fn enter(&mut self, path: &mut Path, table: WalkedTable) -> bool {
        if self.tables.word(table.start, 0).is_none() {
            self.tables.unreadable(table.start, self.each);
            return true;
        }
        let left = self.left.checked_sub(1);
        let Some(left) = left.filter(|_| path.push(table).is_ok()) else {
            (self.each)(Seen::Wrong(Difference::TooManyTables { source: self.source }));
            return false;
        };
        *self.left = left;
        true
    }

    /// Looks at an entry. Gives the table that it leads to, if any, and what is granted there.
    fn entry(&mut self, entry: PageEntry, at: PhysAddr, input: u64, above: Rights) -> Option<(u64, Rights)> {
        let unit = self.tables.window;
        let is_translated = input <= self.last;
        let unused = if is_translated { entry.ignored() } else { entry.word };
        if unused != 0 {
            (self.each)(Seen::Wrong(Difference::IgnoredBits { unit, at, bits: unused }));
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
                    (self.each)(Seen::Wrong(Difference::NarrowedTable { unit, at, rights: entry.rights() }));
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
