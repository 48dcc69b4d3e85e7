//! Which blocks of pages to invalidate for pages that changed (R26): one that encloses them, or several, or all.
#![forbid(unsafe_code)]

use heapless::Vec;

/// Blocks of one cover at most: it follows from what they [cost](Cost).
pub(crate) const MAX_BLOCKS: usize = 8;

/// 2^`mask` pages from `first` on, which is a multiple of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) first: u64,
    pub(crate) mask: u8,
}

impl Block {
    /// The smallest that holds the pages from `first` to `last`.
    pub(crate) fn enclosing(first: u64, last: u64) -> Self {
        let mask = u64::BITS - (first ^ last).leading_zeros();
        Self { first: first >> mask << mask, mask: mask as u8 }
    }

    fn pages(self) -> u64 {
        1 << self.mask
    }

    fn halves(self) -> [Self; 2] {
        let mask = self.mask - 1;
        [Self { mask, ..self }, Self { first: self.first + (1 << mask), mask }]
    }

    /// What this block has of the pages from `first` to `last`, if anything.
    fn part(self, (first, last): (u64, u64)) -> Option<(u64, u64)> {
        let (first, last) = (first.max(self.first), last.min(self.first + (self.pages() - 1)));
        (first <= last).then_some((first, last))
    }
}

/// What an invalidation costs, by estimate, in lookups of pages that were forgotten in vain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// One descriptor costs as much as forgetting that many pages that did not change. Most of them are not cached.
    pub(crate) descriptor: u64,
    /// No more than so many pages are cached: forgetting more costs no more. Less than `MAX_BLOCKS` + 1 descriptors.
    pub(crate) cached: u64,
}

impl Cost {
    /// In the unit: the descriptor is read and done there.
    pub(crate) const IOTLB: Self = Self { descriptor: 64, cached: 512 };
    /// In a device: a message to it and its answer, of which few may be under way (R23).
    pub(crate) const DEVICE_TLB: Self = Self { descriptor: 256, cached: 512 };

    /// Of forgetting everything.
    const fn all(self) -> u64 {
        self.descriptor + self.cached
    }
}

const _: () = assert!(Cost::IOTLB.all() <= Cost::IOTLB.descriptor * (MAX_BLOCKS as u64 + 1));
const _: () = assert!(Cost::DEVICE_TLB.all() <= Cost::DEVICE_TLB.descriptor * (MAX_BLOCKS as u64 + 1));

/// Which blocks can be invalidated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    pub(crate) cost: Cost,
    /// The largest mask.
    pub(crate) widest: u8,
    /// The mask of the largest page: a page is invalidated as a whole (S 6.5.2.3), so blocks of pages that all changed are
    /// not divided below it.
    pub(crate) page: u8,
}

impl Blocks {
    /// Those of a device-TLB: of any size, except for all there is.
    pub(crate) const OF_DEVICE: Self = Self { cost: Cost::DEVICE_TLB, widest: 51, page: 51 };

    /// Chooses the cheapest blocks that hold all pages of `changed`: ranges of page numbers, first and last, none twice. False,
    /// and nothing is chosen, if forgetting everything costs no more, or nothing else will do.
    pub(crate) fn cover(
        &self,
        changed: impl Iterator<Item = (u64, u64)> + Clone,
        chosen: &mut Vec<Block, MAX_BLOCKS>,
    ) -> bool {
        chosen.clear();
        let mut search = Search { blocks: self, changed, chosen };
        let (first, last) = search.hull(Block { first: 0, mask: 63 });
        first > last || search.cheapest(Block::enclosing(first, last), self.cost.all()).is_some()
    }
}

/// The search for the cheapest blocks. Its parts are functions of their own, so that what calls itself takes little stack.
struct Search<'a, I> {
    blocks: &'a Blocks,
    changed: I,
    chosen: &'a mut Vec<Block, MAX_BLOCKS>,
}

