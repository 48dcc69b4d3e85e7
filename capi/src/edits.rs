//! Room for the edits of changes, cut from the memory that the client hands over: C's edits are copied there, so that a change
//! takes no more stack for more edits, and sees them as they were.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use cofferdam::iommu::{Edit, Error};
use cofferdam::limits::{Full, Limits};

use crate::failure::Failure;
use crate::front;
use crate::platform::Platform;

/// One bit of a mask is one change's room.
const MOST: usize = u64::BITS as usize;
const WORDS_OF_EDIT: usize = size_of::<Edit>().div_ceil(size_of::<u64>());
const _: () = assert!(align_of::<Edit>() <= align_of::<u64>());

/// Room for so many edits in each of so many changes at a time.
pub(crate) struct Room {
    words: *mut MaybeUninit<u64>,
    changes: usize,
    edits: usize,
    /// A bit for each change whose room is in use.
    taken: AtomicU64,
}

// SAFETY: the words are reached by who has taken their bit, and by nobody else.
unsafe impl Send for Room {}
// SAFETY: as above.
unsafe impl Sync for Room {}

/// How many words of 64 bits that takes; `usize::MAX` if that is too much for any memory.
pub(crate) const fn words(limits: &Limits, edits: usize) -> usize {
    let changes = if limits.changes < MOST { limits.changes } else { MOST };
    changes.saturating_mul(edits).saturating_mul(WORDS_OF_EDIT)
}

impl Room {
    /// Cuts it off the end of some memory, and says what is left.
    ///
    /// # Errors
    ///
    /// There is less memory than that.
    pub(crate) fn cut(
        memory: &'static mut [MaybeUninit<u64>],
        limits: &Limits,
        edits: usize,
    ) -> Result<(&'static mut [MaybeUninit<u64>], Self), Full> {
        let full = Full { what: "words in the memory that was handed over", capacity: memory.len() };
        let left = memory.len().checked_sub(words(limits, edits)).ok_or(full)?;
        let (rest, own) = memory.split_at_mut_checked(left).ok_or(full)?;
        let changes = limits.changes.min(MOST);
        Ok((rest, Self { words: own.as_mut_ptr(), changes, edits, taken: AtomicU64::new(0) }))
    }

    /// Room for `count` edits of one change. Waits for it as a change waits for others.
    ///
    /// # Errors
    ///
    /// There is no room for so many, or none comes free in time.
    #[inline(never)]
    pub(crate) fn take(&self, count: usize, hal: &Platform, timeout_ns: u64) -> Result<Held<'_>, Failure> {
        if count > self.edits {
            return Err(Error::Full(Full { what: "edits of a change", capacity: self.edits }).into());
        }
        let mut slot = None;
        front::wait(hal, timeout_ns, || {
            slot = self.free();
            slot.is_some()
        });
        let slot = slot.ok_or(Failure::Front(Error::InChange { cell: None }))?;
        Ok(Held { room: self, slot, edits: 0 })
    }

    /// Takes the first slot that is free.
    fn free(&self) -> Option<usize> {
        let slots = 0..self.changes;
        slots.into_iter().find(|slot| self.taken.fetch_or(1 << slot, Ordering::Acquire) >> slot & 1 == 0)
    }
}

/// Room that a change has until this is dropped.
pub(crate) struct Held<'r> {
    room: &'r Room,
    slot: usize,
    edits: usize,
}

impl Held<'_> {
    fn slots(&self) -> *mut Edit {
        let words = self.slot.wrapping_mul(self.room.edits).wrapping_mul(WORDS_OF_EDIT);
        self.room.words.wrapping_add(words).cast()
    }

    /// Adds an edit, if there is room.
    pub(crate) fn push(&mut self, edit: Edit) {
        if self.edits < self.room.edits {
            // SAFETY: the slot is within the room, which is aligned as an edit is, and nobody else has it.
            unsafe { self.slots().wrapping_add(self.edits).write(edit) };
            self.edits += 1;
        }
    }

    pub(crate) fn edits(&self) -> &[Edit] {
        // SAFETY: so many edits were written there, and nobody else has the room.
        unsafe { core::slice::from_raw_parts(self.slots(), self.edits) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.room.taken.fetch_and(!(1 << self.slot), Ordering::Release);
    }
}
