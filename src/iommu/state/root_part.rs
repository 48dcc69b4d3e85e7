//! Whether the root cell has part in a change of other cells: only if it may lose memory by that, or get some back. Changes
//! in which it has no part do not wait for each other.
#![forbid(unsafe_code)]

use super::Config;
use crate::addr::{Iova, IovaRange, Region};
use crate::cell::{CellId, cut};
use crate::iommu::edit::Edit;

impl Config<'_> {
    /// True if an edit of another cell takes memory from the root cell, or gives some back, as far as the root cell would have
    /// it if there were no other cell.
    ///
    /// What earlier edits of the same change have mapped does not count: each is looked at by itself.
    pub(super) fn moves_memory_of_root(&self, edit: &Edit) -> bool {
        match *edit {
            Edit::Map(_, region) => self.is_memory_of_root(region),
            Edit::Unmap(cell, range) | Edit::UnmapAny(cell, range) => self.has_memory_of_root(cell, Some(range)),
            Edit::Destroy(cell) => {
                let is_withheld = self.withheld.iter().any(|range| range.cell == cell);
                let has_reserved = self.devices.iter().any(|device| device.cell == cell && device.reserved != 0);
                is_withheld || has_reserved || self.has_memory_of_root(cell, None)
            }
            _ => false,
        }
    }

    /// True if a cell has such memory for itself, in a range if that is given.
    fn has_memory_of_root(&self, cell: CellId, range: Option<IovaRange>) -> bool {
        let Ok(cell) = self.cell(cell) else { return false };
        let own = cell.regions.parts().iter().filter(|part| !part.shared);
        let mut within = own.filter_map(|part| range.map_or(Some(part.region), |range| cut(part.region, range)));
        within.any(|region| self.is_memory_of_root(region))
    }

    /// True if the root cell would have some of the memory behind a region, by now or after a change that is under way.
    fn is_memory_of_root(&self, region: Region) -> bool {
        let first = Iova::new(region.output.as_u64());
        let last = first.as_u64().saturating_add(region.input.bytes().saturating_sub(1));
        let is_changing = self.root.cell().and_then(|root| self.cell(root).ok()).is_some_and(|root| root.busy);
        let lists = [Some(self.root.whole()), is_changing.then_some(self.root.staged())];
        lists.into_iter().flatten().any(|list| list.from(first).is_some_and(|own| own.input.start().as_u64() <= last))
    }
}
