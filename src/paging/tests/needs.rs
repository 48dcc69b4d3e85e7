//! What several edits together are given, beside what each of them takes.

use super::*;

each_format! {
    an_empty_table_takes_just_that_many,
    a_page_that_is_split_at_both_ends_takes_no_more_than_that,
    what_cannot_be_mapped_needs_nothing,
}

const EDGES: [u64; 9] = [0, 1, 2, 0x1ff, 0x200, 0x201, 0x4_0000 - 1, 0x4_0000, 0x8_0000 + 0x1ff];

/// From one page up to another, to outputs that begin so many pages further on.
fn pages(first: u64, end: u64, shift: u64) -> Region {
    region(first << 12, (first + shift) << 12, (end - first) << 12, RW)
}

fn regions() -> impl Iterator<Item = Region> {
    let pairs = EDGES.into_iter().flat_map(|first| EDGES.into_iter().map(move |end| (first, end)));
    let shifts = [0x10_0000, 0x10_0200, 0x10_0003];
    pairs.filter(|(first, end)| first < end).flat_map(move |(f, e)| shifts.map(|shift| pages(f, e, shift)))
}

fn an_empty_table_takes_just_that_many<F: Sample>() {
    let hal = Fake::new(1100);
    for geometry in [F::GEOMETRY, Geometry { max_leaf_level: 2, ..F::GEOMETRY }] {
        for region in regions() {
            let mut table = PageTable::new(&hal, F::FORMAT, geometry, true).unwrap();
            let before = hal.used();
            let prealloc = table.prepare_map(&hal, region).unwrap();
            assert_eq!(hal.used() - before, geometry.tables_to_map(region).unwrap(), "{region}");
            let _ = table.map(&hal, region, prealloc);
            // SAFETY: no unit knows the table.
            unsafe { table.into_frames(&hal).free(&hal) };
        }
    }
}

fn a_page_that_is_split_at_both_ends_takes_no_more_than_that<F: Sample>() {
    for region in regions() {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        let _ = bench.map(0, GIB << 2, 0xc_0000 << 12);
        let prealloc = Prealloc::allocate(&bench.hal, F::GEOMETRY.tables_to_edit(region.input), F::GEOMETRY).unwrap();
        let _ = bench.table.unmap(&bench.hal, region.input, prealloc);
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        assert!(bench.walk(start).is_none() && bench.walk(last).is_none(), "{region}");
        assert!(start == 0 || bench.walk(start - 1).is_some(), "{region}");
        assert!(bench.walk(last + 1).is_some(), "{region}");
    }
}

fn what_cannot_be_mapped_needs_nothing<F: Sample>() {
    let geometry = F::GEOMETRY;
    let high = region(F::TOP, 0, KIB4, RW);
    let input_bits = geometry.input_bits;
    assert_eq!(geometry.tables_to_map(high), Err(MapError::InputTooHigh { region: high, input_bits }));
    for hole in geometry.holes {
        let inside = region(hole.first.as_u64(), 0, KIB4, RW);
        assert_eq!(geometry.tables_to_map(inside), Err(MapError::InputHole { region: inside, hole }));
    }
}
