mod history;
mod journal;
mod reading;

use std::vec::Vec;

use super::*;
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::hal::fake::{Deed, Fake};
use crate::hal::{Hal, NoFrame};

const KIB4: u64 = 0x1000;
const MIB2: u64 = 0x20_0000;
const GIB: u64 = 0x4000_0000;
const RW: Rights = Rights::all();

/// Bits that no real format has, so that the walker cannot lean on one: 0 present, 1 read, 2 write, 3 page, 4 to 6 the
/// level of a page.
#[derive(Clone, Copy, Debug)]
struct Toy;

impl Format for Toy {
    fn page(&self, output: u64, rights: Rights, level: u8) -> u64 {
        assert!(output.is_multiple_of(page_bytes(level)));
        output | 0b1001 | u64::from(rights.bits()) << 1 | u64::from(level) << 4
    }
    fn table(&self, next: PhysAddr) -> u64 {
        next.as_u64() | 1
    }
    fn decode(&self, word: u64, level: u8) -> Entry {
        match word & 0b1001 {
            0b0001 if level == 1 => unreachable!("{word:#x}"),
            0b1001 if word >> 4 & 7 != u64::from(level) => unreachable!("{word:#x} at level {level}"),
            0b1001 => Entry::Page { output: word & !0xfff, rights: Rights::from_bits_truncate((word >> 1) as u8 & 3) },
            0b0001 => Entry::Table(PhysAddr::new(word & !0xfff)),
            _ => Entry::Absent,
        }
    }
}

const SHAPE: Shape = Shape { levels: 4, largest_page: 3, input_bits: 48, output_bits: 46 };

struct Bench {
    hal: Fake,
    table: PageTable<Toy>,
}

fn bench(shape: Shape, coherent: bool) -> Bench {
    let hal = Fake::new(64);
    let table = PageTable::new(&hal, Toy, shape, coherent).unwrap();
    hal.journal();
    Bench { hal, table }
}

fn region(input: u64, output: u64, bytes: u64, rights: Rights) -> Region {
    Region::new(Iova::new(input), PhysAddr::new(output), bytes, rights).unwrap()
}

fn range(input: u64, bytes: u64) -> IovaRange {
    IovaRange::new(Iova::new(input), bytes).unwrap()
}

impl Bench {
    fn map(&mut self, input: u64, output: u64, bytes: u64) -> Change {
        let region = region(input, output, bytes, RW);
        let spare = self.table.prepare_map(&self.hal, region).unwrap();
        self.table.map(&self.hal, region, spare)
    }

    fn unmap(&mut self, input: u64, bytes: u64) -> Change {
        let range = range(input, bytes);
        let spare = self.table.prepare_edit(&self.hal, range).unwrap();
        self.table.unmap(&self.hal, range, spare)
    }

    /// Level of the page at `input`, and where `input` leads.
    fn walk(&self, input: u64) -> Option<(u8, u64)> {
        let (level, output, _) = self.table.walk(&self.hal, input)?;
        Some((level, output + input % page_bytes(level)))
    }
}

#[test]
fn a_fresh_table_translates_nothing() {
    let bench = bench(SHAPE, true);
    assert_eq!(bench.walk(0), None);
    assert_eq!((bench.table.frames(), bench.hal.used()), (1, 1));
}

#[test]
fn the_largest_page_that_alignment_permits_is_used() {
    let mut bench = bench(SHAPE, true);
    // 4 KiB, 2 MiB, 1 GiB, 2 MiB, 4 KiB in one region, with the same alignment on both sides.
    let (input, output) = (GIB - MIB2 - KIB4, 5 * GIB - MIB2 - KIB4);
    let change = bench.map(input, output, GIB + 2 * MIB2 + 2 * KIB4);
    assert!(change.tables && !change.was_present && change.freed.is_empty());
    for (offset, level) in [(0, 1), (KIB4, 2), (KIB4 + MIB2, 3), (KIB4 + MIB2 + GIB, 2), (KIB4 + GIB + 2 * MIB2, 1)] {
        assert_eq!(bench.walk(input + offset), Some((level, output + offset)), "{offset:#x}");
        assert_eq!(bench.walk(input + offset + 0xabc), Some((level, output + offset + 0xabc)));
    }
    assert_eq!(bench.walk(input - 1), None);
    assert_eq!(bench.walk(input + GIB + 2 * MIB2 + 2 * KIB4), None);
}

