//! Where the interrupts of a cell may go.
#![forbid(unsafe_code)]

use core::fmt;

/// A set of CPUs, by ranges of their APIC ids.
///
/// ```
/// use cofferdam::interrupt::CpuSet;
///
/// const OF_CELL: CpuSet = CpuSet::NONE.with(4, 7).with(12, 12);
/// assert!(OF_CELL.has(12) && !OF_CELL.has(8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuSet {
    /// First and last of each; those that are not used are the wrong way about, so that they have no CPU.
    ranges: [(u32, u32); CpuSet::RANGES],
}

impl CpuSet {
    /// How many ranges a set can have.
    pub const RANGES: usize = 8;
    const UNUSED: (u32, u32) = (1, 0);

    /// No CPU.
    pub const NONE: Self = Self { ranges: [Self::UNUSED; Self::RANGES] };

    /// These, and those with an APIC id from `first` to `last`. A ninth range is not added, and neither is one whose last id is below
    /// its first.
    #[must_use]
    pub const fn with(mut self, first: u32, last: u32) -> Self {
        let mut rest: &mut [(u32, u32)] = &mut self.ranges;
        while let [range, others @ ..] = rest {
            if range.0 > range.1 {
                *range = if first <= last { (first, last) } else { Self::UNUSED };
                break;
            }
            rest = others;
        }
        self
    }

    /// True if the CPU with this APIC id is one of them.
    pub fn has(&self, apic_id: u32) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&apic_id))
    }

    fn used(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.ranges.iter().copied().filter(|(first, last)| first <= last)
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.used()).finish()
    }
}

/// A set of vectors.
///
/// ```
/// use cofferdam::interrupt::VectorSet;
///
/// const OF_CELL: VectorSet = VectorSet::NONE.with(32, 63);
/// assert!(OF_CELL.has(63) && !OF_CELL.has(64));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VectorSet([u64; 4]);

impl VectorSet {
    /// No vector.
    pub const NONE: Self = Self([0; 4]);
    /// Those from 16 on; the others are of the CPU's exceptions.
    pub const ALL: Self = Self::NONE.with(16, 255);

    /// These, and those from `first` to `last`.
    #[must_use]
    pub const fn with(self, first: u8, last: u8) -> Self {
        let Self([a, b, c, d]) = self;
        Self([
            a | Self::part(first, last, 0),
            b | Self::part(first, last, 64),
            c | Self::part(first, last, 128),
            d | Self::part(first, last, 192),
        ])
    }

    /// The bits of the 64 vectors from `base` on that are in a range.
    const fn part(first: u8, last: u8, base: u16) -> u64 {
        Self::below(last as u16 + 1, base) & !Self::below(first as u16, base)
    }

    /// The bits of the 64 vectors from `base` on that are below `end`.
    const fn below(end: u16, base: u16) -> u64 {
        match end.saturating_sub(base) {
            count @ 0..64 => (1 << count) - 1,
            _ => u64::MAX,
        }
    }

    /// True if the vector is one of them.
    pub fn has(&self, vector: u8) -> bool {
        self.0.get(usize::from(vector / 64)).is_some_and(|word| word >> (vector % 64) & 1 == 1)
    }
}

impl fmt::Debug for VectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..=255).filter(|vector| self.has(*vector))).finish()
    }
}

/// Where the interrupts of a cell's devices may go: fixed when the cell is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptTargets {
    /// Its CPUs.
    pub cpus: CpuSet,
    /// Its vectors: of CPUs that no other cell has, all of them ([`VectorSet::ALL`]); of CPUs that are shared, its own.
    pub vectors: VectorSet,
    /// Where CPUs are in xAPIC mode: the logical ids that its CPUs have in the flat model, which their logical destination
    /// registers say. Whoever has the CPUs set those knows them; a route to logical ids has no others.
    pub flat_ids: u8,
}

impl InterruptTargets {
    /// Nowhere.
    pub const NONE: Self = Self { cpus: CpuSet::NONE, vectors: VectorSet::NONE, flat_ids: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_cpus_has_its_ranges_and_no_ninth() {
        let set = (0..9).fold(CpuSet::NONE, |set, n| set.with(n * 10, n * 10 + 1));
        assert!(set.has(0) && set.has(71) && !set.has(72) && !set.has(80));
        assert_eq!(CpuSet::NONE.with(5, 4), CpuSet::NONE);
        assert!(!CpuSet::NONE.has(0) && !CpuSet::NONE.has(1) && CpuSet::NONE.with(0, u32::MAX).has(u32::MAX));
    }

    #[test]
    fn a_set_of_vectors_has_each_of_its_range_and_no_other() {
        for (first, last) in [(0, 255), (16, 255), (63, 64), (64, 127), (191, 192), (255, 255), (7, 7), (9, 8)] {
            let set = VectorSet::NONE.with(first, last);
            for vector in 0..=255 {
                assert_eq!(set.has(vector), (first..=last).contains(&vector), "{vector} of {first}..={last}");
            }
        }
        let two = VectorSet::NONE.with(32, 33).with(200, 200);
        assert_eq!([31, 32, 33, 34, 200].map(|vector| two.has(vector)), [false, true, true, false, true]);
    }
}
