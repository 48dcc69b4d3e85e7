//! Tables that nothing leads to any more, and that hardware may still walk.

use core::marker::PhantomData;

use super::Format;
use crate::addr::{PAGE_BYTES, PhysAddr};
use crate::hal::{Frame, FrameList, Hal};

/// The tables that edits of a page table took out of it, until hardware has dropped what led there.
///
/// They need no memory of their own: each holds the way to the next.
#[derive(Debug)]
#[must_use = "frames that are dropped with the list are lost to the platform"]
pub(super) struct Unlinked<F> {
    /// Those of which nothing is mapped any more: hardware finds there what was mapped, or nothing.
    pub unmapped: FrameList,
    joined: Joined<F>,
}

impl<F: Format> Unlinked<F> {
    pub(super) const NONE: Self = Self { unmapped: FrameList::new(), joined: Joined::NONE };

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.unmapped.len() + self.joined.len
    }

    /// Puts a table there that a page has taken the place of. Hardware finds there what the page says.
    pub(super) fn push_joined(&mut self, hal: &impl Hal, table: Frame) {
        self.joined.push(hal, table);
    }

    /// True if the table is there that a page has taken the place of, whose first entry is `first` and each other `step` more
    /// than the one before.
    pub(super) fn has_joined(&self, hal: &impl Hal, first: u64, step: u64) -> bool {
        self.joined.find(hal, first, step).is_some()
    }

    /// Takes that table out: the page may become a table again, and hardware finds in it what it found all the time.
    pub(super) fn take_joined(&mut self, hal: &impl Hal, first: u64, step: u64) -> Option<Frame> {
        self.joined.take(hal, first, step)
    }

    /// Moves all of them to `frames`: hardware finds less there from then on.
    pub(super) fn move_to(mut self, hal: &impl Hal, frames: &mut FrameList) {
        frames.append(hal, self.unmapped);
        while let Some(frame) = self.joined.pop(hal) {
            frames.push(hal, frame);
        }
    }

    /// Gives all frames back to the platform.
    ///
    /// # Safety
    ///
    /// Hardware does not reach them any more.
    pub(super) unsafe fn free(mut self, hal: &impl Hal) {
        // SAFETY: passed on from the caller.
        unsafe { self.unmapped.free(hal) };
        while let Some(frame) = self.joined.pop(hal) {
            // SAFETY: the caller says that hardware does not reach it.
            unsafe { frame.free(hal) };
        }
    }
}

/// A list of tables whose first entries hold, in bits that hardware ignores, the way to the next. All entries of such a
/// table are present, since together they are one page.
#[derive(Debug)]
pub(super) struct Joined<F> {
    /// The address of the first table in units of frames, or [`END`].
    first: u64,
    len: usize,
    format: PhantomData<F>,
}

/// Bits of a link: an address has 52 of them, of which a frame needs 40, and one more is for the end.
const LINK_BITS: u32 = 41;
pub(super) const END: u64 = 1 << (LINK_BITS - 1);

impl<F: Format> Joined<F> {
    const NONE: Self = Self { first: END, len: 0, format: PhantomData };

    /// How many bits of a link one entry holds, and how many entries hold all of them.
    const BITS: u32 = F::IGNORED.count_ones();
    pub(super) const HOLDERS: usize = LINK_BITS.div_ceil(Self::BITS) as usize;

    /// What the entry at `index` holds of a link.
    #[inline(always)]
    pub(super) fn part(link: u64, index: usize) -> u64 {
        scatter(link.unbounded_shr(Self::BITS * index as u32), F::IGNORED)
    }

    /// The link that these entries hold.
    #[inline(always)]
    pub(super) fn link(entry: impl Fn(usize) -> u64) -> u64 {
        let whole = |link: u64, index| link.unbounded_shl(Self::BITS) | gather(entry(index), F::IGNORED);
        (0..Self::HOLDERS).rev().fold(0, whole)
    }

    fn push(&mut self, hal: &impl Hal, table: Frame) {
        Self::set_next(hal, table, self.first);
        self.first = table.base().as_u64() / PAGE_BYTES;
        self.len += 1;
    }

    /// Takes the table that was put there last.
    fn pop(&mut self, hal: &impl Hal) -> Option<Frame> {
        let table = Self::table(hal, self.first)?;
        self.first = Self::next(hal, table);
        self.len = self.len.saturating_sub(1);
        Some(table)
    }

    /// Takes the table that [`find`](Self::find) finds.
    fn take(&mut self, hal: &impl Hal, first: u64, step: u64) -> Option<Frame> {
        let (before, table) = self.find(hal, first, step)?;
        let next = Self::next(hal, table);
        match before {
            Some(before) => Self::set_next(hal, before, next),
            None => self.first = next,
        }
        self.len = self.len.saturating_sub(1);
        Some(table)
    }

    /// The table whose first entry is `first`, and each other `step` more than the one before, and the table that leads to it
    /// on the list. All of its entries are one page, so two of them say what the others are.
    fn find(&self, hal: &impl Hal, first: u64, step: u64) -> Option<(Option<Frame>, Frame)> {
        let (mut before, mut link) = (None, self.first);
        while let Some(table) = Self::table(hal, link) {
            let entry = |index| table.load(hal, index) & !F::IGNORED;
            if entry(0) == first && entry(1) == first.wrapping_add(step) {
                return Some((before, table));
            }
            (before, link) = (Some(table), Self::next(hal, table));
        }
        None
    }

    /// The table on the list that a link leads to.
    fn table(hal: &impl Hal, link: u64) -> Option<Frame> {
        // SAFETY: `push` took this frame over, so it is allocated and in nobody else's hands.
        (link != END).then(|| unsafe { Frame::at(hal, PhysAddr::new_truncate(link * PAGE_BYTES)) })
    }

    /// The link that a table on the list holds.
    fn next(hal: &impl Hal, table: Frame) -> u64 {
        Self::link(|index| table.load(hal, index))
    }

    fn set_next(hal: &impl Hal, table: Frame, link: u64) {
        for index in 0..Self::HOLDERS {
            table.store(hal, index, table.load(hal, index) & !F::IGNORED | Self::part(link, index));
        }
    }
}

/// Spreads the lowest bits of `value` over the bits of `mask`, lowest first.
#[inline(always)]
pub(super) fn scatter(value: u64, mask: u64) -> u64 {
    let (mut value, mut word) = (value, 0);
    for (shift, bits) in runs(mask) {
        word |= (value & !(u64::MAX << bits)) << shift;
        value >>= bits;
    }
    word
}

/// The opposite: the bits of `mask` in `word`, side by side.
#[inline(always)]
pub(super) fn gather(word: u64, mask: u64) -> u64 {
    let (mut value, mut below) = (0, 0);
    for (shift, bits) in runs(mask) {
        value |= (word >> shift & !(u64::MAX << bits)) << below;
        below += bits;
    }
    value
}

/// Where the bits of `mask` that are side by side begin, and how many they are. Not all 64 are.
#[inline(always)]
fn runs(mask: u64) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = mask;
    core::iter::from_fn(move || {
        let shift = rest.trailing_zeros();
        let bits = rest.unbounded_shr(shift).trailing_ones();
        rest &= !(!(u64::MAX << bits) << (shift % u64::BITS));
        (bits > 0).then_some((shift, bits))
    })
}
