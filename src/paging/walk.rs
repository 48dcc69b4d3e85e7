//! From table to table.

use core::iter;

use super::format::{is_page_start, page_bytes, page_shift};
use super::{Entry, Format, PageTable};
use crate::addr::Rights;
use crate::hal::{Frame, Hal, WORDS};

/// A table at a level: 1 holds pages of 4 KiB alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkedTable {
    pub frame: Frame,
    pub level: u8,
    /// Nothing leads there yet.
    pub fresh: bool,
}

/// Part of an input range that one entry covers.
pub(super) struct Slot {
    pub index: usize,
    pub start: u64,
    pub last: u64,
    /// The entry covers nothing else.
    pub whole: bool,
}

/// Where an entry leads.
pub(super) enum Step {
    Absent,
    Table(LinkedTable),
    Page { output: u64, rights: Rights },
}

impl LinkedTable {
    /// Index of the entry that covers `at`.
    #[inline]
    pub(super) fn index(self, at: u64) -> usize {
        (at >> page_shift(self.level)) as usize % WORDS
    }

    /// The bits of an input address that select within the table.
    const fn mask(self) -> u64 {
        1_u64.unbounded_shl(page_shift(self.level + 1)).wrapping_sub(1)
    }

    /// The last input address of the table that holds `at`.
    pub(super) const fn last_of(self, at: u64) -> u64 {
        at | self.mask()
    }

    /// The part of `start..=last`, which lies within the table, that the entry at `index` covers: not nothing.
    pub(super) fn part_of(self, index: usize, start: u64, last: u64) -> (u64, u64) {
        let first = start & !self.mask() | (index as u64) << page_shift(self.level);
        (start.max(first), last.min(first | (page_bytes(self.level) - 1)))
    }

    /// The first of the entries that `start..=last`, which lies within the table, touches.
    #[inline]
    pub(super) fn slot(self, start: u64, last: u64) -> Slot {
        let end = start | (page_bytes(self.level) - 1);
        let whole = is_page_start(start, self.level) && end <= last;
        Slot { index: self.index(start), start, last: last.min(end), whole }
    }

    /// All of them.
    #[inline]
    pub(super) fn slots(self, start: u64, last: u64) -> impl Iterator<Item = Slot> {
        let mut rest = Some(start);
        iter::from_fn(move || {
            let slot = self.slot(rest?, last);
            rest = (slot.last < last).then(|| slot.last + 1);
            Some(slot)
        })
    }

    /// The first and the last of them, which may be the same.
    pub(super) fn end_slots(self, start: u64, last: u64) -> (Slot, Slot) {
        let last_start = last & !(page_bytes(self.level) - 1);
        (self.slot(start, last), self.slot(start.max(last_start), last))
    }

    /// True if `holds` for every index but those from `first` to `last`. Asks beside them first: where neighbours are edited
    /// one after the other, whichever way, that mostly settles it.
    #[inline]
    pub(super) fn all_but(first: usize, last: usize, mut holds: impl FnMut(usize) -> bool) -> bool {
        (first == 0 || holds(first - 1)) && (last + 1..WORDS).all(&mut holds) && (0..first).all(holds)
    }
}

impl<F: Format> PageTable<F> {
    pub(super) fn top(&self) -> LinkedTable {
        LinkedTable { frame: self.root, level: self.geometry.levels, fresh: false }
    }

    /// What the entry at `index` says, and the table that it leads to.
    #[inline]
    pub(super) fn step(&self, hal: &impl Hal, table: LinkedTable, index: usize) -> Step {
        match self.format.decode(table.frame.load(hal, index), table.level) {
            Entry::Absent => Step::Absent,
            Entry::Page { output, rights } => Step::Page { output, rights },
            Entry::Table(next) => {
                // SAFETY: an entry of ours leads to a table of ours, which is freed only after the entry is gone.
                let frame = unsafe { Frame::at(hal, next) };
                Step::Table(LinkedTable { frame, level: table.level - 1, fresh: false })
            }
        }
    }

    /// The page that holds `at`: the level of its entry, where it begins, and its rights.
    pub(super) fn walk(&self, hal: &impl Hal, at: u64) -> Option<(u8, u64, Rights)> {
        let mut table = self.top();
        loop {
            match self.step(hal, table, table.index(at)) {
                Step::Absent => return None,
                Step::Page { output, rights } => return Some((table.level, output, rights)),
                Step::Table(next) => table = next,
            }
        }
    }
}
