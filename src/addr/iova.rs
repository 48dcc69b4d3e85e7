#![forbid(unsafe_code)]

use core::fmt;

use super::is_page_aligned;

/// An I/O virtual address: an address as a device puts it into its request, before translation.
///
/// Every 64-bit value is one; whether a device can reach it is the business of its domain. `x86_64::VirtAddr` would not
/// do: it refuses the non-canonical half, which is valid for a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Iova(u64);

impl Iova {
    /// The address with this value.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value of the address.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, or `None` past 2^64.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// True if a 4 KiB page starts here.
    pub const fn is_page_aligned(self) -> bool {
        is_page_aligned(self.0)
    }
}

impl fmt::Debug for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iova({:#x})", self.0)
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A range of I/O virtual addresses: never empty, never past 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IovaRange {
    first: u64,
    last: u64,
}

impl IovaRange {
    /// The `bytes` addresses from `start` on, or `None` if that is no address or passes 2^64.
    pub const fn new(start: Iova, bytes: u64) -> Option<Self> {
        let Some(minus_one) = bytes.checked_sub(1) else { return None };
        match start.0.checked_add(minus_one) {
            Some(last) => Some(Self { first: start.0, last }),
            None => None,
        }
    }

    /// The first address.
    pub const fn start(self) -> Iova {
        Iova(self.first)
    }

    /// The last address, which belongs to the range.
    pub const fn last(self) -> Iova {
        Iova(self.last)
    }

    /// How many addresses there are; `u64::MAX` for the whole 2^64.
    pub const fn bytes(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// True if the range is made of whole 4 KiB pages.
    pub const fn is_page_aligned(self) -> bool {
        is_page_aligned(self.first) && is_page_aligned(self.last.wrapping_add(1))
    }

    /// True if `other` lies within this range.
    pub const fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// True if the two have an address in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// True if `next` begins where this range ends.
    pub(crate) fn ends_before(self, next: Self) -> bool {
        self.last().checked_add(1) == Some(next.start())
    }

    /// The lowest of some ranges that ends at an address or above it.
    pub(crate) fn lowest_from(ranges: impl Iterator<Item = Self>, at: Iova) -> Option<Self> {
        ranges.filter(|range| range.last() >= at).min_by_key(|range| range.first)
    }

    /// The parts of the range that are in no hole, in ascending order. `hole_from` gives the lowest hole that ends at an
    /// address or above it.
    pub(crate) fn outside(self, hole_from: impl Fn(Iova) -> Option<Self>) -> impl Iterator<Item = Self> {
        let mut next = Some(self.start());
        core::iter::from_fn(move || {
            loop {
                let start = next.filter(|start| *start <= self.last())?;
                let hole = hole_from(start).filter(|hole| hole.first <= self.last);
                next = hole.and_then(|hole| hole.last().checked_add(1));
                let last = hole.map_or(Some(self.last), |hole| hole.first.checked_sub(1));
                if let Some(last) = last.filter(|last| start.0 <= *last) {
                    return Some(Self { first: start.0, last });
                }
            }
        })
    }

    /// The smallest range that holds both.
    pub const fn hull(self, other: Self) -> Self {
        Self {
            first: if self.first < other.first { self.first } else { other.first },
            last: if self.last > other.last { self.last } else { other.last },
        }
    }
}

impl fmt::Debug for IovaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IovaRange({self})")
    }
}

impl fmt::Display for IovaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..={:#x}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holes in holes, and holes that overlap.
    #[test]
    fn what_is_outside_of_holes_is_in_none_of_them() {
        let range = |first, last| IovaRange { first, last };
        let all = [range(2, 90), range(3, 4), range(80, 95), range(97, 97)];
        for turn in 0..all.len() {
            let mut holes = all;
            holes.rotate_left(turn);
            let outside = range(0, 100).outside(|at| IovaRange::lowest_from(holes.into_iter(), at));
            let parts: std::vec::Vec<_> = outside.collect();
            assert_eq!(parts, [range(0, 1), range(96, 96), range(98, 100)], "{holes:?}");
        }
    }

    #[test]
    fn a_range_is_never_empty_and_never_wraps() {
        assert_eq!(IovaRange::new(Iova::new(5), 0), None);
        assert_eq!(IovaRange::new(Iova::new(u64::MAX), 2), None);
        let top = IovaRange::new(Iova::new(u64::MAX), 1).unwrap();
        assert_eq!((top.start(), top.last(), top.bytes()), (Iova::new(u64::MAX), Iova::new(u64::MAX), 1));
        assert_eq!(IovaRange { first: 0, last: u64::MAX }.bytes(), u64::MAX);
    }

    #[test]
    fn what_is_outside_of_holes_is_what_none_of_them_has() {
        let range = |first: u64, end: u64| IovaRange::new(Iova::new(first), end - first).unwrap();
        let outside = |holes: &[(u64, u64)]| {
            let holes = holes.iter().map(|&(first, end)| range(first, end));
            let ends = |left: IovaRange| (left.start().as_u64(), left.last().as_u64() + 1);
            let hole_from = |at| IovaRange::lowest_from(holes.clone(), at);
            range(10, 20).outside(hole_from).map(ends).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(outside(&[]), [(10, 20)]);
        assert_eq!(outside(&[(0, 10), (20, 30)]), [(10, 20)]);
        assert_eq!(outside(&[(15, 16), (12, 13), (15, 18)]), [(10, 12), (13, 15), (18, 20)]);
        assert_eq!(outside(&[(0, 11), (19, 30)]), [(11, 19)]);
        assert_eq!(outside(&[(12, 14), (14, 20)]), [(10, 12)]);
        assert_eq!(outside(&[(5, 25)]), []);
        let top = IovaRange::new(Iova::new(u64::MAX - 1), 1).unwrap();
        assert_eq!(top.outside(|_| None).collect::<std::vec::Vec<_>>(), [top]);
        let all = IovaRange { first: 0, last: u64::MAX };
        assert_eq!(all.outside(|_| Some(all)).count(), 0);
        let tail = IovaRange::new(Iova::new(u64::MAX), 1).unwrap();
        assert_eq!(
            all.outside(|_| Some(tail)).map(IovaRange::last).collect::<std::vec::Vec<_>>(),
            [Iova(u64::MAX - 1)]
        );
    }

    #[test]
    fn the_top_page_is_page_aligned() {
        assert!(IovaRange::new(Iova::new(u64::MAX - 0xfff), 0x1000).unwrap().is_page_aligned());
        assert!(!IovaRange::new(Iova::new(0x1000), 0x1001).unwrap().is_page_aligned());
        assert!(!IovaRange::new(Iova::new(0x1001), 0xfff).unwrap().is_page_aligned());
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let low = IovaRange::new(Iova::new(0), 0x1000).unwrap();
        let high = IovaRange::new(Iova::new(0x1000), 0x1000).unwrap();
        assert!(!low.overlaps(high) && !high.overlaps(low));
        assert!(low.hull(high).contains(low) && low.hull(high).contains(high));
        assert_eq!(low.hull(high).bytes(), 0x2000);
        assert!(low.hull(high).overlaps(high) && !low.contains(low.hull(high)));
    }
}
