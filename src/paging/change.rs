#![forbid(unsafe_code)]

use super::page_bytes;
use crate::addr::{Iova, IovaRange};

/// What an edit of a page table did, as far as caches of it are concerned.
#[derive(Debug)]
#[must_use = "hardware may have cached what was changed"]
pub struct Change {
    /// The smallest range that holds every input address whose entries changed.
    pub range: IovaRange,
    /// An entry that changed was present before.
    pub was_present: bool,
    /// An entry that refers to another table changed. Unless it is so, the edit took no table out.
    pub tables: bool,
}

impl Change {
    /// Nothing changed yet within `range`.
    pub(crate) const fn none(range: IovaRange) -> Self {
        Self { range, was_present: false, tables: false }
    }

    /// Notes that the entry for `at` at this level was present and led, or now leads, to a table.
    pub(super) fn touch(&mut self, at: u64, level: u8) {
        let bytes = page_bytes(level);
        if let Some(page) = IovaRange::new(Iova::new(at & !(bytes - 1)), bytes) {
            self.range = self.range.hull(page);
        }
        (self.was_present, self.tables) = (true, true);
    }
}
