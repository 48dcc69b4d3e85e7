#![forbid(unsafe_code)]

use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::limits::{self, Full};

/// Why the regions of a cell cannot be changed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionError {
    /// There is one there already.
    Overlap(Region),
    /// Nothing is granted from this address on.
    NotGranted(Iova),
    /// No room.
    Full(Full),
}

const FULL: RegionError = RegionError::Full(Full { what: "regions in this cell", capacity: limits::REGIONS });

/// The regions of a cell, sorted by input address; no two overlap, and none continues another.
#[derive(Debug, Default)]
pub(crate) struct Regions(heapless::Vec<Region, { limits::REGIONS }>);

impl Clone for Regions {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    /// Copies the regions that there are, not the room for more.
    fn clone_from(&mut self, from: &Self) {
        self.0.clear();
        for region in from.0.iter() {
            let _ = self.0.push(*region);
        }
    }
}

impl Regions {
    pub(crate) const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn as_slice(&self) -> &[Region] {
        &self.0
    }

    /// The lowest region that ends at `start` or above.
    pub(super) fn from(&self, start: Iova) -> Option<Region> {
        self.0.iter().find(|region| region.input.last() >= start).copied()
    }

    /// These regions and `region`.
    pub(crate) fn with(&self, region: Region) -> Result<Self, RegionError> {
        if let Some(&other) = self.0.iter().find(|other| other.input.overlaps(region.input)) {
            return Err(RegionError::Overlap(other));
        }
        let is_below = |other: &&Region| other.input.last() < region.input.start();
        let mut all = Self::new();
        for &part in self.0.iter().filter(is_below).chain([&region]).chain(self.0.iter().filter(|r| !is_below(r))) {
            all.push(Some(part))?;
        }
        Ok(all)
    }

    /// These regions with other rights for `range`, all of which has to be granted now.
    pub(crate) fn with_rights(&self, range: IovaRange, rights: Rights) -> Result<Self, RegionError> {
        self.edit(range, |region| part(region, range).map(|inner| Region { rights, ..inner }))
    }

    /// These regions without `range`, all of which has to be granted now. What is left of a region at either side stays.
    pub(crate) fn without(&self, range: IovaRange) -> Result<Self, RegionError> {
        self.edit(range, |_| None)
    }

    /// These regions without what of `range` is granted.
    pub(crate) fn minus(&self, range: IovaRange) -> Result<Self, RegionError> {
        let mut rest = Self::new();
        for &region in &self.0 {
            if !region.input.overlaps(range) {
                rest.push(Some(region))?;
                continue;
            }
            rest.push(before(region, range.start()))?;
            rest.push(range.last().checked_add(1).and_then(|start| after(region, start)))?;
        }
        Ok(rest)
    }

    /// Puts what `inside` makes of it in the place of each region's part within `range`.
    fn edit(&self, range: IovaRange, inside: impl Fn(Region) -> Option<Region>) -> Result<Self, RegionError> {
        let mut next = Some(range.start());
        let mut rest = Self::new();
        for &region in &self.0 {
            if !region.input.overlaps(range) {
                rest.push(Some(region))?;
                continue;
            }
            if let Some(expected) = next.filter(|&expected| region.input.start() > expected) {
                return Err(RegionError::NotGranted(expected));
            }
            next = region.input.last().checked_add(1);
            rest.push(before(region, range.start()))?;
            rest.push(inside(region))?;
            rest.push(range.last().checked_add(1).and_then(|start| after(region, start)))?;
        }
        match next {
            Some(next) if next <= range.last() => Err(RegionError::NotGranted(next)),
            _ => Ok(rest),
        }
    }

    /// Appends a region above all others; one that continues the last becomes part of it.
    fn push(&mut self, region: Option<Region>) -> Result<(), RegionError> {
        let Some(region) = region else { return Ok(()) };
        if let Some(last) = self.0.last_mut()
            && let Some(joined) = join(*last, region)
        {
            *last = joined;
            return Ok(());
        }
        self.0.push(region).map_err(|_| FULL)
    }
}

