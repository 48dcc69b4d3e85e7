#![forbid(unsafe_code)]

use super::edit::TableEdit;
use super::walk::{LinkedTable, Step};
use super::{Change, Format, PageTable, Prealloc};
use crate::addr::{IovaRange, Rights};
use crate::hal::Hal;

impl<F: Format> PageTable<F> {
    /// Gives what is mapped in `range` other rights, at least one. As for [`unmap`](Self::unmap), a large page at the edge
    /// is split, and `prealloc` comes from [`prepare_edit`](Self::prepare_edit); as for [`map`](Self::map), pages that come to
    /// be alike are joined.
    pub fn protect(&mut self, hal: &impl Hal, range: IovaRange, rights: Rights, prealloc: Prealloc) -> Change {
        let mut edit = self.begin(range, prealloc);
        self.split_edges(hal, range, &mut edit);
        if let Some((start, last)) = self.geometry.part(range) {
            self.set_rights(hal, start, last, rights, &mut edit);
        }
        self.end(hal, edit)
    }

    /// Gives every page in `start..=last` these rights. The output and the size of a page stay, so one store will do (R32).
    fn set_rights(&self, hal: &impl Hal, start: u64, last: u64, rights: Rights, edit: &mut TableEdit<F>) {
        let (mut table, mut start) = (self.top(), start);
        loop {
            edit.came_to(table, start, self.geometry);
            match self.set_rights_in(hal, table, start, last, rights, edit) {
                Next::Table(next, at) => (table, start) = (next, at),
                Next::After(end) => {
                    self.join(hal, end, edit);
                    if end == last {
                        return;
                    }
                    (table, start) = (self.top(), end + 1);
                }
            }
        }
    }

    /// The same in one table, from `start` to where an entry leads to another table, or up to its end.
    fn set_rights_in(
        &self,
        hal: &impl Hal,
        table: LinkedTable,
        start: u64,
        last: u64,
        rights: Rights,
        edit: &mut TableEdit<F>,
    ) -> Next {
        let mut writer = self.writer(hal, table);
        let mut end = last;
        for slot in table.slots(start, table.last_of(start).min(last)) {
            match self.step(hal, table, slot.index) {
                Step::Absent => {}
                Step::Table(next) => return Next::Table(next, slot.start),
                Step::Page { rights: old, .. } if old == rights => {}
                Step::Page { output, .. } => {
                    writer.store(slot.index, self.format.page(output, rights, table.level));
                    edit.change.was_present = true;
                }
            }
            end = slot.last;
        }
        Next::After(end)
    }
}

/// Where there may be more pages.
enum Next {
    /// In this table, from here on.
    Table(LinkedTable, u64),
    /// Behind this one.
    After(u64),
}
