//! Tables that edits took out, and that hardware may still walk.

use std::collections::BTreeSet;

use super::journal::watched;
use super::*;
use crate::paging::unlinked::{END, Joined, gather, scatter};

each_format! {
    hardware_finds_in_a_joined_table_what_its_page_says,
    what_is_unlinked_stays_with_the_table_until_it_is_given_back,
    each_frame_comes_back_once,
    what_joined_comes_apart_without_a_frame,
    the_table_of_one_page_is_found_among_those_of_others,
    a_link_of_any_address_and_the_end_are_held_by_ignored_bits,
}

/// The table at `level` on the way to `input`.
fn table_at<F: Format>(bench: &Bench<F>, input: u64, level: u8) -> u64 {
    let content = bench.hal.content();
    let words = |at: u64| content.iter().find(|(frame, _)| *frame == at).map(|(_, words)| words).unwrap();
    let (mut at, mut from) = (bench.table.root().as_u64(), bench.table.geometry.levels);
    while from > level {
        let index = (input >> (12 + 9 * (from - 1))) as usize % 512;
        let Entry::Table(next) = bench.table.format.decode(words(at)[index], from) else { panic!("no table") };
        (at, from) = (next.as_u64(), from - 1);
    }
    at
}

fn hardware_finds_in_a_joined_table_what_its_page_says<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    // Pages of 2 MiB that are one of 1 GiB in the end, and each of 4 KiB before, except for the last.
    let mut tables = Vec::new();
    for large in 0..512 {
        let at = large * MIB2;
        if large % 256 < 3 {
            let _ = bench.map_with(at, 8 * GIB + at, MIB2 - KIB4, Rights::READ);
            tables.push((1, at, table_at(&bench, at, 1)));
            let _ = bench.map_with(at + MIB2 - KIB4, 8 * GIB + at + MIB2 - KIB4, KIB4, Rights::READ);
        } else {
            if large == 511 {
                tables.push((2, 0, table_at(&bench, 0, 2)));
            }
            let _ = bench.map_with(at, 8 * GIB + at, MIB2, Rights::READ);
        }
    }
    assert_eq!((bench.walk(0), bench.table.unlinked()), (Some((3, 8 * GIB)), tables.len()));
    let content = bench.hal.content();
    for &(level, input, table) in &tables {
        let (_, words) = content.iter().find(|(frame, _)| *frame == table).unwrap();
        for (index, word) in (0..).zip(words) {
            let expected = F::FORMAT.page(8 * GIB + input + index * page_bytes(level), Rights::READ, level);
            let read = word & F::READ_BY_HARDWARE;
            assert_eq!(read, expected & F::READ_BY_HARDWARE, "entry {index} of the table for {input:#x}");
        }
    }
    // The way from one to the next is in there.
    assert_eq!(bench.table.frames() + tables.len(), bench.hal.used());
    bench.free_unlinked();
    assert_eq!(bench.table.frames(), bench.hal.used());
    assert!(tables.iter().all(|(.., table)| !bench.hal.is_used(*table)));
}

/// Two tables that were joined, and two of which all is unmapped, by turns.
fn with_unlinked<F: Sample>() -> Bench<F> {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, 2 * GIB);
    for joined in [0, 2] {
        let at = joined * MIB2;
        let _ = bench.unmap(at, KIB4);
        let _ = bench.map(at, at, KIB4);
        let _ = bench.map(4 * GIB + at, KIB4, KIB4);
        let _ = bench.unmap(4 * GIB + at, KIB4);
    }
    bench
}

fn what_is_unlinked_stays_with_the_table_until_it_is_given_back<F: Sample>() {
    let mut bench = with_unlinked::<F>();
    let (frames, unlinked) = (bench.table.frames(), bench.table.unlinked());
    assert!(unlinked >= 4 && bench.hal.used() == frames + unlinked);
    // Another edit adds to it.
    let _ = bench.map(4 * GIB, KIB4, KIB4);
    let _ = bench.unmap(4 * GIB, KIB4);
    assert!(bench.table.unlinked() > unlinked && bench.table.frames() == frames);
    bench.free_unlinked();
    assert_eq!((bench.table.unlinked(), bench.table.frames(), bench.hal.used()), (0, frames, frames));
    bench.free_unlinked();
    assert_eq!(bench.hal.used(), frames);
}

fn each_frame_comes_back_once<F: Sample>() {
    for gives_back in [false, true] {
        let mut bench = with_unlinked::<F>();
        if gives_back {
            bench.free_unlinked();
        }
        let used: BTreeSet<u64> = bench.hal.content().into_iter().map(|(at, _)| at).collect();
        let Bench { hal, table } = bench;
        let mut frames = table.into_frames(&hal);
        assert_eq!(frames.len(), used.len());
        let mut found = BTreeSet::new();
        while let Some(frame) = frames.pop(&hal) {
            assert!(found.insert(frame.base().as_u64()));
        }
        assert_eq!(found, used);
    }
}

