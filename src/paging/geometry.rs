//! How large a table is, and which addresses it can hold.
#![forbid(unsafe_code)]

use core::fmt;

use super::format::{is_page_start, page_bytes, page_shift};
use crate::addr::{INTERRUPTS, Iova, IovaRange, Region};

/// Input addresses that hardware never translates, so that nothing can be mapped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hole {
    /// The first of them.
    pub first: Iova,
    /// The last of them.
    pub last: Iova,
    /// What they are for, in words that can follow "where".
    pub why: &'static str,
}

impl Hole {
    /// 0xFEE0_0000 to 0xFEEF_FFFF: a hole in each table of every vendor.
    pub const INTERRUPTS: Self = Self::new(INTERRUPTS, "requests are interrupts");

    /// From the first address to the last.
    pub(crate) const fn new((first, last): (u64, u64), why: &'static str) -> Self {
        Self { first: Iova::new(first), last: Iova::new(last), why }
    }

    /// True if one of them is in `range`.
    pub(super) fn meets(&self, range: IovaRange) -> bool {
        range.start() <= self.last && self.first <= range.last()
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}, where {}", self.first, self.last, self.why)
    }
}

/// The size of a table and what may be in it: fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub(super) levels: u8,
    pub(super) max_leaf_level: u8,
    pub(super) input_bits: u8,
    pub(super) output_bits: u8,
    pub(super) holes: &'static [Hole],
}

/// A page table has at most so many levels.
pub(super) const MAX_LEVELS: usize = 6;

impl Geometry {
    /// A table of 3 to 6 `levels`, of which entries up to `max_leaf_level` may map a page: 1 for 4 KiB, 2 for 2 MiB, 3 for
    /// 1 GiB. An input address has `input_bits`, which the levels can hold; an output address and that of a table have
    /// `output_bits`, at most 52. Both hold a page at least.
    ///
    /// `holes` are all input addresses that hardware never translates. `None` if a number is out of its bounds.
    pub const fn new(
        levels: u8,
        max_leaf_level: u8,
        input_bits: u8,
        output_bits: u8,
        holes: &'static [Hole],
    ) -> Option<Self> {
        let page_bits = page_shift(1) as u8;
        let sound = 3 <= levels
            && levels as usize <= MAX_LEVELS
            && 1 <= max_leaf_level
            && max_leaf_level <= 3
            && page_bits <= input_bits
            && input_bits <= 64
            && input_bits as u32 <= page_shift(levels + 1)
            && page_bits <= output_bits
            && output_bits <= 52;
        if sound { Some(Self { levels, max_leaf_level, input_bits, output_bits, holes }) } else { None }
    }

    /// Levels of tables.
    pub const fn levels(self) -> u8 {
        self.levels
    }

    /// The input addresses that hardware never translates.
    pub const fn holes(self) -> &'static [Hole] {
        self.holes
    }

    /// Width of an input address.
    pub const fn input_bits(self) -> u8 {
        self.input_bits
    }

    /// The largest page in bytes.
    pub const fn largest_page_bytes(self) -> u64 {
        page_bytes(self.max_leaf_level)
    }

    /// The same with no larger pages and no wider input than `other` has.
    pub(crate) fn at_most(self, other: Self) -> Self {
        Self {
            max_leaf_level: self.max_leaf_level.min(other.max_leaf_level),
            input_bits: self.input_bits.min(other.input_bits),
            ..self
        }
    }

    /// True if a page above level 1 may hold a part of `region`, together with what is mapped beside it.
    #[inline]
    pub(super) fn joins(self, region: &Region) -> bool {
        self.max_leaf_level > 1 && is_page_start(region.input.start().as_u64() ^ region.output.as_u64(), 2)
    }

    /// The highest level whose pages `region` can be made of, as far as its two sides are aligned alike.
    #[inline]
    pub(super) fn page_level(self, region: &Region) -> u8 {
        let apart = region.input.start().as_u64() ^ region.output.as_u64();
        let mut level = 1;
        while level < self.max_leaf_level && is_page_start(apart, level + 1) {
            level += 1;
        }
        level
    }

    /// True if something can be mapped everywhere in `range`.
    pub(super) fn takes_input(self, range: IovaRange) -> bool {
        self.reaches(range.last()) && !self.holes.iter().any(|hole| hole.meets(range))
    }

    /// The first and the last address of the part of `range` that is not too high.
    pub(super) fn part(self, range: IovaRange) -> Option<(u64, u64)> {
        let highest = u64::MAX.unbounded_shr(64_u32.saturating_sub(self.input_bits.into()));
        let start = range.start().as_u64();
        (start <= highest).then(|| (start, range.last().as_u64().min(highest)))
    }

    /// True if `at` is not too high.
    pub(super) fn reaches(self, at: Iova) -> bool {
        !exceeds(at.as_u64(), self.input_bits)
    }
}

