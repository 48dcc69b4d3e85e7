//! Look-ups over recorded PCI trees.

use super::tables::read;
use super::tree::{CONVENTIONAL, PCI_TO_PCIE, PCIE_TO_PCI, ROOT_PORT, Tree, id};
use cofferdam::addr::SourceId;
use cofferdam::firmware::dmar::Properties;
use cofferdam::limits::Limits;
use cofferdam::topology::{NoConfigSpace, Requesters, Topology, UnitIndex};
use cofferdam_support::front::{read_table, read_table_with, topology};
use cofferdam_support::tables::{bridge, dmar, endpoint, ioapic, ivrs, scope};

/// One unit that takes all.
fn one_unit() -> Topology<'static> {
    topology(&dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table(), &NoConfigSpace)
}

fn ids(requesters: &Requesters) -> Vec<SourceId> {
    requesters.ids().to_vec()
}

#[test]
fn the_nearest_bridge_counts_and_a_name_before_it() {
    // 00:01.0 leads to buses 1 to 5, 01:00.0 to 2 to 5, and 02:04.0 is named.
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 1, 5)
        .bridge(id(1, 0, 0), Some(5), 2, 5)
        .bridge(id(2, 4, 0), Some(6), 5, 5)
        .device(id(5, 0, 0));
    // Whatever the order of the table: the outer bridge first, or last.
    for reversed in [false, true] {
        let mut units = [
            (0xfed9_0000, bridge(1, 0)),
            (0xfed9_1000, scope(2, 0, 0, &[(1, 0), (0, 0)])),
            (0xfed9_2000, scope(1, 0, 0, &[(1, 0), (0, 0), (4, 0), (0, 0)])),
        ];
        if reversed {
            units.reverse();
        }
        let mut table = dmar();
        for (base, scope) in &units {
            table = table.drhd(0, 0, *base, std::slice::from_ref(scope));
        }
        let topology = topology(&table.drhd(1, 0, 0xfed9_3000, &[ioapic(2)]).table(), &tree);
        let base = |source| {
            let unit = topology.unit_of(&tree, source).unwrap();
            topology.units()[unit.get()].window.base.as_u64()
        };
        assert_eq!(base(id(0, 1, 0)), 0xfed9_0000);
        assert_eq!(base(id(1, 1, 0)), 0xfed9_0000, "beside the inner bridge");
        assert_eq!(base(id(1, 0, 0)), 0xfed9_1000, "the inner bridge itself");
        assert_eq!(base(id(2, 4, 0)), 0xfed9_1000);
        assert_eq!(base(id(5, 1, 0)), 0xfed9_1000);
        assert_eq!(base(id(5, 0, 0)), 0xfed9_2000);
        assert_eq!(base(id(0, 2, 0)), 0xfed9_3000);
        assert_eq!(topology.unit_of(&tree, SourceId::new(1, 1, 0, 0).unwrap()), None);
    }
}

