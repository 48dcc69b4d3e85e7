#![forbid(unsafe_code)]

use heapless::Vec;

use super::edit::TableEdit;
use super::geometry::MAX_LEVELS;
use super::walk::{LinkedTable, Slot, Step};
use super::{Change, Format, PageTable, Prealloc};
use crate::addr::IovaRange;
use crate::hal::{Frame, Hal, WORDS};

/// A table of which a part is to be cleared: `start..=last`, which lies within it.
struct Clearing {
    frame: Frame,
    level: u8,
    start: u64,
    last: u64,
    /// How many of its ends were looked at: the first entry of the part, and the last one.
    ends: u8,
    /// Nothing else is mapped by the first entry, and by the last one.
    first_goes: bool,
    last_goes: bool,
}

impl Clearing {
    fn new(table: LinkedTable, start: u64, last: u64) -> Self {
        let LinkedTable { frame, level, .. } = table;
        Self { frame, level, start, last, ends: 0, first_goes: true, last_goes: true }
    }

    fn table(&self) -> LinkedTable {
        LinkedTable { frame: self.frame, level: self.level, fresh: false }
    }

    /// The next end to be looked at. The two may be one.
    fn next_end(&mut self) -> Option<Slot> {
        let (first, last) = self.table().end_slots(self.start, self.last);
        let is_one = first.index == last.index;
        let end = match self.ends {
            0 => first,
            1 if !is_one => last,
            _ => return None,
        };
        self.ends += 1;
        Some(end)
    }

    /// Notes whether the entry that was looked at goes: nothing else is mapped below it.
    fn note(&mut self, goes: bool) {
        if self.ends == 1 {
            self.first_goes = goes;
        }
        if self.ends == 2 || self.table().index(self.start) == self.table().index(self.last) {
            self.last_goes = goes;
        }
    }
}

impl<F: Format> PageTable<F> {
    /// Unmaps what is mapped in `range`, which is page aligned. A large page at its edge is split, so that the rest of it
    /// stays as it was. `prealloc` comes from [`prepare_edit`](Self::prepare_edit) for the same range, with no edit
    /// between, or is as much as `Geometry::tables_to_edit` says; what of it is not needed goes back. If it is too little,
    /// the large page goes whole.
    #[inline]
    pub fn unmap(&mut self, hal: &impl Hal, range: IovaRange, prealloc: Prealloc) -> Change {
        if let Some((table, index)) = self.recent(range)
            && prealloc.0.is_empty()
        {
            let present = |index| table.frame.load(hal, index) != 0;
            // With a neighbour the table does not become empty.
            if present(index) && (present(index + 1) || present(index + WORDS - 1)) {
                table.frame.store(hal, index, 0);
                self.stored(hal, table, index);
                return Change { was_present: true, ..Change::none(range) };
            }
        }
        self.unmap_from_top(hal, range, prealloc)
    }

    #[cold]
    fn unmap_from_top(&mut self, hal: &impl Hal, range: IovaRange, prealloc: Prealloc) -> Change {
        let mut edit = self.begin(range, prealloc);
        self.split_edges(hal, range, &mut edit);
        if let Some((start, last)) = self.geometry.part(range) {
            self.clear(hal, start, last, &mut edit);
        }
        self.end(hal, edit)
    }

    /// Clears the entries for `start..=last`, which is not nothing, from the top down. What is under way is on `path`, so that
    /// the stack does not grow with the levels.
    #[inline(never)]
    fn clear(&self, hal: &impl Hal, start: u64, last: u64, edit: &mut TableEdit<F>) {
        let mut path: Vec<Clearing, MAX_LEVELS> = Vec::new();
        let _ = path.push(Clearing::new(self.top(), start, last));
        while let Some(clearing) = path.last_mut() {
            // Only the first and the last entry may be covered in part.
            if let Some(slot) = clearing.next_end() {
                let level = clearing.level;
                match self.step(hal, clearing.table(), slot.index) {
                    Step::Table(next) => drop(path.push(Clearing::new(next, slot.start, slot.last))),
                    // It should have been split, for which there was no frame.
                    Step::Page { .. } if !slot.whole => edit.change.touch(slot.start, level),
                    _ => {}
                }
                continue;
            }
            let goes = self.is_left_empty(hal, clearing);
            if !goes {
                self.clear_table(hal, clearing, edit);
            }
            path.truncate(path.len() - 1);
            if let Some(above) = path.last_mut() {
                above.note(goes);
            }
        }
    }

    /// True if nothing else is mapped in a table. Then it stays as it is, as it is to be unlinked; but the top table stays.
    fn is_left_empty(&self, hal: &impl Hal, clearing: &Clearing) -> bool {
        let &Clearing { start, last, first_goes, last_goes, .. } = clearing;
        let table = clearing.table();
        let absent = |index| table.frame.load(hal, index) == 0;
        table.level < self.geometry.levels
            && first_goes
            && last_goes
            && LinkedTable::all_but(table.index(start), table.index(last), absent)
    }

    /// Clears the entries of one table, and unlinks the tables that they lead to.
    #[inline(never)]
    fn clear_table(&self, hal: &impl Hal, clearing: &Clearing, edit: &mut TableEdit<F>) {
        let &Clearing { start, last, first_goes, last_goes, .. } = clearing;
        let table = clearing.table();
        edit.came_to(table, start, self.geometry);
        let mut writer = self.writer(hal, table);
        for index in table.index(start) + usize::from(!first_goes)..table.index(last) + usize::from(last_goes) {
            match self.step(hal, table, index) {
                Step::Absent => continue,
                Step::Page { .. } => writer.store(index, 0),
                Step::Table(next) => {
                    writer.store(index, 0);
                    edit.change.tables = true;
                    let (start, last) = table.part_of(index, start, last);
                    self.unlink(hal, next, start, last, &mut edit.small, &mut edit.unlinked.unmapped);
                }
            }
            edit.change.was_present = true;
        }
    }
}
