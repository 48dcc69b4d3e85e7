//! Small pages that become a large one.

use super::*;

each_format! {
    pages_mapped_one_by_one_join_whichever_comes_last,
    a_hole_that_is_filled_again_makes_the_large_page_whole,
    pages_of_other_rights_place_or_alignment_are_not_joined,
    rights_that_come_to_be_alike_join_the_pages,
    a_table_of_small_pages_is_found_after_larger_ones_joined,
}

fn pages_mapped_one_by_one_join_whichever_comes_last<F: Sample>() {
    for last in [0, 1, 255, 510, 511] {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        for page in (0..512).filter(|page| *page != last) {
            let _ = bench.map(page * KIB4, page * KIB4, KIB4);
            assert_eq!(bench.table.unlinked(), 0);
        }
        assert!(bench.map(last * KIB4, last * KIB4, KIB4).tables);
        assert_eq!(bench.table.unlinked(), 1);
        assert_eq!(bench.walk(MIB2 - 1), Some((2, MIB2 - 1)));
    }
}

fn a_hole_that_is_filled_again_makes_the_large_page_whole<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, false);
    let _ = bench.map(GIB, 8 * GIB, GIB);
    let (hole, back) = (GIB + MIB2 + KIB4, 8 * GIB + MIB2 + KIB4);
    let _ = bench.unmap(hole, 2 * KIB4);
    assert_eq!((bench.table.frames(), bench.table.unlinked()), (F::LEVELS, 0));
    let change = bench.map(hole, back, KIB4);
    assert!(!change.was_present && !change.tables, "half of it is not the whole");
    bench.hal.journal();
    let change = bench.map(hole + KIB4, back + KIB4, KIB4);
    assert!(change.was_present && change.tables);
    assert_eq!((change.range, bench.table.unlinked()), (range(GIB, GIB), 2), "both tables, after a flush of all of it");
    assert_eq!(bench.walk(hole), Some((3, back)));
    assert_eq!(bench.table.frames(), F::LEVELS - 2);
    bench.free_unlinked();
    assert_eq!(bench.hal.used(), F::LEVELS - 2);
}

fn pages_of_other_rights_place_or_alignment_are_not_joined<F: Sample>() {
    for (output, rights, shift) in [(KIB4, RW, 0), (0, Rights::READ, 0), (0, RW, KIB4)] {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        let _ = bench.map(0, shift, MIB2 - KIB4);
        let change = bench.map_with(MIB2 - KIB4, MIB2 - KIB4 + shift + output, KIB4, rights);
        assert!(!change.was_present && bench.table.unlinked() == 0);
        assert_eq!(bench.walk(0), Some((1, shift)));
    }
    let mut small = bench::<F>(Geometry { max_leaf_level: 1, ..F::GEOMETRY }, true);
    let _ = small.map(0, 0, MIB2 - KIB4);
    let _ = small.map(MIB2 - KIB4, MIB2 - KIB4, KIB4);
    assert_eq!(small.table.unlinked(), 0);
}

fn rights_that_come_to_be_alike_join_the_pages<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, MIB2);
    for (rights, level, unlinked) in [(Rights::READ, 1, 0), (RW, 2, 1)] {
        let _ = bench.protect(0, KIB4, rights);
        assert_eq!((bench.table.unlinked(), bench.walk(KIB4)), (unlinked, Some((level, KIB4))));
    }
}

fn a_table_of_small_pages_is_found_after_larger_ones_joined<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(GIB, 0, KIB4);
    (0..512).for_each(|page| drop(bench.map(page * MIB2, page * MIB2, MIB2)));
    assert_eq!(bench.walk(0), Some((3, 0)));
    bench.free_unlinked();
    assert_eq!(bench.table.into_frames(&bench.hal).len(), F::LEVELS, "the root, and one of each level below");
}
