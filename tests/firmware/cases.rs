//! Small tables with one thing wrong each, as firmware has it: what is found, and what a device gets all the same.

use super::tables::{case, read};
use super::tree::{ROOT_PORT, Tree, id};
use cofferdam::addr::SourceId;
use cofferdam::firmware::{Flaw, Severity};
use cofferdam::limits::Limits;
use cofferdam::topology::{NoConfigSpace, Topology, UnitIndex};
use cofferdam_support::front::{read_table, read_table_with};
use cofferdam_support::tables::{bridge, dmar, endpoint, ioapic, ivrs, scope};

const UNIT_0: Option<UnitIndex> = Some(UnitIndex::new(0));
const UNIT_1: Option<UnitIndex> = Some(UnitIndex::new(1));

/// Each table with its findings: how bad, where, which.
const CASES: [(&str, &[&str]); 31] = [
    ("atsr-of-endpoints", &["warning 0x58 WrongScope", "warning 0x60 WrongScope"]),
    ("bridge-scope-of-host-bridge", &[]),
    ("cut-short", &["error 0x4 TableCut", "error 0x88 Overrun"]),
    ("ivhd-entry-of-unknown-type", &["error 0x5c UnknownEntry"]),
    ("ivhd-with-counters", &[]),
    ("ivmd-bad-checksum", &["error 0x9 Checksum"]),
    ("ivmd-exclusions", &[]),
    ("ivmd-of-one-byte", &["warning 0x68 OneByte"]),
    ("ivrs-without-unit", &["error 0x30 NoBase", "warning 0x60 SegmentWithoutUnit"]),
    ("opt-out-without-remapping", &["note 0x25 OptOutWithoutRemapping"]),
    ("rmrr-at-zero", &["warning 0x68 OneByte"]),
    ("rmrr-in-memory", &["warning 0xa8 DeclaredForNobody", "warning 0xbf DeclaredForNobody"]),
    ("rmrr-of-acpi-device", &[]),
    ("rmrr-of-one-byte", &["warning 0x48 OneByte"]),
    ("rmrr-of-three-devices", &[]),
    ("rmrr-of-unserved", &["warning 0x68 ReservedForUnserved", "warning 0x30 NoIncludeAll"]),
    ("rmrr-over-unit", &["error 0x48 ReservedRegisters"]),
    ("rmrr-reversed", &["error 0x48 ReversedRange"]),
    ("rmrr-start-is-end", &["warning 0x68 OneByte"]),
    ("rmrrs-of-many-devices", &["error 0x21b8 NoRoomForScope"]),
    ("satc-over-bridge", &["warning 0x50 IntegratedBehindBridge", "note 0x50 PathThroughNothing"]),
    ("scope-of-unknown-kind", &["error 0x40 UnknownScope"]),
    ("segment-without-all", &["warning 0x30 NoIncludeAll"]),
    ("special-of-unknown-variety", &["note 0x68 UnknownVariety"]),
    ("two-sockets", &[]),
    ("unit-of-nobody", &["warning 0x30 ServesNobody"]),
    ("unit-twice", &["warning 0x48 DuplicateUnit"]),
    ("units-65", &[]),
    ("zeros-at-the-end", &["warning 0x68 Zeros"]),
    ("zeros-before-an-rmrr", &["error 0x68 NoProgress"]),
    ("zeros-behind-the-end", &[]),
];

/// What a table with one thing wrong says.
fn topology(name: &str) -> Topology<'static> {
    read(&case(name)).0.unwrap()
}

fn reserved(topology: &Topology, device: SourceId) -> Vec<String> {
    topology.reserved(&NoConfigSpace, device).map(|it| it.region.input.to_string()).collect()
}

/// F14: what is wrong is found, at its place and as bad as it is.
#[test]
fn each_case_has_its_findings_and_no_other() {
    for (name, expected) in CASES {
        let (_, findings) = read(&case(name));
        let found: Vec<String> =
            findings.iter().map(|it| format!("{} {:#x} {}", it.severity(), it.offset, it.flaw.name())).collect();
        assert_eq!(found, expected, "{name}");
    }
}

