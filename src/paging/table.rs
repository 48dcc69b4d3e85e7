use super::format::{page_bytes, page_shift};
use super::unlinked::Unlinked;
use super::walk::{Step, Table};
use super::{Change, Format, Geometry};
use crate::addr::{Iova, IovaRange, PhysAddr};
use crate::hal::{Frame, FrameList, Hal, NoFrame};

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

/// A page table and all its frames, those among them that an edit took out of it and that hardware may still walk.
#[derive(Debug)]
#[must_use = "a table that is dropped keeps its frames"]
pub struct PageTable<F> {
    pub(super) format: F,
    pub(super) geometry: Geometry,
    /// The units that walk it snoop the CPU's caches.
    pub(super) coherent: bool,
    pub(super) root: Frame,
    /// How many frames the root leads to, itself among them.
    frames: usize,
    unlinked: Unlinked<F>,
    /// How many of the frames are tables of 4 KiB pages.
    small: usize,
    recent: Option<Recent>,
    /// All that was ever mapped lies in this range: nothing else need be looked at.
    span: Option<(u64, u64)>,
}

/// The table of 4 KiB pages that an edit came to last: the next edit, which is often beside it, need not walk there.
///
/// It has an entry that is present, as every table but the root has, and each of its pages can be mapped.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// The first address that it covers.
    start: u64,
    frame: Frame,
}

/// An edit under way: what it may take, and what it did.
pub(super) struct Edit<F> {
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

impl<F> Edit<F> {
    /// A table for a level, if there is a frame left. Nothing leads there yet.
    pub(super) fn fresh_table(&mut self, hal: &impl Hal, level: u8) -> Option<Table> {
        let frame = self.prealloc.pop(hal)?;
        self.small += usize::from(level == 1);
        Some(Table { frame, level, fresh: true })
    }

    /// Notes that the edit came to this table, which holds `at`.
    pub(super) fn came_to(&mut self, table: Table, at: u64, geometry: Geometry) {
        if table.level == 1 {
            let start = at & !(page_bytes(2) - 1);
            let range = IovaRange::new(Iova::new(start), page_bytes(2)).filter(|range| geometry.takes_input(*range));
            self.recent = range.map(|_| Recent { start, frame: table.frame });
        }
    }
}

impl<F: Format> PageTable<F> {
    /// An empty table: it blocks everything.
    ///
    /// # Errors
    ///
    /// There is no frame for it.
    pub fn new(hal: &impl Hal, format: F, geometry: Geometry, coherent: bool) -> Result<Self, NoFrame> {
        let root = Frame::allocate(hal, geometry.output_bits)?;
        let unlinked = Unlinked::NONE;
        let table = Self { format, geometry, coherent, root, frames: 1, unlinked, small: 0, recent: None, span: None };
        table.finish(hal, table.top());
        table.settle(hal);
        Ok(table)
    }

    /// Physical address of the top table.
    pub fn root(&self) -> PhysAddr {
        self.root.base()
    }

    /// Its levels.
    pub fn levels(&self) -> u8 {
        self.geometry.levels
    }

    /// Frames that the root leads to, its own among them.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Frames that nothing leads to any more, and that are not [given back](Self::free_unlinked) yet.
    pub fn unlinked(&self) -> usize {
        self.unlinked.len()
    }

    /// The table that was come to last, and the index of the entry for `range`, if that is one page of it.
    #[inline]
    pub(super) fn recent(&self, range: IovaRange) -> Option<(Table, usize)> {
        /// Where a page can begin in a table.
        const STARTS: u64 = page_bytes(2) - page_bytes(1);
        let recent = self.recent?;
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        let offset = start.wrapping_sub(recent.start);
        if offset & !STARTS != 0 || last - start != page_bytes(1) - 1 {
            return None;
        }
        Some((Table { frame: recent.frame, level: 1, fresh: false }, (offset >> page_shift(1)) as usize))
    }

    /// Notes that something is going to be mapped there.
    pub(super) fn widen(&mut self, range: IovaRange) {
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        let (first, end) = self.span.unwrap_or((start, last));
        self.span = Some((first.min(start), end.max(last)));
    }

    pub(super) fn begin(&mut self, range: IovaRange, prealloc: Prealloc) -> Edit<F> {
        let (prepared, unlinked_before) = (prealloc.0.len(), self.unlinked.len());
        Edit {
            prealloc: prealloc.0,
            change: Change::none(range),
            unlinked: core::mem::replace(&mut self.unlinked, Unlinked::NONE),
            prepared,
            unlinked_before,
            small: self.small,
            recent: self.recent,
        }
    }

    pub(super) fn end(&mut self, hal: &impl Hal, edit: Edit<F>) -> Change {
        let Edit { prealloc, change, unlinked, prepared, unlinked_before, small, recent } = edit;
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

    /// Puts a table that nothing leads to any more on the list, and all tables below it; nothing is mapped there but in
    /// `start..=last`. They stay as they are: hardware may walk them until it is told.
    ///
    /// That takes time for each table, and not for each page: once no table of 4 KiB pages is left, tables at level 2 are
    /// not looked through.
    pub(super) fn unlink(
        &self,
        hal: &impl Hal,
        table: Table,
        start: u64,
        last: u64,
        small: &mut usize,
        frames: &mut FrameList,
    ) {
        if table.level > 1 {
            for index in table.index(start)..table.index(last) + 1 {
                if table.level == 2 && *small == 0 {
                    break;
                }
                if let Step::Table(next) = self.step(hal, table, index) {
                    let (start, last) = table.part_of(index, start, last);
                    self.unlink(hal, next, start, last, small, frames);
                }
            }
        }
        *small = small.saturating_sub(usize::from(table.level == 1));
        frames.push(hal, table.frame);
    }

    /// Gives back to the platform the frames that edits took out of the table. What of them is never given back goes with
    /// the table ([`into_frames`](Self::into_frames)).
    ///
    /// # Safety
    ///
    /// Each unit that could walk the table has completed the invalidations that all edits so far asked for.
    #[inline]
    pub unsafe fn free_unlinked(&mut self, hal: &impl Hal) {
        if self.unlinked.len() > 0 {
            let unlinked = core::mem::replace(&mut self.unlinked, Unlinked::NONE);
            // SAFETY: the caller says that no unit reaches these tables any more.
            unsafe { unlinked.free(hal) };
        }
    }

    /// Empties the table and gives all its frames, for the platform once hardware does not walk it any more.
    pub fn into_frames(self, hal: &impl Hal) -> FrameList {
        let (mut all, mut small) = (FrameList::new(), self.small);
        let (start, last) = self.span.unwrap_or_default();
        self.unlink(hal, self.top(), start, last, &mut small, &mut all);
        self.unlinked.move_to(hal, &mut all);
        all
    }
}
