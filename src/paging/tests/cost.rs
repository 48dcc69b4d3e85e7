//! How many entries an edit reads, and what it writes back.

use super::*;

each_format! {
    letting_go_takes_time_for_each_table_not_for_each_page,
    a_page_beside_the_last_one_takes_no_walk,
    whether_pages_are_one_is_mostly_settled_beside_the_last,
    a_fresh_root_is_written_back_whole,
    a_coherent_table_is_never_written_back,
}

fn letting_go_takes_time_for_each_table_not_for_each_page<F: Sample>() {
    const START: u64 = 4 * GIB;
    // Words read to let go of 16 tables with so many pages of 2 MiB each, and of pages of 4 KiB in front of them.
    let reads = |pages: u64, small: u64, unmaps: bool| {
        let mut bench = bench::<F>(Geometry { max_leaf_level: 2, ..F::GEOMETRY }, true);
        if small > 0 {
            let _ = bench.map(START, KIB4, small * KIB4);
        }
        for table in 0..16 {
            let _ = bench.map(START + table * GIB + MIB2, MIB2, pages * MIB2);
        }
        let (before, used) = (bench.hal.loads(), bench.hal.used());
        let all = if unmaps {
            let _ = bench.unmap(START, 16 * GIB);
            bench.table.unlinked() + 1
        } else {
            bench.table.into_frames(&bench.hal).len()
        };
        assert_eq!(all, used);
        bench.hal.loads() - before
    };
    for unmaps in [true, false] {
        assert_eq!(reads(511, 0, unmaps), reads(1, 0, unmaps));
        assert!(reads(511, 1, unmaps) < reads(511, 0, unmaps) + 8, "none is looked for once it was found");
    }
}

fn a_page_beside_the_last_one_takes_no_walk<F: Sample>() {
    // Outputs of which a larger page could come, and such of which none can.
    for (shift, first, reads) in [(0, 4 * F::LEVELS + 5, [2, 3, 2, 3]), (KIB4, 2 * F::LEVELS - 1, [1, 1, 2, 3])] {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        let _ = bench.map(0, MIB2, KIB4);
        let mut reads_of = |edit: &mut dyn FnMut(&mut Bench<F>) -> Change| {
            let before = bench.hal.loads();
            let _ = edit(&mut bench);
            assert_eq!(bench.table.unlinked(), 0);
            bench.hal.loads() - before
        };
        let mut map = |page: u64| reads_of(&mut |bench| bench.map(page * KIB4, page * KIB4 + shift, KIB4));
        assert_eq!((map(512 + 10), [map(512 + 11), map(512 + 9)]), (first, [reads[0], reads[1]]));
        let mut unmap = |page: u64| reads_of(&mut |bench| bench.unmap(page * KIB4, KIB4));
        assert_eq!([unmap(512 + 9), unmap(512 + 11)], [reads[2], reads[3]]);
        assert_eq!(bench.walk((512 + 10) * KIB4), Some((1, (512 + 10) * KIB4 + shift)));
    }
}

fn whether_pages_are_one_is_mostly_settled_beside_the_last<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let mut reads = |page: u64| {
        let before = bench.hal.loads();
        let _ = bench.map(page * MIB2, page * MIB2, MIB2);
        bench.hal.loads() - before
    };
    let upwards: Vec<_> = (0..200).map(&mut reads).skip(1).collect();
    let downwards: Vec<_> = (300..512).rev().map(&mut reads).skip(1).collect();
    assert!(upwards.iter().all(|reads| *reads == upwards[0]), "{upwards:?}");
    // One more at each of the two ends of what was mapped.
    assert!(downwards.iter().all(|reads| *reads == upwards[0] + 2), "not down to those: {downwards:?}");
}

fn a_fresh_root_is_written_back_whole<F: Sample>() {
    let hal = Fake::new(4);
    let table = PageTable::new(&hal, F::FORMAT, F::GEOMETRY, false).unwrap();
    let at = table.root().as_u64();
    assert_eq!(hal.journal(), [Deed::Allocate { at }, Deed::WriteBack { at, bytes: 4096 }, Deed::Fence]);
}

fn a_coherent_table_is_never_written_back<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, GIB + KIB4);
    let _ = bench.unmap(KIB4, GIB);
    assert!(!bench.hal.journal().iter().any(|deed| matches!(deed, Deed::WriteBack { .. })));
}
