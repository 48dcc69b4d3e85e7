//! Lists of single frames.

use super::{Frame, Hal, NoFrame};
use crate::addr::{PAGE_BYTES, PhysAddr};

/// Single frames in a list that needs no memory of its own: the first word of each holds the address of the next.
///
/// That word is an entry that is not present in every format of this driver, so a frame may be put on a list while hardware
/// can still walk it. Where hardware has to find there what it found before, the address is in bits that it ignores.
#[derive(Debug)]
#[must_use = "frames that are dropped with the list are lost to the platform"]
pub struct FrameList {
    first: u64,
    len: usize,
}

/// What follows the last frame of a list: no physical address, as those have 52 bits.
const END: u64 = !(PAGE_BYTES - 1);
/// In the address of a frame on a list: its own link is in bits that hardware ignores.
const SCATTERED: u64 = PAGE_BYTES >> 1;
/// Bits of an entry that every format ignores, 58:52, and how many entries hold a link of 42 bits.
const IGNORED: u64 = 0x7f << 52;
const HOLDERS: usize = 6;

impl FrameList {
    /// No frames.
    pub(crate) const fn new() -> Self {
        Self { first: END, len: 0 }
    }

    /// `count` fresh frames, all zero but for the links; on failure what was allocated has been given back.
    pub(crate) fn allocate(hal: &impl Hal, count: usize, host_bits: u8) -> Result<Self, NoFrame> {
        let mut list = Self::new();
        while list.len < count {
            match Frame::allocate(hal, host_bits) {
                Ok(frame) => list.push(hal, frame),
                Err(error) => {
                    // SAFETY: hardware has never been told of these frames.
                    unsafe { list.free(hal) };
                    return Err(error);
                }
            }
        }
        Ok(list)
    }

    /// How many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first == END
    }

    /// Puts a frame on the list, which has it from then on.
    pub(crate) fn push(&mut self, hal: &impl Hal, frame: Frame) {
        frame.store(hal, 0, self.first);
        self.first = frame.base().as_u64();
        self.len += 1;
    }

    /// The same for a table that a page has taken the place of: until its caches are flushed, hardware may walk it, and finds
    /// there what the page says.
    pub(crate) fn push_walked(&mut self, hal: &impl Hal, frame: Frame) {
        let mut link = self.first / SCATTERED;
        for index in 0..HOLDERS {
            frame.store(hal, index, frame.load(hal, index) & !IGNORED | link << 52 & IGNORED);
            link >>= 7;
        }
        self.first = frame.base().as_u64() | SCATTERED;
        self.len += 1;
    }

    /// Takes the frame that was put there last, and tells if that may be walked.
    fn take(&mut self, hal: &impl Hal) -> Option<(Frame, bool)> {
        if self.is_empty() {
            return None;
        }
        let walked = self.first & SCATTERED != 0;
        // SAFETY: `push` or `push_walked` took this frame over, so it is allocated and in nobody else's hands.
        let frame = unsafe { Frame::at(hal, PhysAddr::new_truncate(self.first & !SCATTERED)) };
        self.first = if walked { scattered(|index| frame.load(hal, index)) } else { frame.load(hal, 0) };
        self.len = self.len.saturating_sub(1);
        Some((frame, walked))
    }

    /// Takes the frame that was put there last. Its first word is zero.
    pub(crate) fn pop(&mut self, hal: &impl Hal) -> Option<Frame> {
        let (frame, _) = self.take(hal)?;
        frame.store(hal, 0, 0);
        Some(frame)
    }

    /// Moves all frames of `other` to this list.
    pub(crate) fn append(&mut self, hal: &impl Hal, mut other: Self) {
        while let Some((frame, walked)) = other.take(hal) {
            if walked { self.push_walked(hal, frame) } else { self.push(hal, frame) }
        }
    }

    /// Gives all frames back to the platform.
    ///
    /// # Safety
    ///
    /// Hardware does not reach them any more.
    #[inline]
    pub unsafe fn free(self, hal: &impl Hal) {
        if !self.is_empty() {
            // SAFETY: passed on from the caller.
            unsafe { self.free_each(hal) }
        }
    }

    /// # Safety
    ///
    /// As for [`free`](Self::free).
    #[inline(never)]
    unsafe fn free_each(mut self, hal: &impl Hal) {
        while let Some(frame) = self.pop(hal) {
            // SAFETY: the caller says that hardware does not reach it.
            unsafe { frame.free(hal) };
        }
    }
}

/// The link that these words hold.
fn scattered(word: impl Fn(usize) -> u64) -> u64 {
    let part = |index: usize| (word(index) & IGNORED) >> 52 << (7 * index);
    let link = (0..HOLDERS).fold(0, |link, index| link | part(index));
    // An address has 52 bits, so that nothing else has the highest.
    if link >> 41 == 0 { link * SCATTERED } else { END }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hal::WORDS;
    use crate::hal::fake::Fake;

    #[test]
    fn of_a_list_that_comes_to_a_frame_that_is_too_high_nothing_is_left() {
        let hal = Fake::new(0x102);
        let error = FrameList::allocate(&hal, 0x101, 21).unwrap_err();
        assert_eq!(error, NoFrame::TooHigh { frames: PhysAddr::new(0x20_0000), order: 0, host_bits: 21 });
        assert_eq!(hal.used(), 0);
        assert_eq!(FrameList::allocate(&hal, 0x100, 21).unwrap().len(), 0x100);
    }

    #[test]
    fn a_table_that_may_be_walked_keeps_its_entries_on_a_list() {
        let hal = Fake::new(8);
        let frames: Vec<Frame> = (0..6).map(|_| Frame::allocate(&hal, 52).unwrap()).collect();
        let mut lists = [FrameList::new(), FrameList::new()];
        for (index, frame) in frames.iter().enumerate() {
            frame.fill(&hal, 0, WORDS, 0xf80f_ffff_ffff_f003, 0);
            // Each kind follows each, and each ends a list.
            let list = &mut lists[index / 3];
            if index % 2 == 0 { list.push_walked(&hal, *frame) } else { list.push(&hal, *frame) }
        }
        let [mut all, other] = lists;
        all.append(&hal, other);
        assert_eq!(all.len(), 6);
        for (index, frame) in frames.iter().enumerate() {
            let words: Vec<u64> = (0..WORDS).map(|index| frame.load(&hal, index)).collect();
            let changed = words.iter().filter(|word| **word & !IGNORED != 0xf80f_ffff_ffff_f003).count();
            assert_eq!(changed, index % 2, "a link");
        }
        let mut found: Vec<_> = std::iter::from_fn(|| all.pop(&hal)).map(|frame| frame.base().as_u64()).collect();
        found.sort_unstable();
        assert_eq!(found, frames.iter().map(|frame| frame.base().as_u64()).collect::<Vec<_>>());
        assert!(all.is_empty());
    }

    #[test]
    fn a_link_of_any_address_and_the_end_are_held_by_ignored_bits() {
        let last = (1 << 52) - PAGE_BYTES;
        for first in [END, 0, SCATTERED, PAGE_BYTES, last, last | SCATTERED, 0x000a_5a5a_5a5a_5000] {
            let link = first / SCATTERED;
            assert_eq!(scattered(|index| (link >> (7 * index) & 0x7f) << 52 | !IGNORED), first, "{first:#x}");
        }
    }
}
