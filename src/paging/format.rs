#![forbid(unsafe_code)]

use crate::addr::{PAGE_BYTES, PhysAddr, Region, Rights};

/// What one entry of a table at `level` covers, as a power of two: 4 KiB at level 1, 512 times more at each level above.
pub(super) const fn page_shift(level: u8) -> u32 {
    PAGE_BYTES.trailing_zeros() + 9 * (level.saturating_sub(1) as u32)
}

/// The same in bytes.
pub(crate) const fn page_bytes(level: u8) -> u64 {
    1 << page_shift(level)
}

/// True if an entry at `level` can begin at `address`.
pub(super) const fn is_page_start(address: u64, level: u8) -> bool {
    address & (page_bytes(level) - 1) == 0
}

/// The size of a table and what may be in it: fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Levels of tables, 3 to 5.
    pub levels: u8,
    /// The highest level at which an entry may map a page: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub largest_page: u8,
    /// Width of an input address.
    pub input_bits: u8,
    /// Width of an output address, and of that of a table.
    pub output_bits: u8,
}

impl Shape {
    /// True if a page above level 1 may hold a part of `region`, together with what is mapped beside it.
    #[inline]
    pub(super) fn joins(self, region: &Region) -> bool {
        self.largest_page > 1 && is_page_start(region.input.start().as_u64() ^ region.output.as_u64(), 2)
    }

    /// The highest level whose pages `region` can be made of, as far as its two sides are aligned alike.
    #[inline]
    pub(super) fn page_level(self, region: &Region) -> u8 {
        let apart = region.input.start().as_u64() ^ region.output.as_u64();
        let mut level = 1;
        while level < self.largest_page && is_page_start(apart, level + 1) {
            level += 1;
        }
        level
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing: a request for it is blocked.
    Absent,
    /// Go on in this table.
    Table(PhysAddr),
    /// A page.
    Page {
        /// Where it begins.
        output: u64,
        /// What may be done with it.
        rights: Rights,
    },
}

/// How the entries of one kind of page table are coded.
///
/// A word of zero is absent in each. The output is part of the word as it is, so the words for pages that follow each other
/// are one page size apart.
pub trait Format: Copy {
    /// The entry at `level` that maps a page at `output`, aligned to that level's page size.
    fn page(&self, output: u64, rights: Rights, level: u8) -> u64;
    /// The entry that leads to the table at `next`.
    fn table(&self, next: PhysAddr) -> u64;
    /// What the entry `word` at `level` says: never a table at level 1.
    fn decode(&self, word: u64, level: u8) -> Entry;
}