#[test]
fn a_bridge_that_leads_back_leads_nowhere() {
    // A secondary bus that is not behind the bridge's own, as after a reset or by a broken device.
    for (secondary, subordinate) in [(0, 0), (1, 0), (0, 255)] {
        let tree = Tree::default().bridge(id(0, 1, 0), ROOT_PORT, secondary, subordinate);
        let table = dmar().drhd(0, 0, 0xfed9_0000, &[bridge(1, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
        let topology = topology(&table, &tree);
        assert_eq!(topology.unit_of(&tree, id(0, 1, 0)), Some(UnitIndex::new(0)));
        assert_eq!(topology.unit_of(&tree, id(1, 0, 0)), Some(UnitIndex::new(1)));
        assert_eq!(ids(&topology.requesters(&tree, id(1, 0, 0)).unwrap()), [id(1, 0, 0)]);
    }
}

#[test]
fn virtual_functions_follow_their_physical_function() {
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 1, 2)
        .device(id(1, 0, 0))
        .virtual_functions(id(1, 0, 0), 8, 0x80, 2)
        .device(id(1, 0, 1));
    let sidp =
        scope(1, 0, 0, &[(1, 0), (0, 0)]).into_iter().enumerate().map(|(at, byte)| if at == 2 { 4 } else { byte });
    let table = dmar()
        .drhd(0, 0, 0xfed9_0000, &[scope(1, 0, 0, &[(1, 0), (0, 0)])])
        .drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
        .sidp(0, 0, &[sidp.collect()])
        .table();
    let topology = read_table(&table, &tree, |_| {}).unwrap();
    // The first at 01:10.0, then every second function: 01:10.2 and so on, the last at 01:11.6.
    for (source, unit) in [
        (id(1, 0, 0), 0),
        (id(1, 0, 1), 1),
        (id(1, 0x10, 0), 0),
        (id(1, 0x10, 1), 1),
        (id(1, 0x10, 2), 0),
        (id(1, 0x11, 6), 0),
        (id(1, 0x12, 0), 1),
        (id(2, 0x10, 0), 1),
    ] {
        assert_eq!(topology.unit_of(&tree, source), Some(UnitIndex::new(unit)), "{source}");
        assert_eq!(topology.snoop_forbidden(&tree, source), unit == 0, "{source}");
    }
    // On a bus of their own, with no bridge to that bus: the port above still is above.
    let tree = Tree::default().bridge(id(0, 1, 0), PCIE_TO_PCI, 1, 2).device(id(1, 0, 0)).virtual_functions(
        id(1, 0, 0),
        1,
        0x100,
        0,
    );
    assert_eq!(topology.unit_of(&tree, id(2, 0, 0)), Some(UnitIndex::new(0)));
    assert_eq!(ids(&topology.requesters(&tree, id(2, 0, 0)).unwrap()), [id(2, 0, 0), id(1, 0, 0)]);
}

#[test]
fn a_port_forwards_extended_functions_as_their_device() {
    let port = id(0, 1, 0);
    let plain = Tree::default().bridge(port, ROOT_PORT, 1, 1).device(id(1, 0, 0)).device(id(1, 1, 0));
    let table = dmar()
        .drhd(0, 0, 0xfed9_0000, &[scope(1, 0, 0, &[(1, 0), (0, 0)])])
        .drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
        .table();
    let topology = topology(&table, &plain);
    assert_eq!(topology.unit_of(&plain, id(1, 1, 0)), Some(UnitIndex::new(1)));
    let forwarding = plain.ari_forwarding(port);
    assert_eq!(topology.unit_of(&forwarding, id(1, 1, 0)), Some(UnitIndex::new(0)));
    assert_eq!(
        topology.unit_of(&forwarding, id(1, 0, 1)),
        Some(UnitIndex::new(1)),
        "a function of 8 that is not named"
    );
}

#[test]
fn behind_root_ports_and_switches_a_function_speaks_for_itself() {
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 1, 3)
        .bridge(id(1, 0, 0), Some(5), 2, 3)
        .bridge(id(2, 0, 0), Some(6), 3, 3)
        .device(id(3, 0, 0));
    let requesters = one_unit().requesters(&tree, id(3, 0, 0)).unwrap();
    assert_eq!(ids(&requesters), [id(3, 0, 0)]);
    for other in [id(0, 1, 0), id(1, 0, 0), id(3, 0, 1), id(3, 1, 0)] {
        assert!(!requesters.shared_with(other), "{other}");
    }
}

#[test]
fn behind_a_pcie_to_pci_bridge_all_are_one_unit_of_assignment() {
    // As QEMU's pcie-pci-bridge: 02:00.0, requests from 03:00.0.
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 2, 3)
        .bridge(id(2, 0, 0), PCIE_TO_PCI, 3, 3)
        .device(id(3, 5, 0))
        .device(id(3, 6, 0));
    let topology = one_unit();
    let requesters = topology.requesters(&tree, id(3, 5, 0)).unwrap();
    assert_eq!(ids(&requesters), [id(3, 5, 0), id(3, 0, 0)]);
    assert!(requesters.shared_with(id(3, 6, 0)) && requesters.shared_with(id(3, 5, 0)));
    assert!(!requesters.shared_with(id(2, 0, 0)) && !requesters.shared_with(id(0, 1, 0)));
    assert!(!requesters.shared_with(SourceId::new(1, 3, 6, 0).unwrap()));
}

