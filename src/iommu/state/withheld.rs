//! Memory that devices of a cell may still reach although the cell does not have it, or not by all rights, since a unit has not
//! confirmed that. When
//! that is so, `withholding.rs` says.
#![forbid(unsafe_code)]

use crate::addr::PhysRange;
use crate::cell::CellId;
use crate::limits::List;

/// Memory that devices of this cell may still reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::iommu) struct WithheldRange {
    pub(in crate::iommu) cell: CellId,
    pub(in crate::iommu) memory: PhysRange,
    /// The cell had it in common with others.
    pub(in crate::iommu) shared: bool,
}

impl WithheldRange {
    fn is_like(&self, other: &Self) -> bool {
        (self.cell, self.shared) == (other.cell, other.shared)
    }
}

/// All memory that is withheld: no other cell is granted it, and no root cell, whether there is one by now or not.
#[derive(Debug)]
pub(in crate::iommu) struct Withheld<'s> {
    all: List<'s, WithheldRange>,
}

impl<'s> Withheld<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        Self { all: List::without_room() }
    }

    /// None, in a list that has room for more than two of each cell.
    pub(in crate::iommu) fn new(all: List<'s, WithheldRange>) -> Self {
        Self { all }
    }

    pub(in crate::iommu) fn iter(&self) -> impl Iterator<Item = &WithheldRange> + Clone {
        self.all.iter()
    }

    /// Withholds a range. If there is no room for one more, what lies between two that are alike is withheld, too.
    pub(super) fn add(&mut self, new: WithheldRange) {
        let known = self.all.iter_mut().find(|known| known.is_like(&new) && known.memory.touches(new.memory));
        if let Some(known) = known {
            known.memory = known.memory.hull(new.memory);
            return;
        }
        if self.all.is_full() {
            self.join_two();
        }
        // There is room: the list is longer than there are kinds, so there were two of one.
        let _ = self.all.push(new);
    }

    /// Withholds no longer what is not to be kept.
    pub(super) fn retain(&mut self, is_kept: impl FnMut(&WithheldRange) -> bool) {
        self.all.retain(is_kept);
    }

    /// Makes one range of the two that are alike and the smallest as one.
    fn join_two(&mut self) {
        let mut closest: Option<(u64, usize, PhysRange)> = None;
        for (index, range) in self.all.iter().enumerate() {
            let others = self.all.iter().take(index).filter(|other| other.is_like(range));
            for hull in others.map(|other| other.memory.hull(range.memory)) {
                if closest.is_none_or(|(span, ..)| hull.span() < span) {
                    closest = Some((hull.span(), index, hull));
                }
            }
        }
        if let Some((_, index, hull)) = closest
            && let Some(range) = self.all.swap_remove(index)
            && let Some(other) =
                self.all.iter_mut().find(|other| other.is_like(&range) && other.memory.hull(range.memory) == hull)
        {
            other.memory = hull;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::*;
    use crate::addr::PhysAddr;

    #[test]
    fn no_room_makes_more_withheld_and_never_less() {
        // More than there are kinds: of three cells, each shared or not.
        let mut slots = [const { MaybeUninit::uninit() }; 7];
        let mut withheld = Withheld::new(List::new(&mut slots));
        let mut all = std::vec::Vec::new();
        for step in 0..80_u64 {
            let cell = CellId { index: (step * 7 % 3) as u16, generation: 1, tag: 0 };
            let memory = PhysRange::new(PhysAddr::new(step * 13 % 80 * 0x10_0000), 0x1000).unwrap();
            let range = WithheldRange { cell, memory, shared: step % 2 == 1 };
            withheld.add(range);
            all.push(range);
            for range in &all {
                let is_its = |other: &&WithheldRange| (other.cell, other.shared) == (range.cell, range.shared);
                let mut its = withheld.iter().filter(is_its);
                let holds = |other: &WithheldRange| other.memory.intersection(range.memory) == Some(range.memory);
                assert!(its.any(holds), "{range:?}");
            }
        }
    }
    /// Each cell confirms for itself, and memory in common is not kept from the root cell.
    #[test]
    fn ranges_that_touch_are_one_where_cell_and_kind_are_the_same() {
        let mut slots = [const { MaybeUninit::uninit() }; 7];
        let mut withheld = Withheld::new(List::new(&mut slots));
        let range = |page: u64, index, shared| WithheldRange {
            cell: CellId { index, generation: 1, tag: 0 },
            memory: PhysRange::new(PhysAddr::new(page * 0x1000), 0x1000).unwrap(),
            shared,
        };
        let all = [range(1, 0, false), range(2, 1, false), range(3, 1, true)];
        all.iter().for_each(|range| withheld.add(*range));
        assert!(withheld.iter().eq(&all));
        withheld.add(range(0, 0, false));
        assert_eq!(
            withheld.iter().map(|range| range.memory.span()).collect::<std::vec::Vec<_>>(),
            [0x1fff, 0xfff, 0xfff]
        );
    }
}
