//! The memory that the driver allocates its frames from, as the CPU reads and writes it.
//!
//! It never moves, so that `phys_to_virt` can hand out real pointers into it.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of 64 bits in one frame.
pub(crate) const WORDS: usize = 512;

#[derive(Debug)]
pub(crate) struct Arena {
    base: u64,
    /// All that was allocated.
    memory: Box<[AtomicU64]>,
    /// Those that are frames, aligned as frames are.
    frames: Range<usize>,
}

impl Arena {
    /// `frames` frames of zeros from the physical address `base` on.
    pub(crate) fn new(base: u64, frames: usize) -> Self {
        // Zeros come from the operating system page by page, so a machine costs only the frames that it uses.
        let zeros = Box::into_raw(vec![0_u64; (frames + 1) * WORDS].into_boxed_slice());
        // SAFETY: the slice was given up one line above, and `AtomicU64` has the size, alignment and bits of `u64`.
        let memory = unsafe { Box::from_raw(zeros as *mut [AtomicU64]) };
        let bytes = memory.as_ptr().addr().next_multiple_of(WORDS * 8) - memory.as_ptr().addr();
        Self { base, memory, frames: bytes / 8..bytes / 8 + frames * WORDS }
    }

    fn words(&self) -> &[AtomicU64] {
        self.memory.get(self.frames.clone()).unwrap_or_default()
    }

    /// Index of the word at a physical address, which is rounded down to a word.
    pub(crate) fn index(&self, address: u64) -> Option<usize> {
        let index = usize::try_from(address.checked_sub(self.base)? / 8).ok()?;
        (index < self.words().len()).then_some(index)
    }

    /// Index of the word that a pointer points to; `None` if it points elsewhere or between two words.
    pub(crate) fn index_of(&self, pointer: NonNull<u64>) -> Option<usize> {
        let bytes = pointer.addr().get().checked_sub(self.words().as_ptr().addr())?;
        (bytes.is_multiple_of(8) && bytes / 8 < self.words().len()).then_some(bytes / 8)
    }

    /// Physical address of the word at `index`.
    pub(crate) fn address(&self, index: usize) -> u64 {
        self.base + index as u64 * 8
    }

    /// How large it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.words().len() as u64 * 8
    }

    /// Pointer to the word at `index` and to all that follow; dangling past the end.
    pub(crate) fn pointer(&self, index: usize) -> NonNull<u64> {
        let words = self.words().get(index..).unwrap_or_default();
        NonNull::from(words).cast()
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.words().get(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.words().get(index) {
            word.store(value, Ordering::Release);
        }
    }

    /// Sets bits of a word, and says what it is then.
    pub(crate) fn set_bits(&self, index: usize, bits: u64) -> u64 {
        self.words().get(index).map_or(0, |word| word.fetch_or(bits, Ordering::AcqRel) | bits)
    }

    /// Sets all words of a range.
    pub(crate) fn fill(&self, range: Range<usize>, value: u64) {
        let words = self.words().get(range).unwrap_or_default();
        words.iter().for_each(|word| word.store(value, Ordering::Release));
    }
}