/// F1: reserved memory of one byte is its page.
#[test]
fn reserved_memory_of_one_byte_is_a_page() {
    for (name, device, page) in [
        ("rmrr-of-one-byte", id(0, 2, 0), "0x80000000..=0x80000fff"),
        ("rmrr-start-is-end", id(0, 0x14, 0), "0xdd7b0000..=0xdd7b0fff"),
        ("rmrr-at-zero", id(0, 0x14, 0), "0x0..=0xfff"),
        ("ivmd-of-one-byte", id(0, 0, 3), "0xfff000..=0xffffff"),
    ] {
        let topology = topology(name);
        assert_eq!(topology.reserved_memory().len(), 1, "{name}");
        assert!(topology.reserved_memory()[0].region.input.to_string() == page || name == "ivmd-of-one-byte", "{name}");
        assert!(!topology.loses_reserved(&NoConfigSpace, device));
    }
}

/// F1: a device whose reserved memory cannot be honoured is known, and so are the reasons.
#[test]
fn a_device_that_loses_reserved_memory_is_known() {
    for name in ["rmrr-reversed", "rmrr-over-unit"] {
        let topology = topology(name);
        assert!(topology.loses_reserved(&NoConfigSpace, id(0, 2, 0)), "{name}");
        assert!(!topology.loses_reserved(&NoConfigSpace, id(0, 3, 0)), "{name}");
        assert_eq!(reserved(&topology, id(0, 2, 0)), [""; 0]);
    }
    // An IVMD that wraps, as reversed as any.
    let table = ivrs().ivhd(0x11, 2, 0xfeb8_0000, &[&[1, 0, 0, 0]]);
    let table = table.ivmd(0x21, 7, 0x300, 0, 0xffff_ffff_ffff_f000, 0x2000).table();
    assert!(read(&table).0.unwrap().loses_reserved(&NoConfigSpace, id(3, 0, 0)));
}

/// I7: reserved memory that holds a unit's registers, or a page of them, is none that a device gets.
#[test]
fn reserved_memory_over_registers_is_lost() {
    let (first, last) = (0xfed9_0000, 0xfed9_3fff);
    for (base, limit, lost) in [
        (first - 0x1000, first - 1, false),
        (first - 0x1000, first, true),
        (first + 0x2000, first + 0x2fff, true),
        (last, last, true),
        (last + 1, last + 0x1000, false),
        (first - 0x10_0000, last + 0x1_0000, true),
    ] {
        let table = dmar().sized_drhd(1, 2, 0, first, &[ioapic(2)]).rmrr(0, base, limit, &[endpoint(2, 0)]);
        let (topology, findings) = read(&table.table());
        let topology = topology.unwrap();
        let flaw = Flaw::ReservedRegisters { base, limit, unit: first };
        assert_eq!(findings.iter().any(|it| it.flaw == flaw), lost, "{base:#x}");
        assert_eq!(topology.loses_reserved(&NoConfigSpace, id(0, 2, 0)), lost, "{base:#x}");
        assert_eq!(topology.reserved_memory().len(), usize::from(!lost), "{base:#x}");
        assert_eq!(flaw.severity(), Severity::Error);
    }
}

