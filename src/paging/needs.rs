//! How many frames an edit may take, whatever the table is like by then: what several edits together are given before the
//! first of them is made.
#![deny(unsafe_code)]

use super::format::{is_page_start, page_shift};
use super::{MapError, Shape, check};
use crate::addr::{IovaRange, Region};

impl Shape {
    /// Tables that mapping `region` takes if there is none yet below the top; fails if it cannot be mapped.
    pub(crate) fn tables_to_map(self, region: Region) -> Result<usize, MapError> {
        check(region)?;
        self.check(region)?;
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        Ok(tables_below(self.levels, start, last, self.page_level(&region)))
    }

    /// The largest page in bytes.
    pub(crate) fn largest_page_bytes(self) -> u64 {
        super::page_bytes(self.largest_page)
    }

    /// Tables that splitting pages at both ends of `range` takes at most.
    pub(crate) fn tables_to_edit(self, range: IovaRange) -> usize {
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        (2..=self.largest_page).map(|level| covered_in_part(level, start, last)).sum()
    }
}

/// Tables that mapping `start..=last` with pages up to `page_level` takes below entries at `level` that are absent: one for
/// each entry at each level that no page stands for.
pub(super) fn tables_below(level: u8, start: u64, last: u64, page_level: u8) -> usize {
    let entries = |level| {
        if level > page_level { touched(level, start, last) } else { covered_in_part(level, start, last) }
    };
    (2..=level).map(entries).sum()
}

/// How many entries at `level` the range touches.
fn touched(level: u8, start: u64, last: u64) -> usize {
    ((last >> page_shift(level)) - (start >> page_shift(level)) + 1) as usize
}

/// How many of them it does not cover whole.
fn covered_in_part(level: u8, start: u64, last: u64) -> usize {
    let inside = [start, last.wrapping_add(1)].into_iter().filter(|edge| !is_page_start(*edge, level)).count();
    inside.min(touched(level, start, last))
}

#[cfg(test)]
#[allow(unsafe_code, reason = "tables are freed")]
mod tests {
    use super::*;
    use crate::addr::{Iova, PhysAddr, Rights};
    use crate::hal::fake::Fake;
    use crate::paging::{PageTable, Spare};
    use crate::vtd::SecondStage;

    const SHAPE: Shape = Shape { levels: 4, largest_page: 3, input_bits: 48, output_bits: 46 };
    const EDGES: [u64; 9] = [0, 1, 2, 0x1ff, 0x200, 0x201, 0x4_0000 - 1, 0x4_0000, 0x8_0000 + 0x1ff];

    fn region(first: u64, end: u64, shift: u64) -> Region {
        let output = PhysAddr::new((first + shift) << 12);
        Region::new(Iova::new(first << 12), output, (end - first) << 12, Rights::all()).unwrap()
    }

    fn regions() -> impl Iterator<Item = Region> {
        let pairs = EDGES.into_iter().flat_map(|first| EDGES.into_iter().map(move |end| (first, end)));
        let shifts = [0x10_0000, 0x10_0200, 0x10_0003];
        pairs.filter(|(first, end)| first < end).flat_map(move |(f, e)| shifts.map(|shift| region(f, e, shift)))
    }

    #[test]
    fn an_empty_table_takes_just_that_many() {
        let hal = Fake::new(1100);
        for shape in [SHAPE, Shape { largest_page: 2, ..SHAPE }, Shape { levels: 5, input_bits: 57, ..SHAPE }] {
            for region in regions() {
                let mut table = PageTable::new(&hal, SecondStage { snoop: false }, shape, true).unwrap();
                let before = hal.used();
                let spare = table.prepare_map(&hal, region).unwrap();
                assert_eq!(hal.used() - before, shape.tables_to_map(region).unwrap(), "{region}");
                let _ = table.map(&hal, region, spare);
                // SAFETY: no unit knows the table.
                unsafe { table.into_frames(&hal).free(&hal) };
            }
        }
    }

    #[test]
    fn a_page_that_is_split_at_both_ends_takes_no_more_than_that() {
        let hal = Fake::new(100);
        for region in regions() {
            let mut table = PageTable::new(&hal, SecondStage { snoop: false }, SHAPE, true).unwrap();
            let all = self::region(0, 0xc_0000, 0x10_0000);
            let spare = table.prepare_map(&hal, all).unwrap();
            let _ = table.map(&hal, all, spare);
            let spare = Spare::allocate(&hal, SHAPE.tables_to_edit(region.input), SHAPE).unwrap();
            let change = table.unmap(&hal, region.input, spare);
            // SAFETY: no unit knows the table.
            unsafe { change.free(&hal) };
            let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
            assert!(table.walk(&hal, start).is_none() && table.walk(&hal, last).is_none(), "{region}");
            assert!(start == 0 || table.walk(&hal, start - 1).is_some(), "{region}");
            assert!(table.walk(&hal, last + 1).is_some(), "{region}");
            // SAFETY: no unit knows the table.
            unsafe { table.into_frames(&hal).free(&hal) };
        }
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let high = region(1 << 36, (1 << 36) + 1, 0);
        assert_eq!(SHAPE.tables_to_map(high), Err(MapError::InputTooHigh { region: high, input_bits: 48 }));
        let interrupts = region(0xfee00, 0xfee01, 0);
        assert_eq!(SHAPE.tables_to_map(interrupts), Err(MapError::InterruptRange(interrupts)));
    }
}