#[test]
fn behind_a_conventional_bridge_the_bridge_speaks() {
    // As QEMU's pci-bridge under an i82801b11: the outermost bridge's own id is what arrives, 00:08.0.
    let tree = Tree::default()
        .bridge(id(0, 8, 0), CONVENTIONAL, 1, 2)
        .bridge(id(1, 0, 0), CONVENTIONAL, 2, 2)
        .device(id(2, 1, 0));
    let topology = one_unit();
    let requesters = topology.requesters(&tree, id(2, 1, 0)).unwrap();
    assert_eq!(ids(&requesters), [id(2, 1, 0), id(1, 0, 0), id(0, 8, 0)]);
    assert!([id(2, 9, 0), id(1, 5, 0), id(0, 8, 0)].into_iter().all(|other| requesters.shared_with(other)));
    assert!(!requesters.shared_with(id(0, 9, 0)));
    // The bridge itself shares with them too, and knows.
    let of_bridge = topology.requesters(&tree, id(0, 8, 0)).unwrap();
    assert!(of_bridge.shared_with(id(2, 1, 0)) && !of_bridge.shared_with(id(0, 9, 0)));
}

#[test]
fn behind_a_bridge_from_pci_to_pcie_the_bridge_speaks_too() {
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 1, 3)
        .bridge(id(1, 0, 0), PCIE_TO_PCI, 2, 3)
        .bridge(id(2, 3, 0), PCI_TO_PCIE, 3, 3)
        .device(id(3, 0, 0));
    let requesters = one_unit().requesters(&tree, id(3, 0, 0)).unwrap();
    assert_eq!(ids(&requesters), [id(3, 0, 0), id(2, 3, 0), id(2, 0, 0)]);
}

#[test]
fn sharing_is_mutual() {
    let tree = Tree::default()
        .bridge(id(0, 8, 0), CONVENTIONAL, 1, 2)
        .bridge(id(1, 0, 0), CONVENTIONAL, 2, 2)
        .device(id(2, 1, 0))
        .device(id(2, 2, 0))
        .bridge(id(0, 1, 0), ROOT_PORT, 4, 7)
        .bridge(id(4, 0, 0), PCIE_TO_PCI, 5, 7)
        .bridge(id(5, 1, 0), CONVENTIONAL, 6, 6)
        .bridge(id(5, 2, 0), PCI_TO_PCIE, 7, 7)
        .device(id(6, 0, 0))
        .device(id(7, 0, 0))
        .device(id(0, 2, 0));
    let topology = one_unit();
    let functions = [
        id(0, 8, 0),
        id(1, 0, 0),
        id(2, 1, 0),
        id(2, 2, 0),
        id(0, 1, 0),
        id(4, 0, 0),
        id(5, 1, 0),
        id(5, 2, 0),
        id(6, 0, 0),
        id(7, 0, 0),
        id(0, 2, 0),
    ];
    for one in functions {
        for other in functions {
            let forth = topology.requesters(&tree, one).unwrap().shared_with(other);
            let back = topology.requesters(&tree, other).unwrap().shared_with(one);
            assert_eq!(forth, back, "{one} and {other}");
        }
    }
}

#[test]
fn phantom_functions_belong_to_the_function_while_enabled() {
    let topology = one_unit();
    let at = id(0, 3, 1);
    for (bits, expected) in [(0, vec![1]), (1, vec![1, 5]), (2, vec![1, 3, 5, 7]), (3, vec![1, 0, 2, 3, 4, 5, 6, 7])] {
        let tree = Tree::default().device(at).phantom(at, bits, true);
        let expected: Vec<SourceId> = expected.into_iter().map(|function| id(0, 3, function)).collect();
        assert_eq!(ids(&topology.requesters(&tree, at).unwrap()), expected, "{bits} bits");
        let disabled = Tree::default().device(at).phantom(at, bits, false);
        assert_eq!(ids(&topology.requesters(&disabled, at).unwrap()), [at]);
    }
}

