//! What cannot be mapped, and edits for which there are no frames.

use super::*;

each_format! {
    what_cannot_be_mapped_is_refused_by_name_and_changes_nothing,
    without_frames_nothing_changes,
    an_edit_that_lacks_any_of_its_frames_changes_nothing,
    no_table_is_beyond_the_addresses_that_its_entries_hold,
    of_what_is_preallocated_no_more_is_taken_than_asked_for,
    a_page_beside_the_last_one_is_checked_like_any_other,
}

fn what_cannot_be_mapped_is_refused_by_name_and_changes_nothing<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
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
    let high = region(F::TOP - KIB4, 0, 2 * KIB4, RW);
    assert_eq!(refused(high), MapError::InputTooHigh { region: high, input_bits: F::GEOMETRY.input_bits });
    let high = region(0, (1 << 46) - KIB4, 2 * KIB4, RW);
    assert_eq!(refused(high), MapError::OutputTooHigh { region: high, output_bits: 46 });
    let into = region(0, 0xfee0_0000 - KIB4, 2 * KIB4, RW);
    assert_eq!(refused(into), MapError::OutputInterrupts(into));
    for hole in F::GEOMETRY.holes {
        let (before, last) = (hole.first.as_u64() - KIB4, hole.last.as_u64() + 1 - KIB4);
        for from in [region(before, 0, 2 * KIB4, RW), region(last, 0, 2 * KIB4, RW), region(before, 8 * GIB, MIB2, RW)]
        {
            assert_eq!(refused(from), MapError::InputHole { region: from, hole });
        }
    }
    assert_eq!(refused(region(0, GIB, 2 * MIB2, RW)), MapError::Occupied(Iova::new(MIB2)));
    assert_eq!(refused(region(2 * MIB2 - KIB4, GIB, KIB4, RW)), MapError::Occupied(Iova::new(2 * MIB2 - KIB4)));
    assert_eq!((bench.hal.used(), bench.hal.journal().len()), (used, 0));
}

fn without_frames_nothing_changes<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, GIB);
    let used = bench.hal.used();
    bench.hal.limit(Some(1));
    let wanted = region(GIB, 0, KIB4, RW);
    assert_eq!(bench.table.prepare_map(&bench.hal, wanted).unwrap_err(), MapError::NoFrame(NoFrame::NoneLeft));
    assert!(bench.table.prepare_edit(&bench.hal, range(KIB4, KIB4)).is_err());
    assert_eq!((bench.walk(KIB4), bench.walk(GIB)), (Some((3, KIB4)), None));
    assert_eq!(bench.hal.used(), used);
}

fn an_edit_that_lacks_any_of_its_frames_changes_nothing<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(0, 0, 2 * GIB);
    let _ = bench.map(4 * GIB, KIB4, 3 * KIB4);
    let content = bench.hal.content();
    let edge = range(MIB2 + KIB4, GIB);
    let wanted = region(5 * GIB - KIB4, 0, MIB2 + 2 * KIB4, RW);
    for (needed, prepare) in [
        (
            4,
            &(|bench: &Bench<F>| bench.table.prepare_edit(&bench.hal, edge).ok())
                as &dyn Fn(&Bench<F>) -> Option<Prealloc>,
        ),
        (4, &|bench: &Bench<F>| bench.table.prepare_map(&bench.hal, wanted).ok()),
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

fn no_table_is_beyond_the_addresses_that_its_entries_hold<F: Sample>() {
    let low = Geometry { output_bits: 21, ..F::GEOMETRY };
    let hal = Fake::new(0x110);
    // Its tables are the last frames below 2 MiB.
    let tables = F::LEVELS - 1;
    (0..0x100 - tables).for_each(|_| assert!(hal.allocate(0).is_some()));
    let table = PageTable::new(&hal, F::FORMAT, low, true).unwrap();
    let mut bench = Bench { hal, table };
    let _ = bench.map(0, 0, MIB2);
    assert_eq!((bench.table.frames(), bench.hal.used()), (tables, 0x100));
    let content = bench.hal.content();
    let too_high = NoFrame::TooHigh { frames: PhysAddr::new(MIB2), order: 0, host_bits: 21 };
    assert_eq!(PageTable::new(&bench.hal, F::FORMAT, low, true).unwrap_err(), too_high);
    assert_eq!(bench.table.prepare_edit(&bench.hal, range(KIB4, KIB4)).unwrap_err(), too_high);
    let wanted = region(GIB, 0, KIB4, RW);
    assert_eq!(bench.table.prepare_map(&bench.hal, wanted).unwrap_err(), MapError::NoFrame(too_high));
    assert_eq!(bench.hal.content(), content);
}

fn of_what_is_preallocated_no_more_is_taken_than_asked_for<F: Sample>() {
    let hal = Fake::new(8);
    let mut prealloc = Prealloc::allocate(&hal, 5, F::GEOMETRY).unwrap();
    for (count, left) in [(0, 5), (2, 3), (4, 0)] {
        let before = prealloc.0.len();
        let taken = prealloc.split_off(&hal, count);
        assert_eq!((taken.0.len(), prealloc.0.len()), (before - left, left));
        taken.free(&hal);
        assert_eq!(hal.used(), left);
    }
    assert!(Prealloc::allocate(&hal, 9, F::GEOMETRY).is_err() && hal.used() == 0);
}

fn a_page_beside_the_last_one_is_checked_like_any_other<F: Sample>() {
    let refused = |bench: &Bench<F>, region| bench.table.prepare_map(&bench.hal, region).unwrap_err();
    let mut low = bench::<F>(F::GEOMETRY, true);
    let _ = low.map(0, KIB4, KIB4);
    let odd = region(KIB4, 0x800, KIB4, RW);
    assert_eq!(refused(&low, odd), MapError::Misaligned(odd));
    let none = region(KIB4, 0, KIB4, Rights::empty());
    assert_eq!(refused(&low, none), MapError::NoRights(none.input));
    let into = region(KIB4, 0xfee0_0000, KIB4, RW);
    assert_eq!(refused(&low, into), MapError::OutputInterrupts(into));
    let high = region(KIB4, 1 << 46, KIB4, RW);
    assert_eq!(refused(&low, high), MapError::OutputTooHigh { region: high, output_bits: 46 });
    assert_eq!(refused(&low, region(0, 0, KIB4, RW)), MapError::Occupied(Iova::new(0)));
    // One table holds the end of the interrupt range and what follows it.
    let mut above = bench::<F>(F::GEOMETRY, true);
    let _ = above.map(0xfef0_0000, 0, KIB4);
    let from = region(0xfeef_f000, 0, KIB4, RW);
    assert_eq!(refused(&above, from), MapError::InputHole { region: from, hole: &Hole::INTERRUPTS });
    // Or what can be translated, and what cannot.
    let mut narrow = bench::<F>(Geometry { input_bits: 20, ..F::GEOMETRY }, true);
    let _ = narrow.map(0, KIB4, KIB4);
    let high = region(1 << 20, 0, KIB4, RW);
    assert_eq!(refused(&narrow, high), MapError::InputTooHigh { region: high, input_bits: 20 });
}
