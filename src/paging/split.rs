//! A table in the place of a page, where an edit begins or ends inside of it.
#![forbid(unsafe_code)]

use super::edit::TableEdit;
use super::format::{is_page_start, page_bytes, page_shift};
use super::walk::{LinkedTable, Step};
use super::{Format, PageTable, Prealloc};
use crate::addr::{Iova, IovaRange, Rights};
use crate::hal::{Hal, NoFrame, WORDS};

impl<F: Format> PageTable<F> {
    /// Gets the frames that unmapping `range` or changing its rights needs, where it begins or ends inside a large page.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// There are not enough frames.
    #[inline]
    pub fn prepare_edit(&self, hal: &impl Hal, range: IovaRange) -> Result<Prealloc, NoFrame> {
        if self.recent(range).is_some() {
            return Ok(Prealloc::none());
        }
        self.prepare_split(hal, range)
    }

    #[cold]
    fn prepare_split(&self, hal: &impl Hal, range: IovaRange) -> Result<Prealloc, NoFrame> {
        let mut needed = 0;
        // No page is split at 0.
        let mut other = 0;
        for edge in self.edges(range) {
            needed += self.tables_to_split(hal, edge, other);
            other = edge;
        }
        Prealloc::allocate(hal, needed, self.geometry)
    }

    /// Tables needed so that no page spans `edge`, once none spans `other`.
    fn tables_to_split(&self, hal: &impl Hal, edge: u64, other: u64) -> usize {
        let page_level = self.walk(hal, edge).map_or(0, |(level, ..)| level);
        let spanned = |level, at| !is_page_start(at, level);
        let together = |level| edge >> page_shift(level) == other >> page_shift(level);
        let needed = |level: &u8| spanned(*level, edge) && !(together(*level) && spanned(*level, other));
        (2..=page_level).filter(needed).count()
    }

    /// True if no page spans an edge of `range` but where an edit joined it, and the tables that it took the place of are not
    /// [given back](Self::free_unlinked) yet: an edit of the range needs no frame.
    #[inline(never)]
    pub(crate) fn splits_without_frames(&self, hal: &impl Hal, range: IovaRange) -> bool {
        self.edges(range).all(|edge| {
            let Some((page_level, output, rights)) = self.walk(hal, edge) else { return true };
            let is_there = |level: u8| {
                let within = edge & (page_bytes(page_level) - 1) & !(page_bytes(level) - 1);
                let first = self.format.page(output + within, rights, level - 1);
                self.unlinked.has_joined(hal, first, page_bytes(level - 1))
            };
            (2..=page_level).filter(|level| !is_page_start(edge, *level)).all(is_there)
        })
    }

    /// Splits what spans an edge of `range`, so that an edit of it may begin.
    #[inline(never)]
    pub(super) fn split_edges(&self, hal: &impl Hal, range: IovaRange, edit: &mut TableEdit<F>) {
        for edge in self.edges(range) {
            self.split(hal, edge, edit);
        }
        if edit.change.tables {
            // Hardware must see pages change only after it could see them smaller (R32).
            self.settle(hal);
        }
    }

    /// Splits the page that spans `edge`. It is replaced with one store, so requests under way find the same page before
    /// and after (R32: only the size changes).
    #[inline(never)]
    fn split(&self, hal: &impl Hal, edge: u64, edit: &mut TableEdit<F>) {
        let mut table = self.top();
        while !is_page_start(edge, table.level) {
            match self.step(hal, table, table.index(edge)) {
                Step::Absent => return,
                Step::Table(next) => table = next,
                Step::Page { output, rights } => {
                    if let Some(parts) = self.parts(hal, table.level, edge, output, rights, edit) {
                        self.settle(hal);
                        self.writer(hal, table).store(table.index(edge), self.link(parts));
                        edit.change.touch(edge, table.level);
                    }
                    return;
                }
            }
        }
    }

    /// A table that translates as the page at `output` with this level does, by pages of which none spans `edge`.
    fn parts(
        &self,
        hal: &impl Hal,
        level: u8,
        edge: u64,
        output: u64,
        rights: Rights,
        edit: &mut TableEdit<F>,
    ) -> Option<LinkedTable> {
        let level = level - 1;
        let (first, bytes) = (self.format.page(output, rights, level), page_bytes(level));
        let table = edit.table_of_parts(hal, level, first, bytes)?;
        // It is written back whole, fresh or not.
        let mut writer = self.writer(hal, LinkedTable { fresh: true, ..table });
        writer.fill(0, WORDS, first, bytes);
        if !is_page_start(edge, level) {
            let index = table.index(edge);
            let output = output + index as u64 * bytes;
            if let Some(parts) = self.parts(hal, level, edge, output, rights, edit) {
                if !table.fresh {
                    // Hardware may walk it.
                    self.settle(hal);
                }
                writer.store(index, self.link(parts));
            }
        }
        self.finish(hal, table);
        Some(table)
    }

    /// Where a range begins and where what follows it begins, as far as something can be mapped there. A page of 4 KiB is
    /// never split: the range has all of it.
    fn edges(&self, range: IovaRange) -> impl Iterator<Item = u64> {
        let in_page = page_bytes(1) - 1;
        let edges = [Some(range.start().as_u64() & !in_page), (range.last().as_u64() | in_page).checked_add(1)];
        edges.into_iter().flatten().filter(|edge| self.geometry.reaches(Iova::new(*edge)))
    }
}
