//! Frames of the driver's own structures.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::Hal;
use crate::addr::{PAGE_BYTES, PhysAddr, PhysRange};

/// Why there is no frame for the hardware's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoFrame {
    /// The platform has none left.
    NoneLeft,
    /// The platform gave frames of which some are beyond the addresses that DMA can use. They were given back at once, and
    /// no hardware has their addresses.
    TooHigh {
        /// The first of them.
        frames: PhysAddr,
        /// There are 2^`order`.
        order: u8,
        /// The machine's [host address width](crate::topology::Topology::host_address_width).
        host_bits: u8,
    },
    /// The platform gave frames of which some are not its [own memory](Hal::own_memory), so a cell may have them. They were
    /// given back at once, and no hardware has their addresses.
    NotOwn {
        /// The first of them.
        frames: PhysAddr,
        /// There are 2^`order`.
        order: u8,
    },
}

impl fmt::Display for NoFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoneLeft => f.write_str("out of frames for the hardware's tables"),
            Self::TooHigh { frames, order, host_bits } => {
                let (first, last) = (frames.as_u64(), last_byte(frames, order));
                write!(f, "the platform's frames {first:#x}..={last:#x} pass the machine's {host_bits} address bits")
            }
            Self::NotOwn { frames, order } => {
                let (first, last) = (frames.as_u64(), last_byte(frames, order));
                write!(f, "the platform's frames {first:#x}..={last:#x} are not part of its own memory")
            }
        }
    }
}

impl core::error::Error for NoFrame {}

/// The last byte of 2^`order` frames.
fn last_byte(frames: PhysAddr, order: u8) -> u64 {
    frames.as_u64().saturating_add(PAGE_BYTES.unbounded_shl(order.into()).wrapping_sub(1))
}

/// 2^`order` frames of the platform, of its own memory, that take no more than `host_bits` bits to address. Of a wider address,
/// units ignore the upper bits in a register (S 11.4.5), and fault on them in an entry (R41).
#[inline(always)]
fn allocate_within(hal: &impl Hal, order: u8, host_bits: u8) -> Result<PhysAddr, NoFrame> {
    let frames = hal.allocate(order).ok_or(NoFrame::NoneLeft)?;
    let last = last_byte(frames, order);
    let memory = PhysRange::between(frames, PhysAddr::new_truncate(last));
    let error = if last.unbounded_shr(host_bits.into()) != 0 {
        NoFrame::TooHigh { frames, order, host_bits }
    } else if memory.and_then(|memory| hal.own_memory(memory)) != memory {
        NoFrame::NotOwn { frames, order }
    } else {
        return Ok(frames);
    };
    // SAFETY: they have just been allocated with this order, and nobody has their address.
    unsafe { hal.free(frames, order) };
    Err(error)
}

/// 64-bit words of one frame.
pub(crate) const WORDS: usize = PAGE_BYTES as usize / 8;

/// Contiguous frames that belong to the driver, seen as 64-bit words.
///
/// Used only with the [`Hal`] that it was allocated from. Nothing happens when it goes out of scope: hardware may still
/// read it, so freeing is a deed of its own.
pub(crate) struct Frames {
    base: PhysAddr,
    words: NonNull<u64>,
    /// The number of words, a power of two, less one.
    mask: usize,
}

// SAFETY: the frames belong to this value alone, and each access to a word is one aligned load or store.
unsafe impl Send for Frames {}
// SAFETY: as above; a shared reference allows only such loads and stores, which are atomic.
unsafe impl Sync for Frames {}

impl Frames {
    /// 2^`order` frames, all zero as the CPU sees them, that take `host_bits` bits to address.
    pub(crate) fn allocate(hal: &impl Hal, order: u8, host_bits: u8) -> Result<Self, NoFrame> {
        let base = allocate_within(hal, order, host_bits)?;
        // SAFETY: `base` has just been allocated.
        let words = unsafe { hal.phys_to_virt(base) };
        Ok(Self { base, words, mask: (WORDS << order) - 1 })
    }

