//! The linter: each thing that it finds, where, how bad, and that a sound table has none of them.

use super::real_tables::topology_of;
use super::tables::{good, read, real_tables};
use super::tree::{ROOT_PORT, Tree, id};
use cofferdam::addr::Region;
use cofferdam::firmware::dmar::{Hop, ScopeKind};
use cofferdam::firmware::{Finding, Flaw, Severity};
use cofferdam::topology::UnitIndex;
use cofferdam_support::front::read_table;
use cofferdam_support::tables::{Table, bridge, dmar, endpoint, ioapic, ivrs, scope};

/// The table's findings behind the sound unit that it starts with.
fn findings(table: Table) -> Vec<Finding> {
    let (topology, findings) = read(&table.table());
    topology.unwrap();
    findings
}

fn one(table: Table, offset: u32, flaw: Flaw, severity: Severity) {
    let found = findings(table);
    assert_eq!(
        found,
        [Finding { offset, flaw }],
        "{}",
        found.iter().map(|it| it.to_string() + "\n").collect::<String>()
    );
    assert_eq!(flaw.severity(), severity);
}

#[test]
fn a_sound_table_has_no_finding() {
    let table = dmar()
        .drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0), bridge(1, 0), scope(5, 1, 0, &[(0x15, 0)])])
        .drhd(1, 0, 0xfed9_1000, &[ioapic(2), scope(4, 0, 0xf0, &[(0xf, 0)])])
        .rmrr(0, 0xa000_0000, 0xa00f_ffff, &[endpoint(2, 0)])
        .atsr(1, 0, &[])
        .rhsa(0xfed9_0000, 0)
        .rhsa(0xfed9_1000, 0)
        .andd(1, b"\\_SB.I2C0\0")
        .satc(0, 0, &[endpoint(2, 0)])
        .sidp(0, 0, &[endpoint(2, 0)]);
    assert_eq!(findings(table), []);
}

#[test]
fn windows() {
    let sized = |base| dmar().sized_drhd(0, 4, 0, base, &[endpoint(2, 0)]).drhd(1, 0, 0xfec0_0000, &[ioapic(2)]);
    one(sized(0xfed9_1000), 48, Flaw::UnalignedWindow { base: 0xfed9_1000, bytes: 0x1_0000 }, Severity::Warning);
    for base in [0xfed9_0800, 1 << 52, 0xffff_ffff_ffff_f000] {
        one(good().drhd(0, 1, base, &[endpoint(2, 0)]), 72, Flaw::BadBase { base }, Severity::Error);
    }
    one(good().drhd(0, 1, 0, &[endpoint(2, 0)]), 72, Flaw::NoBase, Severity::Error);

    let base = 0xfed9_1000;
    let twice = dmar().drhd(0, 0, base, &[endpoint(2, 0)]).drhd(0, 0, base, &[endpoint(3, 0)]);
    let twice = twice.drhd(1, 0, 0xfed9_3000, &[ioapic(2)]);
    let topology = read(&twice.clone().table()).0.unwrap();
    assert_eq!(topology.units().len(), 2);
    assert_eq!(topology.unit_of(&Tree::default(), id(0, 3, 0)), Some(UnitIndex::new(0)), "the scopes of both count");
    one(twice, 72, Flaw::DuplicateUnit { base }, Severity::Warning);

    let other_segment = good().drhd(0, 1, base, &[endpoint(2, 0)]);
    one(other_segment, 72, Flaw::ConflictingUnit { base, segment: 1 }, Severity::Error);

    let overlapping = dmar().sized_drhd(0, 1, 0, 0xfed9_0000, &[endpoint(2, 0)]).drhd(1, 0, base, &[ioapic(2)]);
    one(overlapping, 72, Flaw::OverlappingUnits { base, other: 0xfed9_0000 }, Severity::Error);
    let neighbours = dmar().sized_drhd(0, 1, 0, 0xfed9_0000, &[endpoint(2, 0)]).drhd(1, 0, 0xfed9_2000, &[ioapic(2)]);
    assert_eq!(findings(neighbours), []);
}