#[test]
fn a_function_that_claims_the_number_of_another_shares_it() {
    let (claiming, other, third) = (id(0, 3, 1), id(0, 3, 5), id(0, 3, 2));
    let tree =
        Tree::default().device(id(0, 3, 0)).device(claiming).phantom(claiming, 1, true).device(other).device(third);
    let of = |source| one_unit().requesters(&tree, source).unwrap();
    assert!(of(claiming).shared_with(other) && of(other).shared_with(claiming));
    assert_eq!(ids(&of(other)), [other]);
    assert!(!of(third).shared_with(claiming) && !of(claiming).shared_with(third));
    // The lowest number is less than what the other claims from.
    assert_eq!(ids(&of(id(0, 3, 0))), [id(0, 3, 0)]);
    assert!(!of(id(0, 3, 0)).shared_with(claiming));
}

#[test]
fn registers_that_cannot_be_read_say_nothing() {
    let at = id(0, 3, 1);
    let tree = Tree::default().device(at).express(at, 0).with(at, 0x44, u32::MAX).with(at, 0x48, u32::MAX);
    assert_eq!(ids(&one_unit().requesters(&tree, at).unwrap()), [at]);
    let port = id(0, 1, 0);
    let tree = Tree::default().bridge(port, ROOT_PORT, 1, 1).with(port, 0x68, u32::MAX).device(id(1, 0, 0));
    let table = dmar()
        .drhd(0, 0, 0xfed9_0000, &[scope(1, 0, 0, &[(1, 0), (0, 0)])])
        .drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
        .table();
    assert_eq!(topology(&table, &tree).unit_of(&tree, id(1, 1, 0)), Some(UnitIndex::new(1)));
}

#[test]
fn more_source_ids_than_there_is_room_for_are_an_error() {
    let mut tree = Tree::default();
    for bus in 0..20 {
        tree = tree.bridge(id(bus, 0, 0), CONVENTIONAL, bus + 1, 20);
    }
    let full = one_unit().requesters(&tree, id(20, 0, 0)).unwrap_err();
    assert_eq!(full.to_string(), "no room for more source-ids of one function: the capacity is 16");
}

#[test]
fn the_way_up_looks_at_each_function_of_the_lower_buses_once() {
    let mut tree = Tree::default();
    for bus in 0..=254_u8 {
        for device in 0..32 {
            for function in 0..8 {
                tree = tree.device(id(bus, device, function));
            }
        }
    }
    let requesters = one_unit().requesters(&tree, id(255, 0, 0)).unwrap();
    assert_eq!(ids(&requesters), [id(255, 0, 0)]);
    // At most two registers of each function, one more of each device.
    assert!(tree.reads() < 255 * 32 * (2 + 8 * 2) + 100, "{}", tree.reads());
}

#[test]
fn capabilities_that_lead_in_circles_end() {
    let at = id(0, 3, 0);
    let tree = Tree::default().device(at).with(at, 0x04, 1 << 20).with(at, 0x34, 0x40).with(at, 0x40, 0x4001).with(
        at,
        0x100,
        1 | 0x100 << 20,
    );
    let table = dmar().drhd(0, 0, 0xfed9_0000, &[endpoint(3, 0)]).drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).table();
    let topology = topology(&table, &tree);
    assert_eq!(ids(&topology.requesters(&tree, at).unwrap()), [at]);
    assert_eq!(topology.unit_of(&tree, id(0, 4, 0)), Some(UnitIndex::new(1)));
    assert!(tree.reads() < 2000, "{}", tree.reads());
}

#[test]
fn an_alias_entry_makes_its_devices_one_unit_of_assignment() {
    let table = ivrs()
        .ivhd(
            0x11,
            2,
            0xfeb8_0000,
            &[
                &[3, 8, 0, 0],
                &[4, 0xff, 0x3f, 0],
                &[0x43, 0, 0x40, 0, 0, 0xa4, 0, 0],
                &[4, 0xff, 0x40, 0],
                &[0x42, 0, 6, 0, 0, 1, 6, 0],
            ],
        )
        .table();
    let topology = read(&table).0.unwrap();
    let of = |source| topology.requesters(&NoConfigSpace, source).unwrap();
    let alias = id(0, 0x14, 4);
    assert_eq!(ids(&of(id(0x40, 1, 0))), [id(0x40, 1, 0), alias]);
    assert!(of(id(0x40, 1, 0)).shared_with(id(0x40, 2, 0)));
    assert!(of(alias).shared_with(id(0x40, 2, 0)), "the alias itself shares with all of them");
    assert!(!of(id(0x40, 1, 0)).shared_with(id(6, 0, 0)));
    assert_eq!(ids(&of(id(6, 0, 0))), [id(6, 0, 0), id(6, 0, 1)]);
}

