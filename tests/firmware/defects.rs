//! What other drivers got wrong, each with a table that shows it.

use std::time::{Duration, Instant};

use super::tree::{ROOT_PORT, Tree, id};
use cofferdam::addr::SourceId;
use cofferdam::firmware::dmar::Dmar;
use cofferdam::firmware::ivrs::{Block, Ivrs};
use cofferdam::firmware::{Error, Finding, Flaw, Severity, Strictness};
use cofferdam::limits::Limits;
use cofferdam::topology::{NoConfigSpace, Topology, UnitIndex, UnitKind};
use cofferdam_support::front::{read_table, read_table_with};
use cofferdam_support::tables::{Table, bridge, dmar, endpoint, ioapic, ivrs, scope};

pub(crate) fn from_dmar(table: &[u8]) -> (Result<Topology<'static>, Error>, Vec<Finding>) {
    let mut findings = Vec::new();
    let topology = read_table(table, &NoConfigSpace, |finding| findings.push(finding));
    (topology, findings)
}

pub(crate) fn from_ivrs(table: &[u8]) -> (Result<Topology<'static>, Error>, Vec<Finding>) {
    let mut findings = Vec::new();
    let topology = read_table(table, &NoConfigSpace, |finding| findings.push(finding));
    (topology, findings)
}

/// A unit that is sound, so that a table can be used.
fn good() -> Table {
    dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
}

fn bases(topology: &Topology) -> Vec<u64> {
    topology.units().iter().map(|unit| unit.window.base.as_u64()).collect()
}

#[test]
fn a_structure_of_length_0_ends_the_table_and_spares_the_rest() {
    for length in 0..4_u16 {
        let table = good();
        let offset = table.offset();
        let table = table.raw(&[1, 0]).raw(&length.to_le_bytes()).raw(&[0; 64]).table();
        let (topology, findings) = from_dmar(&table);
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
        let (topology, findings) = from_dmar(&table);
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
    let (topology, findings) = from_dmar(&table.raw(&[1, 0, 200, 0]).raw(&[0; 40]).table());
    assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
    assert_eq!(findings, [Finding { offset, flaw: Flaw::Overrun { length: 200, left: 44 } }]);

    let mut long = endpoint(2, 0);
    long[1] = 10;
    let table = dmar().drhd(0, 0, 0xfed9_0000, &[long]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let (topology, findings) = from_dmar(&table);
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
            let (topology, findings) = from_dmar(&table);
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
        let (topology, findings) = from_dmar(&table);
        assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
        assert_eq!(findings[0], Finding { offset: 48, flaw: Flaw::UnknownStructure { kind } });
        assert!(findings.iter().all(|finding| finding.severity() == Severity::Note));
    }
}

#[test]
fn an_rhsa_has_20_bytes() {
    let table = good().rhsa(0xfed9_1000, 3).table();
    assert_eq!(table.len(), 48 + 24 + 20);
    let (topology, findings) = from_dmar(&table);
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
    let (topology, _) = from_dmar(&table.table());
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
    let (topology, findings) = from_dmar(&table);
    let topology = topology.unwrap();
    assert_eq!(bases(&topology), [0xfed9_0000]);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 2, 0)), Some(UnitIndex::new(0)));
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 3, 0)), None);
    assert_eq!(findings, [Finding { offset: 72, flaw: Flaw::NoBase }]);

    // The other way round: what it names does not fall to the unit that takes all.
    let table = dmar().drhd(0, 0, 0, &[endpoint(2, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let topology = from_dmar(&table).0.unwrap();
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 2, 0)), None);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 3, 0)), Some(UnitIndex::new(0)));

    let alone = dmar().drhd(1, 0, 0, &[ioapic(2)]).table();
    assert_eq!(from_dmar(&alone).0.unwrap_err(), Error::NoUnit { offset: 48 });
}