#[test]
fn include_all() {
    let second = good().drhd(1, 0, 0xfed9_2000, &[]);
    let flaw = Flaw::SecondIncludeAll { base: 0xfed9_2000, first: 0xfed9_1000 };
    let topology = read(&second.clone().table()).0.unwrap();
    assert_eq!(topology.unit_of(&Tree::default(), id(0, 3, 0)), Some(UnitIndex::new(0)));
    assert_eq!(topology.units().iter().map(|unit| unit.include_all).collect::<Vec<_>>(), [true, false]);
    one(second, 72, flaw, Severity::Error);
    one(
        good().drhd(0, 0, 0xfed9_2000, &[endpoint(2, 0)]),
        72,
        Flaw::IncludeAllNotLast { base: 0xfed9_1000 },
        Severity::Note,
    );
    assert_eq!(findings(good().drhd(1, 1, 0xfed9_2000, &[]).drhd(1, 2, 0xfed9_3000, &[])), []);
}

/// The scopes behind one that has half a hop, or none, are read.
#[test]
fn a_scope_with_a_bad_path_costs_itself_alone() {
    for bad in [vec![1, 6, 0, 0, 0, 0], vec![1, 9, 0, 0, 0, 0, 2, 0, 0]] {
        let scopes = [endpoint(2, 0), bad, endpoint(3, 0)];
        let table = dmar().drhd(0, 0, 0xfed9_0000, &scopes).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
        let topology = read(&table.table()).0.unwrap();
        for device in [2, 3] {
            assert_eq!(topology.unit_of(&Tree::default(), id(0, device, 0)), Some(UnitIndex::new(0)), "{device}");
        }
    }
}

#[test]
fn scopes() {
    let first = |scope: Vec<u8>| dmar().drhd(0, 0, 0xfed9_0000, &[scope]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    one(first(vec![1, 6, 0, 0, 0, 0]), 64, Flaw::BadPath { length: 6 }, Severity::Error);
    one(first(vec![1, 9, 0, 0, 0, 0, 2, 0, 0]), 64, Flaw::BadPath { length: 9 }, Severity::Error);
    for (device, function) in [(32, 0), (0, 8), (255, 255)] {
        let hop = Hop { device, function };
        one(first(endpoint(device, function)), 64, Flaw::BadHop { hop }, Severity::Error);
        let topology = read(&first(endpoint(device, function)).table()).0.unwrap();
        assert!(!topology.is_complete(), "whose device it is, nobody knows");
    }
    let mut reserved = endpoint(2, 0);
    reserved[2] = 4;
    one(first(reserved), 66, Flaw::Reserved { structure: "DRHD", value: 4 }, Severity::Note);
    one(first(scope(6, 0, 0, &[(1, 0)])), 64, Flaw::UnknownScope { kind: 6 }, Severity::Error);

    let twice = dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0)]).drhd(0, 0, 0xfed9_1000, &[endpoint(2, 0)]);
    let twice = twice.drhd(1, 0, 0xfed9_2000, &[ioapic(2)]);
    assert_eq!(read(&twice.clone().table()).0.unwrap().unit_of(&Tree::default(), id(0, 2, 0)), Some(UnitIndex::new(0)));
    one(twice, 88, Flaw::ServedTwice { device: id(0, 2, 0) }, Severity::Error);

    let ioapics = dmar().drhd(1, 0, 0xfed9_2000, &[ioapic(2), scope(3, 2, 0, &[(1, 0)])]);
    let flaw = Flaw::NamedTwice { kind: ScopeKind::IoApic, id: 2 };
    one(ioapics, 72, flaw, Severity::Warning);

    let kind = ScopeKind::Endpoint;
    let in_all = dmar().drhd(1, 0, 0xfed9_1000, &[endpoint(2, 0), ioapic(2)]);
    one(in_all, 64, Flaw::WrongScope { structure: "DRHD", kind }, Severity::Warning);
}

