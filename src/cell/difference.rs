//! Where two sets of regions differ, and what that means for a page table.
#![forbid(unsafe_code)]

use super::regions::RegionError;
use super::reserved::Reserved;
use super::{Part, Regions};
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::domain::Domain;
use crate::hal::Hal;
use crate::paging::Change;

/// A range in which the regions of a cell before a change differ from those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionDifference {
    pub range: IovaRange,
    /// Where the range leads, and the rights there.
    before: Option<(PhysAddr, Rights)>,
    after: Option<(PhysAddr, Rights)>,
}

impl RegionDifference {
    fn region(&self, side: Option<(PhysAddr, Rights)>) -> Option<Region> {
        side.map(|(output, rights)| Region { input: self.range, output, rights })
    }

    /// True unless the memory stays, and some of the rights.
    fn leads_elsewhere(&self) -> bool {
        match (self.before, self.after) {
            (Some((before, had)), Some((after, has))) => before != after || !had.intersects(has),
            _ => true,
        }
    }

    /// What is revoked: the range, and the memory behind it.
    pub(crate) fn revoked(&self) -> Option<Region> {
        self.region(self.before).filter(|_| self.leads_elsewhere())
    }

    /// What is granted that was not.
    pub(crate) fn granted(&self) -> Option<Region> {
        self.region(self.after).filter(|_| self.leads_elsewhere())
    }

    /// The rights before and after, if nothing else changes.
    fn rights(&self) -> Option<(Rights, Rights)> {
        let both = self.before.zip(self.after).filter(|_| !self.leads_elsewhere());
        both.map(|((_, before), (_, after))| (before, after))
    }

    /// The rights that are left, if there are fewer and nothing else changes.
    pub(crate) fn narrowed(&self) -> Option<Rights> {
        self.rights().filter(|(before, after)| before.contains(*after)).map(|(_, after)| after)
    }

    /// The rights before and after, if there are more and nothing else changes.
    pub(crate) fn widened(&self) -> Option<(Rights, Rights)> {
        self.rights().filter(|(before, after)| !before.contains(*after))
    }

    /// True if something that is mapped is revoked, or gets fewer rights.
    pub(crate) fn revokes(&self) -> bool {
        self.revoked().is_some() || self.narrowed().is_some()
    }

    /// What devices reached before and are not to reach any more, or not by all rights.
    pub(crate) fn lessened(&self) -> Option<Region> {
        self.region(self.before).filter(|_| self.revokes())
    }

    /// What devices are to reach and did not reach before, or not by all rights.
    pub(crate) fn increased(&self) -> Option<Region> {
        self.region(self.after).filter(|_| self.granted().is_some() || self.widened().is_some())
    }

    /// Edits a domain's page table as [`revokes`](Self::revokes) says. The domain has preallocated frames to split pages at
    /// both ends of the range.
    pub(crate) fn revoke(&self, hal: &impl Hal, domain: &mut Domain) -> Change {
        let prealloc = domain.prealloc_for_edit(hal, self.range);
        match self.narrowed() {
            Some(rights) => domain.table.protect(hal, self.range, rights, prealloc),
            None => domain.table.unmap(hal, self.range, prealloc),
        }
    }

    /// Edits a domain's page table, from which is gone what was revoked, as far as something is granted. The domain has
    /// preallocated frames for that.
    pub(crate) fn grant(&self, hal: &impl Hal, domain: &mut Domain) -> Option<Change> {
        if let Some(region) = self.granted() {
            let prealloc = domain.prealloc_for_map(hal, region);
            return Some(domain.table.map(hal, region, prealloc));
        }
        let (_, rights) = self.widened()?;
        let prealloc = domain.prealloc_for_edit(hal, self.range);
        Some(domain.table.protect(hal, self.range, rights, prealloc))
    }

    /// True if a page of a table may have to be split at either end of the range.
    pub(crate) fn is_edit(&self) -> bool {
        self.before.is_some()
    }
}

/// Where two sets of regions differ outside of reserved memory, in ascending order and without overlap.
#[derive(Clone, Debug)]
pub(crate) struct RegionDifferences<'r> {
    before: &'r Regions<'r>,
    after: &'r Regions<'r>,
    /// Outside of this.
    reserved: Reserved<'r>,
    /// What lies below was looked at. `None` at the end.
    at: Option<u64>,
}

impl<'r> RegionDifferences<'r> {
    pub(crate) fn new(before: &'r Regions<'_>, after: &'r Regions<'_>, reserved: Reserved<'r>) -> Self {
        Self { before, after, reserved, at: Some(0) }
    }