#[test]
fn a_register_set_is_as_large_as_the_table_says() {
    let table = dmar().sized_drhd(0, 4, 0, 0xfed9_0000, &[]).sized_drhd(1, 0, 0, 0xfeda_0000, &[ioapic(2)]).table();
    let (topology, findings) = from_dmar(&table);
    let sizes: Vec<u32> = topology.unwrap().units().iter().map(|unit| unit.window.bytes).collect();
    assert_eq!(sizes, [0x1_0000, 0x1000]);
    assert_eq!(findings, []);
    for size in 0..16 {
        let table = dmar().sized_drhd(1, size, 0, 0x8_0000_0000, &[ioapic(2)]).table();
        assert_eq!(from_dmar(&table).0.unwrap().units()[0].window.bytes, 0x1000 << size);
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
    let (topology, findings) = from_dmar(&table);
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
        .rmrr(0, 0, 0, &[endpoint(2, 0)])
        .rmrr(0, 0xa000_0000, 0xa00f_ffff, &[endpoint(0x14, 0)])
        .table();
    let (topology, findings) = from_dmar(&table);
    let topology = topology.unwrap();
    assert_eq!(bases(&topology), [0xfed9_1000]);
    assert_eq!(
        findings,
        [
            Finding { offset: 72, flaw: Flaw::ReversedRange { base: 0x9000_0000, limit: 0x8fff_ffff } },
            Finding { offset: 104, flaw: Flaw::ReversedRange { base: 0, limit: 0 } },
        ]
    );
    assert_eq!(topology.reserved(&NoConfigSpace, id(0, 2, 0)).count(), 0);
    assert_eq!(topology.reserved(&NoConfigSpace, id(0, 0x14, 0)).count(), 1);
}

#[test]
fn an_rmrr_is_kept_for_each_of_its_devices() {
    let table = good().rmrr(0, 0xa000_0000, 0xa00f_ffff, &[endpoint(0x14, 0), endpoint(0x1d, 0)]).table();
    let topology = from_dmar(&table).0.unwrap();
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
    let topology = from_dmar(&dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(0), scope(3, 5, 0xf0, &[(1, 0)])]).table()).0;
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
    assert_eq!(findings.len(), 2);
    assert!(findings.iter().all(|finding| matches!(finding.flaw, Flaw::IoApicOfNoUnit { .. })));
}

#[test]
fn every_block_of_an_ivrs_is_read() {
    let table = ivrs()
        .ivhd(0x10, 2, 0xfeb8_0000, &[&[3, 8, 0, 0], &[4, 0xfe, 0x3f, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]])
        .ivmd(0x21, 7, 0x300, 0, 0x7000_0000, 0x2000)
        .ivhd(0x10, 0x4002, 0xfec8_0000, &[&[3, 8, 0x40, 0], &[4, 0xfe, 0xff, 0]])
        .table();
    let (topology, findings) = from_ivrs(&table);
    let topology = topology.unwrap();
    assert_eq!(bases(&topology), [0xfeb8_0000, 0xfec8_0000]);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(3, 0, 0)), Some(UnitIndex::new(0)));
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0x41, 0, 0)), Some(UnitIndex::new(1)));
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 0, 2)), None);
    assert_eq!(topology.reserved(&NoConfigSpace, id(3, 0, 0)).count(), 1);
    assert_eq!(topology.ioapic(33), Some((UnitIndex::new(0), id(0, 0x14, 0))));
    assert_eq!(findings, []);
}

#[test]
fn the_entries_of_an_ivhd_start_behind_the_header_of_its_type() {
    for kind in [0x10, 0x11, 0x40] {
        let table = ivrs().ivhd(kind, 2, 0xfeb8_0000, &[&[2, 0, 3, 0xd7], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]]).table();
        let (topology, findings) = from_ivrs(&table);
        let topology = topology.unwrap();
        assert_eq!(topology.unit_of(&NoConfigSpace, id(3, 0, 0)), Some(UnitIndex::new(0)), "{kind:#x}");
        assert_eq!(topology.device_settings(&NoConfigSpace, id(3, 0, 0)), 0xd7);
        let UnitKind::AmdVi(unit) = topology.units()[0].kind else { panic!() };
        assert_eq!((unit.device, unit.capability), (id(0, 0, 2), 0x40));
        assert_eq!(unit.features, (kind != 0x10).then_some(0x1234_5678_9abc_def0));
        assert_eq!(findings, []);
    }
}