impl<I: Iterator<Item = (u64, u64)> + Clone> Search<'_, I> {
    fn parts(&self, within: Block) -> impl Iterator<Item = (u64, u64)> {
        self.changed.clone().filter_map(move |range| within.part(range))
    }

    /// The first and the last page that changed, in that order unless none did.
    #[inline(never)]
    fn hull(&self, within: Block) -> (u64, u64) {
        self.parts(within).fold((u64::MAX, 0), |(first, last), other| (first.min(other.0), last.max(other.1)))
    }

    /// How many pages changed.
    #[inline(never)]
    fn pages(&self, within: Block) -> u64 {
        self.parts(within).map(|(first, last)| last - first + 1).sum()
    }

    /// Chooses blocks for what changed in `within`, and tells their cost. `None`, and nothing is chosen, if it is not below
    /// `budget`.
    ///
    /// It calls itself only with a budget that is less by a descriptor, so not often.
    #[inline(never)]
    fn cheapest(&mut self, within: Block, budget: u64) -> Option<u64> {
        let (first, last) = self.hull(within);
        let one = Block::enclosing(first, last);
        let unneeded = one.pages().saturating_sub(self.pages(one));
        let Blocks { cost, widest, page } = *self.blocks;
        let alone = if one.mask <= widest { cost.descriptor + unneeded } else { u64::MAX };
        let limit = budget.min(alone);
        // Both halves have something, so two descriptors are the least.
        let divisible = unneeded != 0 || one.mask > page;
        if divisible && limit > 2 * cost.descriptor {
            let [low, high] = one.halves();
            let before = self.chosen.len();
            if let Some(low) = self.cheapest(low, limit - cost.descriptor)
                && let Some(high) = self.cheapest(high, limit - low)
            {
                return Some(low + high);
            }
            self.chosen.truncate(before);
        }
        (alone < budget && self.chosen.push(one).is_ok()).then_some(alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 16;
    const BLOCKS: Blocks = Blocks { cost: Cost::IOTLB, widest: 18, page: 18 };

    fn block(first: u64, mask: u8) -> Block {
        Block { first, mask }
    }

    fn cover(blocks: Blocks, changed: &[(u64, u64)]) -> Option<std::vec::Vec<Block>> {
        let mut chosen = Vec::new();
        blocks.cover(changed.iter().copied(), &mut chosen).then(|| chosen.to_vec())
    }

    #[test]
    fn the_enclosing_block_holds_the_range_and_is_the_smallest() {
        assert_eq!(Block::enclosing(5, 5), block(5, 0));
        assert_eq!(Block::enclosing(4, 5), block(4, 1));
        assert_eq!(Block::enclosing(0x17f, 0x181), block(0x100, 8), "the range crosses 0x180");
        assert_eq!(Block::enclosing(0x200, 0x3ff), block(0x200, 9));
        assert_eq!(Block::enclosing(0, (1 << 52) - 1), block(0, 52));
        for (first, last) in (0..40).flat_map(|first| (first..80).map(move |last| (first, last))) {
            let Block { first: start, mask } = Block::enclosing(first, last);
            let holds = |mask: u8| first >> mask == last >> mask;
            assert!(start <= first && last < start + (1 << mask) && start % (1 << mask) == 0);
            assert!(holds(mask) && (mask == 0 || !holds(mask - 1)));
        }
    }

    #[test]
    fn an_unaligned_range_takes_the_cheaper_of_one_block_or_several() {
        assert_eq!(
            cover(BLOCKS, &[(1, 100)]),
            Some(vec![block(0, 7)]),
            "28 pages too many cost less than a descriptor"
        );
        assert_eq!(
            cover(BLOCKS, &[(0x17f, 0x181)]),
            Some(vec![block(0x17f, 0), block(0x180, 1)]),
            "253 too many do not"
        );
        let device = Blocks::OF_DEVICE;
        assert_eq!(cover(device, &[(0x17f, 0x181)]), Some(vec![block(0x100, 8)]), "but less than a message");
        assert_eq!(cover(device, &[(0xfff, 0x1000)]), Some(vec![block(0xfff, 0), block(0x1000, 0)]));
        assert_eq!(cover(BLOCKS, &[]), Some(vec![]));
    }

    #[test]
    fn beyond_the_widest_block_pages_are_not_divided() {
        let wide = (1 << 19) - 1;
        assert_eq!(cover(BLOCKS, &[(0, wide)]), Some(vec![block(0, 18), block(1 << 18, 18)]));
        assert_eq!(cover(Blocks { widest: 17, ..BLOCKS }, &[(0, wide)]), None, "a page of 1 GiB may be there");
        let quarters = cover(Blocks { widest: 17, page: 9, ..BLOCKS }, &[(0, wide)]).unwrap();
        assert_eq!(quarters, [0, 1, 2, 3].map(|quarter| block(quarter << 17, 17)));
        assert_eq!(cover(Blocks { widest: 15, page: 9, ..BLOCKS }, &[(0, wide)]), None, "16 descriptors cost too much");
        assert_eq!(cover(BLOCKS, &[(0, (1 << 52) - 1)]), None);
    }

    /// All blocks within the first 16 pages.
    fn all_blocks() -> impl Iterator<Item = Block> {
        (0..=4).flat_map(|mask| (0..PAGES >> mask).map(move |index| block(index << mask, mask)))
    }

    fn bits(block: Block) -> u32 {
        (block.first..block.first + block.pages()).fold(0, |bits, page| bits | 1 << page)
    }

    /// For each set of pages, by trying any block on top of any cheaper set: how little blocks for it can cost. Pages in
    /// `changed` cost nothing.
    fn least_cost(blocks: Blocks, changed: u32) -> u64 {
        let mut least = vec![u64::MAX; 1 << PAGES];
        least[0] = 0;
        let usable: std::vec::Vec<(u32, u64)> = all_blocks()
            .filter(|block| block.mask <= blocks.widest)
            .map(|block| (bits(block), blocks.cost.descriptor + u64::from((bits(block) & !changed).count_ones())))
            .collect();
        // Only what is still to be covered matters, so a set stands for the changed pages in it.
        for set in 0..1_u32 << PAGES {
            if set & !changed == 0 && least[set as usize] != u64::MAX {
                for (bits, cost) in &usable {
                    let with = (set | bits & changed) as usize;
                    least[with] = least[with].min(least[set as usize] + cost);
                }
            }
        }
        least[changed as usize]
    }

    #[test]
    fn nothing_covers_what_changed_for_less() {
        let mut random = 0x9e37_79b9_u32;
        let mut below = |end: u32| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random % end
        };
        let (mut by_one, mut by_several, mut by_all) = (0, 0, 0);
        for _ in 0..400 {
            let cost = Cost { descriptor: 1 + u64::from(below(6)), cached: u64::from(below(20)) };
            let cost = Cost { cached: cost.cached.min(cost.descriptor * MAX_BLOCKS as u64), ..cost };
            let blocks = Blocks { cost, widest: below(5) as u8, page: 0 };
            let density = 1 + below(4);
            let changed = (0..PAGES).filter(|_| below(5) < density).fold(0, |bits, page| bits | 1 << page);
            let ranges: std::vec::Vec<(u64, u64)> =
                (0..PAGES).filter(|page| changed >> page & 1 == 1).map(|page| (page, page)).collect();
            let least = least_cost(blocks, changed);
            match cover(blocks, &ranges) {
                None => {
                    by_all += 1;
                    assert!(least >= cost.all(), "{changed:#x} {blocks:?}: {least}");
                }
                Some(chosen) => {
                    let covered = chosen.iter().fold(0, |covered, block| covered | bits(*block));
                    assert_eq!(covered & changed, changed);
                    assert!(chosen.iter().all(|block| block.mask <= blocks.widest));
                    let in_vain = |block: &Block| u64::from((bits(*block) & !changed).count_ones());
                    let paid: u64 = chosen.iter().map(|block| cost.descriptor + in_vain(block)).sum();
                    assert_eq!(paid, least, "{changed:#x} {blocks:?}: {chosen:?}");
                    assert!(changed == 0 || paid < cost.all(), "everything would cost no more: {blocks:?} {chosen:?}");
                    *if chosen.len() == 1 { &mut by_one } else { &mut by_several } += 1;
                }
            }
        }
        assert!(by_one > 20 && by_several > 50 && by_all > 50, "{by_one} {by_several} {by_all}");
    }
}
