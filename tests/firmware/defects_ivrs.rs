//! What other drivers got wrong about an IVRS, each with a table that shows it.

use super::tables::{bases, read};
use super::tree::id;
use cofferdam::firmware::ivrs::{Ivrs, IvrsBlock};
use cofferdam::firmware::{Finding, Flaw};
use cofferdam::topology::{NoConfigSpace, UnitIndex, UnitKind};
use cofferdam_support::tables::ivrs;

#[test]
fn every_block_of_an_ivrs_is_read() {
    let table = ivrs()
        .ivhd(0x10, 2, 0xfeb8_0000, &[&[3, 8, 0, 0], &[4, 0xfe, 0x3f, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]])
        .ivmd(0x21, 7, 0x300, 0, 0x7000_0000, 0x2000)
        .ivhd(0x10, 0x4002, 0xfec8_0000, &[&[3, 8, 0x40, 0], &[4, 0xfe, 0xff, 0]])
        .table();
    let (topology, findings) = read(&table);
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
        let (topology, findings) = read(&table);
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
        let (topology, findings) = read(&table.table());
        let topology = topology.unwrap();
        assert_eq!(topology.units().len(), 1);
        assert_eq!(topology.unit_of(&NoConfigSpace, id(3, 0, 0)), Some(UnitIndex::new(0)), "{kinds:x?}");
        assert_eq!(topology.unit_of(&NoConfigSpace, id(4, 0, 0)), None, "{kinds:x?}");
        assert_eq!(findings, []);
    }
}

/// Two blocks of one type and one unit are no two descriptions of the same: both count.
#[test]
fn a_second_block_of_the_same_type_counts_as_well() {
    for kind in [0x10, 0x11, 0x40] {
        let block = |device| [[2, 0, device, 0]];
        let [first, second] = [3, 4].map(block);
        let ioapic = [0x48, 0, 0, 0, 33, 0xa0, 0, 1];
        let table = ivrs().ivhd(kind, 2, 0xfeb8_0000, &[&first[0], &ioapic]).ivhd(kind, 2, 0xfeb8_0000, &[&second[0]]);
        let topology = read(&table.table()).0.unwrap();
        for bus in [3, 4] {
            assert_eq!(topology.unit_of(&NoConfigSpace, id(bus, 0, 0)), Some(UnitIndex::new(0)), "{kind:x}, bus {bus}");
        }
    }
}

#[test]
fn an_acpi_device_of_an_ivhd_has_its_names_and_its_unit() {
    let mut entry = vec![0xf0, 0xa5, 0, 0x40];
    entry.extend(b"AMDI0020\0\0\0\0\0\0\0\0");
    entry.extend([2, 9]);
    entry.extend(br"\_SB.FUR0");
    let table = ivrs().ivhd(0x40, 2, 0xfeb8_0000, &[&entry, &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]]).table();
    let (topology, findings) = read(&table);
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
    let (topology, findings) = read(&table);
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
    let (topology, findings) = read(&table);
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
    let (topology, findings) = read(&table);
    assert_eq!(topology.unwrap().units().len(), 2);
    assert_eq!(findings, [Finding { offset: 76, flaw: Flaw::Overrun { length: 8, left: 4 } }]);

    for (kind, needed) in [(0x10, 24), (0x11, 40), (0x40, 40), (0x20, 32), (0x22, 32)] {
        let sound: &[&[u8]] = &[&[1, 0, 0, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]];
        let table = ivrs().block(kind, 0, &vec![0; needed - 5]).ivhd(0x10, 2, 0xfeb8_0000, sound).table();
        let (topology, findings) = read(&table);
        assert_eq!(bases(&topology.unwrap()), [0xfeb8_0000]);
        let [Finding { offset: 48, flaw: Flaw::Short { length, needed: wanted, .. } }] = findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!((length, wanted), (needed - 1, needed));
    }
}

#[test]
fn a_device_list_separates_ranges_from_padding() {
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
    let Some(IvrsBlock::Ivhd(ivhd)) = ivrs.sound().next() else { panic!() };
    let devices: Vec<String> = ivhd
        .devices()
        .map(|device| match device {
            Ok((offset, listed)) => format!("{offset:#x} {listed:x?}"),
            Err(finding) => format!("{:#x} {:x?}", finding.offset, finding.flaw),
        })
        .collect();
    assert_eq!(
        devices,
        [
            "0x5c Range { first: 8, last: 3ffe, alias: None, settings: 1, extended: 0 }",
            "0x68 Range { first: ff00, last: ffff, alias: Some(a4), settings: 0, extended: 0 }",
            "0x74 Range { first: 500, last: 500, alias: None, settings: 0, extended: 80000000 }",
            "0x7c UnknownEntry { number: 85 }",
            "0x8c UnknownEntry { number: c1 }",
            "0xac Range { first: 600, last: 600, alias: Some(601), settings: 0, extended: 0 }",
        ]
    );
}

/// A range that is never ended costs itself alone: the entry that stands where it should have ended is read for what it says.
#[test]
fn an_open_range_costs_no_entry_behind_it() {
    let acpi = [&[0xf0, 0, 8, 0][..], b"AMDI0020", &[0; 8], &[0, 0]].concat();
    let breaking: [&[&[u8]]; 7] = [
        &[&[2, 0, 8, 0]],
        &[&[3, 0, 8, 0], &[4, 0xff, 8, 0]],
        &[&[0x42, 0, 8, 0, 0, 0, 7, 0]],
        &[&[0x43, 0, 8, 0, 0, 0, 7, 0], &[4, 0xff, 8, 0]],
        &[&[0x46, 0, 8, 0, 0, 0, 0, 0]],
        &[&[0x47, 0, 8, 0, 0, 0, 0, 0], &[4, 0xff, 8, 0]],
        &[&acpi],
    ];
    let ioapic: &[u8] = &[0x48, 0, 0, 0, 33, 0xa0, 0, 1];
    for open in [&[3, 0, 9, 0][..], &[0x43, 0, 9, 0, 0, 0, 7, 0], &[0x47, 0, 9, 0, 0, 0, 0, 0]] {
        let found = vec![Finding { offset: 72, flaw: Flaw::StartWithoutEnd { first: 0x900 } }];
        for entries in breaking {
            let (topology, findings) =
                read(&ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[&[open], entries, &[ioapic]].concat()).table());
            let unit_of = |bus| topology.as_ref().unwrap().unit_of(&NoConfigSpace, id(bus, 0, 0));
            assert_eq!([unit_of(8), unit_of(9)], [Some(UnitIndex::new(0)), None], "{open:x?}, {entries:x?}");
            assert_eq!(findings, found, "{open:x?}, {entries:x?}");
        }
        let all: &[u8] = &[1, 0, 0, 0];
        let (topology, findings) = read(&ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[open, all, ioapic]).table());
        assert!(topology.unwrap().unit_of(&NoConfigSpace, id(8, 0, 0)).is_some(), "{open:x?}");
        assert_eq!(findings, found);
        // Where the IOAPIC itself stands there, interrupts have their unit.
        let (topology, findings) = read(&ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[open, ioapic]).table());
        assert_eq!(topology.unwrap().ioapic(33), Some((UnitIndex::new(0), id(0, 0x14, 0))), "{open:x?}");
        assert_eq!(findings, found);
    }
}