/// I14: a scope of unknown kind makes another unit's remainder uncertain, and nothing else.
#[test]
fn a_scope_of_unknown_kind_makes_the_remainder_uncertain() {
    let topology = topology("scope-of-unknown-kind");
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 3, 0)), UNIT_1);
    assert!(!topology.is_complete() && !topology.is_certain(&NoConfigSpace, id(0, 3, 0)));

    let unknown = || scope(6, 0, 0, &[(3, 0)]);
    let certain = |table: Vec<u8>, device| read(&table).0.unwrap().is_certain(&NoConfigSpace, id(0, device, 0));
    let beside = dmar().drhd(0, 0, 0xfed9_0000, &[unknown(), endpoint(2, 0)]);
    let beside = beside.drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    assert_eq!([2, 3, 4].map(|device| certain(beside.clone(), device)), [true, false, false]);
    // The unit that takes all has it anyhow.
    let own = dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2), unknown()]);
    assert_eq!([2, 3, 4].map(|device| certain(own.clone().table(), device)), [true; 3]);
    // Nor is it certain where the unit with that scope cannot be used.
    let unusable = dmar().drhd(0, 0, 0, &[unknown()]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    assert!(!certain(unusable.table(), 3));
    // Another segment is another matter.
    let other = dmar().drhd(0, 1, 0xfed9_0000, &[unknown(), endpoint(2, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    assert!(certain(other.table(), 3));
}

/// I14: so does an entry of unknown type in an IVRS, where there is more than one unit.
#[test]
fn an_entry_of_unknown_type_makes_ranges_uncertain() {
    let unknown: &[u8] = &[0x49, 0x10, 0, 0, 0x20, 0, 0, 0];
    let range: &[&[u8]] = &[&[3, 8, 0, 0], &[4, 0xff, 0xff, 0], &[2, 0, 3, 0], unknown];
    let one = read(&ivrs().ivhd(0x11, 2, 0xfeb8_0000, range).table()).0.unwrap();
    assert!(!one.is_complete() && one.is_certain(&NoConfigSpace, id(4, 0, 0)));
    let two = ivrs().ivhd(0x11, 2, 0xfeb8_0000, range).ivhd(0x11, 0x4002, 0xfec8_0000, &[&[2, 0, 0x41, 0]]);
    let two = read(&two.table()).0.unwrap();
    assert!(!two.is_certain(&NoConfigSpace, id(4, 0, 0)), "a narrower range of the other unit may have it");
    assert!(two.is_certain(&NoConfigSpace, id(3, 0, 0)) && two.is_certain(&NoConfigSpace, id(0x41, 0, 0)));
}

/// I5: what a unit that cannot be used serves stays free, and so does what no unit takes: findings say so.
#[test]
fn findings_say_which_devices_stay_free() {
    let free = |flaw: Flaw| flaw.action().contains("reaches all memory and cannot be assigned");
    let (_, findings) = read(&case("segment-without-all"));
    assert!(findings.iter().all(|it| free(it.flaw)));
    for table in [
        dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).drhd(0, 1, 0, &[endpoint(2, 0)]),
        dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).drhd(0, 1, 0xfed9_2800, &[endpoint(2, 0)]),
        dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).drhd(0, 1, 0xfed9_1000, &[endpoint(2, 0)]),
        dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).drhd(0, 1, 0xfed9_2000, &[endpoint(2, 0)]),
    ] {
        let (_, findings) = read(&table.table());
        assert!(findings.len() == 1 && free(findings[0].flaw), "{findings:?}");
    }
    // Each segment for itself.
    let two = dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0), ioapic(2)]).drhd(1, 1, 0xfed9_1000, &[]);
    let two = two.drhd(0, 2, 0xfed9_2000, &[endpoint(2, 0)]).drhd(0, 2, 0xfed9_3000, &[endpoint(3, 0)]);
    let (_, findings) = read(&two.table());
    let segments: Vec<Flaw> = findings.iter().map(|it| it.flaw).collect();
    assert_eq!(segments, [Flaw::NoIncludeAll { segment: 0 }, Flaw::NoIncludeAll { segment: 2 }]);
}

/// F2: units of the newer blocks have as many registers as their features say.
#[test]
fn a_unit_with_counters_has_512_kib_of_registers() {
    assert_eq!(topology("ivhd-with-counters").units()[0].window.bytes, 512 << 10);
    assert_eq!(topology("ivmd-of-one-byte").units()[0].window.bytes, 16 << 10);
}

/// F12: zeros up to the end of the table, or of a structure, hide nothing.
#[test]
fn zeros_at_the_end_hide_nothing() {
    let nic = id(0, 0x19, 0);
    for (name, certain) in [("zeros-at-the-end", true), ("zeros-behind-the-end", true), ("zeros-before-an-rmrr", false)]
    {
        let topology = topology(name);
        assert_eq!(topology.unit_of(&NoConfigSpace, nic), UNIT_1, "{name}");
        assert_eq!((topology.is_complete(), topology.is_certain(&NoConfigSpace, nic)), (certain, certain), "{name}");
    }
    let scopes = [endpoint(2, 0), vec![0; 16]];
    let table = dmar().drhd(0, 0, 0xfed9_0000, &scopes).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let (topology, findings) = read(&table);
    assert_eq!(findings[0].flaw, Flaw::Zeros { bytes: 16 });
    assert!(topology.unwrap().is_certain(&NoConfigSpace, nic));
}

