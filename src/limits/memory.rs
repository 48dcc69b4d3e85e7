//! The memory that a user hands over, and how it is cut.

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::{MaybeUninit, align_of, size_of, take};
use core::sync::atomic::{AtomicBool, Ordering};

use super::{Full, List};

/// Memory for a front in a static: all zero, so it takes no room in an image.
///
/// Its size comes from [`Limits::words`](super::Limits::words):
///
/// ```
/// use cofferdam::limits::{Limits, Memory};
///
/// const LIMITS: Limits = Limits { cells: 4, ..Limits::DEFAULT };
/// static MEMORY: Memory<{ LIMITS.words() }> = Memory::new();
///
/// assert!(MEMORY.take().is_some() && MEMORY.take().is_none());
/// ```
pub struct Memory<const WORDS: usize> {
    taken: AtomicBool,
    words: UnsafeCell<[MaybeUninit<u64>; WORDS]>,
}

// SAFETY: the words are reached through the one reference that `take` gives, and by nobody else.
unsafe impl<const WORDS: usize> Sync for Memory<WORDS> {}

impl<const WORDS: usize> Memory<WORDS> {
    /// Memory that nobody has taken.
    pub const fn new() -> Self {
        Self { taken: AtomicBool::new(false), words: UnsafeCell::new([MaybeUninit::zeroed(); WORDS]) }
    }

    /// Gives the memory to the first who asks; `None` to all others.
    #[allow(clippy::mut_from_ref, reason = "it gives the reference once, which `taken` sees to")]
    pub fn take(&'static self) -> Option<&'static mut [MaybeUninit<u64>]> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: nobody had the reference before, and nobody gets it again.
        Some(unsafe { &mut *self.words.get() })
    }
}

impl<const WORDS: usize> Default for Memory<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> fmt::Debug for Memory<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({WORDS} words)")
    }
}

/// How many words so many values take.
pub(crate) const fn words_of<T>(count: usize) -> usize {
    count.saturating_mul(size_of::<T>()).div_ceil(size_of::<u64>())
}

const NO_WORDS: &str = "words in the memory that was handed over";

/// Memory from whose front pieces are cut.
pub(crate) struct Carver<'s> {
    rest: &'s mut [MaybeUninit<u64>],
    words: usize,
}

impl<'s> Carver<'s> {
    pub(crate) fn new(memory: &'s mut [MaybeUninit<u64>]) -> Self {
        let words = memory.len();
        Self { rest: memory, words }
    }

    /// What is left.
    pub(crate) fn into_rest(self) -> &'s mut [MaybeUninit<u64>] {
        self.rest
    }

    /// Room for so many values.
    ///
    /// # Errors
    ///
    /// There is less memory than that.
    pub(crate) fn room<T>(&mut self, count: usize) -> Result<&'s mut [MaybeUninit<T>], Full> {
        const { assert!(align_of::<T>() <= align_of::<u64>()) };
        let full = Full { what: NO_WORDS, capacity: self.words };
        let (piece, rest) = take(&mut self.rest).split_at_mut_checked(words_of::<T>(count)).ok_or(full)?;
        self.rest = rest;
        // SAFETY: the piece is as aligned as a `T` has to be, it is as large as `count` of them, none of which has to hold
        // a value, and nobody else has it for as long as it is borrowed.
        Ok(unsafe { core::slice::from_raw_parts_mut(piece.as_mut_ptr().cast(), count) })
    }

    /// Room for one value.
    ///
    /// # Errors
    ///
    /// As for [`room`](Self::room).
    pub(crate) fn one<T>(&mut self) -> Result<&'s mut MaybeUninit<T>, Full> {
        let capacity = self.words;
        let full = Full { what: NO_WORDS, capacity };
        self.room(1)?.first_mut().ok_or(full)
    }

    /// An empty list with room for so many values.
    ///
    /// # Errors
    ///
    /// As for [`room`](Self::room).
    pub(crate) fn list<T>(&mut self, capacity: usize) -> Result<List<'s, T>, Full> {
        self.room(capacity).map(List::new)
    }

    /// So many values, each of which may take memory of its own.
    ///
    /// # Errors
    ///
    /// As for [`room`](Self::room), or as `make` has it.
    pub(crate) fn each<T>(
        &mut self,
        count: usize,
        mut make: impl FnMut(&mut Self) -> Result<T, Full>,
    ) -> Result<List<'s, T>, Full> {
        let mut all = self.list(count)?;
        while !all.is_full() {
            let _ = all.push(make(self)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn memory_is_given_once() {
        static MEMORY: Memory<4> = Memory::new();
        let words = MEMORY.take().unwrap();
        words[3].write(7);
        assert_eq!((words.len(), MEMORY.take().is_none()), (4, true));
    }

    #[test]
    fn pieces_do_not_overlap_and_end_with_the_memory() {
        let mut memory = vec![MaybeUninit::uninit(); 7];
        let mut carver = Carver::new(&mut memory);
        let mut bytes = carver.list::<u8>(9).unwrap();
        (0..9).for_each(|value| bytes.push(value).unwrap());
        let full = carver.each(2, |carver| Ok((1_u32, carver.list::<u16>(2)?))).unwrap_err();
        assert_eq!((full.capacity, words_of::<u8>(9), words_of::<u64>(0)), (7, 2, 0));
        assert_eq!(*bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn each_value_has_memory_of_its_own() {
        let mut memory = vec![MaybeUninit::uninit(); 32];
        let mut carver = Carver::new(&mut memory);
        let mut lists = carver.each(3, |carver| carver.list::<u64>(2)).unwrap();
        for (list, value) in lists.iter_mut().zip(0..) {
            assert_eq!((list.push(value), list.push(value + 10), list.is_full()), (Ok(()), Ok(()), true));
        }
        assert!(lists.iter().map(|list| list[0] + list[1]).eq([10, 12, 14]));
        assert_eq!(carver.into_rest().len(), 32 - 3 * words_of::<List<'_, u64>>(1) - 6);
    }
}