#[test]
fn no_page_is_larger_than_the_shape_allows_or_the_output_permits() {
    let mut bench_small = bench(Shape { largest_page: 1, ..SHAPE }, true);
    let _ = bench_small.map(0, 0, 2 * MIB2);
    assert_eq!(bench_small.walk(0), Some((1, 0)));
    let mut bench_shifted = bench(SHAPE, true);
    let _ = bench_shifted.map(0, KIB4, 2 * MIB2);
    assert_eq!(bench_shifted.walk(MIB2), Some((1, MIB2 + KIB4)));
}

#[test]
fn what_cannot_be_mapped_is_refused_by_name_and_changes_nothing() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(MIB2, MIB2, MIB2);
    let used = bench.hal.used();
    bench.hal.journal();
    let refused = |region| bench.table.prepare_map(&bench.hal, region).unwrap_err();
    let odd = region(1, 0, KIB4, RW);
    assert_eq!(refused(odd), MapError::Misaligned(odd));
    let odd = region(0, 0x800, KIB4, RW);
    assert_eq!(refused(odd), MapError::Misaligned(odd));
    let odd = region(0, 0, KIB4 + 1, RW);
    assert_eq!(refused(odd), MapError::Misaligned(odd));
    let none = region(0, 0, KIB4, Rights::empty());
    assert_eq!(refused(none), MapError::NoRights(none.input));
    let high = region((1 << 48) - KIB4, 0, 2 * KIB4, RW);
    assert_eq!(refused(high), MapError::InputTooHigh { region: high, input_bits: 48 });
    let high = region(0, (1 << 46) - KIB4, 2 * KIB4, RW);
    assert_eq!(refused(high), MapError::OutputTooHigh { region: high, output_bits: 46 });
    let into = region(0, 0xfee0_0000 - KIB4, 2 * KIB4, RW);
    assert_eq!(refused(into), MapError::InterruptRange(into));
    let from = region(0xfeef_f000, 0, KIB4, RW);
    assert_eq!(refused(from), MapError::InterruptRange(from));
    assert_eq!(refused(region(0, GIB, 2 * MIB2, RW)), MapError::Occupied(Iova::new(MIB2)));
    assert_eq!(refused(region(2 * MIB2 - KIB4, GIB, KIB4, RW)), MapError::Occupied(Iova::new(2 * MIB2 - KIB4)));
    assert_eq!((bench.hal.used(), bench.hal.journal().len()), (used, 0));
}

#[test]
fn the_last_page_of_either_side_can_be_mapped() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map((1 << 48) - KIB4, (1 << 46) - KIB4, KIB4);
    assert_eq!(bench.walk((1 << 48) - 1), Some((1, (1 << 46) - 1)));
    let _ = bench.map(0xfedf_f000, 0xfef0_0000, KIB4);
    assert_eq!(bench.walk(0xfedf_f000), Some((1, 0xfef0_0000)));
}

#[test]
fn without_frames_nothing_changes() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, 0, GIB);
    let used = bench.hal.used();
    bench.hal.limit(Some(1));
    let wanted = region(GIB, 0, KIB4, RW);
    assert_eq!(bench.table.prepare_map(&bench.hal, wanted).unwrap_err(), MapError::NoFrame(NoFrame::NoneLeft));
    assert!(bench.table.prepare_edit(&bench.hal, range(KIB4, KIB4)).is_err());
    assert_eq!((bench.walk(KIB4), bench.walk(GIB)), (Some((3, KIB4)), None));
    assert_eq!(bench.hal.used(), used);
}

#[test]
fn an_edit_that_lacks_any_of_its_frames_changes_nothing() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, 0, 2 * GIB);
    let _ = bench.map(4 * GIB, KIB4, 3 * KIB4);
    let content = bench.hal.content();
    let edge = range(MIB2 + KIB4, GIB);
    let wanted = region(5 * GIB - KIB4, 0, MIB2 + 2 * KIB4, RW);
    for (needed, prepare) in [
        (4, &(|bench: &Bench| bench.table.prepare_edit(&bench.hal, edge).ok()) as &dyn Fn(&Bench) -> Option<Spare>),
        (4, &|bench: &Bench| bench.table.prepare_map(&bench.hal, wanted).ok()),
    ] {
        for left in 0..needed {
            bench.hal.limit(Some(left));
            assert!(prepare(&bench).is_none(), "{left} of {needed}");
            assert_eq!(bench.hal.content(), content);
        }
        bench.hal.limit(Some(needed));
        prepare(&bench).unwrap().free(&bench.hal);
        assert_eq!(bench.hal.content(), content);
    }
}

