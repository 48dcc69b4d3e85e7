//! What all edits have in common: frames that they may take, and what they leave.

use super::format::{page_bytes, page_shift};
use super::table::Recent;
use super::unlinked::Unlinked;
use super::walk::LinkedTable;
use super::{Change, Format, Geometry, PageTable};
use crate::addr::{Iova, IovaRange};
use crate::hal::{FrameList, Hal, NoFrame};

/// Frames that an edit is going to need, got before anything is changed.
#[derive(Debug)]
#[must_use = "the frames are lost unless an edit takes them"]
pub struct Prealloc(pub(super) FrameList);

impl Prealloc {
    /// None.
    pub(crate) const fn none() -> Self {
        Self(FrameList::new())
    }

    /// This many for tables of this geometry, or nothing.
    pub(crate) fn allocate(hal: &impl Hal, count: usize, geometry: Geometry) -> Result<Self, NoFrame> {
        FrameList::allocate(hal, count, geometry.output_bits).map(Self)
    }

    /// Takes this many out, or what there is.
    pub(crate) fn split_off(&mut self, hal: &impl Hal, count: usize) -> Self {
        let mut taken = Self::none();
        while taken.0.len() < count
            && let Some(frame) = self.0.pop(hal)
        {
            taken.0.push(hal, frame);
        }
        taken
    }

    /// Gives back what was not needed.
    pub fn free(self, hal: &impl Hal) {
        // SAFETY: a frame leaves the list before a table refers to it, so hardware has seen none of these.
        unsafe { self.0.free(hal) }
    }
}

/// An edit under way: what it may take, and what it did.
pub(super) struct TableEdit<F> {
    pub prealloc: FrameList,
    pub change: Change,
    /// The table's, for the time of the edit.
    pub unlinked: Unlinked<F>,
    /// How many frames there were in either list.
    prepared: usize,
    unlinked_before: usize,
    /// How many tables of 4 KiB pages there are by now.
    pub small: usize,
    recent: Option<Recent>,
}

impl<F> TableEdit<F> {
    /// A table for a level, if there is a frame left. Nothing leads there yet.
    pub(super) fn fresh_table(&mut self, hal: &impl Hal, level: u8) -> Option<LinkedTable> {
        let frame = self.prealloc.pop(hal)?;
        self.small += usize::from(level == 1);
        Some(LinkedTable { frame, level, fresh: true })
    }

    /// A table for a level that is to have `first` in its first entry and `step` more in each that follows: a fresh one, or else
    /// the one that a page has taken the place of, which hardware may still walk.
    pub(super) fn table_of_parts(&mut self, hal: &impl Hal, level: u8, first: u64, step: u64) -> Option<LinkedTable>
    where
        F: Format,
    {
        if let Some(fresh) = self.fresh_table(hal, level) {
            return Some(fresh);
        }
        let frame = self.unlinked.take_joined(hal, first, step)?;
        // As if it had been prepared.
        self.prepared += 1;
        self.unlinked_before -= 1;
        self.small += usize::from(level == 1);
        Some(LinkedTable { frame, level, fresh: false })
    }

    /// Notes that the edit came to this table, which holds `at`.
    pub(super) fn came_to(&mut self, table: LinkedTable, at: u64, geometry: Geometry) {
        if table.level == 1 {
            let start = at & !(page_bytes(2) - 1);
            let range = IovaRange::new(Iova::new(start), page_bytes(2)).filter(|range| geometry.takes_input(*range));
            self.recent = range.map(|_| Recent { start, frame: table.frame });
        }
    }
}

impl<F: Format> PageTable<F> {
    /// The table that was come to last, and the index of the entry for `range`, if that is one page of it.
    #[inline]
    pub(super) fn recent(&self, range: IovaRange) -> Option<(LinkedTable, usize)> {
        /// Where a page can begin in a table.
        const STARTS: u64 = page_bytes(2) - page_bytes(1);
        let recent = self.recent?;
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        let offset = start.wrapping_sub(recent.start);
        if offset & !STARTS != 0 || last - start != page_bytes(1) - 1 {
            return None;
        }
        Some((LinkedTable { frame: recent.frame, level: 1, fresh: false }, (offset >> page_shift(1)) as usize))
    }

    /// Notes that something is going to be mapped there.
    pub(super) fn widen(&mut self, range: IovaRange) {
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        let (first, end) = self.span.unwrap_or((start, last));
        self.span = Some((first.min(start), end.max(last)));
    }

    pub(super) fn begin(&mut self, range: IovaRange, prealloc: Prealloc) -> TableEdit<F> {
        let (prepared, unlinked_before) = (prealloc.0.len(), self.unlinked.len());
        TableEdit {
            prealloc: prealloc.0,
            change: Change::none(range),
            unlinked: core::mem::replace(&mut self.unlinked, Unlinked::NONE),
            prepared,
            unlinked_before,
            small: self.small,
            recent: self.recent,
        }
    }

    pub(super) fn end(&mut self, hal: &impl Hal, edit: TableEdit<F>) -> Change {
        let TableEdit { prealloc, change, unlinked, prepared, unlinked_before, small, recent } = edit;
        let taken_out = unlinked.len() - unlinked_before;
        self.unlinked = unlinked;
        self.small = small;
        self.frames += prepared - prealloc.len();
        self.frames -= taken_out;
        // It may be among those.
        self.recent = recent.filter(|_| taken_out == 0);
        Prealloc(prealloc).free(hal);
        self.settle(hal);
        change
    }
}