fn what_joined_comes_apart_without_a_frame<F: Sample>() {
    for coherent in [true, false] {
        // A page of 1 GiB without its last one of 4 KiB: tables at two levels go when that comes.
        let ((mut bench, mut watch), last) = (watched::<F>(F::GEOMETRY, coherent), GIB - KIB4);
        let _ = bench.map(GIB, 8 * GIB, last);
        let (before, frames) = (bench.hal.content(), bench.table.frames());
        let page = range(GIB + last, KIB4);
        for _ in 0..2 {
            let _ = bench.map(GIB + last, 8 * GIB + last, KIB4);
            assert_eq!((bench.walk(GIB), bench.table.unlinked()), (Some((3, 8 * GIB)), 2));
            watch.check(&bench.hal);
            assert!(bench.table.splits_without_frames(&bench.hal, page));
            let change = bench.table.unmap(&bench.hal, page, Prealloc::none());
            assert!(change.was_present && change.tables && change.range == range(GIB, GIB));
            watch.check(&bench.hal);
            assert_eq!((bench.table.frames(), bench.table.unlinked()), (frames, 0));
            assert_eq!(bench.hal.content(), before, "the same tables, and no link is left in them");
            // They are known as what they are again: they go when all that is in them does, and come back.
            let _ = bench.unmap(GIB, last);
            bench.free_unlinked();
            assert_eq!((bench.table.frames(), bench.hal.used()), (1, 1));
            let _ = bench.map(GIB, 8 * GIB, last);
            watch.check(&bench.hal);
        }
        let _ = bench.map(GIB + last, 8 * GIB + last, KIB4);
        bench.free_unlinked();
        assert!(!bench.table.splits_without_frames(&bench.hal, page), "they are given back");
        assert!(bench.table.splits_without_frames(&bench.hal, range(GIB, GIB)), "nothing spans its edges");
        let Bench { hal, table } = bench;
        assert_eq!(table.into_frames(&hal).len(), hal.used());
    }
}

fn the_table_of_one_page_is_found_among_those_of_others<F: Sample>() {
    for wanted in 0..3 {
        let mut bench = bench::<F>(F::GEOMETRY, true);
        for large in 0..3 {
            let at = large * MIB2;
            let _ = bench.map(at, 8 * GIB + at, MIB2 - KIB4);
            let _ = bench.map(at + MIB2 - KIB4, 8 * GIB + at + MIB2 - KIB4, KIB4);
        }
        assert_eq!(bench.table.unlinked(), 3);
        let page = range(wanted * MIB2, KIB4);
        assert!(bench.table.splits_without_frames(&bench.hal, page));
        let _ = bench.table.protect(&bench.hal, page, Rights::READ, Prealloc::none());
        assert_eq!(bench.table.unlinked(), 2);
        for large in 0..3 {
            let (level, at) = (if large == wanted { 1 } else { 2 }, large * MIB2 + KIB4);
            assert_eq!(bench.walk(at), Some((level, 8 * GIB + at)));
            assert!(bench.table.splits_without_frames(&bench.hal, range(at, KIB4)), "small, or its table is there");
        }
        bench.free_unlinked();
        assert_eq!(bench.table.frames(), bench.hal.used());
    }
}

fn a_link_of_any_address_and_the_end_are_held_by_ignored_bits<F: Sample>() {
    let holders = Joined::<F>::HOLDERS;
    assert_eq!(holders, 41_usize.div_ceil(F::IGNORED.count_ones() as usize));
    let last = (1 << 40) - 1;
    for link in [END, 0, 1, last, last - 1, 0xa5_a5a5_a5a5, 0x5a_5a5a_5a5a] {
        for others in [0, !F::IGNORED] {
            let entry = |index| Joined::<F>::part(link, index) | others;
            assert!((0..holders).all(|index| entry(index) & !F::IGNORED == others));
            assert_eq!(Joined::<F>::link(entry), link, "{link:#x}");
        }
    }
}

#[test]
fn bits_are_spread_over_any_mask_and_put_side_by_side_again() {
    let masks = [1, 1 << 63, 0b110, 0x7f << 52, 0x8000_0000_0000_019e, 0xfac0_0000_0000_0880, u64::MAX - 1];
    for mask in masks {
        let bits: u32 = mask.count_ones();
        let all = !(u64::MAX << bits);
        assert_eq!((scatter(all, mask), gather(mask, mask)), (mask, all), "{mask:#x}");
        for bit in 0..bits {
            let word = scatter(1 << bit, mask);
            assert_eq!((word.count_ones(), word & !mask, gather(word, mask)), (1, 0, 1 << bit), "{mask:#x}");
        }
        assert_eq!(scatter(1, mask), mask & mask.wrapping_neg(), "lowest first");
    }
}
