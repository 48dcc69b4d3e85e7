#![forbid(unsafe_code)]

use core::fmt;

use super::{Iova, IovaRange, PhysAddr};

/// A range of physical addresses: never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PhysRange {
    first: PhysAddr,
    last: PhysAddr,
}

impl PhysRange {
    /// The `bytes` addresses from `first` on, or `None` if that is no address, or passes 2^52.
    pub const fn new(first: PhysAddr, bytes: u64) -> Option<Self> {
        let (last, passes) = first.as_u64().overflowing_add(bytes.wrapping_sub(1));
        match PhysAddr::try_new(last) {
            Ok(last) if bytes != 0 && !passes => Some(Self { first, last }),
            _ => None,
        }
    }

    /// The first address.
    pub const fn first(self) -> PhysAddr {
        self.first
    }

    /// The last address, which belongs to the range.
    pub const fn last(self) -> PhysAddr {
        self.last
    }

    /// The addresses that both have.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.first.max(other.first), self.last.min(other.last))
    }

    /// True if the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.intersection(other).is_some()
    }

    /// What of it lies above another range.
    pub(crate) fn above(self, other: Self) -> Option<Self> {
        Self::between(other.after()?.max(self.first), self.last)
    }

    /// The smallest range that holds both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// True if the two overlap, or one begins where the other ends.
    pub(crate) fn touches(self, other: Self) -> bool {
        let begins_by = |high: Self, low: Self| high.first.as_u64() <= low.last.as_u64().saturating_add(1);
        begins_by(self, other) && begins_by(other, self)
    }

    /// How far apart the ends are.
    pub(crate) fn span(self) -> u64 {
        self.last.as_u64().saturating_sub(self.first.as_u64())
    }

    /// The addresses from `first` to `last`, if there are any.
    pub(crate) fn between(first: PhysAddr, last: PhysAddr) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The address that comes after the last.
    pub(crate) fn after(self) -> Option<PhysAddr> {
        PhysAddr::try_new(self.last.as_u64().checked_add(1)?).ok()
    }

    /// The input range that leads here one to one.
    pub(crate) fn one_to_one(self) -> Option<IovaRange> {
        IovaRange::new(Iova::new(self.first.as_u64()), self.span().saturating_add(1))
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysRange({self})")
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..={:#x}", self.first.as_u64(), self.last.as_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, bytes: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(first), bytes).unwrap()
    }

    #[test]
    fn no_range_is_empty_or_passes_the_last_address() {
        let last = PhysAddr::new((1 << 52) - 1);
        assert_eq!(PhysRange::new(last, 0), None);
        assert_eq!(PhysRange::new(last, 2), None);
        assert_eq!(PhysRange::new(PhysAddr::new(0), u64::MAX), None);
        assert_eq!(PhysRange::new(last, 1).unwrap().last(), last);
        assert_eq!(range(0, 1 << 52).one_to_one().unwrap().bytes(), 1 << 52);
    }

    #[test]
    fn what_two_ranges_have_in_common() {
        let pages = range(0x1000, 0x2000);
        assert_eq!(pages.intersection(range(0x2fff, 0x1000)), Some(range(0x2fff, 1)));
        assert_eq!(pages.intersection(range(0x3000, 1)), None);
        assert!(pages.touches(range(0x3000, 1)) && range(0x3000, 1).touches(pages) && pages.touches(pages));
        assert!(!pages.touches(range(0x3001, 1)) && !range(0, 0xfff).touches(pages));
        assert_eq!(pages.hull(range(0x5000, 1)), range(0x1000, 0x4001));
        assert_eq!(pages.above(range(0x1000, 0x800)), Some(range(0x1800, 0x1800)));
        assert_eq!((pages.above(range(0, 1)), pages.above(range(0x2000, 0x1000))), (Some(pages), None));
        assert_eq!(pages.to_string(), "0x1000..=0x2fff");
    }
}
