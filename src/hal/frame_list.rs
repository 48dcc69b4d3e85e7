//! Lists of single frames.

use super::{Frame, Hal, NoFrame};
use crate::addr::{PAGE_BYTES, PhysAddr};

/// Single frames in a list that needs no memory of its own: the first word of each holds the address of the next.
///
/// Such a word is an entry that is not present in every format of this driver, so a frame may be put on a list while hardware
/// can still walk it: all that hardware finds there is one entry less.
#[derive(Debug)]
#[must_use = "frames that are dropped with the list are lost to the platform"]
pub struct FrameList {
    first: u64,
    len: usize,
}

/// What follows the last frame of a list: no physical address, as those have 52 bits.
const END: u64 = !(PAGE_BYTES - 1);

impl FrameList {
    /// No frames.
    pub(crate) const fn new() -> Self {
        Self { first: END, len: 0 }
    }

    /// `count` fresh frames, all zero except the links; on failure what was allocated has been given back.
    pub(crate) fn allocate(hal: &impl Hal, count: usize, host_bits: u8) -> Result<Self, NoFrame> {
        let mut list = Self::new();
        while list.len < count {
            match Frame::allocate(hal, host_bits) {
                Ok(frame) => list.push(hal, frame),
                Err(error) => {
                    // SAFETY: hardware never had the addresses of these frames.
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

    /// Takes the frame that was put there last. Its first word is zero.
    pub(crate) fn pop(&mut self, hal: &impl Hal) -> Option<Frame> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `push` took this frame over, so it is allocated and in nobody else's hands.
        let frame = unsafe { Frame::at(hal, PhysAddr::new_truncate(self.first)) };
        self.first = frame.load(hal, 0);
        self.len = self.len.saturating_sub(1);
        frame.store(hal, 0, 0);
        Some(frame)
    }

    /// Moves all frames of `other` to this list.
    pub(crate) fn append(&mut self, hal: &impl Hal, mut other: Self) {
        while let Some(frame) = other.pop(hal) {
            self.push(hal, frame);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hal::fake::Fake;

    #[test]
    fn a_frame_that_is_too_high_gives_the_whole_list_back() {
        let hal = Fake::new(0x102);
        let error = FrameList::allocate(&hal, 0x101, 21).unwrap_err();
        assert_eq!(error, NoFrame::TooHigh { frames: PhysAddr::new(0x20_0000), order: 0, host_bits: 21 });
        assert_eq!(hal.used(), 0);
        assert_eq!(FrameList::allocate(&hal, 0x100, 21).unwrap().len(), 0x100);
    }

    #[test]
    fn lists_that_are_joined_have_all_frames_of_both() {
        let hal = Fake::new(8);
        let frames: Vec<Frame> = (0..6).map(|_| Frame::allocate(&hal, 52).unwrap()).collect();
        let [mut all, mut other] = [FrameList::new(), FrameList::new()];
        for (index, frame) in frames.iter().enumerate() {
            if index < 4 {
                all.push(&hal, *frame)
            } else {
                other.push(&hal, *frame)
            }
            assert_eq!(frame.load(&hal, 0) % PAGE_BYTES, 0, "absent in each format");
        }
        all.append(&hal, other);
        assert_eq!(all.len(), 6);
        let popped = std::iter::from_fn(|| all.pop(&hal)).map(|frame| (frame.base().as_u64(), frame.load(&hal, 0)));
        let mut found: Vec<_> = popped.collect();
        found.sort_unstable();
        assert_eq!(found, frames.iter().map(|frame| (frame.base().as_u64(), 0)).collect::<Vec<_>>());
        assert!(all.is_empty());
    }
}