/// Both as one, if `high` continues `low` on both sides with the same rights.
fn join(low: Region, high: Region) -> Option<Region> {
    let bytes = low.input.bytes();
    let continues = low.input.last().checked_add(1) == Some(high.input.start())
        && low.output.as_u64().checked_add(bytes) == Some(high.output.as_u64())
        && low.rights == high.rights;
    continues.then(|| Region { input: low.input.hull(high.input), ..low })
}

/// The part of `region` within `range`, if they overlap.
pub(super) fn part(region: Region, range: IovaRange) -> Option<Region> {
    let from = if region.input.start() < range.start() { after(region, range.start())? } else { region };
    match range.last().checked_add(1) {
        Some(end) => before(from, end),
        None => Some(from),
    }
}

/// The part of `region` below `end`.
fn before(region: Region, end: Iova) -> Option<Region> {
    let bytes = end.as_u64().checked_sub(region.input.start().as_u64())?.min(region.input.bytes());
    Region::new(region.input.start(), region.output, bytes, region.rights)
}

/// The part of `region` from `start` on, if `start` is not below the region.
fn after(region: Region, start: Iova) -> Option<Region> {
    let skipped = start.as_u64().checked_sub(region.input.start().as_u64())?;
    let bytes = region.input.last().as_u64().checked_sub(start.as_u64())?.saturating_add(1);
    let output = PhysAddr::new_truncate(region.output.as_u64().wrapping_add(skipped));
    Region::new(start, output, bytes, region.rights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(first: u64, end: u64) -> Region {
        let output = PhysAddr::new(0x10_0000 + first);
        Region::new(Iova::new(first), output, end - first, Rights::READ).unwrap()
    }

    fn range(first: u64, end: u64) -> IovaRange {
        region(first, end).input
    }

    fn regions(parts: &[(u64, u64)]) -> Regions {
        parts.iter().fold(Regions::new(), |all, &(first, end)| all.with(region(first, end)).unwrap())
    }

    fn parts(regions: &Regions) -> Vec<(u64, u64)> {
        let part = |region: &Region| {
            assert_eq!(region.output.as_u64(), 0x10_0000 + region.input.start().as_u64(), "keeps its memory");
            (region.input.start().as_u64(), region.input.last().as_u64() + 1)
        };
        regions.as_slice().iter().map(part).collect()
    }

    #[test]
    fn regions_are_sorted_and_never_overlap() {
        let all = regions(&[(40, 50), (0, 10), (20, 30)]);
        assert_eq!(parts(&all), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!(all.with(region(29, 35)).unwrap_err(), RegionError::Overlap(region(20, 30)));
        assert_eq!(all.with(region(5, 45)).unwrap_err(), RegionError::Overlap(region(0, 10)));
        assert_eq!(parts(&all.with(region(11, 19)).unwrap()), [(0, 10), (11, 19), (20, 30), (40, 50)]);
    }

    #[test]
    fn a_region_that_continues_another_becomes_part_of_it() {
        let all = regions(&[(0, 10), (20, 30), (40, 50)]);
        assert_eq!(parts(&all.with(region(10, 20)).unwrap()), [(0, 30), (40, 50)]);
        assert_eq!(parts(&all.with(region(35, 40)).unwrap()), [(0, 10), (20, 30), (35, 50)]);
        let elsewhere = Region { output: PhysAddr::new(0), ..region(10, 20) };
        assert_eq!(all.with(elsewhere).unwrap().as_slice().len(), 4);
        let writable = Region { rights: Rights::all(), ..region(10, 20) };
        assert_eq!(all.with(writable).unwrap().as_slice().len(), 4);
    }

    #[test]
    fn other_rights_hold_for_the_range_alone() {
        let all = regions(&[(0, 10), (10, 20), (30, 40)]);
        let of = |first, end| {
            let changed = all.with_rights(range(first, end), Rights::WRITE).unwrap();
            let written = changed.as_slice().iter().filter(|region| region.rights == Rights::WRITE);
            (written.map(|region| region.input).collect::<Vec<_>>(), parts(&changed))
        };
        assert_eq!(of(5, 15), (vec![range(5, 15)], vec![(0, 5), (5, 15), (15, 20), (30, 40)]));
        assert_eq!(of(0, 20), (vec![range(0, 20)], vec![(0, 20), (30, 40)]));
        assert_eq!(of(30, 31), (vec![range(30, 31)], vec![(0, 20), (30, 31), (31, 40)]));
        let apart = Region { output: PhysAddr::new(0), ..region(20, 30) };
        let changed = all.with(apart).unwrap().with_rights(range(15, 35), Rights::WRITE).unwrap();
        let lengths: Vec<_> = changed.as_slice().iter().map(|region| region.input.bytes()).collect();
        assert_eq!(lengths, [15, 5, 10, 5, 5], "each region keeps its own memory");
        assert_eq!(all.with_rights(range(15, 35), Rights::WRITE).unwrap_err(), RegionError::NotGranted(Iova::new(20)));
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_with_its_memory() {
        let all = regions(&[(0, 20), (30, 40)]);
        let taken = |first, end| parts(&all.without(range(first, end)).unwrap());
        assert_eq!(taken(0, 10), [(10, 20), (30, 40)]);
        assert_eq!(taken(32, 35), [(0, 20), (30, 32), (35, 40)]);
        assert_eq!(taken(5, 15), [(0, 5), (15, 20), (30, 40)]);
        assert_eq!(taken(0, 20), [(30, 40)]);
        assert_eq!(taken(39, 40), [(0, 20), (30, 39)]);
    }

    #[test]
    fn what_is_not_granted_cannot_be_taken_out() {
        let all = regions(&[(10, 20), (30, 40)]);
        let refused = |first, end| all.without(range(first, end)).unwrap_err();
        assert_eq!(refused(0, 5), RegionError::NotGranted(Iova::new(0)));
        assert_eq!(refused(5, 15), RegionError::NotGranted(Iova::new(5)));
        assert_eq!(refused(15, 25), RegionError::NotGranted(Iova::new(20)));
        assert_eq!(refused(15, 35), RegionError::NotGranted(Iova::new(20)));
        assert_eq!(refused(50, 60), RegionError::NotGranted(Iova::new(50)));
    }

    #[test]
    fn what_is_there_of_a_range_can_be_taken_out() {
        let all = regions(&[(10, 20), (30, 40)]);
        let rest = |first, end| parts(&all.minus(range(first, end)).unwrap());
        assert_eq!(rest(0, 5), [(10, 20), (30, 40)]);
        assert_eq!(rest(0, 15), [(15, 20), (30, 40)]);
        assert_eq!(rest(15, 35), [(10, 15), (35, 40)]);
        assert_eq!(rest(12, 14), [(10, 12), (14, 20), (30, 40)]);
        assert_eq!(rest(0, 50), []);
    }

    #[test]
    fn the_last_address_of_all_is_an_address_too() {
        let top = Region::new(Iova::new(u64::MAX - 9), PhysAddr::new(0), 10, Rights::READ).unwrap();
        let all = Regions::new().with(top).unwrap();
        assert!(all.without(top.input).unwrap().as_slice().is_empty());
        let tail = IovaRange::new(Iova::new(u64::MAX), 1).unwrap();
        assert_eq!(all.without(tail).unwrap().as_slice()[0].input.bytes(), 9);
    }

    #[test]
    fn a_full_list_says_so_also_when_a_hole_needs_one_more() {
        let full: Vec<_> = (0..limits::REGIONS as u64).map(|index| (index * 10, index * 10 + 5)).collect();
        let all = regions(&full);
        assert_eq!(all.with(region(6, 7)).unwrap_err(), FULL);
        assert_eq!(all.with(region(5, 6)).unwrap().as_slice().len(), limits::REGIONS, "this one continues another");
        assert_eq!(all.without(range(2, 3)).unwrap_err(), FULL);
        assert_eq!(all.without(range(0, 3)).unwrap().as_slice().len(), limits::REGIONS);
    }
}
