//! Stores into tables, and what memory has to see of them when the unit does not snoop the CPU's caches (R37).
#![forbid(unsafe_code)]

use super::walk::LinkedTable;
use super::{Format, PageTable};
use crate::hal::{Frame, Hal, WORDS};

/// Words of the smallest cache line; lines are a multiple of it.
const LINE: usize = 8;

/// Stores into one table that hardware may walk. When it goes out of scope, each line that was touched has been written
/// back once; a fence has to follow.
pub(super) struct Writer<'a, H: Hal> {
    hal: &'a H,
    /// The table's.
    pub(super) frame: Frame,
    coherent: bool,
    /// What was stored and not written back: in every line of `first..end` some.
    first: u16,
    end: u16,
}

impl<H: Hal> Writer<'_, H> {
    #[inline]
    pub(super) fn store(&mut self, index: usize, word: u64) {
        self.frame.store(self.hal, index, word);
        self.stored(index, 1);
    }

    /// Stores `first` at `index` and in each of the entries that follow `step` more, `count` in all.
    #[inline]
    pub(super) fn fill(&mut self, index: usize, count: usize, first: u64, step: u64) {
        self.frame.fill(self.hal, index, count, first, step);
        self.stored(index, count);
    }

    #[inline]
    fn stored(&mut self, index: usize, count: usize) {
        if self.coherent {
            return;
        }
        if index / LINE > usize::from(self.end).div_ceil(LINE) {
            self.write_back();
            self.end = 0;
        }
        if self.end == 0 {
            self.first = index as u16;
        }
        self.end = (index + count) as u16;
    }

    #[inline]
    fn write_back(&self) {
        if self.end > self.first {
            self.frame.write_back(self.hal, self.first.into(), (self.end - self.first).into());
        }
    }
}

impl<H: Hal> Drop for Writer<'_, H> {
    #[inline]
    fn drop(&mut self) {
        self.write_back();
    }
}

impl<F: Format> PageTable<F> {
    /// For stores into a table in ascending order. A fresh one is written back by [`finish`](Self::finish).
    #[inline]
    pub(super) fn writer<'a, H: Hal>(&self, hal: &'a H, table: LinkedTable) -> Writer<'a, H> {
        Writer { hal, frame: table.frame, coherent: self.coherent || table.fresh, first: 0, end: 0 }
    }

    /// Writes a fresh table back: whole, as what the platform zeroed may still be in a cache, too. A fence has to follow
    /// before anything leads there that hardware can reach.
    pub(super) fn finish(&self, hal: &impl Hal, fresh: LinkedTable) {
        if !self.coherent {
            fresh.frame.write_back(hal, 0, WORDS);
        }
    }

    /// Ends an edit that stored the entry at `index` and nothing else.
    #[inline]
    pub(super) fn stored(&self, hal: &impl Hal, table: LinkedTable, index: usize) {
        if !self.coherent {
            table.frame.write_back(hal, index, 1);
            hal.fence();
        }
    }

    /// What was written back is in memory before anything that follows is.
    #[inline]
    pub(super) fn settle(&self, hal: &impl Hal) {
        if !self.coherent {
            hal.fence();
        }
    }

    /// The word that leads to a table.
    pub(super) fn link(&self, table: LinkedTable) -> u64 {
        self.format.table(table.frame.base(), table.level)
    }
}
