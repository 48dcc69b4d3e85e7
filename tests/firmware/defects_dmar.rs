//! What other drivers got wrong about a DMAR, each with a table that shows it.

use super::tables::{bases, good, read};
use super::tree::{ROOT_PORT, Tree, id};
use cofferdam::addr::SourceId;
use cofferdam::firmware::{Finding, Flaw, Severity, TableError};
use cofferdam::topology::{NoConfigSpace, UnitIndex};
use cofferdam_support::front::read_table;
use cofferdam_support::tables::{bridge, dmar, endpoint, ioapic, scope};

#[test]
fn a_structure_of_length_0_ends_the_table_and_spares_the_rest() {
    for length in 0..4_u16 {
        let table = good();
        let offset = table.offset();
        let table = table.raw(&[1, 0]).raw(&length.to_le_bytes()).raw(&[0; 64]).table();
        let (topology, findings) = read(&table);
        assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
        assert_eq!(findings, [Finding { offset, flaw: Flaw::NoProgress { length } }]);
    }
}

#[test]
fn a_scope_of_length_0_ends_its_structure_alone() {
    for length in 0..6_u8 {
        let broken = vec![1, length, 0, 0, 0, 0, 1, 0];
        let table = dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0), broken, endpoint(3, 0)]);
        let table = table.drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
        let (topology, findings) = read(&table);
        let topology = topology.unwrap();
        assert_eq!(bases(&topology), [0xfed9_0000, 0xfed9_1000]);
        assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 2, 0)), Some(UnitIndex::new(0)));
        assert_eq!(findings, [Finding { offset: 72, flaw: Flaw::NoProgress { length: u16::from(length) } }]);
    }
}

#[test]
fn a_structure_or_scope_past_the_end_is_refused_with_its_place() {
    let table = good();
    let offset = table.offset();
    let (topology, findings) = read(&table.raw(&[1, 0, 200, 0]).raw(&[0; 40]).table());
    assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
    assert_eq!(findings, [Finding { offset, flaw: Flaw::Overrun { length: 200, left: 44 } }]);

    let mut long = endpoint(2, 0);
    long[1] = 10;
    let table = dmar().drhd(0, 0, 0xfed9_0000, &[long]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let (topology, findings) = read(&table);
    assert_eq!(topology.unwrap().units().len(), 2);
    assert_eq!(findings, [Finding { offset: 64, flaw: Flaw::Overrun { length: 10, left: 8 } }]);
}

#[test]
fn a_structure_that_is_too_short_costs_itself_alone() {
    for (kind, name, needed) in [
        (0, "DRHD", 16),
        (1, "RMRR", 24),
        (2, "ATSR", 8),
        (3, "RHSA", 20),
        (4, "ANDD", 8),
        (5, "SATC", 8),
        (6, "SIDP", 8),
    ] {
        for length in 4..needed {
            let table = dmar().structure(kind, &vec![0; length - 4]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
            let (topology, findings) = read(&table);
            assert_eq!(bases(&topology.unwrap()), [0xfed9_1000], "{name}");
            let flaw = Flaw::Short { structure: name, length, needed };
            assert_eq!(findings.first(), Some(&Finding { offset: 48, flaw }));
        }
    }
}

#[test]
fn an_unknown_structure_is_skipped_by_its_length() {
    for kind in [7, 0x51, 0xffff] {
        let table = dmar().structure(kind, &[0xff; 13]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
        let (topology, findings) = read(&table);
        assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
        assert_eq!(findings[0], Finding { offset: 48, flaw: Flaw::UnknownStructure { kind } });
        assert!(findings.iter().all(|finding| finding.severity() == Severity::Note));
    }
}

#[test]
fn an_rhsa_has_20_bytes() {
    let table = good().rhsa(0xfed9_1000, 3).table();
    assert_eq!(table.len(), 48 + 24 + 20);
    let (topology, findings) = read(&table);
    assert_eq!(topology.unwrap().units()[0].proximity, Some(3));
    assert_eq!(findings, []);
}

#[test]
fn every_unit_is_there_not_the_last_alone() {
    let mut table = dmar();
    let expected: Vec<u64> = (0..5).map(|index| 0xfed9_0000 + index * 0x1000).collect();
    for (index, base) in expected.iter().enumerate() {
        table = table.drhd(0, 0, *base, &[endpoint(index as u8, 0)]);
    }
    let (topology, _) = read(&table.table());
    let topology = topology.unwrap();
    assert_eq!(bases(&topology), expected);
    for index in 0..5 {
        assert_eq!(topology.unit_of(&NoConfigSpace, id(0, index, 0)), Some(UnitIndex::new(index.into())));
    }
}

#[test]
fn a_unit_at_address_0_costs_its_devices_and_not_the_others() {
    // As on a ThinkPad and an IdeaPad: the unit that takes all.
    let table = dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0)]).drhd(1, 0, 0, &[ioapic(2)]).table();
    let (topology, findings) = read(&table);
    let topology = topology.unwrap();
    assert_eq!(bases(&topology), [0xfed9_0000]);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 2, 0)), Some(UnitIndex::new(0)));
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 3, 0)), None);
    assert_eq!(findings, [Finding { offset: 72, flaw: Flaw::NoBase }]);

    // Where the other unit is lost: what it names does not fall to the unit that takes all.
    let table = dmar().drhd(0, 0, 0, &[endpoint(2, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let topology = read(&table).0.unwrap();
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 2, 0)), None);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 3, 0)), Some(UnitIndex::new(0)));

    let alone = dmar().drhd(1, 0, 0, &[ioapic(2)]).table();
    assert_eq!(read(&alone).0.unwrap_err(), TableError::NoUnit { offset: 48 });
}