#[test]
fn paths() {
    let tree = Tree::default().bridge(id(0, 1, 0), ROOT_PORT, 1, 1).device(id(0, 2, 0));
    for (device, flaw) in [
        (2, Some(Flaw::PathThroughNoBridge { at: id(0, 2, 0) })),
        (3, Some(Flaw::PathThroughNothing { at: id(0, 3, 0) })),
        (1, None),
    ] {
        let path = scope(1, 0, 0, &[(device, 0), (0, 0)]);
        let table = dmar().drhd(0, 0, 0xfed9_0000, &[path]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
        let mut found = Vec::new();
        let topology = read_table(&table, &tree, |finding| found.push(finding)).unwrap();
        assert_eq!(found, flaw.map(|flaw| Finding { offset: 64, flaw }).into_iter().collect::<Vec<_>>());
        assert_eq!(topology.unit_of(&tree, id(1, 0, 0)), Some(UnitIndex::new(flaw.is_some().into())));
    }
}

#[test]
fn reserved_memory() {
    let rmrr = |base, limit| good().rmrr(0, base, limit, &[endpoint(2, 0)]);
    let (base, limit) = (0xa000_0800, 0xa000_1fff);
    one(rmrr(base, limit), 72, Flaw::UnalignedRange { base, limit }, Severity::Warning);
    let widened = read(&rmrr(base, 0xa000_1ff0).table()).0.unwrap().reserved_memory()[0].region;
    assert_eq!(widened.to_string(), "0xa0000000..=0xa0001fff -> 0xa0000000 (read write)");

    for (base, limit) in [(0xfee0_0000, 0xfee0_0fff), (0xfed0_0000, 0xffff_ffff), (0x7f_ffff_f000, 0x80_0000_0fff)] {
        one(rmrr(base, limit), 72, Flaw::UnmappableRange { base, limit }, Severity::Error);
    }
    for (base, limit) in [(0xfedf_f000, 0xfedf_ffff), (0xfef0_0000, 0xfef0_0fff), (0x7f_ffff_f000, 0x7f_ffff_ffff)] {
        assert_eq!(findings(rmrr(base, limit)), []);
    }
    let (base, limit) = (0, u64::MAX);
    let found = findings(rmrr(base, limit));
    let all = read(&rmrr(base, limit).table()).0.unwrap().reserved_memory()[0].region;
    assert!(all.input.is_page_aligned() && all.input.last().as_u64() > u64::MAX - 0x2000);
    assert_eq!(found, [Finding { offset: 72, flaw: Flaw::UnmappableRange { base, limit } }]);

    let (base, limit) = (0xa000_1000, 0xa000_2fff);
    let two = rmrr(0xa000_0000, 0xa000_1fff).rmrr(0, base, limit, &[endpoint(3, 0)]);
    one(two, 104, Flaw::OverlappingRange { base, limit }, Severity::Warning);

    one(good().rmrr(0, base, limit, &[]), 72, Flaw::ReservedForNobody { structure: "RMRR" }, Severity::Warning);
    let segment = good().rmrr(1, base, limit, &[endpoint(2, 0)]);
    one(segment, 72, Flaw::SegmentWithoutUnit { structure: "RMRR", segment: 1 }, Severity::Warning);
    let kind = ScopeKind::Hpet;
    let hpet = good().rmrr(0, base, limit, &[scope(4, 0, 0, &[(2, 0)])]);
    one(hpet, 96, Flaw::WrongScope { structure: "RMRR", kind }, Severity::Warning);
}

#[test]
fn the_memory_map_is_compared_where_there_is_one() {
    let table =
        good().rmrr(0, 0xa000_0000, 0xa000_0fff, &[endpoint(2, 0)]).rmrr(0, 0, 0xfff, &[endpoint(3, 0)]).table();
    let topology = read(&table).0.unwrap();
    let mut found = Vec::new();
    let is_reserved = |region: Region| region.output.as_u64() >= 0x8000_0000;
    topology.check_memory_map(is_reserved, |finding| found.push(finding));
    let flaw = Flaw::NotReserved { base: 0, limit: 0xfff };
    assert_eq!(found, [Finding { offset: 104, flaw }]);
    assert_eq!(flaw.severity(), Severity::Error);
}

#[test]
fn links_between_structures() {
    one(good().rhsa(0xfed9_0000, 1), 72, Flaw::AffinityOfNoUnit { base: 0xfed9_0000 }, Severity::Warning);
    for (kind, structure) in [(2, "ATSR"), (5, "SATC"), (6, "SIDP")] {
        let table = good().listing(kind, 0, 3, &[]);
        one(table, 72, Flaw::SegmentWithoutUnit { structure, segment: 3 }, Severity::Warning);
    }
    for (kind, structure, scope, number) in [
        (2, "ATSR", endpoint(2, 0), ScopeKind::Endpoint),
        (5, "SATC", bridge(2, 0), ScopeKind::Subtree),
        (6, "SIDP", bridge(2, 0), ScopeKind::Subtree),
    ] {
        let table = good().listing(kind, 0, 0, &[scope]);
        one(table, 80, Flaw::WrongScope { structure, kind: number }, Severity::Warning);
    }
    let lpss = |name: &[u8]| {
        dmar()
            .drhd(0, 0, 0xfed9_0000, &[scope(5, 1, 0, &[(0x15, 0)])])
            .drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
            .andd(1, name)
    };
    assert_eq!(findings(lpss(b"\\_SB.I2C0\0")), []);
    one(lpss(b"\\_SB.I2C0"), 96, Flaw::NameWithoutEnd { number: 1 }, Severity::Warning);
    one(good().andd(1, b"\\_SB.I2C0\0"), 72, Flaw::DeclaredForNobody { number: 1 }, Severity::Warning);
    let undeclared = dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2), scope(5, 1, 0, &[(0x15, 0)])]);
    one(undeclared, 72, Flaw::Undeclared { number: 1 }, Severity::Note);
    one(dmar().drhd(1, 0, 0xfed9_1000, &[]), 48, Flaw::NoIoApic, Severity::Warning);
}