#[test]
fn of_two_ranges_for_a_device_the_narrower_counts() {
    // Two real tables have it, in both orders.
    let wide: (u16, u64, &[&[u8]]) = (0x4002, 0xfec8_0000, &[&[3, 8, 0x40, 0], &[4, 0xfe, 0xff, 0]]);
    let narrow: (u16, u64, &[&[u8]]) = (
        2,
        0xfeb8_0000,
        &[
            &[3, 8, 0, 0],
            &[4, 0xfe, 0x3f, 0],
            &[0x43, 0, 0xff, 0, 0, 0xa4, 0, 0],
            &[4, 0xff, 0xff, 0],
            &[0x48, 0, 0, 0, 33, 0xa0, 0, 1],
        ],
    );
    for units in [[wide, narrow], [narrow, wide]] {
        let mut table = ivrs();
        for (device, base, entries) in units {
            table = table.ivhd(0x10, device, base, entries);
        }
        let (topology, findings) = read(&table.table());
        let topology = topology.unwrap();
        let base =
            |source| topology.units()[topology.unit_of(&NoConfigSpace, source).unwrap().get()].window.base.as_u64();
        assert_eq!(
            [base(id(0xff, 0, 0)), base(id(0xfe, 0, 0)), base(id(1, 0, 0))],
            [0xfeb8_0000, 0xfec8_0000, 0xfeb8_0000]
        );
        assert_eq!(findings.len(), 1, "{findings:?}");
    }
}

#[test]
fn of_two_ranges_of_one_width_the_first_counts() {
    let entries = |first: u8| [[3, 0, first, 0], [4, 0xff, first + 1, 0]];
    let (low, high) = (entries(4), entries(5));
    for (first, second) in [(low, high), (high, low)] {
        let table = ivrs()
            .ivhd(0x10, 2, 0xfeb8_0000, &[&first.concat()])
            .ivhd(0x10, 0x4002, 0xfec8_0000, &[&second.concat()])
            .table();
        let topology = read(&table).0.unwrap();
        assert_eq!(topology.unit_of(&NoConfigSpace, id(5, 3, 0)), Some(UnitIndex::new(0)));
    }
}

#[test]
fn ats_is_allowed_for_listed_devices_and_behind_listed_ports() {
    let tree = Tree::default()
        .bridge(id(0, 1, 0), ROOT_PORT, 1, 1)
        .bridge(id(0, 2, 0), ROOT_PORT, 2, 2)
        .device(id(1, 0, 0))
        .device(id(2, 0, 0));
    let base = dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]);
    let none = topology(&base.clone().table(), &tree);
    assert!(!none.ats_allowed(&tree, id(1, 0, 0)));
    let ports = topology(&base.clone().atsr(0, 0, &[bridge(1, 0)]).table(), &tree);
    assert!(ports.ats_allowed(&tree, id(1, 0, 0)) && !ports.ats_allowed(&tree, id(2, 0, 0)));
    let all = topology(&base.clone().atsr(1, 0, &[]).table(), &tree);
    assert!(all.ats_allowed(&tree, id(1, 0, 0)) && all.ats_allowed(&tree, id(2, 0, 0)));
    let satc = topology(&base.satc(1, 0, &[endpoint(5, 0)]).table(), &tree);
    assert!(satc.ats_allowed(&tree, id(0, 5, 0)) && !satc.ats_allowed(&tree, id(1, 0, 0)));
    assert_eq!(satc.properties(&tree, id(0, 5, 0)), Properties::ATC_HARDENED | Properties::ATC_REQUIRED);
}

#[test]
fn on_amd_ats_is_up_to_the_unit_and_the_entry() {
    let entries: &[&[u8]] = &[&[0x46, 0, 3, 0, 0, 0, 0, 0x80], &[2, 0, 4, 0]];
    for (flags, allowed) in [(0x10, true), (0, false)] {
        let table = ivrs().ivhd(0x11, 2, 0xfeb8_0000, entries).set(49, flags).table();
        let topology = read(&table).0.unwrap();
        assert!(!topology.ats_allowed(&NoConfigSpace, id(3, 0, 0)));
        assert_eq!(topology.ats_allowed(&NoConfigSpace, id(4, 0, 0)), allowed);
        assert!(!topology.ats_allowed(&NoConfigSpace, id(5, 0, 0)), "served by nobody");
    }
}

