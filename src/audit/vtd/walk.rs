//! A page table, walked whole.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::LiveTarget;
use super::second_stage::{Leads, PageEntry, bytes};
use super::tables::LiveTables;
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use crate::audit::{Difference, Findings, Reach};
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

/// What a source-id reaches, as [`LiveTables::walk`] begins with it.
pub(crate) struct Walk<'w, 'h, H> {
    tables: &'w LiveTables<'h, H>,
    source: SourceId,
    /// The last input address that is translated.
    last: u64,
    /// The tables that are being read, so that the stack does not grow with the levels.
    path: Path,
    /// What was found last, and may go on.
    run: Option<Reach>,
}

/// Where an entry leads that grants something.
enum Below {
    Page(Reach),
    Table(WalkedTable),
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

impl<'h, H: Hal> LiveTables<'h, H> {
    /// Goes through all that a source-id reaches by its context entry: rights are those that every level grants (S 3.7.1), input
    /// addresses end where the unit's or the table's width does (S 9.3, CAP.MGAW).
    ///
    /// Reads at most `left` tables and takes off what it has read: tables that are linked in a circle would have no end. What is
    /// wrong by itself is reported on the way.
    #[inline(never)]
    pub(crate) fn walk(
        &self,
        source: SourceId,
        target: LiveTarget,
        left: &mut usize,
        findings: &mut Findings<'_>,
    ) -> Walk<'_, 'h, H> {
        let mut walk = Walk { tables: self, source, last: 0, path: Path::new(), run: None };
        match target.table {
            None => walk.run = self.everything(source),
            Some((root, levels)) => {
                let width = self.registers.input_bits().min(12 + 9 * levels);
                walk.last = 1_u64.checked_shl(width.into()).map_or(u64::MAX, |end| end.wrapping_sub(1));
                let (start, rights) = (root.as_u64(), Rights::all());
                walk.enter(WalkedTable { start, level: levels, input: 0, rights, next: 0 }, left, findings);
            }
        }
        walk
    }

    /// All memory, which requests reach that pass through.
    fn everything(&self, source: SourceId) -> Option<Reach> {
        let input = IovaRange::new(Iova::new(0), 1 << self.host_bits)?;
        let region = Region { input, output: PhysAddr::zero(), rights: Rights::all() };
        Some(Reach { source, region, snoop: false })
    }
}

impl<H: Hal> Walk<'_, '_, H> {
    /// The next range that is reached, ascending, each as long as can be; `None` at the end.
    #[inline(never)]
    pub(crate) fn next(&mut self, left: &mut usize, findings: &mut Findings<'_>) -> Option<Reach> {
        while let Some(table) = self.path.last_mut() {
            let above = table.rights;
            let Some((entry, at, input)) = table.next(self.tables) else {
                self.path.pop();
                continue;
            };
            let ended = match self.entry(entry, at, input, above, findings) {
                Some(Below::Page(page)) => self.add(page),
                Some(Below::Table(table)) => {
                    self.enter(table, left, findings);
                    None
                }
                None => None,
            };
            if ended.is_some() {
                return ended;
            }
        }
        self.run.take()
    }

    /// Adds a table to the path, if it can be read. Ends the walk if no more tables may be read.
    #[inline(never)]
    fn enter(&mut self, table: WalkedTable, left: &mut usize, findings: &mut Findings<'_>) {
        if self.tables.word(table.start, 0).is_none() {
            return self.tables.unreadable(table.start, findings);
        }
        match left.checked_sub(1) {
            Some(fewer) if self.path.push(table).is_ok() => *left = fewer,
            _ => {
                self.path.clear();
                findings.report(Difference::TooManyTables { source: self.source });
            }
        }
    }

    /// Looks at an entry, below entries that grant what is `above`.
    fn entry(
        &self,
        entry: PageEntry,
        at: PhysAddr,
        input: u64,
        above: Rights,
        findings: &mut Findings<'_>,
    ) -> Option<Below> {
        let unit = self.tables.window;
        let is_translated = input <= self.last;
        let unused = if is_translated { entry.ignored() } else { entry.word };
        if unused != 0 {
            findings.report(Difference::IgnoredBits { unit, at, bits: unused });
        }
        if !is_translated || entry.rights().is_empty() {
            return None;
        }
        let bits = entry.reserved(&self.tables.registers, self.tables.host_bits);
        if bits != 0 {
            findings.report(Difference::Malformed { unit, at, bits });
            return None;
        }
        let rights = above & entry.rights();
        match entry.leads() {
            Leads::Table(start) => {
                if entry.rights() != Rights::all() {
                    findings.report(Difference::NarrowedTable { unit, at, rights: entry.rights() });
                }
                Some(Below::Table(WalkedTable { start, level: entry.level - 1, input, rights, next: 0 }))
            }
            Leads::Page { output, snoop } => {
                let last = input.wrapping_add(bytes(entry.level) - 1).min(self.last);
                let input = IovaRange::new(Iova::new(input), last.wrapping_sub(input).saturating_add(1))?;
                let region = Region { input, output, rights };
                (!rights.is_empty()).then_some(Below::Page(Reach { source: self.source, region, snoop }))
            }
        }
    }

    /// Adds a page to the run; or begins another with it, and gives the one that has ended.
    fn add(&mut self, page: Reach) -> Option<Reach> {
        match self.run {
            Some(run) if continues(run, page) => {
                let input = run.region.input.hull(page.region.input);
                self.run = Some(Reach { region: Region { input, ..run.region }, ..run });
                None
            }
            _ => self.run.replace(page),
        }
    }
}

fn continues(run: Reach, page: Reach) -> bool {
    let (low, high) = (run.region, page.region);
    low.input.last().checked_add(1) == Some(high.input.start())
        && low.output.as_u64().checked_add(low.input.bytes()) == Some(high.output.as_u64())
        && (low.rights, run.snoop) == (high.rights, page.snoop)
}
