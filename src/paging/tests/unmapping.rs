//! What is taken away, and what stays beside it.

use super::*;

each_format! {
    a_range_of_no_whole_pages_has_all_that_it_touches,
    unmapping_gives_every_table_back_but_the_root,
    unmapping_pages_of_a_table_that_stays_changes_no_table,
    a_hole_in_a_large_page_leaves_the_rest_and_names_it_whole,
    a_hole_over_two_large_pages_splits_both_at_its_edges_only,
    rights_change_in_the_range_and_pages_split_at_its_edges,
    rights_survive_a_split,
    without_a_frame_to_split_a_page_goes_and_is_reported_whole,
    freeing_a_table_gives_all_its_frames_back,
}

fn a_range_of_no_whole_pages_has_all_that_it_touches<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, GIB);
    let odd = range(MIB2 + 0x1800, KIB4);
    let prealloc = Prealloc::allocate(&bench.hal, 5, F::GEOMETRY).unwrap();
    let change = bench.table.unmap(&bench.hal, odd, prealloc);
    assert_eq!((change.range, bench.table.frames()), (range(0, GIB), F::LEVELS));
    assert_eq!(
        (bench.walk(MIB2 + 0xfff), bench.walk(MIB2 + 0x3000)),
        (Some((1, MIB2 + 0xfff)), Some((1, MIB2 + 0x3000)))
    );
    assert_eq!((bench.walk(MIB2 + 0x1000), bench.walk(MIB2 + 0x2000)), (None, None));
}

fn unmapping_gives_every_table_back_but_the_root<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(GIB - KIB4, GIB - KIB4, MIB2 + 2 * KIB4);
    let change = bench.unmap(GIB - KIB4, MIB2 + 2 * KIB4);
    assert!(change.was_present && change.tables);
    assert_eq!((bench.table.frames(), bench.table.unlinked()), (1, bench.hal.used() - 1));
    bench.free_unlinked();
    assert_eq!((bench.hal.used(), bench.table.unlinked()), (1, 0));
    assert_eq!(bench.walk(GIB), None);
}

fn unmapping_pages_of_a_table_that_stays_changes_no_table<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, KIB4, 4 * KIB4);
    let change = bench.unmap(KIB4, KIB4);
    assert!(change.was_present && !change.tables && bench.table.unlinked() == 0);
    assert_eq!(change.range, range(KIB4, KIB4));
    assert_eq!((bench.walk(0), bench.walk(KIB4), bench.walk(2 * KIB4)), (Some((1, KIB4)), None, Some((1, 3 * KIB4))));
    let _ = bench.map(GIB, GIB, 4 * MIB2);
    let change = bench.unmap(GIB + MIB2, 2 * MIB2);
    assert!(change.was_present && !change.tables && change.range == range(GIB + MIB2, 2 * MIB2));
}

fn a_hole_in_a_large_page_leaves_the_rest_and_names_it_whole<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 8 * GIB, 2 * GIB);
    let hole = GIB + MIB2 + KIB4;
    let change = bench.unmap(hole, KIB4);
    assert!(change.was_present && change.tables);
    assert_eq!(change.range, range(GIB, GIB), "caches may hold the page that was split");
    assert_eq!(bench.walk(hole), None);
    assert_eq!(bench.walk(hole - 1), Some((1, 8 * GIB + hole - 1)));
    assert_eq!(bench.walk(hole + KIB4), Some((1, 8 * GIB + hole + KIB4)));
    assert_eq!(bench.walk(GIB), Some((2, 9 * GIB)));
    assert_eq!(bench.walk(GIB - 1), Some((3, 9 * GIB - 1)));
    assert_eq!(
        (bench.table.frames(), bench.hal.used()),
        (F::LEVELS, F::LEVELS),
        "what was prepared too much is given back"
    );
}

fn a_hole_over_two_large_pages_splits_both_at_its_edges_only<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, 3 * MIB2);
    let change = bench.unmap(MIB2 - KIB4, MIB2 + 2 * KIB4);
    assert_eq!(change.range, range(0, 3 * MIB2));
    assert_eq!(bench.walk(MIB2 - KIB4 - 1), Some((1, MIB2 - KIB4 - 1)));
    assert_eq!((bench.walk(MIB2 - KIB4), bench.walk(MIB2), bench.walk(2 * MIB2)), (None, None, None));
    assert_eq!(bench.walk(2 * MIB2 + KIB4), Some((1, 2 * MIB2 + KIB4)));
}

fn rights_change_in_the_range_and_pages_split_at_its_edges<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, false);
    let _ = bench.map(0, 8 * GIB, 4 * MIB2);
    bench.hal.journal();
    let change = bench.protect(MIB2 - KIB4, MIB2 + 2 * KIB4, Rights::READ);
    assert!(change.was_present && change.tables && bench.table.unlinked() == 0);
    assert_eq!(change.range, range(0, 3 * MIB2));
    let rights = |input| bench.table.walk(&bench.hal, input).unwrap();
    assert_eq!(rights(0), (1, 8 * GIB, RW));
    assert_eq!(rights(MIB2 - KIB4), (1, 8 * GIB + MIB2 - KIB4, Rights::READ));
    assert_eq!(rights(MIB2), (2, 8 * GIB + MIB2, Rights::READ));
    assert_eq!(rights(2 * MIB2), (1, 8 * GIB + 2 * MIB2, Rights::READ));
    assert_eq!(rights(2 * MIB2 + KIB4), (1, 8 * GIB + 2 * MIB2 + KIB4, RW));
    assert_eq!(rights(3 * MIB2), (2, 8 * GIB + 3 * MIB2, RW));
    let change = bench.protect(0, KIB4, Rights::WRITE);
    assert!(change.was_present && !change.tables, "nothing to split any more");
}

fn rights_survive_a_split<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map_with(0, 0, MIB2, Rights::READ);
    let _ = bench.unmap(0, KIB4);
    assert_eq!(bench.table.walk(&bench.hal, KIB4), Some((1, KIB4, Rights::READ)));
}

fn without_a_frame_to_split_a_page_goes_and_is_reported_whole<F: Sample>() {
    // Beside another page, and alone in its table.
    for (mapped, level, bytes) in [(GIB + MIB2, 3, GIB), (GIB, 3, GIB), (2 * MIB2, 2, MIB2), (MIB2, 2, MIB2)] {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        let _ = bench.map(0, 0, mapped);
        assert_eq!(bench.walk(0), Some((level, 0)));
        let change = bench.table.unmap(&bench.hal, range(bytes - KIB4, KIB4), Prealloc::none());
        assert_eq!((change.range, change.was_present, change.tables), (range(0, bytes), true, true), "{mapped:#x}");
        assert_eq!((bench.walk(0), bench.walk(bytes - KIB4)), (None, None), "{mapped:#x}");
        assert_eq!(bench.walk(bytes).is_some(), mapped > bytes);
    }
}

fn freeing_a_table_gives_all_its_frames_back<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(KIB4, 0, 2 * MIB2);
    let Bench { hal, table } = bench;
    assert_eq!(table.frames(), hal.used());
    // SAFETY: no hardware walks this table.
    unsafe { table.into_frames(&hal).free(&hal) };
    assert_eq!(hal.used(), 0);
}