#[test]
fn the_newest_type_of_block_counts_whatever_the_order() {
    let (old, new): (&[&[u8]], &[&[u8]]) = (&[&[1, 0, 0, 0]], &[&[2, 0, 3, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]]);
    for kinds in [[0x10, 0x11], [0x11, 0x10], [0x11, 0x40], [0x40, 0x11], [0x10, 0x40]] {
        let newest = kinds.iter().max().unwrap();
        let mut table = ivrs();
        for kind in kinds {
            table = table.ivhd(kind, 2, 0xfeb8_0000, if kind == *newest { new } else { old });
        }
        let (topology, findings) = from_ivrs(&table.table());
        let topology = topology.unwrap();
        assert_eq!(topology.units().len(), 1);
        assert_eq!(topology.unit_of(&NoConfigSpace, id(3, 0, 0)), Some(UnitIndex::new(0)), "{kinds:x?}");
        assert_eq!(topology.unit_of(&NoConfigSpace, id(4, 0, 0)), None, "{kinds:x?}");
        assert_eq!(findings, []);
    }
}

#[test]
fn an_acpi_device_of_an_ivhd_has_its_names_and_its_unit() {
    let mut entry = vec![0xf0, 0xa5, 0, 0x40];
    entry.extend(b"AMDI0020\0\0\0\0\0\0\0\0");
    entry.extend([2, 9]);
    entry.extend(br"\_SB.FUR0");
    let table = ivrs().ivhd(0x40, 2, 0xfeb8_0000, &[&entry, &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]]).table();
    let (topology, findings) = from_ivrs(&table);
    let topology = topology.unwrap();
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 0x14, 5)), Some(UnitIndex::new(0)));
    assert_eq!(topology.device_settings(&NoConfigSpace, id(0, 0x14, 5)), 0x40);
    // What follows the entry of variable length is read at the right place.
    assert_eq!(topology.ioapic(33), Some((UnitIndex::new(0), id(0, 0x14, 0))));
    assert_eq!(findings, []);
}

#[test]
fn an_ivmd_of_nothing_or_an_ivhd_without_ioapic_kills_nothing() {
    let table = ivrs().ivhd(0x11, 2, 0xfeb8_0000, &[&[1, 0, 0, 0]]).ivmd(0x20, 3, 0, 0, 0, 0).table();
    let (topology, findings) = from_ivrs(&table);
    let topology = topology.unwrap();
    assert_eq!(topology.unit_of(&NoConfigSpace, id(3, 0, 0)), Some(UnitIndex::new(0)));
    assert_eq!(topology.reserved_memory(), []);
    assert_eq!(
        findings,
        [Finding { offset: 92, flaw: Flaw::EmptyRange { base: 0 } }, Finding { offset: 48, flaw: Flaw::NoIoApic },]
    );
}

#[test]
fn a_block_of_type_51h_is_skipped() {
    let table = ivrs()
        .block(0x51, 8, &[0; 28])
        .ivhd(0x11, 2, 0xfeb8_0000, &[&[1, 0, 0, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]])
        .table();
    let (topology, findings) = from_ivrs(&table);
    assert_eq!(bases(&topology.unwrap()), [0xfeb8_0000]);
    assert_eq!(findings, [Finding { offset: 48, flaw: Flaw::UnknownStructure { kind: 0x51 } }]);
}