    /// The frame of one page at `base`.
    ///
    /// # Safety
    ///
    /// `base` came from [`Frames::allocate`] with order 0 on this `hal`, and is not freed while the result is used.
    pub(crate) unsafe fn at(hal: &impl Hal, base: PhysAddr) -> Self {
        // SAFETY: the caller says that the frame is allocated.
        let words = unsafe { hal.phys_to_virt(base) };
        Self { base, words, mask: WORDS - 1 }
    }

    /// Physical address of the first frame.
    pub(crate) fn base(&self) -> PhysAddr {
        self.base
    }

    /// How many words there are: a power of two.
    pub(crate) fn words(&self) -> usize {
        self.mask + 1
    }

    /// How many frames there are: a power of two.
    pub(crate) fn count(&self) -> u32 {
        (self.words() / WORDS) as u32
    }

    fn order(&self) -> u8 {
        self.count().trailing_zeros() as u8
    }

    fn word(&self, index: usize) -> NonNull<u64> {
        // SAFETY: `index & mask` is below the number of words, and all of them are in one allocation.
        unsafe { self.words.add(index & self.mask) }
    }

    /// Loads the word at `index`, modulo the number of words.
    #[inline]
    pub(crate) fn load(&self, hal: &impl Hal, index: usize) -> u64 {
        // SAFETY: the word is in a frame that is not freed.
        unsafe { hal.load(self.word(index)) }
    }

    /// Stores the word at `index`, modulo the number of words.
    #[inline]
    pub(crate) fn store(&self, hal: &impl Hal, index: usize, value: u64) {
        // SAFETY: the word is in a frame that is not freed.
        unsafe { hal.store(self.word(index), value) }
    }

    /// Stores the two words of the pair at `index`, modulo the number of pairs, as one.
    pub(crate) fn store_pair(&self, hal: &impl Hal, _: PairStore, index: usize, value: [u64; 2]) {
        // SAFETY: the pair is in a frame that is not freed, which begins at a multiple of 16 bytes, and the platform can.
        unsafe { hal.store_pair(self.pairs().at(index), value) }
    }

    /// The words, two by two.
    #[inline]
    pub(crate) fn pairs(&self) -> Pairs<'_> {
        Pairs { first: self.words.cast(), mask: self.mask / 2, frames: PhantomData }
    }

    /// Writes `count` words from `index` on back to memory. The caller keeps them within the frames.
    pub(crate) fn write_back(&self, hal: &impl Hal, index: usize, count: usize) {
        let count = count.min(self.words().saturating_sub(index));
        // SAFETY: the words are in frames that are not freed.
        unsafe { hal.write_back(self.word(index), count * 8) }
    }

    /// Gives back frames whose address was never stored anywhere.
    pub(crate) fn give_back(self, hal: &impl Hal) {
        // SAFETY: hardware cannot reach what it never had the address of.
        unsafe { self.free(hal) }
    }

    /// Gives the frames back to the platform.
    ///
    /// # Safety
    ///
    /// Hardware does not reach them any more, and no copy made by [`Frames::at`] is used.
    pub(crate) unsafe fn free(self, hal: &impl Hal) {
        // SAFETY: base and order are those of the allocation; the rest is what the caller says.
        unsafe { hal.free(self.base, self.order()) }
    }
}

/// That the platform [has stores of two words](Hal::has_pair_store).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairStore(());

impl PairStore {
    pub(crate) fn of(hal: &impl Hal) -> Option<Self> {
        hal.has_pair_store().then_some(Self(()))
    }
}

/// The words of some frames, two by two. A value that is passed around by copy, for where every instruction counts: stores
/// to the frames cannot seem to change where they are.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<'f> {
    first: NonNull<[u64; 2]>,
    /// Their number, a power of two, less one.
    mask: usize,
    frames: PhantomData<&'f Frames>,
}

