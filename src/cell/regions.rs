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

/// One bit for each region.
const _: () = assert!(limits::REGIONS <= 64);

/// The regions of a cell, sorted by input address; no two overlap, and none continues another like it.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    all: heapless::Vec<Region, { limits::REGIONS }>,
    /// Those whose memory the root cell keeps: bit n for the n-th.
    shared: u64,
}

impl Clone for Regions {
    fn clone(&self) -> Self {
        Self { all: self.all.clone(), shared: self.shared }
    }

    /// Copies the regions that there are, not the room for more.
    fn clone_from(&mut self, from: &Self) {
        self.all.clear();
        for region in from.all.iter() {
            let _ = self.all.push(*region);
        }
        self.shared = from.shared;
    }
}

impl Regions {
    pub(crate) const fn new() -> Self {
        Self { all: heapless::Vec::new(), shared: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
        self.shared = 0;
    }

    pub(crate) fn as_slice(&self) -> &[Region] {
        &self.all
    }

    /// Each region, and whether the root cell keeps its memory.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Region, bool)> + Clone + '_ {
        self.all.iter().enumerate().map(|(index, region)| (*region, self.shared >> index & 1 == 1))
    }

    /// The lowest region that ends at `start` or above.
    pub(super) fn from(&self, start: Iova) -> Option<Region> {
        self.all.iter().find(|region| region.input.last() >= start).copied()
    }

    /// Adds `region`, whose memory the root cell keeps if it is `shared`.
    pub(crate) fn insert(&mut self, region: Region, shared: bool) -> Result<(), RegionError> {
        if let Some(&other) = self.all.iter().find(|other| other.input.overlaps(region.input)) {
            return Err(RegionError::Overlap(other));
        }
        self.rebuild(|old, new| {
            let is_below = |(other, _): &(Region, bool)| other.input.last() < region.input.start();
            let (below, above) = (old.parts().filter(is_below), old.parts().filter(|part| !is_below(part)));
            let mut all = below.chain([(region, shared)]).chain(above);
            all.try_for_each(|(part, shared)| new.push(Some(part), shared))
        })
    }

    /// Sets other rights for `range`, all of which has to be granted now.
    pub(crate) fn set_rights(&mut self, range: IovaRange, rights: Rights) -> Result<(), RegionError> {
        self.check_granted(range)?;
        self.edit(range, |region| part(region, range).map(|inner| Region { rights, ..inner }))
    }

    /// Takes `range` out, all of which has to be granted now. What is left of a region at either side stays.
    pub(crate) fn remove(&mut self, range: IovaRange) -> Result<(), RegionError> {
        self.check_granted(range)?;
        self.subtract(range)
    }

    /// Takes out what of `range` is granted.
    pub(crate) fn subtract(&mut self, range: IovaRange) -> Result<(), RegionError> {
        self.edit(range, |_| None)
    }

    fn check_granted(&self, range: IovaRange) -> Result<(), RegionError> {
        let mut next = Some(range.start());
        for region in self.all.iter().filter(|region| region.input.overlaps(range)) {
            if let Some(expected) = next.filter(|&expected| region.input.start() > expected) {
                return Err(RegionError::NotGranted(expected));
            }
            next = region.input.last().checked_add(1);
        }
        match next {
            Some(next) if next <= range.last() => Err(RegionError::NotGranted(next)),
            _ => Ok(()),
        }
    }

    /// Puts what `inside` makes of it in the place of each region's part within `range`.
    fn edit(&mut self, range: IovaRange, inside: impl Fn(Region) -> Option<Region>) -> Result<(), RegionError> {
        if !self.all.iter().any(|region| region.input.overlaps(range)) {
            return Ok(());
        }
        self.rebuild(|old, new| {
            for (region, shared) in old.parts() {
                if !region.input.overlaps(range) {
                    new.push(Some(region), shared)?;
                    continue;
                }
                new.push(before(region, range.start()), shared)?;
                new.push(inside(region), shared)?;
                new.push(range.last().checked_add(1).and_then(|start| after(region, start)), shared)?;
            }
            Ok(())
        })
    }

    /// Has `build` push all regions anew, given those that there are; if it fails, they stay.
    fn rebuild(&mut self, build: impl FnOnce(&Self, &mut Self) -> Result<(), RegionError>) -> Result<(), RegionError> {
        let mut old = Self::new();
        old.clone_from(self);
        self.clear();
        build(&old, self).inspect_err(|_| self.clone_from(&old))
    }

