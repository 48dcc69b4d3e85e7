//! Which entries of a table of interrupts are in use.
#![forbid(unsafe_code)]

use crate::limits::List;

/// Entries that belong together: 2^`order` from `first` on, which is a multiple of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotBlock {
    pub first: u16,
    pub order: u8,
}

impl SlotBlock {
    /// The order of the smallest that has room for so many; `None` for none at all.
    pub(crate) fn order_for(count: u16) -> Option<u8> {
        (count != 0).then(|| u32::from(count).next_power_of_two().trailing_zeros() as u8)
    }

    pub(crate) fn len(self) -> u32 {
        1 << self.order
    }

    /// The n-th entry, if there are so many.
    pub(crate) fn nth(self, index: u16) -> Option<u16> {
        (u32::from(index) < self.len()).then_some(self.first | index)
    }

    pub(crate) fn contains(self, slot: u16) -> bool {
        u32::from(slot) & !(self.len() - 1) == u32::from(self.first)
    }

    /// The smallest block that holds both.
    pub(crate) fn hull(self, other: Self) -> Self {
        let differing = (self.first ^ other.first).checked_ilog2().map_or(0, |bit| bit as u8 + 1);
        let order = self.order.max(other.order).max(differing);
        let first = (u32::from(self.first) & !((1 << order) - 1)) as u16;
        Self { first, order }
    }
}

/// A bit for each entry, set while it is in use.
#[derive(Debug)]
pub(crate) struct SlotTable<'s> {
    words: List<'s, u64>,
}

impl<'s> SlotTable<'s> {
    pub(crate) const fn without_room() -> Self {
        Self { words: List::without_room() }
    }

    /// None in use, of 64 for each word that there is room for.
    pub(crate) fn new(mut words: List<'s, u64>) -> Self {
        while words.push(0).is_ok() {}
        Self { words }
    }

    /// Takes the lowest free block of this size that `is_good`.
    pub(crate) fn take(&mut self, order: u8, is_good: impl Fn(SlotBlock) -> bool) -> Option<SlotBlock> {
        let step = 1_usize.checked_shl(order.into())?;
        let mut first = 0;
        while first < self.words.len() * 64 {
            let block = SlotBlock { first: u16::try_from(first).ok()?, order };
            if self.is_free(block) && is_good(block) {
                self.set(block, true);
                return Some(block);
            }
            first += step;
        }
        None
    }

    /// Takes this entry. False if it is in use, or there are not so many.
    pub(crate) fn take_this(&mut self, slot: u16) -> bool {
        let block = SlotBlock { first: slot, order: 0 };
        let is_free = self.is_free(block);
        if is_free {
            self.set(block, true);
        }
        is_free
    }

    /// Has the entries of a block be free again.
    pub(crate) fn give_back(&mut self, block: SlotBlock) {
        self.set(block, false);
    }

    fn is_free(&self, block: SlotBlock) -> bool {
        let mut parts = parts(block);
        parts.all(|(word, mask)| self.words.get(word).is_some_and(|word| word & mask == 0))
    }

    fn set(&mut self, block: SlotBlock, used: bool) {
        for (word, mask) in parts(block) {
            if let Some(word) = self.words.get_mut(word) {
                *word = if used { *word | mask } else { *word & !mask };
            }
        }
    }
}

/// The words that a block is in, and its bits there: an aligned block has part of one word, or whole words.
fn parts(block: SlotBlock) -> impl Iterator<Item = (usize, u64)> {
    let (first, bits) = (usize::from(block.first), block.len() as usize);
    let mask = if bits < 64 { ((1 << bits) - 1) << (first % 64) } else { u64::MAX };
    (first / 64..).take(bits.div_ceil(64)).map(move |word| (word, mask))
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::*;

    fn slots(memory: &mut [MaybeUninit<u64>]) -> SlotTable<'_> {
        SlotTable::new(List::new(memory))
    }

    #[test]
    fn blocks_are_aligned_and_never_overlap() {
        let mut memory = [const { MaybeUninit::uninit() }; 4];
        let mut slots = slots(&mut memory);
        let taken = [0, 1, 5, 0, 7].map(|order| slots.take(order, |_| true).map(|block| block.first));
        assert_eq!(taken, [Some(0), Some(2), Some(32), Some(1), Some(128)]);
        assert_eq!(slots.take(6, |_| true).map(|block| block.first), Some(64));
        assert_eq!((slots.take(6, |_| true), slots.take(2, |_| true).map(|block| block.first)), (None, Some(4)));
        slots.give_back(SlotBlock { first: 128, order: 7 });
        assert_eq!(slots.take(6, |_| true).map(|block| block.first), Some(128));
    }

    #[test]
    fn a_block_that_is_no_good_is_left_free() {
        let mut memory = [const { MaybeUninit::uninit() }; 1];
        let mut slots = slots(&mut memory);
        let good = |block: SlotBlock| !block.contains(1) && !block.contains(6);
        assert_eq!(
            [1, 0, 1].map(|order| slots.take(order, good).map(|block| block.first)),
            [Some(2), Some(0), Some(4)]
        );
        assert_eq!(slots.take(0, |_| true).map(|block| block.first), Some(1));
        assert_eq!(slots.take(6, |_| true), None);
    }

    #[test]
    fn a_table_is_used_to_its_end_and_not_beyond() {
        let mut memory = [const { MaybeUninit::uninit() }; 1024];
        let mut slots = slots(&mut memory);
        assert_eq!(slots.take(16, |_| true), Some(SlotBlock { first: 0, order: 16 }));
        assert_eq!(slots.take(0, |_| true), None);
        slots.give_back(SlotBlock { first: 0, order: 16 });
        assert_eq!(
            (slots.take(15, |_| true).is_some(), slots.take(15, |_| true).map(|block| block.first)),
            (true, Some(0x8000))
        );
        assert_eq!(slots.take(0, |_| true), None);
        let mut nothing = SlotTable::without_room();
        assert_eq!((nothing.take(0, |_| true), nothing.take(16, |_| true)), (None, None));
    }

    #[test]
    fn a_block_for_a_count_is_the_smallest_power_of_two() {
        let orders = [0, 1, 2, 3, 32, 33, 0x8000, 0xffff].map(SlotBlock::order_for);
        assert_eq!(orders, [None, Some(0), Some(1), Some(2), Some(5), Some(6), Some(15), Some(16)]);
        let block = SlotBlock { first: 8, order: 2 };
        assert_eq!([0, 3, 4].map(|index| block.nth(index)), [Some(8), Some(11), None]);
        assert_eq!([7, 8, 11, 12].map(|slot| block.contains(slot)), [false, true, true, false]);
    }

    #[test]
    fn a_hull_holds_both_blocks() {
        let block = |first, order| SlotBlock { first, order };
        assert_eq!(block(4, 0).hull(block(5, 0)), block(4, 1));
        assert_eq!(block(4, 2).hull(block(6, 0)), block(4, 2));
        assert_eq!(block(0, 0).hull(block(0xffff, 0)), block(0, 16));
        assert_eq!(block(7, 0).hull(block(7, 0)), block(7, 0));
    }
}