impl Pairs<'_> {
    fn at(self, index: usize) -> NonNull<[u64; 2]> {
        // SAFETY: `index & mask` is below the number of pairs, and all of them are in one allocation.
        unsafe { self.first.add(index & self.mask) }
    }

    fn second(self, index: usize) -> NonNull<u64> {
        // SAFETY: a pair has two words.
        unsafe { self.at(index).cast::<u64>().add(1) }
    }

    /// Loads the first word of the pair at `index`, modulo the number of pairs.
    #[inline]
    pub(crate) fn load_first(self, hal: &impl Hal, index: usize) -> u64 {
        // SAFETY: the word is in frames that are not freed, since they are borrowed.
        unsafe { hal.load(self.at(index).cast()) }
    }

    /// Loads the second word, likewise.
    #[inline]
    pub(crate) fn load_second(self, hal: &impl Hal, index: usize) -> u64 {
        // SAFETY: as above.
        unsafe { hal.load(self.second(index)) }
    }

    /// Stores the first word, likewise.
    #[inline]
    pub(crate) fn store_first(self, hal: &impl Hal, index: usize, value: u64) {
        // SAFETY: as above.
        unsafe { hal.store(self.at(index).cast(), value) }
    }

    /// Stores the second word, likewise.
    #[inline]
    pub(crate) fn store_second(self, hal: &impl Hal, index: usize, value: u64) {
        // SAFETY: as above.
        unsafe { hal.store(self.second(index), value) }
    }
}

impl From<Frame> for Frames {
    fn from(frame: Frame) -> Self {
        Self { base: frame.base, words: frame.words, mask: WORDS - 1 }
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({:#x}, order {})", self.base.as_u64(), self.order())
    }
}

/// One frame seen as 64-bit words; a copy is the same frame.
///
/// Used only with the [`Hal`] that it was made with, which sees it at one place for as long as it is allocated.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    base: PhysAddr,
    words: NonNull<u64>,
}

// SAFETY: each access to a word is one aligned load or store through the `Hal`; what it means is the owner's business.
unsafe impl Send for Frame {}
// SAFETY: as above; a shared reference allows only such loads and stores, which are atomic.
unsafe impl Sync for Frame {}

impl Frame {
    /// A fresh frame, all zero as the CPU sees it, that takes `host_bits` bits to address.
    #[inline(always)]
    pub(crate) fn allocate(hal: &impl Hal, host_bits: u8) -> Result<Self, NoFrame> {
        let base = allocate_within(hal, 0, host_bits)?;
        // SAFETY: `base` has just been allocated with order 0.
        Ok(unsafe { Self::at(hal, base) })
    }

    /// The frame at `base`.
    ///
    /// # Safety
    ///
    /// `base` came from [`Frame::allocate`] on this `hal`, and is not freed while the result or a copy of it is used.
    #[inline]
    pub(crate) unsafe fn at(hal: &impl Hal, base: PhysAddr) -> Self {
        // SAFETY: the caller says that the frame is allocated.
        let words = unsafe { hal.phys_to_virt(base) };
        Self { base, words }
    }

    /// Physical address of the frame.
    pub(crate) fn base(self) -> PhysAddr {
        self.base
    }

    #[inline]
    fn word(self, index: usize) -> NonNull<u64> {
        // SAFETY: the remainder is below the number of words, and all of them are in one allocation.
        unsafe { self.words.add(index % WORDS) }
    }

    /// Loads the word at `index`, modulo the number of words.
    #[inline]
    pub(crate) fn load(self, hal: &impl Hal, index: usize) -> u64 {
        // SAFETY: the word is in a frame that is not freed.
        unsafe { hal.load(self.word(index)) }
    }

    /// Stores the word at `index`, modulo the number of words.
    #[inline]
    pub(crate) fn store(self, hal: &impl Hal, index: usize, value: u64) {
        // SAFETY: the word is in a frame that is not freed.
        unsafe { hal.store(self.word(index), value) }
    }

    /// Stores `first` at `index` and in each of the words that follow `step` more, `count` in all; fewer where the frame
    /// ends.
    #[inline(never)]
    pub(crate) fn fill(self, hal: &impl Hal, index: usize, count: usize, first: u64, step: u64) {
        let mut value = first;
        let end = WORDS.min(index.saturating_add(count));
        let mut index = index;
        while index < end {
            self.store(hal, index, value);
            value = value.wrapping_add(step);
            index += 1;
        }
    }

    /// Writes `count` words from `index` on back to memory; fewer where the frame ends.
    #[inline(never)]
    pub(crate) fn write_back(self, hal: &impl Hal, index: usize, count: usize) {
        let count = count.min(WORDS.saturating_sub(index));
        // SAFETY: the words are in a frame that is not freed.
        unsafe { hal.write_back(self.word(index), count * 8) }
    }