    /// Appends a region above all others; one that continues the last, and is like it, becomes part of it.
    fn push(&mut self, region: Option<Region>, shared: bool) -> Result<(), RegionError> {
        let Some(region) = region else { return Ok(()) };
        let count = self.all.len();
        let is_alike = |last: usize| (self.shared >> last & 1 == 1) == shared;
        let is_alike = count.checked_sub(1).is_some_and(is_alike);
        if let Some(last) = self.all.last_mut().filter(|_| is_alike)
            && let Some(joined) = join(*last, region)
        {
            *last = joined;
            return Ok(());
        }
        self.all.push(region).map_err(|_| FULL)?;
        self.shared |= u64::from(shared) << count;
        Ok(())
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

/// The part of `region` within `range`, if they overlap.
pub(crate) fn part(region: Region, range: IovaRange) -> Option<Region> {
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
        let mut all = Regions::new();
        parts.iter().for_each(|&(first, end)| all.insert(region(first, end), false).unwrap());
        all
    }

    /// The regions after an edit; one that fails has to leave them as they are.
    fn edited(
        all: &Regions,
        edit: impl FnOnce(&mut Regions) -> Result<(), RegionError>,
    ) -> Result<Regions, RegionError> {
        let mut copy = all.clone();
        match edit(&mut copy) {
            Ok(()) => Ok(copy),
            Err(error) => {
                assert!(copy.parts().eq(all.parts()));
                Err(error)
            }
        }
    }

    fn with(all: &Regions, region: Region, shared: bool) -> Result<Regions, RegionError> {
        edited(all, |all| all.insert(region, shared))
    }

    fn without(all: &Regions, range: IovaRange) -> Result<Regions, RegionError> {
        edited(all, |all| all.remove(range))
    }

    fn with_rights(all: &Regions, range: IovaRange, rights: Rights) -> Result<Regions, RegionError> {
        edited(all, |all| all.set_rights(range, rights))
    }

    fn minus(all: &Regions, range: IovaRange) -> Result<Regions, RegionError> {
        edited(all, |all| all.subtract(range))
    }

    fn parts(regions: &Regions) -> Vec<(u64, u64)> {
        let part = |region: &Region| {
            assert_eq!(region.output.as_u64(), 0x10_0000 + region.input.start().as_u64(), "keeps its memory");
            (region.input.start().as_u64(), region.input.last().as_u64() + 1)
        };
        regions.as_slice().iter().map(part).collect()
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

    #[test]
    fn regions_are_sorted_and_never_overlap() {
        let all = regions(&[(40, 50), (0, 10), (20, 30)]);
        assert_eq!(parts(&all), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!(with(&all, region(29, 35), false).unwrap_err(), RegionError::Overlap(region(20, 30)));
        assert_eq!(with(&all, region(5, 45), false).unwrap_err(), RegionError::Overlap(region(0, 10)));
        assert_eq!(parts(&with(&all, region(11, 19), false).unwrap()), [(0, 10), (11, 19), (20, 30), (40, 50)]);
    }

    #[test]
    fn a_region_that_continues_another_becomes_part_of_it() {
        let all = regions(&[(0, 10), (20, 30), (40, 50)]);
        assert_eq!(parts(&with(&all, region(10, 20), false).unwrap()), [(0, 30), (40, 50)]);
        assert_eq!(parts(&with(&all, region(35, 40), false).unwrap()), [(0, 10), (20, 30), (35, 50)]);
        let elsewhere = Region { output: PhysAddr::new(0), ..region(10, 20) };
        assert_eq!(with(&all, elsewhere, false).unwrap().as_slice().len(), 4);
        let writable = Region { rights: Rights::all(), ..region(10, 20) };
        assert_eq!(with(&all, writable, false).unwrap().as_slice().len(), 4);
    }

    #[test]
    fn what_the_root_cell_keeps_is_known_of_each_part() {
        let all = with(&regions(&[(0, 10), (40, 50)]), region(20, 30), true).unwrap();
        let of = |all: &Regions| {
            let part = |(region, shared): (Region, bool)| (region.input.start().as_u64(), region.input.bytes(), shared);
            all.parts().map(part).collect::<Vec<_>>()
        };
        assert_eq!(of(&all), [(0, 10, false), (20, 10, true), (40, 10, false)]);
        let beside = with(&all, region(10, 20), false).unwrap();
        assert_eq!(of(&beside), [(0, 20, false), (20, 10, true), (40, 10, false)], "not joined, as it is not alike");
        let beside = with(&beside, region(30, 35), true).unwrap();
        assert_eq!(of(&beside), [(0, 20, false), (20, 15, true), (40, 10, false)]);
        let edited = with_rights(&beside, range(15, 25), Rights::WRITE).unwrap();
        let parts = [(0, 15, false), (15, 5, false), (20, 5, true), (25, 10, true), (40, 10, false)];
        assert_eq!(of(&edited), parts);
        assert_eq!(
            of(&without(&edited, range(0, 22)).unwrap_or_default()),
            [(22, 3, true), (25, 10, true), (40, 10, false)]
        );
        assert_eq!(of(&minus(&beside, range(0, 25)).unwrap()), [(25, 10, true), (40, 10, false)]);
        let mut copy = regions(&[(0, 10)]);
        copy.clone_from(&beside);
        assert_eq!((of(&copy), of(&beside.clone())), (of(&beside), of(&beside)));
        copy.clear();
        assert_eq!(of(&with(&copy, region(0, 10), false).unwrap()), [(0, 10, false)]);
    }

    #[test]
    fn other_rights_hold_for_the_range_alone() {
        let all = regions(&[(0, 10), (10, 20), (30, 40)]);
        let of = |first, end| {
            let changed = with_rights(&all, range(first, end), Rights::WRITE).unwrap();
            let written = changed.as_slice().iter().filter(|region| region.rights == Rights::WRITE);
            (written.map(|region| region.input).collect::<Vec<_>>(), parts(&changed))
        };
        assert_eq!(of(5, 15), (vec![range(5, 15)], vec![(0, 5), (5, 15), (15, 20), (30, 40)]));
        assert_eq!(of(0, 20), (vec![range(0, 20)], vec![(0, 20), (30, 40)]));
        assert_eq!(of(30, 31), (vec![range(30, 31)], vec![(0, 20), (30, 31), (31, 40)]));
        let apart = Region { output: PhysAddr::new(0), ..region(20, 30) };
        let changed = with_rights(&with(&all, apart, false).unwrap(), range(15, 35), Rights::WRITE).unwrap();
        let lengths: Vec<_> = changed.as_slice().iter().map(|region| region.input.bytes()).collect();
        assert_eq!(lengths, [15, 5, 10, 5, 5], "each region keeps its own memory");
        assert_eq!(
            with_rights(&all, range(15, 35), Rights::WRITE).unwrap_err(),
            RegionError::NotGranted(Iova::new(20))
        );
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_with_its_memory() {
        let all = regions(&[(0, 20), (30, 40)]);
        let taken = |first, end| parts(&without(&all, range(first, end)).unwrap());
        assert_eq!(taken(0, 10), [(10, 20), (30, 40)]);
        assert_eq!(taken(32, 35), [(0, 20), (30, 32), (35, 40)]);
        assert_eq!(taken(5, 15), [(0, 5), (15, 20), (30, 40)]);
        assert_eq!(taken(0, 20), [(30, 40)]);
        assert_eq!(taken(39, 40), [(0, 20), (30, 39)]);
    }

    #[test]
    fn what_is_not_granted_cannot_be_taken_out() {
        let all = regions(&[(10, 20), (30, 40)]);
        let refused = |first, end| without(&all, range(first, end)).unwrap_err();
        assert_eq!(refused(0, 5), RegionError::NotGranted(Iova::new(0)));
        assert_eq!(refused(5, 15), RegionError::NotGranted(Iova::new(5)));
        assert_eq!(refused(15, 25), RegionError::NotGranted(Iova::new(20)));
        assert_eq!(refused(15, 35), RegionError::NotGranted(Iova::new(20)));
        assert_eq!(refused(50, 60), RegionError::NotGranted(Iova::new(50)));
    }

    #[test]
    fn what_is_there_of_a_range_can_be_taken_out() {
        let all = regions(&[(10, 20), (30, 40)]);
        let rest = |first, end| parts(&minus(&all, range(first, end)).unwrap());
        assert_eq!(rest(0, 5), [(10, 20), (30, 40)]);
        assert_eq!(rest(0, 15), [(15, 20), (30, 40)]);
        assert_eq!(rest(15, 35), [(10, 15), (35, 40)]);
        assert_eq!(rest(12, 14), [(10, 12), (14, 20), (30, 40)]);
        assert_eq!(rest(0, 50), []);
    }

    #[test]
    fn the_last_address_of_all_is_an_address_too() {
        let top = Region::new(Iova::new(u64::MAX - 9), PhysAddr::new(0), 10, Rights::READ).unwrap();
        let all = with(&Regions::new(), top, false).unwrap();
        assert!(without(&all, top.input).unwrap().as_slice().is_empty());
        let tail = IovaRange::new(Iova::new(u64::MAX), 1).unwrap();
        assert_eq!(without(&all, tail).unwrap().as_slice()[0].input.bytes(), 9);
    }

    #[test]
    fn a_full_list_says_so_also_when_a_hole_needs_one_more() {
        let full: Vec<_> = (0..limits::REGIONS as u64).map(|index| (index * 10, index * 10 + 5)).collect();
        let all = regions(&full);
        assert_eq!(with(&all, region(6, 7), false).unwrap_err(), FULL);
        assert_eq!(
            with(&all, region(5, 6), false).unwrap().as_slice().len(),
            limits::REGIONS,
            "this one continues another"
        );
        assert_eq!(without(&all, range(2, 3)).unwrap_err(), FULL);
        assert_eq!(without(&all, range(0, 3)).unwrap().as_slice().len(), limits::REGIONS);
    }
}