#[test]
fn no_table_is_beyond_the_addresses_that_its_entries_hold() {
    let low = Shape { output_bits: 21, ..SHAPE };
    let hal = Fake::new(0x110);
    // Its tables are the last three frames below 2 MiB.
    (0..0xfd).for_each(|_| assert!(hal.allocate(0).is_some()));
    let table = PageTable::new(&hal, Toy, low, true).unwrap();
    let mut bench = Bench { hal, table };
    let _ = bench.map(0, 0, MIB2);
    assert_eq!((bench.table.frames(), bench.hal.used()), (3, 0x100));
    let content = bench.hal.content();
    let too_high = NoFrame::TooHigh { frames: PhysAddr::new(MIB2), order: 0, host_bits: 21 };
    assert_eq!(PageTable::new(&bench.hal, Toy, low, true).unwrap_err(), too_high);
    assert_eq!(bench.table.prepare_edit(&bench.hal, range(KIB4, KIB4)).unwrap_err(), too_high);
    let wanted = region(GIB, 0, KIB4, RW);
    assert_eq!(bench.table.prepare_map(&bench.hal, wanted).unwrap_err(), MapError::NoFrame(too_high));
    assert_eq!(bench.hal.content(), content);
}

#[test]
fn a_range_that_is_not_made_of_pages_has_all_of_those_it_touches() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, 0, GIB);
    let odd = range(MIB2 + 0x1800, KIB4);
    let spare = Spare::allocate(&bench.hal, 5, SHAPE).unwrap();
    let change = bench.table.unmap(&bench.hal, odd, spare);
    assert_eq!((change.range, bench.table.frames()), (range(0, GIB), 4));
    assert_eq!(
        (bench.walk(MIB2 + 0xfff), bench.walk(MIB2 + 0x3000)),
        (Some((1, MIB2 + 0xfff)), Some((1, MIB2 + 0x3000)))
    );
    assert_eq!((bench.walk(MIB2 + 0x1000), bench.walk(MIB2 + 0x2000)), (None, None));
}

#[test]
fn pages_mapped_one_by_one_become_a_large_one_whichever_comes_last() {
    for last in [0, 1, 255, 510, 511] {
        let mut bench = bench(SHAPE, true);
        for page in (0..512).filter(|page| *page != last) {
            assert!(bench.map(page * KIB4, page * KIB4, KIB4).freed.is_empty());
        }
        assert_eq!(bench.map(last * KIB4, last * KIB4, KIB4).freed.len(), 1);
        assert_eq!(bench.walk(MIB2 - 1), Some((2, MIB2 - 1)));
    }
}

#[test]
fn of_what_is_spare_no_more_is_taken_than_asked_for() {
    let hal = Fake::new(8);
    let mut spare = Spare::allocate(&hal, 5, SHAPE).unwrap();
    for (count, left) in [(0, 5), (2, 3), (4, 0)] {
        let before = spare.0.len();
        let taken = spare.split_off(&hal, count);
        assert_eq!((taken.0.len(), spare.0.len()), (before - left, left));
        taken.free(&hal);
        assert_eq!(hal.used(), left);
    }
    assert!(Spare::allocate(&hal, 9, SHAPE).is_err() && hal.used() == 0);
}

