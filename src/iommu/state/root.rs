//! The root cell: it has what no other cell has.
#![forbid(unsafe_code)]

use core::mem;

use crate::cell::{
    Cell, CellId, RegionDifference, RegionDifferences, RegionError, Regions, Reserved, check_room_without_grants,
    without_grants,
};

/// The root cell's memory, as if there were no other cell.
#[derive(Debug)]
pub(in crate::iommu) struct Root<'s> {
    cell: Option<CellId>,
    whole: Regions<'s>,
    pub(super) staged: Regions<'s>,
    /// What is its own in place of its slot's lists, which are here meanwhile: it has more regions than other cells.
    committed: Regions<'s>,
    planned: Regions<'s>,
}

impl<'s> Root<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        let [whole, staged, committed, planned] = [const { Regions::without_room() }; 4];
        Self { cell: None, whole, staged, committed, planned }
    }

    /// None, with room for its regions in each of these.
    pub(in crate::iommu) fn new([whole, staged, committed, planned]: [Regions<'s>; 4]) -> Self {
        Self { cell: None, whole, staged, committed, planned }
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

    /// Its memory as it is committed, as if there were no other cell.
    pub(super) fn whole(&self) -> &Regions<'s> {
        &self.whole
    }

    /// From now on this cell, which has nothing yet, is the root cell.
    pub(in crate::iommu) fn set(&mut self, id: CellId, cell: &mut Cell<'s>) {
        self.cell = Some(id);
        self.swap_lists(cell);
        for regions in [&mut self.whole, &mut self.staged, &mut cell.regions, &mut cell.staged] {
            regions.clear();
        }
    }

    fn swap_lists(&mut self, cell: &mut Cell<'s>) {
        mem::swap(&mut self.committed, &mut cell.regions);
        mem::swap(&mut self.planned, &mut cell.staged);
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

    /// A cell is gone.
    pub(in crate::iommu) fn forget(&mut self, id: CellId, cell: &mut Cell<'s>) {
        if self.is(id) {
            self.cell = None;
            self.swap_lists(cell);
        }
    }
}