#[test]
fn a_cut_entry_or_block_of_an_ivrs_costs_itself_alone() {
    // The last entry wants 8 bytes and has 4; the next block is read.
    let table = ivrs()
        .ivhd(0x10, 2, 0xfeb8_0000, &[&[2, 0, 3, 0], &[0x48, 0, 0, 0]])
        .ivhd(0x10, 0x4002, 0xfec8_0000, &[&[2, 0, 0x41, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]])
        .table();
    let (topology, findings) = from_ivrs(&table);
    assert_eq!(topology.unwrap().units().len(), 2);
    assert_eq!(findings, [Finding { offset: 76, flaw: Flaw::Overrun { length: 8, left: 4 } }]);

    for (kind, needed) in [(0x10, 24), (0x11, 40), (0x40, 40), (0x20, 32), (0x22, 32)] {
        let sound: &[&[u8]] = &[&[1, 0, 0, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]];
        let table = ivrs().block(kind, 0, &vec![0; needed - 5]).ivhd(0x10, 2, 0xfeb8_0000, sound).table();
        let (topology, findings) = from_ivrs(&table);
        assert_eq!(bases(&topology.unwrap()), [0xfeb8_0000]);
        let [Finding { offset: 48, flaw: Flaw::Short { length, needed: wanted, .. } }] = findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!((length, wanted), (needed - 1, needed));
    }
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

#[test]
fn a_wrong_checksum_or_a_cut_table_is_told_and_the_rest_is_used() {
    let sound = good().table();
    let wrong = {
        let mut table = sound.clone();
        table[20] ^= 4;
        table
    };
    let (topology, findings) = from_dmar(&wrong);
    assert!(topology.is_ok());
    assert_eq!(findings, [Finding { offset: 9, flaw: Flaw::Checksum { sum: findings_sum(&wrong) } }]);

    let cut = &good().rmrr(0, 0xa000_0000, 0xa000_0fff, &[endpoint(2, 0)]).table()[..80];
    let (topology, findings) = from_dmar(cut);
    assert_eq!(bases(&topology.unwrap()), [0xfed9_1000]);
    assert_eq!(findings[0], Finding { offset: 4, flaw: Flaw::TableCut { length: 104, bytes: 80 } });

    // Bytes behind the table are none of it.
    let mut page = sound;
    page.resize(4096, 0xff);
    assert_eq!(from_dmar(&page).1, []);
}

fn findings_sum(table: &[u8]) -> u8 {
    table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

#[test]
fn a_topology_says_if_a_unit_may_be_missing() {
    let is_complete = |table: Vec<u8>| from_dmar(&table).0.unwrap().is_complete();
    assert!(is_complete(good().table()));
    assert!(is_complete(good().structure(7, &[]).rmrr(0, 1, 0, &[endpoint(2, 0)]).drhd(0, 0, 0, &[]).table()));
    assert!(!is_complete(good().structure(0, &[0; 11]).table()));
    assert!(!is_complete(good().raw(&[0; 4]).table()));
    assert!(!is_complete(good().raw(&[0, 0, 200, 0]).table()));
    assert!(!is_complete(good().drhd(0, 0, 0x1000, &[vec![1, 6, 0, 0, 0, 0]]).table()));
    assert!(!is_complete(good().drhd(0, 0, 0x1000, &[]).table()[..72].to_vec()));

    let sound: &[&[u8]] = &[&[1, 0, 0, 0]];
    let is_complete = |table: Vec<u8>| from_ivrs(&table).0.unwrap().is_complete();
    assert!(is_complete(ivrs().ivhd(0x10, 2, 0x4000, sound).table()));
    assert!(!is_complete(ivrs().ivhd(0x10, 2, 0x4000, sound).block(0x11, 0, &[0; 30]).table()));
    assert!(!is_complete(ivrs().ivhd(0x10, 2, 0x4000, &[&[1, 0, 0, 0], &[3, 0, 4, 0]]).table()));
}

#[test]
fn the_caller_decides_how_strict_to_be() {
    let (_, findings) = from_dmar(&good().drhd(0, 0, 0, &[]).structure(7, &[]).table());
    assert_eq!(findings.len(), 3);
    assert!(!findings.iter().any(|finding| Strictness::default().refuses(finding)));
    let refused: Vec<_> = findings.iter().filter(|finding| Strictness::RefuseErrors.refuses(finding)).collect();
    assert_eq!(refused, [&Finding { offset: 72, flaw: Flaw::NoBase }]);
}

#[test]
fn what_is_no_table_is_refused_in_words() {
    let no_units = dmar().rmrr(0, 0xa000_0000, 0xa000_0fff, &[endpoint(2, 0)]).table();
    for (bytes, expected) in [
        (&[][..], "0 bytes are no table: its header alone has 48"),
        (b"DMAR", "4 bytes are no table: its header alone has 48"),
        (&ivrs().table(), "offset 0x30: no structure describes a unit that can be used"),
        (&[0xff; 64], "offset 0x0: the signature is \"\\xff\\xff\\xff\\xff\", not \"DMAR\""),
        (&dmar().table_of_length(0), "offset 0x4: the table gives its length as 0 bytes, but has at least 48"),
        (&dmar().table_of_length(47), "offset 0x4: the table gives its length as 47 bytes, but has at least 48"),
        (&no_units, "offset 0x30: no structure describes a unit that can be used"),
    ] {
        assert_eq!(from_dmar(bytes).0.unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_table_too_large_for_the_topology_is_refused_by_place() {
    let three = dmar().drhd(0, 0, 0x1000, &[endpoint(1, 0)]).drhd(0, 0, 0x2000, &[]).drhd(1, 0, 0x3000, &[ioapic(2)]);
    let table = three.rmrr(0, 0x10_0000, 0x10_0fff, &[endpoint(1, 0)]).table();
    let with = |units, scopes, reserved| {
        let limits = Limits { units, scopes, reserved, ..Limits::DEFAULT };
        read_table_with(&limits, &table, &NoConfigSpace, |_| {})
    };
    assert!(with(3, 4, 1).is_ok());
    let units = with(2, 4, 1).unwrap_err();
    assert_eq!(units.to_string(), "offset 0x58: no room for more units: the capacity is 2");
    let scopes = with(3, 3, 1).unwrap_err();
    assert_eq!(scopes.to_string(), "offset 0x88: no room for more device scopes: the capacity is 3");
    let reserved = with(3, 4, 0).unwrap_err();
    assert_eq!(reserved.to_string(), "offset 0x70: no room for more reserved memory: the capacity is 0");
}

#[test]
fn many_structures_take_time_in_proportion() {
    // 1 MiB of the smallest structures; an ANDD, an unknown one, an ATSR and a DRHD's scopes.
    let started = Instant::now();
    for body in [&[0, 0, 0, 1, 0][..], &[][..], &[0, 0, 0, 0][..]] {
        for kind in [4, 7, 2] {
            let mut table = good();
            while table.offset() < 1 << 20 {
                table = table.structure(kind, body);
            }
            let table = table.table();
            let mut findings = 0_usize;
            let _ = read_table(&table, &NoConfigSpace, |_| findings += 1);
            let dmar = Dmar::new(&table, |_| {}).unwrap();
            assert_eq!(dmar.structures().count(), (table.len() - 48 - 24) / (4 + body.len()) + 1);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_device_list_tells_ranges_and_padding_apart() {
    let entries: &[&[u8]] = &[
        &[0, 0, 0, 0],
        &[3, 8, 0, 1],
        &[0, 0, 0, 0],
        &[4, 0xfe, 0x3f, 0],
        &[0x43, 0, 0xff, 0, 0, 0xa4, 0, 0],
        &[4, 0xff, 0xff, 0],
        &[0x46, 0, 5, 0, 0, 0, 0, 0x80],
        &[&[0x85][..], &[2; 15]].concat(),
        &[&[0xc1][..], &[2; 31]].concat(),
        &[0x42, 0, 6, 0, 0, 1, 6, 0],
    ];
    let table = ivrs().ivhd(0x11, 2, 0xfeb8_0000, entries).table();
    let ivrs = Ivrs::new(&table, |finding| panic!("{finding}")).unwrap();
    let Some(Block::Ivhd(ivhd)) = ivrs.sound().next() else { panic!() };
    let devices: Vec<String> = ivhd
        .devices()
        .map(|device| match device {
            Ok((offset, listed)) => format!("{offset:#x} {listed:x?}"),
            Err(finding) => finding.to_string(),
        })
        .collect();
    assert_eq!(
        devices,
        [
            "0x5c Range { first: 8, last: 3ffe, alias: None, settings: 1, extended: 0 }",
            "0x68 Range { first: ff00, last: ffff, alias: Some(a4), settings: 0, extended: 0 }",
            "0x74 Range { first: 500, last: 500, alias: None, settings: 0, extended: 80000000 }",
            "offset 0x7c: structure of unknown type 0x85; it is skipped",
            "offset 0x8c: structure of unknown type 0xc1; it is skipped",
            "0xac Range { first: 600, last: 600, alias: Some(601), settings: 0, extended: 0 }",
        ]
    );
}
