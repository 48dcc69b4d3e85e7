use super::format::{is_page_start, page_shift};
use super::{Change, Entry, Format, MapError, Shape, check, page_bytes};
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::hal::{FrameList, Frames, Hal, OutOfFrames, WORDS};

/// Frames that an edit is going to need, got before anything is changed.
#[derive(Debug)]
#[must_use = "the frames are lost unless an edit takes them"]
pub struct Spare(FrameList);

impl Spare {
    /// None.
    pub(crate) const fn none() -> Self {
        Self(FrameList::new())
    }

    /// This many, or nothing.
    pub(crate) fn allocate(hal: &impl Hal, count: usize) -> Result<Self, OutOfFrames> {
        FrameList::allocate(hal, count).map(Self)
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

/// A page table and all its frames.
#[derive(Debug)]
#[must_use = "a table that is dropped keeps its frames"]
pub struct PageTable<F> {
    format: F,
    shape: Shape,
    /// The units that walk it snoop the CPU's caches.
    coherent: bool,
    root: Frames,
    frames: usize,
}

/// Part of an input range that one entry covers.
struct Slot {
    index: usize,
    start: u64,
    last: u64,
    /// The entry covers nothing else.
    whole: bool,
}

/// Index of the entry that covers `at`, in its table at `level`.
fn index(at: u64, level: u8) -> usize {
    (at >> page_shift(level)) as usize % WORDS
}

/// The entries of a table at `level` that `start..=last` touches. `start` and `last` lie within that table.
fn slots(level: u8, start: u64, last: u64) -> impl Iterator<Item = Slot> {
    let shift = page_shift(level);
    (start >> shift..=last >> shift).map(move |page| {
        let slot_start = page << shift;
        let slot_last = slot_start | (page_bytes(level) - 1);
        Slot {
            index: page as usize % WORDS,
            start: start.max(slot_start),
            last: last.min(slot_last),
            whole: start <= slot_start && slot_last <= last,
        }
    })
}

impl<F: Format> PageTable<F> {
    /// An empty table: it blocks everything.
    ///
    /// # Errors
    ///
    /// There is no frame for it.
    pub fn new(hal: &impl Hal, format: F, shape: Shape, coherent: bool) -> Result<Self, OutOfFrames> {
        let root = Frames::allocate(hal, 0)?;
        let table = Self { format, shape, coherent, root, frames: 1 };
        table.publish(hal, &table.root);
        Ok(table)
    }

    /// Physical address of the top table.
    pub fn root(&self) -> PhysAddr {
        self.root.base()
    }

    /// Frames in use.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Gets the frames that mapping `region` needs. Changes nothing.
    ///
    /// # Errors
    ///
    /// The region cannot be mapped, or there are not enough frames.
    pub fn prepare_map(&self, hal: &impl Hal, region: Region) -> Result<Spare, MapError> {
        check(region)?;
        self.shape.check(region)?;
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        let needed = self.survey(hal, &self.root, self.shape.levels, start, last, region.output.as_u64())?;
        Ok(Spare(FrameList::allocate(hal, needed)?))
    }

    /// How many tables are missing below this one for a region, all of whose input range must be absent.
    fn survey(
        &self,
        hal: &impl Hal,
        table: &Frames,
        level: u8,
        start: u64,
        last: u64,
        output: u64,
    ) -> Result<usize, MapError> {
        let mut needed = 0;
        for slot in slots(level, start, last) {
            let slot_output = output + (slot.start - start);
            match self.format.decode(table.load(hal, slot.index), level) {
                Entry::Page { .. } => return Err(MapError::Occupied(Iova::new(slot.start))),
                Entry::Table(next) => {
                    // SAFETY: an entry of ours leads to a table of ours.
                    let next = unsafe { Frames::at(hal, next) };
                    needed += self.survey(hal, &next, level - 1, slot.start, slot.last, slot_output)?;
                }
                Entry::Absent => needed += self.missing(level, &slot, slot_output),
            }
        }
        Ok(needed)
    }

    /// How many tables a region needs below an absent entry.
    fn missing(&self, level: u8, slot: &Slot, output: u64) -> usize {
        if self.fits_page(level, slot, output) {
            return 0;
        }
        if level == 2 {
            return 1;
        }
        let below = slots(level - 1, slot.start, slot.last)
            .map(|child| {
                let output = output + (child.start - slot.start);
                self.missing(level - 1, &child, output)
            })
            .sum::<usize>();
        1 + below
    }

    /// True if one page is to stand for the whole entry.
    fn fits_page(&self, level: u8, slot: &Slot, output: u64) -> bool {
        slot.whole && level <= self.shape.largest_page && is_page_start(output, level)
    }

    /// Maps `region` with the largest pages that its alignment permits, also together with what was mapped beside it
    /// before. `spare` comes from
    /// [`prepare_map`](Self::prepare_map) for the same region, with no edit between.
    pub fn map(&mut self, hal: &impl Hal, region: Region, mut spare: Spare) -> Change {
        let mut change = Change::none(region.input);
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        let before = spare.0.len();
        self.fill(hal, &self.root, self.shape.levels, start, last, region, &mut spare, &mut change);
        self.written(hal, &self.root, self.shape.levels, start, last);
        self.frames += before - spare.0.len();
        self.frames -= change.freed.len();
        spare.free(hal);
        self.settle(hal);
        change
    }

    /// Fills what of the table belongs to `region`; writes nothing back but fresh tables.
    #[expect(clippy::too_many_arguments, reason = "a walk carries where it is, what it does, and what it did")]
    fn fill(
        &self,
        hal: &impl Hal,
        table: &Frames,
        level: u8,
        start: u64,
        last: u64,
        region: Region,
        spare: &mut Spare,
        change: &mut Change,
    ) {
        let mut slots = slots(level, start, last);
        while let Some(slot) = slots.next() {
            let output = region.output.as_u64() + (slot.start - region.input.start().as_u64());
            if self.fits_page(level, &slot, output) {
                // What follows fits as well, up to the last entry that is covered whole.
                let count = ((last - slot.start).wrapping_add(1) >> page_shift(level)) as usize;
                for part in 0..count {
                    let output = output + ((part as u64) << page_shift(level));
                    table.store(hal, slot.index + part, self.format.page(output, region.rights, level));
                }
                if count > 1 {
                    slots.nth(count - 2);
                }
                continue;
            }
            if let Entry::Table(next) = self.format.decode(table.load(hal, slot.index), level) {
                // SAFETY: an entry of ours leads to a table of ours.
                let next = unsafe { Frames::at(hal, next) };
                self.fill(hal, &next, level - 1, slot.start, slot.last, region, spare, change);
                self.written(hal, &next, level - 1, slot.start, slot.last);
                self.join(hal, table, &slot, next, level, change);
            } else if let Some(fresh) = spare.0.pop(hal) {
                self.fill(hal, &fresh, level - 1, slot.start, slot.last, region, spare, change);
                self.link(hal, table, slot.index, &fresh);
                change.tables = true;
            }
        }
    }

    /// Gets the frames that unmapping `range` or changing its rights needs, where it begins or ends inside a large page.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// There are not enough frames.
    pub fn prepare_edit(&self, hal: &impl Hal, range: IovaRange) -> Result<Spare, OutOfFrames> {
        let needed = edges(range).map(|edge| self.tables_to_split(hal, edge)).sum();
        Ok(Spare(FrameList::allocate(hal, needed)?))
    }

    /// Unmaps what is mapped in `range`, which is page aligned. A large page at its edge is split, so that the rest of it
    /// stays as it was. `spare` comes from [`prepare_edit`](Self::prepare_edit) for the same range, with no edit
    /// between.
    pub fn unmap(&mut self, hal: &impl Hal, range: IovaRange, spare: Spare) -> Change {
        let mut change = self.split_edges(hal, range, spare);
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        self.clear(hal, &self.root, self.shape.levels, start, last, &mut change);
        self.frames -= change.freed.len();
        self.settle(hal);
        change
    }

    /// Gives what is mapped in `range` other rights, at least one. As for [`unmap`](Self::unmap), a large page at the edge
    /// is split, and `spare` comes from [`prepare_edit`](Self::prepare_edit); as for [`map`](Self::map), pages that come to
    /// be alike are joined.
    pub fn protect(&mut self, hal: &impl Hal, range: IovaRange, rights: Rights, spare: Spare) -> Change {
        let mut change = self.split_edges(hal, range, spare);
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        self.set_rights(hal, &self.root, self.shape.levels, start, last, rights, &mut change);
        self.frames -= change.freed.len();
        self.settle(hal);
        change
    }

    fn split_edges(&mut self, hal: &impl Hal, range: IovaRange, mut spare: Spare) -> Change {
        let mut change = Change::none(range);
        let before = spare.0.len();
        for edge in edges(range) {
            self.split(hal, edge, &mut spare, &mut change);
        }
        if change.tables {
            // Hardware must see pages change only after it could see them smaller (R32).
            self.settle(hal);
        }
        self.frames += before - spare.0.len();
        spare.free(hal);
        change
    }

    /// Tables needed so that no page spans `edge`.
    fn tables_to_split(&self, hal: &impl Hal, edge: u64) -> usize {
        let page_level = self.page_over(hal, edge);
        (1..page_level).rev().take_while(|&level| !is_page_start(edge, level + 1)).count()
    }

    /// Level of the page that holds `at`; 0 if there is none.
    fn page_over(&self, hal: &impl Hal, at: u64) -> u8 {
        self.walk(hal, at).map_or(0, |(level, _)| level)
    }

    /// The page that holds `at`: the level of its entry, and the entry.
    pub(super) fn walk(&self, hal: &impl Hal, at: u64) -> Option<(u8, Entry)> {
        // SAFETY: the root is a table of ours.
        let mut table = unsafe { Frames::at(hal, self.root.base()) };
        for level in (1..=self.shape.levels).rev() {
            let index = index(at, level);
            match self.format.decode(table.load(hal, index), level) {
                Entry::Absent => return None,
                // SAFETY: an entry of ours leads to a table of ours.
                Entry::Table(next) => table = unsafe { Frames::at(hal, next) },
                page @ Entry::Page { .. } => return Some((level, page)),
            }
        }
        None
    }

    /// Splits pages until none spans `edge`. Each is replaced by a table that translates alike, with one store, so
    /// requests under way find the same page before and after (R32: only the size changes).
    fn split(&self, hal: &impl Hal, edge: u64, spare: &mut Spare, change: &mut Change) {
        // SAFETY: the root is a table of ours.
        let mut table = unsafe { Frames::at(hal, self.root.base()) };
        for level in (2..=self.shape.levels).rev() {
            if is_page_start(edge, level) {
                return;
            }
            let index = index(edge, level);
            match self.format.decode(table.load(hal, index), level) {
                Entry::Absent => return,
                // SAFETY: an entry of ours leads to a table of ours.
                Entry::Table(next) => table = unsafe { Frames::at(hal, next) },
                Entry::Page { output, rights } => {
                    let Some(fresh) = spare.0.pop(hal) else { return };
                    for part in 0..WORDS {
                        let output = output + ((part as u64) << page_shift(level - 1));
                        fresh.store(hal, part, self.format.page(output, rights, level - 1));
                    }
                    self.link(hal, &table, index, &fresh);
                    self.written(hal, &table, level, edge, edge);
                    change.touch(edge, level);
                    table = fresh;
                }
            }
        }
    }

    /// Clears every entry in the range; false if there was none to clear. A table that is covered whole, or that is empty
    /// afterwards, is unlinked.
    fn clear(&self, hal: &impl Hal, table: &Frames, level: u8, start: u64, last: u64, change: &mut Change) -> bool {
        let mut cleared = false;
        for slot in slots(level, start, last) {
            match self.format.decode(table.load(hal, slot.index), level) {
                Entry::Absent => continue,
                Entry::Page { .. } => change.was_present = true,
                Entry::Table(next) => {
                    // SAFETY: an entry of ours leads to a table of ours.
                    let next = unsafe { Frames::at(hal, next) };
                    if !slot.whole {
                        let changed = self.clear(hal, &next, level - 1, slot.start, slot.last, change);
                        // What follows the cleared part is looked at first: an ascending unmap finds it present.
                        let behind = index(slot.last, level - 1) + 1;
                        if !changed || (behind..behind + WORDS).any(|index| next.load(hal, index) != 0) {
                            continue;
                        }
                    }
                    (change.was_present, change.tables) = (true, true);
                    self.unlink(hal, next, level - 1, &mut change.freed);
                }
            }
            table.store(hal, slot.index, 0);
            cleared = true;
        }
        if cleared {
            self.written(hal, table, level, start, last);
        }
        cleared
    }

    /// Gives every page in the range these rights. The output and the size of a page stay, so one store will do (R32).
    #[expect(clippy::too_many_arguments, reason = "a walk carries where it is, what it does, and what it did")]
    fn set_rights(
        &self,
        hal: &impl Hal,
        table: &Frames,
        level: u8,
        start: u64,
        last: u64,
        rights: Rights,
        change: &mut Change,
    ) {
        for slot in slots(level, start, last) {
            match self.format.decode(table.load(hal, slot.index), level) {
                Entry::Absent => {}
                Entry::Page { output, .. } => {
                    table.store(hal, slot.index, self.format.page(output, rights, level));
                    change.was_present = true;
                }
                Entry::Table(next) => {
                    // SAFETY: an entry of ours leads to a table of ours.
                    let next = unsafe { Frames::at(hal, next) };
                    self.set_rights(hal, &next, level - 1, slot.start, slot.last, rights, change);
                    self.join(hal, table, &slot, next, level, change);
                }
            }
        }
        self.written(hal, table, level, start, last);
    }

    /// Puts one page in the place of a table, to which an entry at `level` leads, if it translates alike: the opposite of a
    /// split, again with one store (R32: only the size changes).
    fn join(&self, hal: &impl Hal, table: &Frames, slot: &Slot, below: Frames, level: u8, change: &mut Change) {
        if level > self.shape.largest_page {
            return;
        }
        let entry = |part| self.format.decode(below.load(hal, part), level - 1);
        let Entry::Page { output, rights } = entry(0) else { return };
        let continues = |part: usize| {
            let output = output + ((part as u64) << page_shift(level - 1));
            entry(part) == Entry::Page { output, rights }
        };
        // From the end: a table that is being filled lacks its last page longest.
        if !is_page_start(output, level) || !(1..WORDS).rev().all(continues) {
            return;
        }
        table.store(hal, slot.index, self.format.page(output, rights, level));
        change.touch(slot.start, level);
        change.freed.push(hal, below);
    }

    /// Puts a table at `level` and all below it on the list.
    fn unlink(&self, hal: &impl Hal, table: Frames, level: u8, freed: &mut FrameList) {
        if level > 1 {
            for index in 0..WORDS {
                if let Entry::Table(next) = self.format.decode(table.load(hal, index), level) {
                    // SAFETY: an entry of ours leads to a table of ours.
                    self.unlink(hal, unsafe { Frames::at(hal, next) }, level - 1, freed);
                }
            }
        }
        freed.push(hal, table);
    }

    /// Stores the entry that leads to `fresh`, whose content hardware can see by then.
    fn link(&self, hal: &impl Hal, table: &Frames, index: usize, fresh: &Frames) {
        self.publish(hal, fresh);
        table.store(hal, index, self.format.table(fresh.base()));
    }

    /// Makes a whole fresh table visible to hardware before anything refers to it (R37).
    fn publish(&self, hal: &impl Hal, fresh: &Frames) {
        if !self.coherent {
            fresh.write_back(hal, 0, WORDS);
            hal.fence();
        }
    }

    /// Ends an edit: what was written back is in memory before hardware is told of anything.
    fn settle(&self, hal: &impl Hal) {
        if !self.coherent {
            hal.fence();
        }
    }

    /// Writes the entries for `start..=last` back, where hardware does not snoop; [`settle`](Self::settle) follows.
    fn written(&self, hal: &impl Hal, table: &Frames, level: u8, start: u64, last: u64) {
        if !self.coherent {
            let count = ((last >> page_shift(level)) - (start >> page_shift(level))) as usize + 1;
            table.write_back(hal, index(start, level), count);
        }
    }

    /// Empties the table and gives all its frames, for the platform once hardware does not walk it any more.
    pub fn into_frames(self, hal: &impl Hal) -> FrameList {
        let mut all = FrameList::new();
        let levels = self.shape.levels;
        // SAFETY: the root is a table of ours; `self` is not used after this.
        let root = unsafe { Frames::at(hal, self.root.base()) };
        self.unlink(hal, root, levels, &mut all);
        all
    }
}

/// Where a range begins and where what follows it begins; the end of the address space needs no edge.
fn edges(range: IovaRange) -> impl Iterator<Item = u64> {
    [Some(range.start().as_u64()), range.last().as_u64().checked_add(1)].into_iter().flatten()
}