/// True if `value` needs more than `bits` bits.
#[inline]
pub(super) fn exceeds(value: u64, bits: u8) -> bool {
    value.unbounded_shr(bits.into()) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLES: &[Hole] = &[Hole::INTERRUPTS];

    #[test]
    fn only_what_hardware_could_have_is_a_geometry() {
        let is_sound = |levels, leaf, input, output| Geometry::new(levels, leaf, input, output, HOLES).is_some();
        for (levels, widest) in [(3, 39), (4, 48), (5, 57), (6, 64)] {
            assert!(is_sound(levels, 3, widest, 52) && is_sound(levels, 1, 12, 12), "{levels}");
            assert!(!is_sound(levels, 3, widest + 1, 52) && !is_sound(levels, 1, 11, 12), "{levels}");
        }
        assert!(!is_sound(2, 1, 30, 46) && !is_sound(7, 1, 30, 46) && !is_sound(u8::MAX, 1, 30, 46));
        assert!(!is_sound(4, 0, 48, 46) && !is_sound(4, 4, 48, 46));
        assert!(!is_sound(4, 3, 48, 53) && !is_sound(4, 3, 48, 11));
    }

    #[test]
    fn what_meets_a_hole_takes_nothing_and_what_is_beside_it_does() {
        const OTHER: Hole = Hole::new((0x10_0000_0000, 0x10_0000_ffff), "a test has its hole");
        let geometry = Geometry::new(4, 3, 48, 46, &[Hole::INTERRUPTS, OTHER]).unwrap();
        let range = |first, last| IovaRange::new(Iova::new(first), last - first + 1).unwrap();
        for hole in [Hole::INTERRUPTS, OTHER] {
            let (first, last) = (hole.first.as_u64(), hole.last.as_u64());
            for meets in [range(first, first), range(last, last), range(first - 1, last + 1), range(0, first)] {
                assert!(!geometry.takes_input(meets), "{meets}");
            }
            assert!(geometry.takes_input(range(last + 1, last + 1)));
        }
        assert!(geometry.takes_input(range(0, 0xfedf_ffff)) && geometry.takes_input(range(0xfef0_0000, 0xf_ffff_ffff)));
        assert_eq!(OTHER.to_string(), "0x1000000000..=0x100000ffff, where a test has its hole");
    }

    #[test]
    fn the_highest_input_is_reached_and_no_other() {
        let geometry = |levels, input_bits| Geometry::new(levels, 1, input_bits, 46, HOLES).unwrap();
        let all = IovaRange::new(Iova::new(0), u64::MAX).unwrap().hull(IovaRange::new(Iova::new(u64::MAX), 1).unwrap());
        assert_eq!(geometry(6, 64).part(all), Some((0, u64::MAX)));
        assert!(geometry(6, 64).reaches(Iova::new(u64::MAX)));
        assert_eq!(geometry(4, 48).part(all), Some((0, (1 << 48) - 1)));
        assert!(geometry(4, 48).reaches(Iova::new((1 << 48) - 1)) && !geometry(4, 48).reaches(Iova::new(1 << 48)));
        assert_eq!(geometry(4, 48).part(IovaRange::new(Iova::new(1 << 48), 1).unwrap()), None);
    }
}
