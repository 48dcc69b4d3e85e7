//! The root cell: it has what no other cell has.
#![forbid(unsafe_code)]

use crate::addr::IovaRange;
use crate::cell::{CellId, Regions, withdraw_grants};
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

    /// A change ends. `left` is room to work in.
    pub(in crate::iommu) fn end(&mut self, succeeded: bool, left: &mut Regions<'_>) {
        if !succeeded {
            withdraw_grants(&self.whole, &mut self.staged, left);
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

    pub(super) fn withhold(&mut self, cell: CellId, range: IovaRange) {
        let its = self.withheld.iter_mut().filter(|(other, _)| *other == cell);
        for (_, known) in its {
            if known.overlaps(range) || known.ends_before(range) || range.ends_before(*known) {
                *known = known.hull(range);
                return;
            }
        }
        if self.withheld.push((cell, range)).is_err() {
            // Then it never gets it, and if there is no room to leave a hole, whatever that costs.
            if self.whole.subtract(range).is_err() {
                self.whole.clear();
            }
        }
    }
}
