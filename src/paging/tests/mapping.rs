//! What is mapped, and by which pages.

use super::*;

each_format! {
    a_fresh_table_translates_nothing,
    the_largest_page_that_alignment_permits_is_used,
    no_page_is_larger_than_geometry_and_output_permit,
    the_last_page_of_either_side_can_be_mapped,
    what_is_beside_a_hole_can_be_mapped,
    all_of_64_bits_can_be_mapped_and_unmapped,
}

fn a_fresh_table_translates_nothing<F: Sample>() {
    let bench = bench::<F>(F::GEOMETRY, true);
    assert_eq!(bench.walk(0), None);
    assert_eq!((bench.table.frames(), bench.hal.used()), (1, 1));
}

fn the_largest_page_that_alignment_permits_is_used<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    // 4 KiB, 2 MiB, 1 GiB, 2 MiB, 4 KiB in one region, with the same alignment on both sides.
    let (input, output) = (GIB - MIB2 - KIB4, 5 * GIB - MIB2 - KIB4);
    let change = bench.map(input, output, GIB + 2 * MIB2 + 2 * KIB4);
    assert!(change.tables && !change.was_present && bench.table.unlinked() == 0);
    for (offset, level) in [(0, 1), (KIB4, 2), (KIB4 + MIB2, 3), (KIB4 + MIB2 + GIB, 2), (KIB4 + GIB + 2 * MIB2, 1)] {
        assert_eq!(bench.walk(input + offset), Some((level, output + offset)), "{offset:#x}");
        assert_eq!(bench.walk(input + offset + 0xabc), Some((level, output + offset + 0xabc)));
    }
    assert_eq!(bench.walk(input - 1), None);
    assert_eq!(bench.walk(input + GIB + 2 * MIB2 + 2 * KIB4), None);
}

fn no_page_is_larger_than_geometry_and_output_permit<F: Sample>() {
    let mut bench_small = bench::<F>(Geometry { max_leaf_level: 1, ..F::GEOMETRY }, true);
    let _ = bench_small.map(0, 0, 2 * MIB2);
    assert_eq!(bench_small.walk(0), Some((1, 0)));
    let mut bench_shifted = bench::<F>(F::GEOMETRY, true);
    let _ = bench_shifted.map(0, KIB4, 2 * MIB2);
    assert_eq!(bench_shifted.walk(MIB2), Some((1, MIB2 + KIB4)));
}

fn the_last_page_of_either_side_can_be_mapped<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(F::TOP - KIB4, (1 << 46) - KIB4, KIB4);
    assert_eq!(bench.walk(F::TOP - 1), Some((1, (1 << 46) - 1)));
}

fn what_is_beside_a_hole_can_be_mapped<F: Sample>() {
    for hole in F::GEOMETRY.holes {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        let (before, behind) = (hole.first.as_u64() - KIB4, hole.last.as_u64() + 1);
        let _ = bench.map(before, 0xfef0_0000, KIB4);
        let _ = bench.map(behind, 0xfedf_f000, KIB4);
        assert_eq!((bench.walk(before), bench.walk(behind)), (Some((1, 0xfef0_0000)), Some((1, 0xfedf_f000))));
        // Beside what was mapped last, where there is no walk, and elsewhere.
        for at in [hole.last.as_u64() & !(KIB4 - 1), hole.first.as_u64()] {
            let inside = region(at, 0, KIB4, RW);
            let refused = bench.table.prepare_map(&bench.hal, inside).unwrap_err();
            assert_eq!(refused, MapError::InputHole { region: inside, hole });
        }
    }
}

fn all_of_64_bits_can_be_mapped_and_unmapped<F: Sample>() {
    let mut bench = bench::<F>(Geometry::new(6, 3, 64, 46, F::GEOMETRY.holes).unwrap(), true);
    let all = range(0, u64::MAX).hull(range(u64::MAX, 1));
    let last = !(GIB - 1);
    let _ = bench.map(last - KIB4, 5 * GIB - KIB4, KIB4 + (GIB - KIB4));
    let _ = bench.map(!(KIB4 - 1), 0, KIB4);
    assert_eq!(
        [last - 1, last, u64::MAX].map(|at| bench.walk(at)),
        [Some((1, 5 * GIB - 1)), Some((2, 5 * GIB)), Some((1, KIB4 - 1))]
    );
    assert_eq!(bench.table.mappings(&bench.hal, Iova::new(0)).count(), 2);
    let prealloc = bench.table.prepare_edit(&bench.hal, all).unwrap();
    let change = bench.table.unmap(&bench.hal, all, prealloc);
    assert_eq!((change.was_present, bench.table.frames(), bench.walk(u64::MAX)), (true, 1, None));
    bench.free_unlinked();
    assert_eq!(bench.hal.used(), 1);
}
