//! What is mapped, as `translate` and `mappings` tell it.

use super::*;

each_format! {
    an_address_leads_where_its_page_does,
    mappings_cross_pages_and_end_where_output_or_rights_change,
    nothing_is_mapped_in_a_fresh_table,
}

fn an_address_leads_where_its_page_does<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(GIB, 8 * GIB, GIB + MIB2 + KIB4);
    let translate = |at| bench.table.translate(&bench.hal, Iova::new(at));
    for offset in [0, 0xabc, GIB - 1, GIB, GIB + MIB2 - 1, GIB + MIB2, GIB + MIB2 + KIB4 - 1] {
        assert_eq!(translate(GIB + offset), Some((PhysAddr::new(8 * GIB + offset), RW)), "{offset:#x}");
    }
    assert_eq!((translate(GIB - 1), translate(2 * GIB + MIB2 + KIB4)), (None, None));
}

fn mappings_cross_pages_and_end_where_output_or_rights_change<F: Sample>() {
    let mut bench = bench::<F>(F::GEOMETRY, true);
    let _ = bench.map(GIB - KIB4, 8 * GIB - KIB4, GIB + MIB2 + KIB4);
    let _ = bench.map(2 * GIB + MIB2, 64 * GIB, KIB4);
    let read_only = region(2 * GIB + MIB2 + KIB4, 64 * GIB + KIB4, KIB4, Rights::READ);
    let _ = bench.map_with(2 * GIB + MIB2 + KIB4, 64 * GIB + KIB4, KIB4, Rights::READ);
    let _ = bench.map(F::TOP - KIB4, 0, KIB4);
    let all = [
        region(GIB - KIB4, 8 * GIB - KIB4, GIB + MIB2 + KIB4, RW),
        region(2 * GIB + MIB2, 64 * GIB, KIB4, RW),
        read_only,
        region(F::TOP - KIB4, 0, KIB4, RW),
    ];
    let from = |at| Vec::from_iter(bench.table.mappings(&bench.hal, Iova::new(at)));
    assert_eq!(from(0), all);
    assert_eq!(from(GIB - KIB4), all);
    assert_eq!(from(2 * GIB + MIB2 + KIB4), all[2..]);
    assert_eq!(from(F::TOP - 1), [region(F::TOP - 1, KIB4 - 1, 1, RW)], "the rest of the page");
    assert_eq!(from(GIB + 0x123)[0], region(GIB + 0x123, 8 * GIB + 0x123, GIB + MIB2 - 0x123, RW));
    assert_eq!(from(F::TOP), []);
    assert_eq!(from(u64::MAX), []);
}

fn nothing_is_mapped_in_a_fresh_table<F: Sample>() {
    let bench = bench::<F>(F::GEOMETRY, true);
    assert_eq!(bench.table.mappings(&bench.hal, Iova::new(0)).count(), 0);
}
