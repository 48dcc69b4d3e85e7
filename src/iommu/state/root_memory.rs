//! What the root cell has beside all other cells.
#![forbid(unsafe_code)]

use super::{Assignment, CellSet, Config, Stay, Withheld};
use crate::addr::{Iova, IovaRange, PhysRange, SourceId};
use crate::cell::{Cell, CellId, Reserved, without_grants};
use crate::iommu::edit::Edit;
use crate::iommu::error::Error;
use crate::topology::ReservedMemory;

impl Config<'_> {
    /// The root cell, if this edit of another cell may change what it has, as far as the configuration knows: not if only
    /// firmware reserves memory for a device that is assigned.
    pub(in crate::iommu) fn root_behind(&self, edit: &Edit) -> Option<CellId> {
        let root = self.root.cell()?;
        let is_its = |device| self.devices.iter().any(|other| other.cell == root && other.device == device);
        let has_noted = |device| self.devices.iter().any(|other| other.reserved != 0 && other.device == device);
        let concerned = match *edit {
            Edit::Map(..) | Edit::Unmap(..) | Edit::UnmapAny(..) | Edit::Destroy(_) => self.moves_memory_of_root(edit),
            Edit::Assign(device, ..) => is_its(device) || has_noted(device),
            Edit::Release(device) => has_noted(device),
            Edit::MapShared(..) | Edit::Protect(..) => false,
            Edit::Route(..) | Edit::Post(..) | Edit::Keep(..) | Edit::Unroute(..) => false,
        };
        concerned.then_some(root)
    }

    /// Has a device of the root cell leave it, if it is going to be another cell's; one that is only to arrive there does not.
    pub(in crate::iommu) fn leave_root(&mut self, device: SourceId, cell: CellId) {
        let Some(root) = self.root.cell().filter(|root| *root != cell) else { return };
        let is_its = |other: &Assignment| other.cell == root && other.device == device;
        self.remove_devices(&|other| is_its(other) && other.stay == Stay::Arriving);
        self.devices.iter_mut().filter(|other| is_its(other)).for_each(|its| its.stay = Stay::Leaving);
    }

    /// Has the root cell what no other cell is to have for itself, and what is not withheld.
    ///
    /// Of what others give back, it has what there is room for, what joins its regions above all, and the rest with a later
    /// change; all of it if it cannot `get` anything now. Giving back does not fail for that.
    #[inline(never)]
    pub(in crate::iommu) fn stage_root(
        &mut self,
        scope: CellSet,
        get: bool,
        all_reserved: &[ReservedMemory],
    ) -> Result<(), Error> {
        let Self { root, cells, devices, withheld, left, .. } = self;
        let Some(root_cell) = root.cell().filter(|root| scope.has(*root)) else { return Ok(()) };
        let (own, others) = cells.one_and_others(root_cell)?;
        let kept = Kept { others, devices, withheld, scope, all_reserved };
        let kept = |at| kept.lowest_from(at);
        let staged = own.staged.copy_outside(&root.staged, kept);
        if get && staged.is_ok() || root.is_granted_more() {
            return Ok(staged?);
        }
        without_grants(&own.regions, &root.staged, left)?;
        own.staged.copy_outside(left, kept)?;
        let kept_or_left = |at| {
            let left = left.from(at).map(|region| region.input);
            IovaRange::lowest_from(kept(at).into_iter().chain(left), at)
        };
        // Twice: what joins two regions makes room for another.
        (0..if get { 2 } else { 0 }).for_each(|_| own.staged.insert_outside(&root.staged, kept_or_left));
        Ok(())
    }
}

/// What other cells have for themselves: their memory, what firmware reserves for their devices, and what is withheld.
struct Kept<'c, 's, I> {
    others: I,
    devices: &'c [Assignment],
    withheld: &'c Withheld<'s>,
    scope: CellSet,
    all_reserved: &'c [ReservedMemory],
}

impl<'c, 's: 'c, I: Iterator<Item = (CellId, &'c Cell<'s>)> + Clone> Kept<'c, 's, I> {
    /// The lowest of it that ends at an address or above it.
    #[inline(never)]
    fn lowest_from(&self, at: Iova) -> Option<IovaRange> {
        let mut lowest: Option<IovaRange> = None;
        let mut add = |memory: Option<PhysRange>| {
            if let Some(range) = memory.and_then(PhysRange::one_to_one)
                && range.last() >= at
                && lowest.is_none_or(|lowest| range.start() < lowest.start())
            {
                lowest = Some(range);
            }
        };
        for (id, cell) in self.others.clone() {
            let regions = if self.scope.has(id) { &cell.staged } else { &cell.regions };
            // What another change is giving the cell, in which the root cell has no part.
            let coming = if cell.busy && !self.scope.has(id) { cell.staged.parts() } else { &[] };
            let parts = regions.parts().iter().chain(coming);
            parts.filter(|part| !part.shared).for_each(|part| add(part.region.outputs()));
        }
        let cell = |id| self.others.clone().find(|(other, _)| *other == id).map(|(_, cell)| cell);
        for range in self.withheld.iter().filter(|range| !range.shared) {
            if cell(range.cell).is_some_and(|cell| !(cell.doomed && self.scope.has(range.cell))) {
                add(Some(range.memory));
            }
        }
        for device in self.devices.iter().filter(|it| it.reserved != 0 && !it.leaves(self.scope)) {
            if cell(device.cell).is_some_and(|cell| !cell.config.allow_shared_reserved) {
                let reserved = Reserved::new(self.all_reserved, device.reserved);
                reserved.iter().for_each(|memory| add(memory.outputs()));
            }
        }
        lowest
    }
}
