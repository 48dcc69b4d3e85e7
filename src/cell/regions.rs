#![forbid(unsafe_code)]

use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::limits::{Full, List};

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

/// A region, and whether the root cell keeps its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub region: Region,
    pub shared: bool,
}

/// The regions of a cell, sorted by input address; no two overlap, and none continues another like it.
#[derive(Debug)]
pub(crate) struct Regions<'s> {
    /// Two slots of it are for the time of an edit only.
    all: List<'s, Part>,
    /// How many there can be.
    capacity: usize,
}

/// How many regions more than it keeps a list has room for: an edit splits one at either end.
pub(crate) const SLACK: usize = 2;

impl<'s> Regions<'s> {
    /// None, in a list that has [room](SLACK) for two more than it is to keep.
    pub(crate) fn new(all: List<'s, Part>) -> Self {
        Self { capacity: all.capacity().saturating_sub(SLACK), all }
    }

    /// None, and room for none.
    pub(crate) const fn without_room() -> Self {
        Self { all: List::without_room(), capacity: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// None, in a list that is to keep no more than another one, however much room there is.
    pub(crate) fn clear_like(&mut self, other: &Regions<'_>) {
        self.clear();
        self.capacity = self.all.capacity().saturating_sub(SLACK).min(other.capacity);
    }

    /// Has the regions of another list of the same capacity.
    pub(crate) fn copy_from(&mut self, other: &Regions<'_>) {
        self.all.copy_from(&other.all);
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.all
    }

    /// Each region.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Region> + Clone + '_ {
        self.all.iter().map(|part| part.region)
    }

    /// The lowest region that ends at `start` or above.
    pub(crate) fn from(&self, start: Iova) -> Option<Region> {
        self.iter().find(|region| region.input.last() >= start)
    }

    /// True if the root cell keeps the memory at `at`.
    pub(crate) fn is_shared(&self, at: Iova) -> bool {
        let part = self.all.iter().find(|part| part.region.input.last() >= at);
        part.is_some_and(|part| part.shared && part.region.input.start() <= at)
    }

    pub(crate) fn has_room_for(&self, regions: usize) -> bool {
        regions <= self.capacity
    }

    fn full(&self) -> RegionError {
        RegionError::Full(Full { what: "regions in this cell", capacity: self.capacity })
    }

    /// Adds `region`, whose memory the root cell keeps if it is `shared`.
    pub(crate) fn insert(&mut self, region: Region, shared: bool) -> Result<(), RegionError> {
        if let Some(other) = self.iter().find(|other| other.input.overlaps(region.input)) {
            return Err(RegionError::Overlap(other));
        }
        let index = self.all.iter().position(|part| part.region.input.start() > region.input.start());
        let index = index.unwrap_or(self.all.len());
        let _ = self.all.insert(index, Part { region, shared });
        self.join_at(index + 1);
        self.join_at(index);
        if self.all.len() > self.capacity {
            // It was not joined to any, or there would be room.
            self.all.remove(index, index + 1);
            return Err(self.full());
        }
        Ok(())
    }

    /// Adds a region above all others.
    pub(crate) fn append(&mut self, part: Part) -> Result<(), RegionError> {
        if let Some(last) = self.all.last_mut()
            && let Some(joined) = join(*last, part)
        {
            *last = joined;
            return Ok(());
        }
        if self.all.len() >= self.capacity {
            return Err(self.full());
        }
        self.all.push(part).map_err(|_| self.full())
    }

    /// Has what of another list's regions lies outside of holes. `hole_from` gives the lowest hole that ends at an address or
    /// above. If what is left does not fit, the list has the lowest of it.
    pub(crate) fn copy_outside(
        &mut self,
        other: &Regions<'_>,
        hole_from: impl Fn(Iova) -> Option<IovaRange>,
    ) -> Result<(), RegionError> {
        self.clear();
        for part in other.parts() {
            for range in part.region.input.outside(&hole_from) {
                if let Some(region) = cut(part.region, range) {
                    self.append(Part { region, ..*part })?;
                }
            }
        }
        Ok(())
    }

    /// Adds what of another list's regions lies outside of holes, as [`copy_outside`](Self::copy_outside) has them, from the
    /// lowest on, and leaves out what there is no room for. What joins what is there needs none, and may make some.
    pub(crate) fn insert_outside(&mut self, other: &Regions<'_>, hole_from: impl Fn(Iova) -> Option<IovaRange>) {
        for part in other.parts() {
            for range in part.region.input.outside(&hole_from) {
                if let Some(region) = cut(part.region, range) {
                    let _ = self.insert(region, part.shared);
                }
            }
        }
    }

    /// Sets other rights for `range`, all of which has to be granted now.
    pub(crate) fn set_rights(&mut self, range: IovaRange, rights: Rights) -> Result<(), RegionError> {
        self.check_granted(range)?;
        self.edit(range, Some(rights))
    }

    /// Takes `range` out, all of which has to be granted now. What is left of a region at either side stays.
    pub(crate) fn remove(&mut self, range: IovaRange) -> Result<(), RegionError> {
        self.check_granted(range)?;
        self.edit(range, None)
    }

    fn check_granted(&self, range: IovaRange) -> Result<(), RegionError> {
        let mut next = Some(range.start());
        for region in self.iter().filter(|region| region.input.overlaps(range)) {
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

    /// Gives each region's part within `range` these rights, or takes it out.
    #[inline(never)]
    fn edit(&mut self, range: IovaRange, rights: Option<Rights>) -> Result<(), RegionError> {
        if self.count_after(range, rights) > self.capacity {
            return Err(self.full());
        }
        self.split_at(range.start());
        if let Some(end) = range.last().checked_add(1) {
            self.split_at(end);
        }
        let first = self.all.iter().position(|part| range.contains(part.region.input));
        let Some(first) = first else { return Ok(()) };
        let count = self.all.iter().filter(|part| range.contains(part.region.input)).count();
        match rights {
            None => self.all.remove(first, first + count),
            Some(rights) => {
                let within = self.all.iter_mut().skip(first).take(count);
                within.for_each(|part| part.region.rights = rights);
                (first..=first + count).rev().for_each(|index| self.join_at(index));
            }
        }
        Ok(())
    }

    /// How many regions there are after an edit.
    fn count_after(&self, range: IovaRange, rights: Option<Rights>) -> usize {
        let mut count = 0;
        let mut last: Option<Part> = None;
        for part in &self.all {
            let region = part.region;
            let inside = cut(region, range).zip(rights).map(|(inner, rights)| Region { rights, ..inner });
            let pieces = if region.input.overlaps(range) {
                let behind = range.last().checked_add(1).and_then(|start| after(region, start));
                [before(region, range.start()), inside, behind]
            } else {
                [Some(region), None, None]
            };
            for region in pieces.into_iter().flatten() {
                let piece = Part { region, ..*part };
                let joined = last.and_then(|last| join(last, piece));
                count += usize::from(joined.is_none());
                last = Some(joined.unwrap_or(piece));
            }
        }
        count
    }

    /// Makes two regions of the one that has `at` within, and not as its first address.
    fn split_at(&mut self, at: Iova) {
        let spans = |part: &Part| part.region.input.start() < at && at <= part.region.input.last();
        let Some(index) = self.all.iter().position(spans) else { return };
        if let Some(part) = self.all.get_mut(index)
            && let (Some(low), Some(high)) = (before(part.region, at), after(part.region, at))
        {
            part.region = low;
            let high = Part { region: high, shared: part.shared };
            let _ = self.all.insert(index + 1, high);
        }
    }

    /// Joins the region at `index` to the one before it, if it continues that and is like it.
    fn join_at(&mut self, index: usize) {
        if let Some([low, high]) = index.checked_sub(1).and_then(|low| self.all.get_mut(low..=index))
            && let Some(joined) = join(*low, *high)
        {
            *low = joined;
            self.all.remove(index, index + 1);
        }
    }
}

/// Both as one, if `high` continues `low` on both sides with the same rights.
fn join(low: Part, high: Part) -> Option<Part> {
    let (below, above) = (low.region, high.region);
    let continues = below.input.ends_before(above.input)
        && below.output.as_u64().checked_add(below.input.bytes()) == Some(above.output.as_u64())
        && (below.rights, low.shared) == (above.rights, high.shared);
    continues.then(|| Part { region: Region { input: below.input.hull(above.input), ..below }, ..low })
}

/// The part of `region` within `range`, if they overlap.
pub(crate) fn cut(region: Region, range: IovaRange) -> Option<Region> {
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
mod property;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::fresh_regions;

    /// How many there are room for here.
    const CAPACITY: usize = 64;

    fn none() -> Regions<'static> {
        fresh_regions(CAPACITY)
    }

    fn copy(all: &Regions<'_>) -> Regions<'static> {
        let mut copy = none();
        copy.copy_from(all);
        copy
    }

    fn region(first: u64, end: u64) -> Region {
        let output = PhysAddr::new(0x10_0000 + first);
        Region::new(Iova::new(first), output, end - first, Rights::READ).unwrap()
    }

    fn range(first: u64, end: u64) -> IovaRange {
        region(first, end).input
    }

    fn regions(parts: &[(u64, u64)]) -> Regions<'static> {
        let mut all = none();
        parts.iter().for_each(|&(first, end)| all.insert(region(first, end), false).unwrap());
        all
    }

    /// The regions after an edit; one that fails has to leave them as they are.
    fn edited(
        all: &Regions<'_>,
        edit: impl FnOnce(&mut Regions<'static>) -> Result<(), RegionError>,
    ) -> Result<Regions<'static>, RegionError> {
        let mut copy = copy(all);
        match edit(&mut copy) {
            Ok(()) => Ok(copy),
            Err(error) => {
                assert_eq!(copy.parts(), all.parts());
                Err(error)
            }
        }
    }

    fn with(all: &Regions<'_>, region: Region, shared: bool) -> Result<Regions<'static>, RegionError> {
        edited(all, |all| all.insert(region, shared))
    }

    fn without(all: &Regions<'_>, range: IovaRange) -> Result<Regions<'static>, RegionError> {
        edited(all, |all| all.remove(range))
    }

    fn with_rights(all: &Regions<'_>, range: IovaRange, rights: Rights) -> Result<Regions<'static>, RegionError> {
        edited(all, |all| all.set_rights(range, rights))
    }

    fn lowest_of(holes: &[IovaRange]) -> impl Fn(Iova) -> Option<IovaRange> {
        |at| IovaRange::lowest_from(holes.iter().copied(), at)
    }

    fn minus(all: &Regions<'_>, holes: &[IovaRange]) -> Regions<'static> {
        let mut rest = none();
        rest.copy_outside(all, lowest_of(holes)).unwrap();
        rest
    }

    fn parts(regions: &Regions<'_>) -> Vec<(u64, u64)> {
        let part = |region: &Region| {
            assert_eq!(region.output.as_u64(), 0x10_0000 + region.input.start().as_u64(), "keeps its memory");
            (region.input.start().as_u64(), region.input.last().as_u64() + 1)
        };
        regions.iter().map(|region| part(&region)).collect()
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
        assert_eq!(with(&all, elsewhere, false).unwrap().parts().len(), 4);
        let writable = Region { rights: Rights::all(), ..region(10, 20) };
        assert_eq!(with(&all, writable, false).unwrap().parts().len(), 4);
    }

    #[test]
    fn what_the_root_cell_keeps_is_known_of_each_part() {
        let all = with(&regions(&[(0, 10), (40, 50)]), region(20, 30), true).unwrap();
        let of = |all: &Regions<'_>| {
            let part = |part: &Part| (part.region.input.start().as_u64(), part.region.input.bytes(), part.shared);
            all.parts().iter().map(part).collect::<Vec<_>>()
        };
        assert_eq!(of(&all), [(0, 10, false), (20, 10, true), (40, 10, false)]);
        let beside = with(&all, region(10, 20), false).unwrap();
        assert_eq!(of(&beside), [(0, 20, false), (20, 10, true), (40, 10, false)], "not joined, as it is not alike");
        let beside = with(&beside, region(30, 35), true).unwrap();
        assert_eq!(of(&beside), [(0, 20, false), (20, 15, true), (40, 10, false)]);
        let edited = with_rights(&beside, range(15, 25), Rights::WRITE).unwrap();
        let parts = [(0, 15, false), (15, 5, false), (20, 5, true), (25, 10, true), (40, 10, false)];
        assert_eq!(of(&edited), parts);
        assert_eq!(of(&without(&edited, range(0, 22)).unwrap()), [(22, 3, true), (25, 10, true), (40, 10, false)]);
        assert_eq!(of(&minus(&beside, &[range(0, 25)])), [(25, 10, true), (40, 10, false)]);
        let mut copy = copy(&beside);
        assert_eq!(of(&copy), of(&beside));
        copy.clear();
        assert_eq!(of(&with(&copy, region(0, 10), false).unwrap()), [(0, 10, false)]);
    }

    #[test]
    fn other_rights_hold_for_the_range_alone() {
        let all = regions(&[(0, 10), (10, 20), (30, 40)]);
        let of = |first, end| {
            let changed = with_rights(&all, range(first, end), Rights::WRITE).unwrap();
            let written = changed.iter().filter(|region| region.rights == Rights::WRITE);
            (written.map(|region| region.input).collect::<Vec<_>>(), parts(&changed))
        };
        assert_eq!(of(5, 15), (vec![range(5, 15)], vec![(0, 5), (5, 15), (15, 20), (30, 40)]));
        assert_eq!(of(0, 20), (vec![range(0, 20)], vec![(0, 20), (30, 40)]));
        assert_eq!(of(30, 31), (vec![range(30, 31)], vec![(0, 20), (30, 31), (31, 40)]));
        let apart = Region { output: PhysAddr::new(0), ..region(20, 30) };
        let changed = with_rights(&with(&all, apart, false).unwrap(), range(15, 35), Rights::WRITE).unwrap();
        let lengths: Vec<_> = changed.iter().map(|region| region.input.bytes()).collect();
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
    fn what_lies_outside_of_holes_can_be_copied() {
        let all = regions(&[(10, 20), (30, 40)]);
        let rest = |holes: &[(u64, u64)]| {
            let holes: Vec<_> = holes.iter().map(|&(first, end)| range(first, end)).collect();
            parts(&minus(&all, &holes))
        };
        assert_eq!(rest(&[]), [(10, 20), (30, 40)]);
        assert_eq!(rest(&[(0, 5)]), [(10, 20), (30, 40)]);
        assert_eq!(rest(&[(0, 15)]), [(15, 20), (30, 40)]);
        assert_eq!(rest(&[(15, 35)]), [(10, 15), (35, 40)]);
        assert_eq!(rest(&[(12, 14)]), [(10, 12), (14, 20), (30, 40)]);
        assert_eq!(rest(&[(0, 50)]), []);
        assert_eq!(rest(&[(35, 38), (12, 14), (13, 16), (25, 31)]), [(10, 12), (16, 20), (31, 35), (38, 40)]);
    }

    #[test]
    fn a_copy_without_holes_needs_no_more_room_than_it_has_regions() {
        let all = regions(&[(10, 20), (30, 40)]);
        let mut rest = fresh_regions(2);
        // The second goes, and the first is split.
        rest.copy_outside(&all, lowest_of(&[range(12, 14), range(30, 40)])).unwrap();
        assert_eq!(parts(&rest), [(10, 12), (14, 20)]);
        assert_eq!(rest.copy_outside(&all, lowest_of(&[range(12, 14)])), Err(rest.full()));
    }

    #[test]
    fn the_last_address_of_all_is_an_address_too() {
        let top = Region::new(Iova::new(u64::MAX - 9), PhysAddr::new(0), 10, Rights::READ).unwrap();
        let all = with(&none(), top, false).unwrap();
        assert!(without(&all, top.input).unwrap().parts().is_empty());
        let tail = IovaRange::new(Iova::new(u64::MAX), 1).unwrap();
        assert_eq!(without(&all, tail).unwrap().parts()[0].region.input.bytes(), 9);
    }

    #[test]
    fn a_full_list_says_so_also_when_a_hole_needs_one_more() {
        let full: Vec<_> = (0..CAPACITY as u64).map(|index| (index * 10, index * 10 + 5)).collect();
        let all = regions(&full);
        assert_eq!(with(&all, region(6, 7), false).unwrap_err(), all.full());
        assert_eq!(with(&all, region(5, 6), false).unwrap().parts().len(), CAPACITY, "this one continues another");
        assert_eq!(without(&all, range(2, 3)).unwrap_err(), all.full());
        assert_eq!(without(&all, range(0, 3)).unwrap().parts().len(), CAPACITY);
    }
}
