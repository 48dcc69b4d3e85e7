#![forbid(unsafe_code)]

use crate::addr::{PAGE_BYTES, PhysAddr, Rights};

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
/// In each format, a word whose low 12 bits are zero is absent, whatever the others are: zero itself, and the address of a
/// frame, by which tables that nothing leads to any more are linked. The output is part of the word as it is, so the words
/// for pages that follow each other are one page size apart.
pub trait Format: Copy {
    /// The bits that hardware ignores in an entry that is present, whether it maps a page or leads to a table; at least one.
    /// [`page`](Self::page) and [`table`](Self::table) leave them zero, and [`decode`](Self::decode) ignores them as well.
    const IGNORED: u64;

    /// The entry at `level` that maps a page at `output`, aligned to that level's page size.
    fn page(&self, output: u64, rights: Rights, level: u8) -> u64;
    /// The entry that leads to the table at `next`, whose own level is `level`.
    fn table(&self, next: PhysAddr, level: u8) -> u64;
    /// What the entry `word` at `level` says: never a table at level 1.
    fn decode(&self, word: u64, level: u8) -> Entry;
}