/// What an entry says of a range is said of each device of the range.
#[test]
fn on_amd_a_range_has_the_extended_settings_of_its_start() {
    let entries: &[&[u8]] =
        &[&[0x47, 0, 3, 0, 0, 0, 0, 0x80], &[4, 0x0f, 3, 0], &[0x47, 0x10, 3, 0, 0, 0, 0, 0], &[4, 0x1f, 3, 0]];
    let table = ivrs().ivhd(0x11, 2, 0xfeb8_0000, entries).set(49, 0x10).table();
    let topology = read(&table).0.unwrap();
    for devfn in 0..0x20 {
        let source = SourceId::from_requester(0, 0x300 | devfn);
        assert_eq!(topology.unit_of(&NoConfigSpace, source), Some(UnitIndex::new(0)));
        assert_eq!(topology.ats_allowed(&NoConfigSpace, source), devfn >= 0x10, "{source}");
    }
}

/// In a block that has no image of the features, a unit has performance counters if it has both counters and banks of them.
#[test]
fn an_old_block_has_counters_in_banks_or_none() {
    // PNCounters in bits 16:13 of the attributes, PNBanks in 22:17.
    for (counters, banks, bytes) in [
        (0, 0, 0x4000),
        (1, 0, 0x4000),
        (8, 0, 0x4000),
        (0, 1, 0x4000),
        (0, 0x20, 0x4000),
        (1, 1, 0x8_0000),
        (8, 0x20, 0x8_0000),
    ] {
        let attributes = u32::to_le_bytes(counters << 13 | banks << 17);
        let table = ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[&[1, 0, 0, 0]]);
        let table = attributes.into_iter().zip(68..).fold(table, |table, (byte, at)| table.set(at, byte));
        assert_eq!(read(&table.table()).0.unwrap().units()[0].window.bytes, bytes, "{counters}, {banks}");
    }
}

#[test]
fn sidp_comes_before_satc() {
    let mut no_snoop = endpoint(2, 0);
    no_snoop[2] = 1 << 2;
    let table =
        dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).satc(1, 0, &[endpoint(5, 0)]).sidp(0, 0, &[no_snoop]).table();
    let topology = topology(&table, &NoConfigSpace);
    assert!(topology.snoop_forbidden(&NoConfigSpace, id(0, 2, 0)));
    assert!(!topology.snoop_forbidden(&NoConfigSpace, id(0, 5, 0)));
    assert_eq!(topology.properties(&NoConfigSpace, id(0, 5, 0)), Properties::empty());
}

/// A device that several structures name has the properties of all of them.
#[test]
fn properties_of_several_structures_are_added() {
    let with = |flags: u8| {
        let mut scope = endpoint(2, 0);
        scope[2] = flags;
        [scope]
    };
    let all = [Properties::NO_PAGE_SNOOP, Properties::ATC_HARDENED, Properties::NO_NESTED];
    for first in 0..all.len() {
        let table = (0..all.len()).fold(dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]), |table, number| {
            table.sidp(0, 0, &with(all[(first + number) % all.len()].bits()))
        });
        let topology = topology(&table.table(), &NoConfigSpace);
        assert_eq!(topology.properties(&NoConfigSpace, id(0, 2, 0)), all[0] | all[1] | all[2]);
        assert!(topology.snoop_forbidden(&NoConfigSpace, id(0, 2, 0)));
    }
}

/// A scope of a bridge that finds no room leaves all that is behind the bridge uncertain, and nothing else.
#[test]
fn what_is_behind_a_bridge_without_room_is_uncertain() {
    let tree = Tree::default().bridge(id(0, 1, 0), ROOT_PORT, 1, 3);
    let on_bus = |bus| scope(1, 0, bus, &[(0, 0)]);
    let buses = [0, 1, 2, 3, 4];
    let table = dmar()
        .set(37, 0)
        .drhd(0, 0, 0xfed9_0000, &buses.map(on_bus))
        .rmrr(0, 0x7800_0000, 0x7800_0fff, &[bridge(1, 0)])
        .table();
    for (scopes, certain) in [(6, [true; 5]), (5, [false, false, false, false, true])] {
        let limits = Limits { scopes, ..Limits::DEFAULT };
        let topology = read_table_with(&limits, &table, &tree, |_| {}).unwrap();
        assert_eq!(buses.map(|bus| topology.is_certain(&tree, id(bus, 0, 0))), certain);
    }
}