#[test]
fn reserved_bits_and_bytes_that_are_left_over() {
    for (offset, value, at, structure, bits) in [
        (37, 0x81, 37, "DMAR", 0x80),
        (38, 1, 38, "DMAR", 1),
        (47, 1, 38, "DMAR", 0),
        (52, 3, 52, "DRHD", 2),
        (53, 0xf0, 53, "DRHD", 0xf0),
    ] {
        one(good().set(offset, value), at, Flaw::Reserved { structure, value: bits }, Severity::Note);
    }
    let all = good().rmrr(0, 0xa000_0000, 0xa000_0fff, &[endpoint(2, 0)]).atsr(1, 0, &[]).rhsa(0xfed9_1000, 0);
    let all = all.satc(0, 0, &[]).sidp(0, 0, &[]);
    assert_eq!(findings(all.clone()), []);
    for (offset, at, structure, bits) in [
        (76, 76, "RMRR", 0x80),
        (108, 108, "ATSR", 0x80),
        (109, 109, "ATSR", 0x80),
        (116, 116, "RHSA", 0x80),
        (136, 136, "SATC", 0x80),
        (137, 137, "SATC", 0x80),
        (144, 144, "SIDP", 0x80),
    ] {
        let table = all.clone().set(offset, 0x80);
        one(table, at, Flaw::Reserved { structure, value: bits }, Severity::Note);
    }
    let rhsa = good().structure(3, &[0, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
    one(rhsa, 92, Flaw::LeftOver { bytes: 2 }, Severity::Note);
    one(good().raw(&[0; 3]), 72, Flaw::LeftOver { bytes: 3 }, Severity::Note);
    let behind = dmar().structure(0, &[1, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0, 3, 8, 0, 0, 2, 0, 1, 0, 7]);
    one(behind, 72, Flaw::LeftOver { bytes: 1 }, Severity::Note);
    let disordered = dmar().rhsa(0xfed9_1000, 0).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    one(disordered, 68, Flaw::OutOfOrder { kind: 0, last: 3 }, Severity::Note);
    // A sum that is wrong is found whatever follows the table.
    for behind in [0, 1, 64] {
        let mut bytes = good().table();
        bytes[9] = bytes[9].wrapping_add(3);
        bytes.resize(bytes.len() + behind, 0);
        let flaws: Vec<_> = read(&bytes).1.iter().map(|finding| finding.flaw).collect();
        assert!(flaws.contains(&Flaw::Checksum { sum: 3 }), "{behind}: {flaws:?}");
    }
    // Each that is below any before it.
    let unit = dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    let disordered = unit.rhsa(0xfed9_1000, 0).rmrr(0, 0xa000_0000, 0xa00f_ffff, &[endpoint(2, 0)]).atsr(1, 0, &[]);
    let flaws: Vec<_> = findings(disordered).iter().map(|finding| finding.flaw).collect();
    assert_eq!(flaws, [1, 2].map(|kind| Flaw::OutOfOrder { kind, last: 3 }));
}

#[test]
fn an_address_width_that_no_machine_has() {
    for (coded, bits) in [(0, 1), (30, 31), (52, 53), (255, 256)] {
        let table = good().set(36, coded);
        assert_eq!(read(&table.clone().table()).0.unwrap().host_address_width(), 52);
        one(table, 36, Flaw::AddressWidth { bits }, Severity::Warning);
    }
    for coded in [31, 51] {
        assert_eq!(read(&good().set(36, coded).table()).0.unwrap().host_address_width(), coded + 1);
    }
}

#[test]
fn ivrs_entries_and_blocks() {
    let sound: &[&[u8]] = &[&[1, 0, 0, 0], &[0x48, 0, 0, 0, 33, 0xa0, 0, 1]];
    let found = |table: Table| {
        let (topology, findings) = read(&table.table());
        topology.unwrap();
        findings
    };
    let with = |entries: &[&[u8]]| found(ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[sound, entries].concat()));
    assert_eq!(with(&[]), []);
    let at = |offset, flaw| vec![Finding { offset, flaw }];
    assert_eq!(with(&[&[3, 0, 9, 0], &[4, 0, 9, 0]]), [], "a range of one");
    assert_eq!(with(&[&[3, 0, 9, 0]]), at(84, Flaw::StartWithoutEnd { first: 0x900 }));
    assert_eq!(with(&[&[3, 0, 9, 0], &[2, 0, 8, 0]]), at(84, Flaw::StartWithoutEnd { first: 0x900 }));
    // The end belongs to no range, not to the one that another entry broke off.
    assert_eq!(
        with(&[&[3, 0, 9, 0], &[2, 0, 8, 0], &[4, 0, 10, 0]]),
        [
            Finding { offset: 84, flaw: Flaw::StartWithoutEnd { first: 0x900 } },
            Finding { offset: 92, flaw: Flaw::EndWithoutStart { last: 0xa00 } },
        ]
    );
    assert_eq!(with(&[&[4, 0, 9, 0]]), at(84, Flaw::EndWithoutStart { last: 0x900 }));
    let flaw = Flaw::ReversedDevices { first: 0x900, last: 0x8ff };
    assert_eq!(with(&[&[3, 0, 9, 0], &[4, 0xff, 8, 0]]), at(84, flaw));
    assert_eq!(with(&[&[5, 0, 9, 0]]), at(84, Flaw::UnknownEntry { number: 5 }));
    assert_eq!(with(&[&[0x48, 0, 0, 0, 1, 0, 0, 9]]), at(84, Flaw::UnknownVariety { variety: 9 }));
    assert_eq!(with(&[&[0, 0]]), at(84, Flaw::LeftOver { bytes: 2 }));

    let disagreeing = ivrs().ivhd(0x10, 2, 0xfeb8_0000, sound).ivhd(0x11, 2, 0xfec8_0000, sound);
    let flaw = Flaw::OlderDisagrees { base: 0xfeb8_0000, newer: 0xfec8_0000 };
    assert_eq!(found(disagreeing), at(48, flaw));

    let base = || ivrs().ivhd(0x10, 2, 0xfeb8_0000, sound);
    let ivmd = |flags, start, bytes| found(base().ivmd(0x20, flags, 0, 0, start, bytes));
    assert_eq!(ivmd(3, 0x1000, 0x1000), []);
    assert_eq!(ivmd(3, 0x1000, 0), at(84, Flaw::EmptyRange { base: 0x1000 }));
    assert_eq!(ivmd(1, 0x1000, 0x1000), at(84, Flaw::UselessRange { flags: 1 }));
    assert_eq!(ivmd(3, 0x1000, 0x1800), at(84, Flaw::UnalignedRange { base: 0x1000, limit: 0x27ff }));
    assert_eq!(ivmd(0x83, 0x1000, 0x1000), at(85, Flaw::Reserved { structure: "IVMD", value: 0x80 }));
    let wrapped = Flaw::ReversedRange { base: 0xffff_ffff_ffff_f000, limit: 0xfff };
    assert_eq!(ivmd(3, 0xffff_ffff_ffff_f000, 0x2000), at(84, wrapped));
    let reversed = base().ivmd(0x22, 3, 0x900, 0x800, 0x1000, 0x1000);
    assert_eq!(found(reversed), at(84, Flaw::ReversedDevices { first: 0x900, last: 0x800 }));
}

#[test]
fn the_rights_of_an_ivmd_are_its_flags() {
    for (flags, rights) in [(0b0011, "read"), (0b0101, "write"), (0b0111, "read write"), (0b1000, "read write")] {
        let table = ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[&[1, 0, 0, 0]]).ivmd(0x22, flags, 0x300, 0x3ff, 0x1000, 0x1000);
        let topology = read(&table.table()).0.unwrap();
        let of = |source| topology.reserved(&Tree::default(), source).map(|it| it.region.rights.to_string()).next();
        assert_eq!(of(id(3, 0x1f, 7)).as_deref(), Some(rights));
        assert_eq!(of(id(4, 0, 0)), None);
    }
}