#[test]
fn a_page_beside_the_last_one_is_checked_like_any_other() {
    let refused = |bench: &Bench, region| bench.table.prepare_map(&bench.hal, region).unwrap_err();
    let mut low = bench(SHAPE, true);
    let _ = low.map(0, KIB4, KIB4);
    let odd = region(KIB4, 0x800, KIB4, RW);
    assert_eq!(refused(&low, odd), MapError::Misaligned(odd));
    let none = region(KIB4, 0, KIB4, Rights::empty());
    assert_eq!(refused(&low, none), MapError::NoRights(none.input));
    let into = region(KIB4, 0xfee0_0000, KIB4, RW);
    assert_eq!(refused(&low, into), MapError::InterruptRange(into));
    let high = region(KIB4, 1 << 46, KIB4, RW);
    assert_eq!(refused(&low, high), MapError::OutputTooHigh { region: high, output_bits: 46 });
    assert_eq!(refused(&low, region(0, 0, KIB4, RW)), MapError::Occupied(Iova::new(0)));
    // One table holds the end of the interrupt range and what follows it.
    let mut above = bench(SHAPE, true);
    let _ = above.map(0xfef0_0000, 0, KIB4);
    let from = region(0xfeef_f000, 0, KIB4, RW);
    assert_eq!(refused(&above, from), MapError::InterruptRange(from));
    // Or what can be translated, and what cannot.
    let mut narrow = bench(Shape { input_bits: 20, ..SHAPE }, true);
    let _ = narrow.map(0, KIB4, KIB4);
    let high = region(1 << 20, 0, KIB4, RW);
    assert_eq!(refused(&narrow, high), MapError::InputTooHigh { region: high, input_bits: 20 });
}

#[test]
fn letting_go_takes_time_for_each_table_not_for_each_page() {
    const START: u64 = 4 * GIB;
    // Words read to let go of 16 tables with so many pages of 2 MiB each, and of pages of 4 KiB in front of them.
    let reads = |pages: u64, small: u64, unmaps: bool| {
        let mut bench = bench(Shape { largest_page: 2, ..SHAPE }, true);
        if small > 0 {
            let _ = bench.map(START, KIB4, small * KIB4);
        }
        for table in 0..16 {
            let _ = bench.map(START + table * GIB + MIB2, MIB2, pages * MIB2);
        }
        let (before, used) = (bench.hal.loads(), bench.hal.used());
        let freed = if unmaps {
            bench.unmap(START, 16 * GIB).freed.len() + 1
        } else {
            bench.table.into_frames(&bench.hal).len()
        };
        assert_eq!(freed, used);
        bench.hal.loads() - before
    };
    for unmaps in [true, false] {
        assert_eq!(reads(511, 0, unmaps), reads(1, 0, unmaps));
        assert!(reads(511, 1, unmaps) < reads(511, 0, unmaps) + 8, "none is looked for once it was found");
    }
}

#[test]
fn a_page_beside_the_last_one_takes_no_walk() {
    // Outputs of which a larger page could come, and such of which none can.
    for (shift, first, reads) in [(0, 21, [2, 3, 2, 3]), (KIB4, 7, [1, 1, 2, 3])] {
        let mut bench = bench(SHAPE, true);
        let _ = bench.map(0, MIB2, KIB4);
        let mut reads_of = |edit: &mut dyn FnMut(&mut Bench) -> Change| {
            let before = bench.hal.loads();
            let change = edit(&mut bench);
            assert!(change.freed.is_empty());
            bench.hal.loads() - before
        };
        let mut map = |page: u64| reads_of(&mut |bench| bench.map(page * KIB4, page * KIB4 + shift, KIB4));
        assert_eq!((map(512 + 10), [map(512 + 11), map(512 + 9)]), (first, [reads[0], reads[1]]));
        let mut unmap = |page: u64| reads_of(&mut |bench| bench.unmap(page * KIB4, KIB4));
        assert_eq!([unmap(512 + 9), unmap(512 + 11)], [reads[2], reads[3]]);
        assert_eq!(bench.walk((512 + 10) * KIB4), Some((1, (512 + 10) * KIB4 + shift)));
    }
}

#[test]
fn whether_pages_are_one_is_mostly_settled_beside_the_last() {
    let mut bench = bench(SHAPE, true);
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

#[test]
fn unmapping_gives_every_table_back_but_the_root() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(GIB - KIB4, GIB - KIB4, MIB2 + 2 * KIB4);
    let change = bench.unmap(GIB - KIB4, MIB2 + 2 * KIB4);
    assert!(change.was_present && change.tables);
    assert_eq!(change.freed.len(), bench.hal.used() - 1);
    assert_eq!(bench.table.frames(), 1);
    // SAFETY: no hardware walks this table.
    unsafe { change.free(&bench.hal) };
    assert_eq!(bench.hal.used(), 1);
    assert_eq!(bench.walk(GIB), None);
}