/// A virtual function is as uncertain as its physical function, whose bus is another.
#[test]
fn a_virtual_function_is_as_certain_as_its_physical_one() {
    let tree = [1, 3]
        .into_iter()
        .fold(Tree::default(), |tree, bus| tree.device(id(bus, 0, 0)).virtual_functions(id(bus, 0, 0), 1, 0x100, 0));
    let on_bus = |bus| scope(1, 0, bus, &[(0, 0)]);
    let table = dmar()
        .set(37, 0)
        .drhd(0, 0, 0xfed9_0000, &[on_bus(1), on_bus(3)])
        .rmrr(0, 0x7800_0000, 0x7800_0fff, &[on_bus(1)])
        .table();
    for (scopes, certain) in [(3, [true; 4]), (2, [false, false, true, true])] {
        let limits = Limits { scopes, ..Limits::DEFAULT };
        let topology = read_table_with(&limits, &table, &tree, |_| {}).unwrap();
        for (bus, certain) in (1..).zip(certain) {
            assert_eq!(topology.unit_of(&tree, id(bus, 0, 0)), Some(UnitIndex::new(0)), "bus {bus}");
            assert_eq!(topology.is_certain(&tree, id(bus, 0, 0)), certain, "bus {bus}, {scopes} scopes");
        }
    }
}

#[test]
fn flags_of_the_platform_are_reported() {
    for flags in 0..8 {
        let table = dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2)]).set(37, flags).table();
        let topology = read(&table).0.unwrap();
        assert_eq!(topology.host_address_width(), 39);
        assert_eq!(topology.interrupt_remapping(), flags & 1 != 0);
        // Without INTR_REMAP the bit has no meaning.
        assert_eq!(topology.x2apic_opt_out(), flags & 3 == 3);
        assert_eq!(topology.dma_opt_in(), flags & 4 != 0);
    }
    let amd = read(&ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[&[1, 0, 0, 0]]).set(36, 3).table()).0.unwrap();
    assert_eq!((amd.host_address_width(), amd.interrupt_remapping(), amd.dma_opt_in()), (48, true, true));
}

#[test]
fn interrupt_sources_are_found_by_their_ids() {
    // Each timer of the HPET has a source-id; a PCI function with the IOAPIC's source-id is another matter.
    let table = dmar()
        .drhd(0, 0, 0xfed9_0000, &[endpoint(0x1f, 0)])
        .drhd(
            1,
            0,
            0xfed9_1000,
            &[scope(3, 2, 0, &[(0x1f, 0)]), scope(4, 0, 0, &[(0xf, 0)]), scope(4, 0, 0, &[(0xf, 1)])],
        )
        .table();
    let topology = topology(&table, &NoConfigSpace);
    assert_eq!(topology.ioapic(2), Some((UnitIndex::new(1), id(0, 0x1f, 0))));
    assert_eq!(topology.ioapic(3), None);
    assert_eq!(
        topology.hpet(0).collect::<Vec<_>>(),
        [(UnitIndex::new(1), id(0, 0xf, 0)), (UnitIndex::new(1), id(0, 0xf, 1))]
    );
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 0x1f, 0)), Some(UnitIndex::new(0)));
}

#[test]
fn acpi_devices_are_served_by_source_id() {
    let table = dmar()
        .drhd(0, 0, 0xfed9_0000, &[scope(5, 1, 0, &[(0x15, 0)])])
        .drhd(1, 0, 0xfed9_1000, &[ioapic(2)])
        .andd(1, b"\\_SB.I2C0\0")
        .table();
    let topology = topology(&table, &NoConfigSpace);
    assert_eq!(topology.unit_of(&NoConfigSpace, id(0, 0x15, 0)), Some(UnitIndex::new(0)));
}