/// L7: the capacities are the user's: 65 units, and 640.
#[test]
fn as_many_units_as_the_user_has_room_for() {
    let mut large = dmar().set(36, 51);
    for unit in 0..640_u16 {
        large = large.drhd(1, unit, 0x2_0000_0000 + u64::from(unit) * 0x1000, &[]);
    }
    let limits = Limits { units: 640, scopes: 4096, ..Limits::DEFAULT };
    for (table, units) in [(case("units-65"), 65), (large.table(), 640)] {
        let mut lost = 0;
        let is_lost = |flaw| matches!(flaw, Flaw::NoRoomForScope { .. });
        let topology = read_table_with(&limits, &table, &NoConfigSpace, |it| lost += u32::from(is_lost(it.flaw)));
        assert_eq!((topology.unwrap().units().len(), lost), (units, 0));
    }
    // All that a lost unit serves would stay free.
    let full = read(&case("units-65")).0.unwrap_err();
    assert_eq!(full.to_string(), "offset 0x630: no room for more units: the capacity is 64");
}

/// L8: a scope or a region for which there is no room is lost alone, and its devices are refused.
#[test]
fn what_has_no_room_is_lost_alone() {
    let three = dmar().drhd(0, 0, 0x1000, &[endpoint(1, 0)]).drhd(0, 0, 0x2000, &[endpoint(5, 0)]);
    let three = three.drhd(1, 0, 0x3000, &[ioapic(2)]).rmrr(0, 0x10_0000, 0x10_0fff, &[endpoint(1, 0)]);
    let table = three.rmrr(0, 0x20_0000, 0x20_0fff, &[endpoint(2, 0), scope(1, 0, 9, &[(0, 0)])]).table();
    let with = |scopes, reserved| {
        let limits = Limits { scopes, reserved, ..Limits::DEFAULT };
        let mut findings = Vec::new();
        let topology = read_table_with(&limits, &table, &NoConfigSpace, |it| findings.push(it)).unwrap();
        let words: Vec<String> = findings.iter().map(|it| it.to_string()).collect();
        (topology, words)
    };
    assert_eq!(with(7, 2).1, [""; 0]);

    let (topology, words) = with(7, 1);
    assert!(words[0].starts_with("offset 0x98: no room for reserved memory at 0x200000: the capacity is 1; its"));
    assert_eq!([1, 2].map(|it| topology.loses_reserved(&NoConfigSpace, id(0, it, 0))), [false, true]);
    assert!(topology.is_certain(&NoConfigSpace, id(0, 2, 0)));

    let (topology, words) = with(6, 2);
    assert_eq!(words.len(), 1);
    assert!(words[0].starts_with("offset 0xb8: no room for more device scopes: the capacity is 6; this one and all"));
    let is_certain = |source| topology.is_certain(&NoConfigSpace, source);
    assert!(!topology.is_complete() && is_certain(id(0, 2, 0)) && !is_certain(id(9, 0, 0)) && !is_certain(id(9, 1, 0)));

    // No room for the one that takes all: any device may be its own.
    let topology = with(2, 2).0;
    assert_eq!([id(0, 1, 0), id(7, 0, 0)].map(|it| topology.is_certain(&NoConfigSpace, it)), [false; 2]);
}

/// L8: more scopes than there is room for by default, as HPE's servers have: the rest of the machine is used.
#[test]
fn more_than_1024_scopes_cost_their_own_buses_alone() {
    let (topology, findings) = read(&case("rmrrs-of-many-devices"));
    let topology = topology.unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0x40, 0, 0)), UNIT_0);
    assert!(topology.is_certain(&NoConfigSpace, id(0x40, 0, 0)));
    let limits = Limits { scopes: 2048, ..Limits::DEFAULT };
    let roomy = read_table_with(&limits, &case("rmrrs-of-many-devices"), &NoConfigSpace, |it| panic!("{it}")).unwrap();
    assert!(roomy.is_complete());
}

