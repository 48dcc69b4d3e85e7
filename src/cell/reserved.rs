//! Memory that firmware reserves for devices: which of it a device is to reach, where that stands in the way of a cell's own
//! memory, and what both together are for a page table (R66). `fill_domain` in `iommu/transaction/provide.rs` maps it.
#![forbid(unsafe_code)]

use super::regions::cut;
use super::{CellConfig, Regions};
use crate::addr::{Iova, IovaRange, Region, SourceId};
use crate::hal::Hal;
use crate::pci;
use crate::topology::{ReservedMemory, Topology};

/// The reserved memory of some devices: holes in what their cell's own regions mean for their page table, even where the cell
/// has the same memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved<'t> {
    /// All that there is.
    all: &'t [ReservedMemory],
    /// Which of it counts: bit n for the n-th.
    mask: u64,
}

impl<'t> Reserved<'t> {
    /// None.
    pub(crate) const NONE: Self = Self { all: &[], mask: 0 };

    pub(crate) fn new(all: &'t [ReservedMemory], mask: u64) -> Self {
        Self { all, mask }
    }

    /// True if a device is to reach reserved memory in such a cell that cannot be mapped.
    pub(crate) fn is_lost(topology: &Topology<'_>, hal: &impl Hal, device: SourceId, cell: &CellConfig) -> bool {
        topology.loses_reserved(hal, device) && !is_left_out(hal, device, cell)
    }

    /// Which of all reserved memory a device is to reach in such a cell: its own, and that of all functions that share a
    /// source-id with it, as there is one entry for all of them.
    #[inline(never)]
    pub(crate) fn mask_of(topology: &Topology<'_>, hal: &impl Hal, device: SourceId, cell: &CellConfig) -> u64 {
        if topology.reserved_memory().is_empty() {
            return 0;
        }
        let mut mask = 0;
        if !is_left_out(hal, device, cell) {
            topology.reserved_of(hal, device).for_each(|(index, _)| mask |= 1 << index);
        }
        // A device with too many source-ids is refused.
        if let Ok(requesters) = topology.requesters(hal, device)
            && !requesters.is_alone()
        {
            let shared = topology.reserved_users().filter(|(_, user)| *user != device && requesters.shared_with(*user));
            shared.filter(|(_, user)| !is_left_out(hal, *user, cell)).for_each(|(index, _)| mask |= 1 << index);
        }
        mask
    }

    /// The first that overlaps a cell's own memory, and may not.
    pub(crate) fn conflict(self, cell: &CellConfig, regions: &Regions<'_>) -> Option<Region> {
        let is_same = |region: &Region, memory: &Region| {
            region.output.as_u64() == region.input.start().as_u64() && region.rights.contains(memory.rights)
        };
        let is_in_the_way = |region: &Region, memory: &Region| {
            region.input.overlaps(memory.input) && !(cell.allow_identical_reserved && is_same(region, memory))
        };
        self.iter().find(|memory| regions.iter().any(|region| is_in_the_way(&region, memory)))
    }

    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Region> + Clone + 't {
        let counted = self.all.iter().enumerate().filter(move |(index, _)| self.mask >> index & 1 == 1);
        counted.map(|(_, memory)| memory.region)
    }

    /// The lowest that ends at an address or above it.
    #[inline(never)]
    fn lowest_from(self, at: Iova) -> Option<IovaRange> {
        IovaRange::lowest_from(self.iter().map(|memory| memory.input), at)
    }

    /// Whether an address lies in one, and up to which address that is so.
    pub(crate) fn at(self, at: Iova) -> (bool, u64) {
        if self.mask == 0 {
            return (false, u64::MAX);
        }
        let within = |hole: &IovaRange| hole.start() <= at && at <= hole.last();
        let ranges = self.iter().map(|memory| memory.input);
        match ranges.clone().find(within) {
            Some(hole) => (true, hole.last().as_u64()),
            None => {
                let ahead = ranges.map(|hole| hole.start().as_u64()).filter(|start| *start > at.as_u64());
                (false, ahead.min().map_or(u64::MAX, |start| start.saturating_sub(1)))
            }
        }
    }
}

/// True if such a cell leaves out what firmware reserves for a function.
fn is_left_out(hal: &impl Hal, function: SourceId, cell: &CellConfig) -> bool {
    cell.leave_out_relaxable && pci::is_display_or_usb(hal, function)
}

/// Goes through all that a page table with this reserved memory maps for a cell with these regions, until `each` fails.
pub(crate) fn for_each_mapped<E>(
    regions: &Regions<'_>,
    reserved: Reserved<'_>,
    mut each: impl FnMut(Region) -> Result<(), E>,
) -> Result<(), E> {
    for region in regions.iter() {
        for range in region.input.outside(|at| reserved.lowest_from(at)) {
            if let Some(part) = cut(region, range) {
                each(part)?;
            }
        }
    }
    for memory in reserved.iter() {
        each(memory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PhysAddr, Rights};

    /// Firmware's tables name reserved memory in any order.
    #[test]
    fn what_is_ahead_is_the_nearest_in_whichever_order_it_is_named() {
        let memory = |page: u64| {
            let (input, output) = (Iova::new(page << 12), PhysAddr::new(page << 12));
            ReservedMemory { region: Region::new(input, output, 0x1000, Rights::all()).unwrap(), offset: 0 }
        };
        for order in [[2, 5, 9], [9, 5, 2], [5, 9, 2], [9, 2, 5]] {
            let all = order.map(memory);
            let at = |page: u64| Reserved::new(&all, 0b111).at(Iova::new(page << 12));
            assert_eq!([0, 3, 6].map(at), [(false, 0x1fff), (false, 0x4fff), (false, 0x8fff)], "{order:?}");
            assert_eq!([2, 9].map(at), [(true, 0x2fff), (true, 0x9fff)], "{order:?}");
            assert_eq!(at(10), (false, u64::MAX), "{order:?}");
            let counted = order.iter().position(|page| *page == 5).unwrap();
            assert_eq!(Reserved::new(&all, 1 << counted).at(Iova::new(0)), (false, 0x4fff), "{order:?}");
            assert_eq!(Reserved::new(&all, 0b111).lowest_from(Iova::new(0x3000)), Some(all[counted].region.input));
        }
    }
}
