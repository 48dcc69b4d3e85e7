//! Tables that leave: out of the page table, and back to the platform.

use heapless::Vec;

use super::geometry::MAX_LEVELS;
use super::unlinked::Unlinked;
use super::walk::{LinkedTable, Step};
use super::{Format, PageTable};
use crate::hal::{Frame, FrameList, Hal};

/// A table that is being unlinked. Something is mapped there in `start..=last` at most.
struct Unlinking {
    frame: Frame,
    start: u64,
    last: u64,
    level: u8,
    /// Entries from here on, up to `end`, are still to be followed.
    next: u16,
    end: u16,
}

impl Unlinking {
    fn new(table: LinkedTable, start: u64, last: u64) -> Self {
        let LinkedTable { frame, level, .. } = table;
        let (next, end) = (table.index(start) as u16, table.index(last) as u16 + 1);
        Self { frame, start, last, level, next, end }
    }
}

impl<F: Format> PageTable<F> {
    /// Puts a table that nothing leads to any more on the list, and all tables below it; nothing is mapped there but in
    /// `start..=last`. They stay as they are: hardware may walk them until caches are invalidated.
    ///
    /// That takes time for each table, and not for each page: once no table of 4 KiB pages is left, tables at level 2 are
    /// not looked through. What is under way is on `path`, so that the stack does not grow with the levels.
    pub(super) fn unlink(
        &self,
        hal: &impl Hal,
        table: LinkedTable,
        start: u64,
        last: u64,
        small: &mut usize,
        frames: &mut FrameList,
    ) {
        if !leads_on(table, *small) {
            return take(hal, table, small, frames);
        }
        // None at level 1 is on it.
        let mut path: Vec<Unlinking, { MAX_LEVELS - 1 }> = Vec::new();
        let _ = path.push(Unlinking::new(table, start, last));
        while let Some(unlinking) = path.last_mut() {
            let table = LinkedTable { frame: unlinking.frame, level: unlinking.level, fresh: false };
            let index = usize::from(unlinking.next);
            if unlinking.next == unlinking.end || !leads_on(table, *small) {
                take(hal, table, small, frames);
                path.pop();
                continue;
            }
            unlinking.next += 1;
            if let Step::Table(below) = self.step(hal, table, index) {
                if leads_on(below, *small) {
                    let (start, last) = table.part_of(index, unlinking.start, unlinking.last);
                    let _ = path.push(Unlinking::new(below, start, last));
                } else {
                    take(hal, below, small, frames);
                }
            }
        }
    }

    /// Gives back to the platform the frames that edits took out of the table. What of them is never given back goes with
    /// the table ([`into_frames`](Self::into_frames)).
    ///
    /// # Safety
    ///
    /// Each unit that could walk the table has completed the invalidations that all edits so far need.
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

/// True if there may be tables below this one: none is below level 2 any more when no table of 4 KiB pages is left.
fn leads_on(table: LinkedTable, small: usize) -> bool {
    table.level > 2 || table.level == 2 && small != 0
}

/// Puts a table on the list below which all are.
fn take(hal: &impl Hal, table: LinkedTable, small: &mut usize, frames: &mut FrameList) {
    *small = small.saturating_sub(usize::from(table.level == 1));
    frames.push(hal, table.frame);
}