    /// Gives the frame back to the platform.
    ///
    /// # Safety
    ///
    /// Hardware does not reach it any more, and no copy is used.
    pub(crate) unsafe fn free(self, hal: &impl Hal) {
        // SAFETY: a frame is of order 0; the rest is what the caller says.
        unsafe { hal.free(self.base, 0) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.base.as_u64())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::hal::fake::{Deed, Fake};

    #[test]
    fn a_frame_alone_is_one_of_frames() {
        let hal = Fake::new(1);
        let frame = Frame::allocate(&hal, 52).unwrap();
        let (base, frames) = (frame.base(), Frames::from(frame));
        assert_eq!((frames.base(), frames.words(), frames.order()), (base, WORDS, 0));
        for index in 0..WORDS {
            frame.store(&hal, index, index as u64);
        }
        assert!((0..2 * WORDS).all(|index| frames.load(&hal, index) == (index % WORDS) as u64));
        assert_eq!(NoFrame::NoneLeft.to_string(), "out of frames for the hardware's tables");
    }

    /// A platform whose next frame is the last one below 2 MiB, which takes 21 bits to address.
    fn below_2_mib() -> Fake {
        let hal = Fake::new(0x102);
        (0..0xff).for_each(|_| assert!(hal.allocate(0).is_some()));
        hal.journal();
        hal
    }

    const LAST: u64 = 0x1f_f000;

    #[test]
    fn a_frame_that_cannot_be_addressed_is_given_back() {
        let hal = below_2_mib();
        assert_eq!(Frame::allocate(&hal, 21).unwrap().base().as_u64(), LAST);
        let (frames, used) = (PhysAddr::new(LAST + PAGE_BYTES), hal.used());
        hal.journal();
        let error = Frame::allocate(&hal, 21).unwrap_err();
        assert_eq!(error, NoFrame::TooHigh { frames, order: 0, host_bits: 21 });
        assert_eq!(error.to_string(), "the platform's frames 0x200000..=0x200fff pass the machine's 21 address bits");
        let at = frames.as_u64();
        assert_eq!((hal.journal(), hal.used()), (std::vec![Deed::Allocate { at }, Deed::Free { at }], used));
        assert_eq!(Frame::allocate(&hal, 22).unwrap().base(), frames, "it is there again");
    }

    /// I7: a cell may have memory that is not the platform's own, so no table is made of it.
    #[test]
    fn frames_that_a_cell_may_have_are_given_back() {
        let hal = Fake::new(8);
        let first = Frames::allocate(&hal, 1, 52).unwrap().base();
        let next = PhysAddr::new(first.as_u64() + 2 * PAGE_BYTES);
        for own in [(first, 3), (PhysAddr::new(next.as_u64() + PAGE_BYTES), 8), (first, 2)] {
            hal.own(PhysRange::new(own.0, own.1 * PAGE_BYTES).unwrap());
            let used = hal.used();
            let error = Frames::allocate(&hal, 1, 52).unwrap_err();
            assert_eq!((error, hal.used()), (NoFrame::NotOwn { frames: next, order: 1 }, used));
            let words = "the platform's frames 0x102000..=0x103fff are not part of its own memory";
            assert_eq!(error.to_string(), words);
        }
        hal.own(PhysRange::new(first, 4 * PAGE_BYTES).unwrap());
        assert_eq!(Frames::allocate(&hal, 1, 52).unwrap().base(), next, "the last of its own");
    }

    #[test]
    fn contiguous_frames_are_given_back_if_the_last_is_too_high() {
        let hal = below_2_mib();
        let (frames, used) = (PhysAddr::new(LAST), hal.used());
        let error = Frames::allocate(&hal, 1, 21).unwrap_err();
        assert_eq!(error, NoFrame::TooHigh { frames, order: 1, host_bits: 21 });
        assert_eq!(error.to_string(), "the platform's frames 0x1ff000..=0x200fff pass the machine's 21 address bits");
        assert_eq!((hal.journal().len(), hal.used()), (2, used));
        assert_eq!(Frames::allocate(&hal, 1, 22).unwrap().base(), frames);

        let hal = Fake::new(0x100);
        assert_eq!(Frames::allocate(&hal, 8, 21).unwrap().words(), WORDS << 8, "all below 2 MiB");
    }
}
