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

    /// Which of all reserved memory a device is to reach in such a cell.
    pub(crate) fn mask_of(topology: &Topology<'_>, hal: &impl Hal, device: SourceId, cell: &CellConfig) -> u64 {
        if cell.leave_out_relaxable && pci::is_display_or_usb(hal, device) {
            return 0;
        }
        topology.reserved_of(hal, device).fold(0, |mask, (index, _)| mask | 1 << index)
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

/// What of a range is outside of all `holes`, in ascending order.
pub(crate) fn outside(
    range: IovaRange,
    holes: impl Iterator<Item = IovaRange> + Clone,
) -> impl Iterator<Item = IovaRange> {
    let mut next = Some(range.start());
    let step = move || {
        let mut start = next?;
        while let Some(hole) = holes.clone().find(|hole| hole.start() <= start && start <= hole.last()) {
            start = hole.last().checked_add(1)?;
        }
        let ahead = holes.clone().map(|hole| hole.start().as_u64()).filter(|hole| *hole > start.as_u64());
        let last = ahead.min().map_or(u64::MAX, |hole| hole.saturating_sub(1)).min(range.last().as_u64());
        next = last.checked_add(1).map(Iova::new);
        IovaRange::new(start, last.checked_sub(start.as_u64())?.saturating_add(1))
    };
    core::iter::from_fn(step)
}

/// Goes through all that a page table with this reserved memory maps for a cell with these regions, until `each` fails.
pub(crate) fn for_each_mapped<E>(
    regions: &Regions<'_>,
    reserved: Reserved<'_>,
    mut each: impl FnMut(Region) -> Result<(), E>,
) -> Result<(), E> {
    for region in regions.iter() {
        for range in outside(region.input, reserved.iter().map(|memory| memory.input)) {
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

    fn range(first: u64, end: u64) -> IovaRange {
        IovaRange::new(Iova::new(first), end - first).unwrap()
    }

    #[test]
    fn what_is_outside_of_holes_is_what_none_of_them_has() {
        let outside = |holes: &[(u64, u64)]| {
            let holes = holes.iter().map(|&(first, end)| range(first, end));
            let ends = |left: IovaRange| (left.start().as_u64(), left.last().as_u64() + 1);
            super::outside(range(10, 20), holes).map(ends).collect::<Vec<_>>()
        };
        assert_eq!(outside(&[]), [(10, 20)]);
        assert_eq!(outside(&[(0, 10), (20, 30)]), [(10, 20)]);
        assert_eq!(outside(&[(15, 16), (12, 13), (15, 18)]), [(10, 12), (13, 15), (18, 20)]);
        assert_eq!(outside(&[(0, 11), (19, 30)]), [(11, 19)]);
        assert_eq!(outside(&[(12, 14), (14, 20)]), [(10, 12)]);
        assert_eq!(outside(&[(5, 25)]), []);
        let top = IovaRange::new(Iova::new(u64::MAX - 1), 1).unwrap();
        assert_eq!(super::outside(top, core::iter::empty()).collect::<Vec<_>>(), [top]);
    }
}