/// F14: a scope whose kind is not that of the function it leads to, where configuration space shows it.
#[test]
fn scopes_and_functions_of_different_kinds_are_found() {
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 1, 1)
        .device(id(0, 2, 0))
        .device(id(0x80, 0, 0))
        .with(id(0x80, 0, 0), 8, 0x0600_0000)
        .device(id(0x80, 3, 0))
        .with(id(0x80, 3, 0), 8, 0x0680_0000);
    let with = |scope: Vec<u8>| {
        let table = dmar().drhd(0, 0, 0xfed9_0000, &[scope]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
        let mut findings = Vec::new();
        read_table(&table, &tree, |it| findings.push(it.flaw)).unwrap();
        findings
    };
    assert_eq!(with(endpoint(1, 0)), [Flaw::EndpointIsBridge { at: id(0, 1, 0) }]);
    assert_eq!(with(bridge(2, 0)), [Flaw::BridgeIsEndpoint { at: id(0, 2, 0) }]);
    assert_eq!([with(endpoint(2, 0)), with(bridge(1, 0)), with(bridge(9, 0)), with(endpoint(9, 0))], [[]; 4]);
    // Host bridges and bridges that are not transparent have the header of an endpoint.
    let table = case("bridge-scope-of-host-bridge");
    let topology = read_table(&table, &tree, |it| panic!("{it}")).unwrap();
    assert_eq!([id(0x80, 0, 0), id(0x80, 3, 0)].map(|it| topology.unit_of(&tree, it)), [UNIT_0; 2]);
}

/// F14: a unit of an IVRS that serves nobody is found as one of a DMAR is, also where the entries that it has are of no device.
#[test]
fn an_amd_unit_that_serves_nobody_is_found() {
    let found = |entries: &[&[u8]]| {
        let table = ivrs().ivhd(0x11, 2, 0xfeb8_0000, entries).ivhd(0x11, 0x4002, 0xfec8_0000, &[&[1, 0, 0, 0]]);
        let (_, findings) = read(&table.table());
        let nobody = Flaw::ServesNobody { base: 0xfeb8_0000 };
        findings.iter().filter(|it| it.flaw == nobody).map(|it| (it.offset, it.severity())).collect::<Vec<_>>()
    };
    assert_eq!(found(&[&[2, 8, 0, 0]]), []);
    let padding: &[u8] = &[0; 4];
    for entries in [&[][..], &[padding]] {
        assert_eq!(found(entries), [(48, Severity::Warning)]);
    }
}

/// F14: RHSA is for all units or for none (VT-d 5.10, section 8.6).
#[test]
fn affinity_of_some_units_is_found() {
    let two = || dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(2, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    let found = |table: Vec<u8>| read(&table).1.iter().map(|it| it.flaw).collect::<Vec<_>>();
    assert_eq!(found(two().table()), []);
    assert_eq!(found(two().rhsa(0xfed9_0000, 0).table()), [Flaw::NoAffinity { base: 0xfed9_1000 }]);
    assert_eq!(found(two().rhsa(0xfed9_0000, 0).rhsa(0xfed9_1000, 1).table()), []);
}

/// Reserved memory of a device of the ACPI name space, and the exclusion ranges of single devices.
#[test]
fn reserved_memory_is_for_each_kind_of_device() {
    let acpi = topology("rmrr-of-acpi-device");
    assert_eq!(reserved(&acpi, id(9, 0x12, 0)), ["0xb5da5000..=0xb5dddfff"]);
    for name in ["ivmd-exclusions", "ivmd-bad-checksum"] {
        let topology = topology(name);
        assert_eq!(reserved(&topology, id(2, 0, 0)), ["0xa8a1f000..=0xa8a1ffff"]);
        assert_eq!(reserved(&topology, id(3, 0, 0)), ["0xa8a5f000..=0xa8a60fff"]);
        assert_eq!(reserved(&topology, id(4, 0, 0)), [""; 0]);
    }
    let shared = topology("rmrr-of-three-devices");
    for device in [0x14, 0x1a, 0x1d] {
        assert_eq!(reserved(&shared, id(0, device, 0)), ["0x7d4e9000..=0x7d4fffff"]);
    }
}
