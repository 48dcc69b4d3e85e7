use super::page_bytes;
use crate::addr::{Iova, IovaRange};
use crate::hal::{FrameList, Hal};

/// What an edit of a page table did, as far as caches of it are concerned.
#[derive(Debug)]
#[must_use = "hardware may have cached what was changed, and frames are waiting to be freed"]
pub struct Change {
    /// The smallest range that holds every input address whose entries changed.
    pub range: IovaRange,
    /// An entry that changed was present before.
    pub was_present: bool,
    /// An entry that refers to another table changed.
    pub tables: bool,
    /// Tables that nothing refers to any more. Hardware may still walk them until its caches are flushed.
    pub freed: FrameList,
}

impl Change {
    /// Nothing changed yet within `range`.
    pub(crate) const fn none(range: IovaRange) -> Self {
        Self { range, was_present: false, tables: false, freed: FrameList::new() }
    }

    /// Notes that the entry for `at` at this level was present and led, or now leads, to a table.
    pub(super) fn touch(&mut self, at: u64, level: u8) {
        let bytes = page_bytes(level);
        if let Some(page) = IovaRange::new(Iova::new(at & !(bytes - 1)), bytes) {
            self.range = self.range.hull(page);
        }
        (self.was_present, self.tables) = (true, true);
    }

    /// Gives the freed tables back to the platform.
    ///
    /// # Safety
    ///
    /// Every unit that could walk the table has completed the invalidations that this change asks for.
    #[inline]
    pub unsafe fn free(self, hal: &impl Hal) {
        // SAFETY: the caller says that no unit reaches these tables any more.
        unsafe { self.freed.free(hal) }
    }
}