#[test]
fn an_ivmd_is_for_all_for_one_or_for_a_range() {
    for (kind, reached) in [(0x20, [true; 4]), (0x21, [true, false, false, false]), (0x22, [true, true, true, false])] {
        let table = ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[&[1, 0, 0, 0]]).ivmd(kind, 7, 0x300, 0x302, 0x1000, 0x1000);
        let topology = read(&table.table()).0.unwrap();
        let reaches = |function| topology.reserved(&Tree::default(), id(3, 0, function)).count() == 1;
        assert_eq!([0, 1, 2, 3].map(reaches), reached, "{kind:#x}");
    }
}

#[test]
fn each_finding_says_what_is_wrong_and_what_is_done() {
    let found = findings(good().drhd(0, 0, 0, &[endpoint(2, 0)]));
    assert_eq!(
        found[0].to_string(),
        "offset 0x48: unit 0xfed91000 takes all devices of its segment, but is not the last there; \
         the order has no effect"
    );
    assert_eq!(
        found[1].to_string(),
        "offset 0x48: unit with register base 0; it stays unused: nothing translates what it serves, which reaches all \
         memory and cannot be assigned"
    );
}

#[test]
fn real_tables_are_sound_except_for_what_is_known() {
    let mut found: Vec<String> = Vec::new();
    for table in real_tables() {
        let (_, findings) = topology_of(&table);
        found.extend(findings.iter().map(|finding| format!("{} {} {finding}", table.file, finding.severity())));
    }
    let unknown_block =
        found.iter().filter(|text| text.contains("structure of unknown type 0x51; it is skipped")).count();
    let opt_out = found.iter().filter(|text| text.contains(" note offset 0x25: X2APIC_OPT_OUT is set: ")).count();
    assert_eq!((unknown_block, opt_out), (4, 25));
    let is_other = |text: &&String| !text.contains("0x51") && !text.contains("X2APIC_OPT_OUT");
    let others: Vec<&String> = found.iter().filter(is_other).collect();
    let expected = [
        " note offset 0x30: no RHSA names unit 0xdfffd000, though there are some; its node is unknown",
        " error offset 0x60: unit with register base 0; it stays unused: nothing translates what it serves, which reaches \
         all memory and cannot be assigned",
        " note offset 0x30: no RHSA names unit 0xfbffd000, though there are some; its node is unknown",
        " warning offset 0x120: devices from 0x4008 to 0xfffe: a range of another unit overlaps them; \
         the narrower range counts for a device in both",
        " warning offset 0x1c8: devices from 0xff00 to 0xffff: a range of another unit overlaps them; \
         the narrower range counts for a device in both",
    ];
    assert_eq!(others.len(), expected.len(), "{others:#?}");
    for (text, expected) in others.iter().zip(expected) {
        assert!(text.ends_with(expected), "{text}");
    }
}