#[test]
fn unmapping_pages_of_a_table_that_stays_changes_no_table() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, KIB4, 4 * KIB4);
    let change = bench.unmap(KIB4, KIB4);
    assert!(change.was_present && !change.tables && change.freed.is_empty());
    assert_eq!(change.range, range(KIB4, KIB4));
    assert_eq!((bench.walk(0), bench.walk(KIB4), bench.walk(2 * KIB4)), (Some((1, KIB4)), None, Some((1, 3 * KIB4))));
    let _ = bench.map(GIB, GIB, 4 * MIB2);
    let change = bench.unmap(GIB + MIB2, 2 * MIB2);
    assert!(change.was_present && !change.tables && change.range == range(GIB + MIB2, 2 * MIB2));
}

#[test]
fn a_hole_in_a_large_page_leaves_the_rest_and_names_the_whole_page() {
    let mut bench = bench(SHAPE, true);
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
    assert_eq!((bench.table.frames(), bench.hal.used()), (4, 4), "what was prepared too much is given back");
}

#[test]
fn a_hole_over_two_large_pages_splits_both_at_its_edges_only() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, 0, 3 * MIB2);
    let change = bench.unmap(MIB2 - KIB4, MIB2 + 2 * KIB4);
    assert_eq!(change.range, range(0, 3 * MIB2));
    assert_eq!(bench.walk(MIB2 - KIB4 - 1), Some((1, MIB2 - KIB4 - 1)));
    assert_eq!((bench.walk(MIB2 - KIB4), bench.walk(MIB2), bench.walk(2 * MIB2)), (None, None, None));
    assert_eq!(bench.walk(2 * MIB2 + KIB4), Some((1, 2 * MIB2 + KIB4)));
}

#[test]
fn rights_change_for_the_range_alone_and_large_pages_split_at_its_edges_only() {
    let mut bench = bench(SHAPE, false);
    let _ = bench.map(0, 8 * GIB, 4 * MIB2);
    bench.hal.journal();
    let part = range(MIB2 - KIB4, MIB2 + 2 * KIB4);
    let spare = bench.table.prepare_edit(&bench.hal, part).unwrap();
    let change = bench.table.protect(&bench.hal, part, Rights::READ, spare);
    assert!(change.was_present && change.tables && change.freed.is_empty());
    assert_eq!(change.range, range(0, 3 * MIB2));
    let rights = |input| bench.table.walk(&bench.hal, input).unwrap();
    assert_eq!(rights(0), (1, 8 * GIB, RW));
    assert_eq!(rights(MIB2 - KIB4), (1, 8 * GIB + MIB2 - KIB4, Rights::READ));
    assert_eq!(rights(MIB2), (2, 8 * GIB + MIB2, Rights::READ));
    assert_eq!(rights(2 * MIB2), (1, 8 * GIB + 2 * MIB2, Rights::READ));
    assert_eq!(rights(2 * MIB2 + KIB4), (1, 8 * GIB + 2 * MIB2 + KIB4, RW));
    assert_eq!(rights(3 * MIB2), (2, 8 * GIB + 3 * MIB2, RW));
    let spare = bench.table.prepare_edit(&bench.hal, range(0, KIB4)).unwrap();
    let change = bench.table.protect(&bench.hal, range(0, KIB4), Rights::WRITE, spare);
    assert!(change.was_present && !change.tables, "nothing to split any more");
}

#[test]
fn rights_survive_a_split() {
    let mut bench = bench(SHAPE, true);
    let read_only = region(0, 0, MIB2, Rights::READ);
    let spare = bench.table.prepare_map(&bench.hal, read_only).unwrap();
    let _ = bench.table.map(&bench.hal, read_only, spare);
    let _ = bench.unmap(0, KIB4);
    assert_eq!(bench.table.walk(&bench.hal, KIB4), Some((1, KIB4, Rights::READ)));
}

#[test]
fn a_hole_that_is_filled_again_makes_the_large_page_whole() {
    let mut bench = bench(SHAPE, false);
    let _ = bench.map(GIB, 8 * GIB, GIB);
    let (hole, back) = (GIB + MIB2 + KIB4, 8 * GIB + MIB2 + KIB4);
    // SAFETY: no hardware walks this table.
    unsafe { bench.unmap(hole, 2 * KIB4).free(&bench.hal) };
    assert_eq!(bench.table.frames(), 4);
    let change = bench.map(hole, back, KIB4);
    assert!(!change.was_present && !change.tables, "half of it is not the whole");
    bench.hal.journal();
    let change = bench.map(hole + KIB4, back + KIB4, KIB4);
    assert!(change.was_present && change.tables);
    assert_eq!((change.range, change.freed.len()), (range(GIB, GIB), 2), "both tables, after a flush of all of it");
    assert_eq!(bench.walk(hole), Some((3, back)));
    assert_eq!(bench.table.frames(), 2);
    // SAFETY: no hardware walks this table.
    unsafe { change.free(&bench.hal) };
    assert_eq!(bench.hal.used(), 2);
}