    /// The next range within one region of either side or of both, whether they differ there or not, and whether it is
    /// reserved memory.
    // One copy serves all phases of a change, and its stack is free again when it returns.
    #[inline(never)]
    fn stretch(&mut self) -> Option<(RegionDifference, bool)> {
        let at = Iova::new(self.at?);
        let (before, after) = (self.before.from(at), self.after.from(at));
        let begins = |region: Option<Region>| region.map(|region| region.input.start().max(at));
        let Some(start) = begins(before).into_iter().chain(begins(after)).min() else {
            self.at = None;
            return None;
        };
        // Up to where a region of either side, or reserved memory, begins or ends.
        let limit = |region: Option<Region>| match region {
            Some(region) if region.input.start() > start => region.input.start().as_u64() - 1,
            Some(region) => region.input.last().as_u64(),
            None => u64::MAX,
        };
        let (is_reserved, reserved_limit) = self.reserved.at(start);
        let last = limit(before).min(limit(after)).min(reserved_limit);
        self.at = last.checked_add(1);
        let range = IovaRange::new(start, (last - start.as_u64()).saturating_add(1))?;
        // A region that has the start has all of the range.
        let side = |region: Option<Region>| {
            let skipped = start.as_u64().checked_sub(region?.input.start().as_u64())?;
            region.map(|it| (PhysAddr::new_truncate(it.output.as_u64().wrapping_add(skipped)), it.rights))
        };
        Some((RegionDifference { range, before: side(before), after: side(after) }, is_reserved))
    }
}

impl Iterator for RegionDifferences<'_> {
    type Item = RegionDifference;

    fn next(&mut self) -> Option<RegionDifference> {
        loop {
            let (stretch, is_reserved) = self.stretch()?;
            if stretch.before != stretch.after && !is_reserved {
                return Some(stretch);
            }
        }
    }
}

/// Makes `left` what is left if all is revoked that leads from `before` to `after`, but nothing is granted.
///
/// That may be more regions than either has. If there are more than `before` has room for, `left` has the lowest of them.
#[inline(never)]
pub(crate) fn without_grants(
    before: &Regions<'_>,
    after: &Regions<'_>,
    left: &mut Regions<'_>,
) -> Result<(), RegionError> {
    left.clear_like(before);
    let mut both = RegionDifferences::new(before, after, Reserved::NONE);
    while let Some((stretch, _)) = both.stretch() {
        let Some((output, rights)) = stretch.before.filter(|_| !stretch.leads_elsewhere()) else { continue };
        let rights = stretch.narrowed().unwrap_or(rights);
        let region = Region { input: stretch.range, output, rights };
        left.append(Part { region, shared: before.is_shared(region.input.start()) })?;
    }
    Ok(())
}

