//! How often configuration space is read for an assignment, while its lock keeps other changes out.

use std::cell::Cell;

use cofferdam::addr::SourceId;
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{dmar, ioapic, scope};
use cofferdam_support::watched::{Call, Watched};

use crate::groups::{CELL, of};

/// 16 units, all but the last with so many scopes of a kind: endpoints (1) or bridges (2).
fn table(machine: &Machine, kind: u8, scopes: u8) -> Vec<u8> {
    let windows = machine.windows();
    let last = windows.len() - 1;
    let units = windows.iter().enumerate().fold(dmar(), |table, (number, window)| {
        let listed: Vec<_> = (0..scopes).map(|it| scope(kind, 0, number as u8 + 1, &[(it, 0)])).collect();
        let size = (window.bytes / 4096).ilog2() as u8;
        let (flags, listed) = if number == last { (1, vec![ioapic(2)]) } else { (0, listed) };
        table.sized_drhd(flags, size, 0, window.base.as_u64(), &listed)
    });
    units.table()
}

/// How often it is read to assign these devices, one by one.
fn reads(kind: u8, scopes: u8, set_up: impl Fn(&Machine), devices: &[SourceId]) -> Vec<u64> {
    let units = (0..16).map(|number| match number {
        15 => UnitConfig::server(),
        number => UnitConfig::server().serving(&[number + 1]),
    });
    let machine = machine(units);
    set_up(&machine);
    let count = Cell::new(0);
    let before = |call: Call, _: &Machine| count.set(count.get() + u64::from(call == Call::ConfigRead));
    let table = table(&machine, kind, scopes);
    let iommu = enabled_front(Watched::new(&machine, before), &table, Default::default());
    let cell = iommu.create_cell(CELL).unwrap();
    let cost = |device: &SourceId| {
        let before = count.get();
        iommu.assign(*device, cell).unwrap();
        count.get() - before
    };
    devices.iter().map(cost).collect()
}

/// L6: a device that configuration space shows costs the same, however many functions the table names.
#[test]
fn reads_do_not_grow_with_the_scopes_of_a_table() {
    let devices: Vec<_> = (3..6).map(|device| of(0, device, 0)).collect();
    let set_up = |machine: &Machine| devices.iter().for_each(|device| machine.add_express(*device));
    let few = reads(1, 1, set_up, &devices);
    let many = reads(1, 32, set_up, &devices);
    assert_eq!(few, many);
    assert!(many.iter().all(|count| *count <= BOUND), "{many:?}");
    assert_eq!(reads(2, 32, set_up, &devices), many, "bridges that cannot be above it");
    // Deep down each bus above is looked through, for source-ids, group, windows and CXL; all functions of bus 0, and one of each
    // device of others.
    let deep = |machine: &Machine| {
        machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 0x80..=0x80);
        machine.add_acs(of(0, 1, 0), 0x1d);
        machine.add_express(of(0x80, 0, 0));
    };
    let below = reads(1, 1, deep, &[of(0x80, 0, 0)]);
    assert!(below[0] <= BOUND + 4 * (0x80 * 32 + 0x140), "{below:?}");
}

/// Eight functions pose as bridges, with lists of capabilities that lead in circles: each costs so much and no more.
#[test]
fn reads_are_bounded_whatever_devices_say() {
    let device = of(0x80, 0, 0);
    let set_up = |liars: u8| {
        move |machine: &Machine| {
            machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 0x80..=0x80);
            machine.add_acs(of(0, 1, 0), 0x1d);
            machine.add_express(device);
            for liar in (0..liars).map(|function| of(0, 2, function)) {
                let buses = u32::from(liar.function() + 1) << 8 | 0xff << 16;
                let circles = [(0x34, 0x40), (0x40, 0x4001), (0x100, 0x1000_0001)];
                let bridge = [(0, 0x1234_8086), (4, 1 << 20), (0x0c, 1 << 16), (0x18, buses)];
                bridge.into_iter().chain(circles).for_each(|(at, value)| machine.set_config(liar, at, value));
            }
        }
    };
    let honest = reads(1, 1, set_up(0), &[device])[0];
    let lied = reads(1, 1, set_up(8), &[device])[0];
    assert!(lied > honest && lied < honest + 8 * 4096, "{honest}, {lied}");
}

/// What a device on bus 0 may cost.
const BOUND: u64 = 50;
