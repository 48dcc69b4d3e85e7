#![forbid(unsafe_code)]

use super::Regions;
use super::regions::{outside, part};
use crate::addr::{Iova, IovaRange, Region, Rights};
use crate::domain::Table;
use crate::hal::Hal;
use crate::paging::{Change, Prealloc};

/// A range in which the regions of a cell before a change differ from those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub range: IovaRange,
    before: Option<Region>,
    after: Option<Region>,
}

impl Difference {
    /// True unless the memory stays, and some of the rights.
    fn leads_elsewhere(&self) -> bool {
        match (self.before, self.after) {
            (Some(before), Some(after)) => before.output != after.output || !before.rights.intersects(after.rights),
            _ => true,
        }
    }

    /// The range, if the memory behind it is taken away.
    pub(crate) fn taken(&self) -> Option<IovaRange> {
        self.lost().map(|region| region.input)
    }

    /// The same, with the memory.
    pub(crate) fn lost(&self) -> Option<Region> {
        self.before.filter(|_| self.leads_elsewhere())
    }

    /// What is granted that was not.
    pub(crate) fn granted(&self) -> Option<Region> {
        self.after.filter(|_| self.leads_elsewhere())
    }

    /// The rights that are left, if there are fewer and nothing else changes.
    pub(crate) fn narrowed(&self) -> Option<Rights> {
        let both = self.before.zip(self.after).filter(|_| !self.leads_elsewhere());
        both.filter(|(before, after)| before.rights.contains(after.rights)).map(|(_, after)| after.rights)
    }

    /// The rights before and after, if there are more and nothing else changes.
    pub(crate) fn widened(&self) -> Option<(Rights, Rights)> {
        let both = self.before.zip(self.after).filter(|_| !self.leads_elsewhere() && self.narrowed().is_none());
        both.map(|(before, after)| (before.rights, after.rights))
    }

    /// True if something that is mapped is taken away, or gets fewer rights.
    pub(crate) fn takes(&self) -> bool {
        self.taken().is_some() || self.narrowed().is_some()
    }

    /// The parts of it that are outside of `holes`.
    pub(crate) fn outside(self, holes: impl Iterator<Item = IovaRange> + Clone) -> impl Iterator<Item = Self> {
        outside(self.range, holes).map(move |range| {
            let within = |region: Option<Region>| region.and_then(|region| part(region, range));
            Self { range, before: within(self.before), after: within(self.after) }
        })
    }

    /// True if a page of a table may have to be split at either end of the range.
    pub(crate) fn is_edit(&self) -> bool {
        self.before.is_some()
    }

    /// Does to a page table what [`takes`](Self::takes). The frames in `prealloc` suffice to split pages at both ends of the
    /// range.
    pub(crate) fn edit(&self, hal: &impl Hal, table: &mut Table, prealloc: Prealloc) -> Change {
        match self.narrowed() {
            Some(rights) => table.protect(hal, self.range, rights, prealloc),
            None => table.unmap(hal, self.range, prealloc),
        }
    }
}

/// Where two sets of regions differ, in ascending order and without overlap.
pub(crate) fn differences<'r>(before: &'r Regions, after: &'r Regions) -> impl Iterator<Item = Difference> + 'r {
    let mut next = Some(Iova::new(0));
    let step = move || {
        let start = next?;
        let (before, after) = (before.from(start), after.from(start));
        let begins = |region: Option<Region>| region.map(|region| region.input.start().max(start));
        let start = begins(before).into_iter().chain(begins(after)).min()?;
        // Up to where a region of either side begins or ends.
        let limit = |region: Option<Region>| match region {
            Some(region) if region.input.start() > start => region.input.start().as_u64() - 1,
            Some(region) => region.input.last().as_u64(),
            None => u64::MAX,
        };
        let last = limit(before).min(limit(after));
        next = last.checked_add(1).map(Iova::new);
        let range = IovaRange::new(start, (last - start.as_u64()).saturating_add(1))?;
        let within = |region: Option<Region>| region.and_then(|region| part(region, range));
        Some(Difference { range, before: within(before), after: within(after) })
    };
    core::iter::from_fn(step).filter(|difference| difference.before != difference.after)
}

/// Leaves in `after` what is left if all is done that leads there from `before`, but nothing is granted.
///
/// If there is no room for what is left of a region that is split, the region stays.
pub(crate) fn withdraw_grants(before: &Regions, after: &mut Regions) {
    let mut left = Regions::new();
    left.clone_from(before);
    for difference in differences(before, after) {
        let _full = match (difference.taken(), difference.narrowed()) {
            (Some(range), _) => left.remove(range),
            (None, Some(rights)) => left.set_rights(difference.range, rights),
            (None, None) => continue,
        };
    }
    after.clone_from(&left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;

    /// Pages of which each leads to `output` pages further on, with these rights.
    fn map(regions: &[(u64, u64, u64, Rights)]) -> Regions {
        let mut all = Regions::new();
        for &(first, end, output, rights) in regions {
            let output = PhysAddr::new(first + output);
            all.insert(Region::new(Iova::new(first), output, end - first, rights).unwrap(), false).unwrap();
        }
        all
    }

    const RW: Rights = Rights::all();
    const R: Rights = Rights::READ;

    /// What each difference is: first address, end, and what happens.
    fn found(before: &Regions, after: &Regions) -> Vec<(u64, u64, &'static str)> {
        let kind = |one: &Difference| match (one.taken(), one.narrowed(), one.granted(), one.widened()) {
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
    fn each_range_is_told_with_what_happens_to_it() {
        let before = map(&[(0, 40, 100, RW), (50, 60, 100, R)]);
        assert_eq!(found(&before, &before), []);
        assert_eq!(found(&Regions::new(), &before), [(0, 40, "granted"), (50, 60, "granted")]);
        assert_eq!(found(&before, &Regions::new()), [(0, 40, "taken"), (50, 60, "taken")]);
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
        let mut after =
            map(&[(0, 10, 100, RW), (10, 20, 300, RW), (20, 30, 100, R), (50, 55, 100, R), (55, 70, 100, RW)]);
        let left = map(&[(0, 10, 100, RW), (20, 30, 100, R), (50, 60, 100, R)]);
        withdraw_grants(&before, &mut after);
        assert_eq!(after.as_slice(), left.as_slice());
    }

    #[test]
    fn a_part_keeps_its_memory() {
        let (before, after) = (map(&[(0, 40, 100, RW)]), map(&[(0, 10, 100, RW), (20, 50, 100, RW)]));
        let all: Vec<_> = differences(&before, &after).collect();
        assert_eq!(all[0].before.unwrap().output, PhysAddr::new(110));
        assert_eq!(all[1].granted().unwrap(), Region::new(Iova::new(40), PhysAddr::new(140), 10, RW).unwrap());
    }

    #[test]
    fn the_whole_address_space_can_be_taken_and_granted() {
        let whole = Region::new(Iova::new(0), PhysAddr::new(0), u64::MAX, RW).unwrap();
        let one_region = |region| {
            let mut all = Regions::new();
            all.insert(region, false).unwrap();
            all
        };
        let all = one_region(whole);
        let one: Vec<_> = differences(&Regions::new(), &all).collect();
        assert_eq!((one.len(), one[0].granted()), (1, Some(whole)));
        let top = Region::new(Iova::new(u64::MAX), PhysAddr::new(0), 1, RW).unwrap();
        let top = one_region(top);
        assert_eq!(differences(&top, &Regions::new()).map(|one| one.taken().is_some()).collect::<Vec<_>>(), [true]);
    }
}