#[test]
fn pages_that_differ_in_rights_place_or_alignment_are_not_joined() {
    for (output, rights, shift) in [(KIB4, RW, 0), (0, Rights::READ, 0), (0, RW, KIB4)] {
        let mut bench = bench(SHAPE, true);
        let _ = bench.map(0, shift, MIB2 - KIB4);
        let last = region(MIB2 - KIB4, MIB2 - KIB4 + shift + output, KIB4, rights);
        let spare = bench.table.prepare_map(&bench.hal, last).unwrap();
        let change = bench.table.map(&bench.hal, last, spare);
        assert!(!change.was_present && change.freed.is_empty());
        assert_eq!(bench.walk(0), Some((1, shift)));
    }
    let mut small = bench(Shape { largest_page: 1, ..SHAPE }, true);
    let _ = small.map(0, 0, MIB2 - KIB4);
    assert_eq!(small.map(MIB2 - KIB4, MIB2 - KIB4, KIB4).freed.len(), 0);
}

#[test]
fn rights_that_come_to_be_alike_join_the_pages() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, 0, MIB2);
    for (rights, level, freed) in [(Rights::READ, 1, 0), (RW, 2, 1)] {
        let spare = bench.table.prepare_edit(&bench.hal, range(0, KIB4)).unwrap();
        let change = bench.table.protect(&bench.hal, range(0, KIB4), rights, spare);
        assert_eq!((change.freed.len(), bench.walk(KIB4)), (freed, Some((level, KIB4))));
    }
}

#[test]
fn a_fresh_root_is_written_back_whole() {
    let hal = Fake::new(4);
    let table = PageTable::new(&hal, Toy, SHAPE, false).unwrap();
    let at = table.root().as_u64();
    assert_eq!(hal.journal(), [Deed::Allocate { at }, Deed::WriteBack { at, bytes: 4096 }, Deed::Fence]);
}

#[test]
fn a_coherent_table_is_never_written_back() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(0, 0, GIB + KIB4);
    let _ = bench.unmap(KIB4, GIB);
    assert!(!bench.hal.journal().iter().any(|deed| matches!(deed, Deed::WriteBack { .. })));
}

#[test]
fn freeing_a_table_gives_all_its_frames_back() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(KIB4, 0, 2 * MIB2);
    let Bench { hal, table } = bench;
    assert_eq!(table.frames(), hal.used());
    // SAFETY: no hardware walks this table.
    unsafe { table.into_frames(&hal).free(&hal) };
    assert_eq!(hal.used(), 0);
}

#[test]
fn a_table_of_small_pages_is_found_after_larger_pages_were_joined() {
    let mut bench = bench(SHAPE, true);
    let _ = bench.map(GIB, 0, KIB4);
    (0..512).for_each(|page| drop(bench.map(page * MIB2, page * MIB2, MIB2)));
    assert_eq!(bench.walk(0), Some((3, 0)));
    assert_eq!(bench.table.into_frames(&bench.hal).len(), 4, "the root, and one of each level below");
}

#[test]
fn a_page_that_no_frame_is_left_to_split_goes_whole_and_all_of_it_is_told() {
    // Beside another page, and alone in its table.
    for (mapped, level, bytes) in [(GIB + MIB2, 3, GIB), (GIB, 3, GIB), (2 * MIB2, 2, MIB2), (MIB2, 2, MIB2)] {
        let mut bench = bench(SHAPE, true);
        let _ = bench.map(0, 0, mapped);
        assert_eq!(bench.walk(0), Some((level, 0)));
        let change = bench.table.unmap(&bench.hal, range(bytes - KIB4, KIB4), Spare::none());
        assert_eq!((change.range, change.was_present, change.tables), (range(0, bytes), true, true), "{mapped:#x}");
        assert_eq!((bench.walk(0), bench.walk(bytes - KIB4)), (None, None), "{mapped:#x}");
        assert_eq!(bench.walk(bytes).is_some(), mapped > bytes);
    }
}
