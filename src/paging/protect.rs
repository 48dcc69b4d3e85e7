#![forbid(unsafe_code)]

use super::table::Edit;
use super::walk::{Step, Table};
use super::{Change, Format, PageTable, Prealloc};
use crate::addr::{IovaRange, Rights};
use crate::hal::Hal;

impl<F: Format> PageTable<F> {
    /// Gives what is mapped in `range` other rights, at least one. As for [`unmap`](Self::unmap), a large page at the edge
    /// is split, and `prealloc` comes from [`prepare_edit`](Self::prepare_edit); as for [`map`](Self::map), pages that come to
    /// be alike are joined.
    pub fn protect(&mut self, hal: &impl Hal, range: IovaRange, rights: Rights, prealloc: Prealloc) -> Change {
        let mut edit = self.begin_at_edges(hal, range, prealloc);
        if let Some((start, last)) = self.geometry.part(range) {
            self.set_rights(hal, self.top(), start, last, rights, &mut edit);
        }
        self.end(hal, edit)
    }

    /// Gives every page in `start..=last` these rights. The output and the size of a page stay, so one store will do (R32).
    fn set_rights(&self, hal: &impl Hal, table: Table, start: u64, last: u64, rights: Rights, edit: &mut Edit<F>) {
        edit.came_to(table, start, self.geometry);
        let mut writer = self.writer(hal, table);
        for slot in table.slots(start, last) {
            match self.step(hal, table, slot.index) {
                Step::Absent => {}
                Step::Table(next) => {
                    self.set_rights(hal, next, slot.start, slot.last, rights, edit);
                    self.join_table(hal, table, next, slot.last, edit);
                }
                Step::Page { rights: old, .. } if old == rights => {}
                Step::Page { output, .. } => {
                    writer.store(slot.index, self.format.page(output, rights, table.level));
                    edit.change.was_present = true;
                }
            }
        }
    }
}
