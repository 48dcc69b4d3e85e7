#![forbid(unsafe_code)]

use super::table::Edit;
use super::walk::{Slot, Step, Table};
use super::{Change, Format, PageTable, Prealloc};
use crate::addr::IovaRange;
use crate::hal::{Hal, WORDS};

impl<F: Format> PageTable<F> {
    /// Unmaps what is mapped in `range`, which is page aligned. A large page at its edge is split, so that the rest of it
    /// stays as it was. `prealloc` comes from [`prepare_edit`](Self::prepare_edit) for the same range, with no edit between, or
    /// is as much as `Geometry::tables_to_edit` says; what of it is not needed goes back. If it is too little, the large page goes
    /// whole.
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
        let mut edit = self.begin_at_edges(hal, range, prealloc);
        if let Some((start, last)) = self.geometry.part(range) {
            self.clear(hal, self.top(), start, last, &mut edit);
        }
        self.end(hal, edit)
    }

    /// Clears the entries for `start..=last`, which lies within the table; tells if nothing else is mapped there. Then it
    /// has left everything as it is, as the table is to be unlinked; but the top table stays.
    fn clear(&self, hal: &impl Hal, table: Table, start: u64, last: u64, edit: &mut Edit<F>) -> bool {
        // Only the first and the last entry may be covered in part.
        let mut goes = |slot: &Slot| match self.step(hal, table, slot.index) {
            Step::Table(next) => self.clear(hal, next, slot.start, slot.last, edit),
            Step::Page { .. } if !slot.whole => {
                // It should have been split, for which there was no frame.
                edit.change.touch(slot.start, table.level);
                true
            }
            _ => true,
        };
        let (first_slot, last_slot) = table.end_slots(start, last);
        let first_goes = goes(&first_slot);
        let last_goes = if last_slot.index == first_slot.index { first_goes } else { goes(&last_slot) };
        let absent = |index| table.frame.load(hal, index) == 0;
        if table.level < self.geometry.levels
            && first_goes
            && last_goes
            && Table::all_but(first_slot.index, last_slot.index, absent)
        {
            return true;
        }
        edit.came_to(table, start, self.geometry);
        let mut writer = self.writer(hal, table);
        for index in first_slot.index + usize::from(!first_goes)..last_slot.index + usize::from(last_goes) {
            let step = self.step(hal, table, index);
            if let Step::Absent = step {
                continue;
            }
            writer.store(index, 0);
            edit.change.was_present = true;
            if let Step::Table(next) = step {
                edit.change.tables = true;
                let (start, last) = table.part_of(index, start, last);
                self.unlink(hal, next, start, last, &mut edit.small, &mut edit.unlinked.unmapped);
            }
        }
        false
    }
}