#[test]
fn a_register_set_is_as_large_as_the_table_says() {
    let table = dmar()
        .sized_drhd(0, 4, 0, 0xfed9_0000, &[endpoint(2, 0)])
        .sized_drhd(1, 0, 0, 0xfeda_0000, &[ioapic(2)])
        .table();
    let (topology, findings) = read(&table);
    let sizes: Vec<u32> = topology.unwrap().units().iter().map(|unit| unit.window.bytes).collect();
    assert_eq!(sizes, [0x1_0000, 0x1000]);
    assert_eq!(findings, []);
    for size in 0..16 {
        let table = dmar().sized_drhd(1, size, 0, 0x8_0000_0000, &[ioapic(2)]).table();
        assert_eq!(read(&table).0.unwrap().units()[0].window.bytes, 0x1000 << size);
    }
}

#[test]
fn a_path_of_two_and_of_124_hops_leads_to_its_device() {
    let mut tree = Tree::default();
    for bus in 0..124_u8 {
        tree = tree.bridge(id(bus, 3, 0), ROOT_PORT, bus + 1, 124);
    }
    for hops in [2, 3, 124] {
        let path: Vec<(u8, u8)> = (1..hops).map(|_| (3, 0)).chain([(5, 1)]).collect();
        let table = dmar().drhd(0, 0, 0xfed9_0000, &[scope(1, 0, 0, &path)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
        let mut findings = Vec::new();
        let topology = read_table(&table.table(), &tree, |it| findings.push(it)).unwrap();
        assert_eq!(findings, []);
        assert_eq!(topology.unit_of(&tree, id(hops - 1, 5, 1)), Some(UnitIndex::new(0)), "{hops} hops");
        assert_eq!(topology.unit_of(&tree, id(hops - 1, 5, 0)), Some(UnitIndex::new(1)));
        // Not the device of the first hop.
        assert_eq!(topology.unit_of(&tree, id(0, 3, 0)), Some(UnitIndex::new(1)));
    }
}

#[test]
fn segments_are_kept_apart() {
    let table = dmar()
        .drhd(1, 0, 0xfed9_0000, &[ioapic(2)])
        .drhd(0, 1, 0xfed9_1000, &[endpoint(2, 0)])
        .drhd(1, 1, 0xfed9_2000, &[])
        .table();
    let (topology, findings) = read(&table);
    let topology = topology.unwrap();
    let at = |segment, device| SourceId::new(segment, 0, device, 0).unwrap();
    let unit_of = |source| topology.unit_of(&NoConfigSpace, source);
    assert_eq!(
        [unit_of(at(0, 2)), unit_of(at(1, 2)), unit_of(at(1, 3)), unit_of(at(2, 2))],
        [Some(UnitIndex::new(0)), Some(UnitIndex::new(1)), Some(UnitIndex::new(2)), None]
    );
    assert_eq!(findings, []);
}

#[test]
fn one_bad_rmrr_disables_nothing_else() {
    let table = good()
        .rmrr(0, 0x9000_0000, 0x8fff_ffff, &[endpoint(2, 0)])
        .rmrr(0, 0xb000_0000, 0xafff_0000, &[endpoint(3, 0)])
        .rmrr(0, 0xa000_0000, 0xa00f_ffff, &[endpoint(0x14, 0)])
        .table();
    let (topology, findings) = read(&table);
    let topology = topology.unwrap();
    assert_eq!(bases(&topology), [0xfed9_1000]);
    assert_eq!(
        findings,
        [
            Finding { offset: 72, flaw: Flaw::ReversedRange { base: 0x9000_0000, limit: 0x8fff_ffff } },
            Finding { offset: 104, flaw: Flaw::ReversedRange { base: 0xb000_0000, limit: 0xafff_0000 } },
        ]
    );
    assert_eq!(topology.reserved(&NoConfigSpace, id(0, 2, 0)).count(), 0);
    assert_eq!(topology.reserved(&NoConfigSpace, id(0, 0x14, 0)).count(), 1);
}

#[test]
fn an_rmrr_is_kept_for_each_of_its_devices() {
    let table = good().rmrr(0, 0xa000_0000, 0xa00f_ffff, &[endpoint(0x14, 0), endpoint(0x1d, 0)]).table();
    let topology = read(&table).0.unwrap();
    for device in [0x14, 0x1d] {
        let reserved: Vec<_> = topology.reserved(&NoConfigSpace, id(0, device, 0)).collect();
        let [memory] = reserved[..] else { panic!("{reserved:?}") };
        assert_eq!(memory.region.to_string(), "0xa0000000..=0xa00fffff -> 0xa0000000 (read write)");
    }
    assert_eq!(topology.reserved(&NoConfigSpace, id(0, 2, 0)).count(), 0);
}

#[test]
fn dmar_and_madt_may_name_an_ioapic_by_different_ids() {
    // As on a Macmini6,2: one IOAPIC is left on both sides.
    let topology = read(&dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(0), scope(3, 5, 0xf0, &[(1, 0)])]).table()).0;
    let topology = topology.unwrap();
    let mut findings = Vec::new();
    let matched: Vec<_> = topology.match_ioapics(&[2, 5], |finding| findings.push(finding)).collect();
    assert_eq!(
        matched,
        [(2, Some((UnitIndex::new(0), id(0xf0, 0x1f, 0)))), (5, Some((UnitIndex::new(0), id(0xf0, 1, 0))))]
    );
    assert_eq!(findings, [Finding { offset: 64, flaw: Flaw::OtherIoApicId { id: 0, madt: 2 } }]);

    // Two are left: nobody knows which is which.
    let mut findings = Vec::new();
    let matched: Vec<_> = topology.match_ioapics(&[2, 3], |finding| findings.push(finding)).collect();
    assert_eq!(matched, [(2, None), (3, None)]);
    let flaws: Vec<_> = findings.iter().map(|finding| finding.flaw).collect();
    let ours = [0, 5].map(|id| Flaw::IoApicNotInMadt { id });
    assert_eq!(flaws, [&ours[..], &[2, 3].map(|id| Flaw::IoApicOfNoUnit { id })].concat());
}

#[test]
fn a_subtree_counts_for_what_is_behind_its_bridge() {
    let tree = Tree::default().bridge(id(0, 1, 0), ROOT_PORT, 1, 3).bridge(id(0, 2, 0), ROOT_PORT, 4, 4);
    let table = dmar().drhd(0, 0, 0xfed9_0000, &[bridge(1, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let topology = cofferdam_support::front::topology(&table, &tree);
    let unit_of = |source| topology.unit_of(&tree, source);
    assert_eq!([id(0, 1, 0), id(1, 0, 0), id(3, 31, 7)].map(unit_of), [Some(UnitIndex::new(0)); 3]);
    assert_eq!([id(0, 2, 0), id(4, 0, 0)].map(unit_of), [Some(UnitIndex::new(1)); 2]);
}
