//! The root cell: it has what no other cell has.
#![forbid(unsafe_code)]

use crate::addr::IovaRange;
use crate::cell::{
    CellId, RegionDifference, RegionDifferences, RegionError, Regions, Reserved, check_room_without_grants,
    without_grants,
};
use crate::limits::List;

/// The root cell's memory, as if there were no other cell.
#[derive(Debug)]
pub(in crate::iommu) struct Root<'s> {
    cell: Option<CellId>,
    whole: Regions<'s>,
    pub(super) staged: Regions<'s>,
    /// What was taken from a cell while a unit failed, so that the unit's devices may still reach it.
    withheld: List<'s, (CellId, IovaRange)>,
}

impl<'s> Root<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        Self {
            cell: None,
            whole: Regions::without_room(),
            staged: Regions::without_room(),
            withheld: List::without_room(),
        }
    }

    pub(in crate::iommu) fn new(
        whole: Regions<'s>,
        staged: Regions<'s>,
        withheld: List<'s, (CellId, IovaRange)>,
    ) -> Self {
        Self { cell: None, whole, staged, withheld }
    }

    /// Which cell it is, if there is one.
    pub(in crate::iommu) fn cell(&self) -> Option<CellId> {
        self.cell
    }

    pub(in crate::iommu) fn is(&self, cell: CellId) -> bool {
        self.cell == Some(cell)
    }

    /// Its memory in a change, as if there were no other cell.
    pub(in crate::iommu) fn staged(&self) -> &Regions<'s> {
        &self.staged
    }

    /// From now on this cell is the root cell.
    pub(in crate::iommu) fn set(&mut self, cell: CellId) {
        self.cell = Some(cell);
        self.whole.clear();
        self.staged.clear();
    }

    /// A change begins.
    pub(in crate::iommu) fn begin(&mut self) {
        self.staged.copy_from(&self.whole);
    }

    /// True if the change grants the root cell memory or rights that it would not have without other cells.
    pub(super) fn is_granted_more(&self) -> bool {
        let is_more = |it: RegionDifference| it.granted().is_some() || it.widened().is_some();
        RegionDifferences::new(&self.whole, &self.staged, Reserved::NONE).any(is_more)
    }

    /// Fails if there is no room for what is left of its memory when a change fails. `left` is room to work in.
    pub(in crate::iommu) fn check_room(&self, left: &mut Regions<'_>) -> Result<(), RegionError> {
        check_room_without_grants(&self.whole, &self.staged, left)
    }

    /// A change ends. `left` is room to work in.
    pub(in crate::iommu) fn end(&mut self, succeeded: bool, left: &mut Regions<'_>) {
        if !succeeded {
            // It fits: that is what `check_room` is for.
            let _ = without_grants(&self.whole, &self.staged, left);
            self.staged.copy_from(left);
        }
        self.whole.copy_from(&self.staged);
    }

    /// A cell is gone. The root cell may have what was withheld for it: so is every device of it that could still reach that.
    pub(in crate::iommu) fn forget(&mut self, cell: CellId) {
        if self.is(cell) {
            self.cell = None;
        }
        self.withheld.retain(|(other, _)| *other != cell);
    }

    /// What is kept from the root cell, and whose it was.
    pub(super) fn withheld(&self) -> &[(CellId, IovaRange)] {
        &self.withheld
    }

    /// Keeps a range from the root cell that was this cell's. If there is no room for one more, what lies between two of one
    /// cell is withheld, too.
    pub(super) fn withhold(&mut self, cell: CellId, range: IovaRange) {
        let its = self.withheld.iter_mut().filter(|(other, _)| *other == cell);
        for (_, known) in its {
            if known.overlaps(range) || known.ends_before(range) || range.ends_before(*known) {
                *known = known.hull(range);
                return;
            }
        }
        if self.withheld.is_full() {
            self.join_two();
        }
        // There is room: the list is longer than there are cells, so one of them had two.
        let _ = self.withheld.push((cell, range));
    }

    /// Makes one range of the two of one cell that are the smallest as one.
    fn join_two(&mut self) {
        let mut closest: Option<(u64, usize, IovaRange)> = None;
        for (index, (cell, range)) in self.withheld.iter().enumerate() {
            let others = self.withheld.iter().take(index).filter(|(other, _)| other == cell);
            for hull in others.map(|(_, other)| other.hull(*range)) {
                if closest.is_none_or(|(bytes, ..)| hull.bytes() < bytes) {
                    closest = Some((hull.bytes(), index, hull));
                }
            }
        }
        if let Some((_, index, hull)) = closest
            && let Some((cell, range)) = self.withheld.swap_remove(index)
            && let Some((_, other)) =
                self.withheld.iter_mut().find(|(it, other)| *it == cell && other.hull(range) == hull)
        {
            *other = hull;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::*;
    use crate::addr::Iova;

    #[test]
    fn no_room_makes_more_withheld_and_never_less() {
        let cell = |index| CellId { index, generation: 1 };
        let range = |start| IovaRange::new(Iova::new(start), 0x1000).unwrap();
        // More than there are cells.
        let mut slots = [const { MaybeUninit::uninit() }; 4];
        let mut root = Root { withheld: List::new(&mut slots), ..Root::without_room() };
        let mut all = std::vec::Vec::new();
        for step in 0..50_u64 {
            let (cell, range) = (cell((step * 7 % 3) as u16), range(step * 13 % 50 * 0x10_0000));
            root.withhold(cell, range);
            all.push((cell, range));
            for (cell, range) in &all {
                let mut its = root.withheld().iter().filter(|(other, _)| other == cell);
                assert!(its.any(|(_, known)| known.contains(*range)), "{cell}, {range}");
            }
        }
        root.forget(cell(0));
        root.forget(cell(1));
        assert!(root.withheld().iter().all(|(other, _)| *other == cell(2)), "each cell has its own");
        root.forget(cell(2));
        assert_eq!(root.withheld(), []);
    }
}
