//! What the root cell has beside all other cells.
#![forbid(unsafe_code)]

use super::{CellSet, Config, Stay};
use crate::addr::{Iova, IovaRange, Region, SourceId};
use crate::cell::{CellId, Part, RegionDifferences, Regions, Reserved, without_grants};
use crate::iommu::edit::Edit;
use crate::iommu::error::Error;

/// What of a change a unit's devices may still reach although it failed.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) enum Withheld {
    Revoked,
    Granted,
}

/// The memory behind a region, as the root cell sees it.
fn one_to_one(region: Region) -> Option<IovaRange> {
    IovaRange::new(Iova::new(region.output.as_u64()), region.input.bytes())
}

impl Config<'_> {
    /// The root cell, if this edit of another cell may change what it has.
    pub(in crate::iommu) fn root_behind(&self, edit: &Edit) -> Option<CellId> {
        let root = self.root.cell()?;
        let is_its = |device| self.devices.iter().any(|other| other.cell == root && other.device == device);
        let concerned = match *edit {
            Edit::Map(..) | Edit::Unmap(..) | Edit::Destroy(_) => true,
            Edit::Assign(device, ..) => is_its(device),
            Edit::MapShared(..) | Edit::Protect(..) | Edit::Release(_) => false,
        };
        concerned.then_some(root)
    }

    /// Has a device of the root cell leave it, if it is going to be another cell's.
    pub(in crate::iommu) fn leave_root(&mut self, device: SourceId, cell: CellId) {
        let Some(root) = self.root.cell().filter(|root| *root != cell) else { return };
        let its = self.devices.iter_mut().filter(|other| other.cell == root && other.device == device);
        its.filter(|its| its.stay == Stay::Staying).for_each(|its| its.stay = Stay::Leaving);
    }

    /// Keeps from the root cell, the one that there is or one that is made later, what a change has taken from other cells, or
    /// has granted and taken back, without a unit's word that its devices do not reach it any more: until those cells are
    /// destroyed.
    #[inline(never)]
    pub(in crate::iommu) fn withhold(&mut self, scope: CellSet, what: Withheld) {
        let Self { root, cells, .. } = self;
        let root_cell = root.cell();
        for (id, cell) in cells.iter().filter(|(id, _)| root_cell != Some(*id) && scope.has(*id)) {
            for difference in RegionDifferences::new(&cell.regions, &cell.staged, Reserved::NONE) {
                let (moved, from) = match what {
                    Withheld::Revoked => (difference.revoked(), &cell.regions),
                    Withheld::Granted => (difference.granted(), &cell.staged),
                };
                let Some(region) = moved else { continue };
                let own = |part: &Part| !part.shared && part.region.input.overlaps(region.input);
                if let Some(memory) = one_to_one(region).filter(|_| from.parts().iter().any(own)) {
                    root.withhold(id, memory);
                }
            }
        }
    }

    /// Has the root cell what no other cell is to have for itself, and what is not withheld.
    ///
    /// What others give back comes with a later change if there is no room for all of it, or if the root cell cannot `get`
    /// anything now: giving back does not fail for that. `left` is room to work in.
    #[inline(never)]
    pub(in crate::iommu) fn stage_root(
        &mut self,
        scope: CellSet,
        get: bool,
        left: &mut Regions<'_>,
    ) -> Result<(), Error> {
        let Self { root, cells, .. } = self;
        let Some(root_cell) = root.cell().filter(|root| scope.has(*root)) else { return Ok(()) };
        let (own, others) = cells.one_and_others(root_cell)?;
        let kept = others.flat_map(|(id, cell)| {
            let regions = if scope.has(id) { &cell.staged } else { &cell.regions };
            let own = regions.parts().iter().filter(|part| !part.shared).filter_map(|part| one_to_one(part.region));
            let withheld = root.withheld().iter().filter(move |(other, _)| *other == id && !cell.doomed);
            own.chain(withheld.map(|(_, range)| *range))
        });
        let kept = |at| IovaRange::lowest_from(kept.clone(), at);
        let staged = own.staged.copy_outside(&root.staged, kept);
        if get && staged.is_ok() || root.is_granted_more() {
            return Ok(staged?);
        }
        without_grants(&own.regions, &root.staged, left)?;
        Ok(own.staged.copy_outside(left, kept)?)
    }
}