/// Fails if there is no room for what [`without_grants`] leaves. `left` is room to work in.
pub(crate) fn check_room_without_grants(
    before: &Regions<'_>,
    after: &Regions<'_>,
    left: &mut Regions<'_>,
) -> Result<(), RegionError> {
    // Each region that is left begins where one of them does.
    if before.has_room_for(before.parts().len() + after.parts().len()) {
        return Ok(());
    }
    without_grants(before, after, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::fresh_regions;
    use crate::limits::Full;

    fn none() -> Regions<'static> {
        fresh_regions(8)
    }

    fn differences<'r>(before: &'r Regions<'_>, after: &'r Regions<'_>) -> RegionDifferences<'r> {
        RegionDifferences::new(before, after, Reserved::NONE)
    }

    /// Pages of which each leads to `output` pages further on, with these rights.
    fn map(regions: &[(u64, u64, u64, Rights)]) -> Regions<'static> {
        let mut all = none();
        for &(first, end, output, rights) in regions {
            let output = PhysAddr::new(first + output);
            all.insert(Region::new(Iova::new(first), output, end - first, rights).unwrap(), false).unwrap();
        }
        all
    }

    const RW: Rights = Rights::all();
    const R: Rights = Rights::READ;

    /// What each difference is: first address, end, and what happens.
    fn found(before: &Regions<'_>, after: &Regions<'_>) -> Vec<(u64, u64, &'static str)> {
        let kind = |one: &RegionDifference| match (one.revoked(), one.narrowed(), one.granted(), one.widened()) {
            (Some(_), None, None, None) => "taken",
            (None, Some(_), None, None) => "narrowed",
            (None, None, Some(_), None) => "granted",
            (None, None, None, Some(_)) => "widened",
            (Some(_), None, Some(_), None) => "elsewhere",
            other => panic!("{other:?}"),
        };
        let all = differences(before, after);
        all.map(|one| (one.range.start().as_u64(), one.range.last().as_u64() + 1, kind(&one))).collect()
    }

    #[test]
    fn each_range_comes_with_what_happens_to_it() {
        let before = map(&[(0, 40, 100, RW), (50, 60, 100, R)]);
        assert_eq!(found(&before, &before), []);
        assert_eq!(found(&none(), &before), [(0, 40, "granted"), (50, 60, "granted")]);
        assert_eq!(found(&before, &none()), [(0, 40, "taken"), (50, 60, "taken")]);
        let hole = map(&[(0, 10, 100, RW), (20, 40, 100, RW), (50, 60, 100, R)]);
        assert_eq!(found(&before, &hole), [(10, 20, "taken")]);
        assert_eq!(found(&hole, &before), [(10, 20, "granted")]);
        let rights = map(&[(0, 10, 100, RW), (10, 20, 100, R), (20, 40, 100, RW), (50, 60, 100, R)]);
        assert_eq!(found(&before, &rights), [(10, 20, "narrowed")]);
        assert_eq!(found(&rights, &before), [(10, 20, "widened")]);
        let other = map(&[(0, 40, 100, RW), (50, 60, 100, Rights::WRITE)]);
        assert_eq!(found(&before, &other), [(50, 60, "elsewhere")], "no right is left");
        let moved = map(&[(0, 10, 100, RW), (10, 20, 300, RW), (20, 55, 100, RW), (55, 60, 100, R)]);
        assert_eq!(found(&before, &moved), [(10, 20, "elsewhere"), (40, 50, "granted"), (50, 55, "widened")]);
    }

    #[test]
    fn what_is_left_without_grants_is_what_both_sides_have() {
        let before = map(&[(0, 40, 100, RW), (50, 60, 100, R)]);
        let after = map(&[(0, 10, 100, RW), (10, 20, 300, RW), (20, 30, 100, R), (50, 55, 100, R), (55, 70, 100, RW)]);
        let mut left = none();
        without_grants(&before, &after, &mut left).unwrap();
        assert_eq!(left.parts(), map(&[(0, 10, 100, RW), (20, 30, 100, R), (50, 60, 100, R)]).parts());
    }

    #[test]
    fn what_is_left_is_made_without_room_for_more() {
        // One region goes, and another is split.
        let (before, after) =
            (map(&[(0, 40, 100, RW), (50, 60, 100, RW)]), map(&[(0, 10, 100, RW), (20, 40, 100, RW)]));
        let mut left = fresh_regions(2);
        without_grants(&before, &after, &mut left).unwrap();
        assert_eq!(left.parts(), after.parts());
        assert_eq!(check_room_without_grants(&before, &after, &mut left), Ok(()));
    }

    #[test]
    fn what_is_left_may_be_more_than_before_and_after() {
        // What is granted joins what lies beside it with what is left of another region.
        let after = map(&[(0, 4, 100, RW), (6, 30, 100, RW)]);
        let mut left = none();
        let mut check = |capacity| {
            let mut before = fresh_regions(capacity);
            before.copy_from(&map(&[(0, 10, 100, RW), (12, 30, 100, RW)]));
            check_room_without_grants(&before, &after, &mut left)
        };
        // However much room there is to work in.
        assert!(matches!(check(2), Err(RegionError::Full(Full { capacity: 2, .. }))));
        assert_eq!(check(3), Ok(()));
        assert_eq!(left.parts(), map(&[(0, 4, 100, RW), (6, 10, 100, RW), (12, 30, 100, RW)]).parts());
    }

    #[test]
    fn what_is_left_is_shared_as_before() {
        let (mut before, mut after, mut left) = (none(), none(), none());
        let region = |first, end| Region::new(Iova::new(first), PhysAddr::new(first), end - first, RW).unwrap();
        before.insert(region(0, 10), true).unwrap();
        before.insert(region(10, 20), false).unwrap();
        after.insert(region(5, 20), false).unwrap();
        without_grants(&before, &after, &mut left).unwrap();
        let parts: Vec<_> = left.parts().iter().map(|part| (part.region, part.shared)).collect();
        assert_eq!(parts, [(region(5, 10), true), (region(10, 20), false)]);
    }

    #[test]
    fn a_part_keeps_its_memory() {
        let (before, after) = (map(&[(0, 40, 100, RW)]), map(&[(0, 10, 100, RW), (20, 50, 100, RW)]));
        let all: Vec<_> = differences(&before, &after).collect();
        assert_eq!(all[0].before.unwrap().0, PhysAddr::new(110));
        assert_eq!(all[1].granted().unwrap(), Region::new(Iova::new(40), PhysAddr::new(140), 10, RW).unwrap());
    }

    #[test]
    fn the_whole_address_space_can_be_taken_and_granted() {
        let whole = Region::new(Iova::new(0), PhysAddr::new(0), u64::MAX, RW).unwrap();
        let one_region = |region| {
            let mut all = none();
            all.insert(region, false).unwrap();
            all
        };
        let all = one_region(whole);
        let one: Vec<_> = differences(&none(), &all).collect();
        assert_eq!((one.len(), one[0].granted()), (1, Some(whole)));
        let top = Region::new(Iova::new(u64::MAX), PhysAddr::new(0), 1, RW).unwrap();
        let top = one_region(top);
        assert_eq!(differences(&top, &none()).map(|one| one.revoked().is_some()).collect::<Vec<_>>(), [true]);
    }
}
