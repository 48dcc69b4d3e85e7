//! What every contender can do, in the words of this crate.

/// A page table, empty when it is made; its frames go back to the pool when it is dropped.
///
/// Addresses and lengths are multiples of 4 KiB. Nothing of what is mapped is mapped already.
pub trait Tables {
    /// Makes an empty table.
    fn new() -> Self;
    /// Physical address of the top table, of four levels.
    fn root(&self) -> u64;
    /// Maps one page of 4 KiB.
    fn map_page(&mut self, input: u64, output: u64);
    /// Unmaps one page of 4 KiB.
    fn unmap_page(&mut self, input: u64);
    /// Maps a range with the largest pages that its alignment permits.
    fn map(&mut self, input: u64, output: u64, bytes: u64);
    /// Unmaps a range that was mapped so, and gives back the tables that are empty then, where the contender can.
    fn unmap(&mut self, input: u64, output: u64, bytes: u64);
}

/// The size of the largest page that fits a range from here on.
pub fn page_size(input: u64, output: u64, bytes: u64) -> u64 {
    let fits = |page: &u64| (input | output).is_multiple_of(*page) && *page <= bytes;
    [1 << 30, 2 << 20].into_iter().find(fits).unwrap_or(4096)
}

/// Calls `each` with the start and the size of each page of a range.
#[inline]
pub fn each_page(mut input: u64, mut output: u64, bytes: u64, mut each: impl FnMut(u64, u64, u64)) {
    let end = input + bytes;
    while input < end {
        let page = page_size(input, output, end - input);
        each(input, output, page);
        input += page;
        output += page;
    }
}
