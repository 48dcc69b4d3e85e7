//! Devices that leave their cells: nothing of what they do late arrives, and nobody has them before they are at rest.

use cofferdam::CellId;
use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options};
use cofferdam_model::{BridgeKind, Late, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

use crate::audit::assert_nothing_differs;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
const OTHER: u64 = 0x7000_0000;
const MILLISECOND: u64 = 1_000_000;
/// Command, and Device Control and Status where the model has them.
const COMMAND: u16 = 0x04;
pub(crate) const DEVICE_STATUS: u16 = 0x68;
pub(crate) const PENDING: u32 = 1 << 21;

fn is_bus_master(machine: &Machine, device: SourceId) -> bool {
    machine.config_read(device, COMMAND) & 1 << 2 != 0
}

/// A machine with an endpoint, and a cell that has it and a page.
fn with_endpoint(machine: &Machine, device: SourceId) -> (Front<&Machine>, CellId) {
    machine.add_express(device);
    let iommu = enabled(machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
    assert!(is_bus_master(machine, device) && write(machine, device, INPUT, 1));
    (iommu, cell)
}

/// Has a device write late to the memory of its cell, of which not even the address is another's yet.
fn write_late(machine: &Machine, device: SourceId, late: Late) {
    machine.write_late(device, Iova::new(INPUT), &[0xee; 8], 3 * MILLISECOND, late);
}

/// How a device may leave its cell for another, which has its memory from then on.
type Way = fn(&Front<&Machine>, CellId, SourceId) -> CellId;

const WAYS: [Way; 3] = [
    |iommu, cell, device| {
        iommu.destroy_cell(cell).unwrap();
        cell_with(iommu, region(INPUT, MEMORY, PAGE, RW), device)
    },
    |iommu, cell, device| {
        iommu.release(device).unwrap();
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        cell_with(iommu, region(INPUT, MEMORY, PAGE, RW), device)
    },
    |iommu, cell, device| {
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let mut change = iommu.change();
        change.destroy(cell);
        change.map(other, region(INPUT, MEMORY, PAGE, RW));
        change.assign(device, other);
        change.commit().unwrap();
        other
    },
];

/// Delayed DMA: a device begins a late write, its cell is destroyed, and its memory is another's.
#[test]
fn what_a_device_writes_late_arrives_in_no_other_cell() {
    for (name, unit) in presets() {
        for late in [Late::Unsent, Late::UnderWay] {
            for (number, way) in WAYS.iter().enumerate() {
                let machine = machine([unit.clone()]);
                let device = function(0, 3);
                let (iommu, cell) = with_endpoint(&machine, device);
                write_late(&machine, device, late);
                way(&iommu, cell, device);
                poke(&machine, MEMORY, 0xa);
                assert!(!is_bus_master(&machine, device), "{name}, {late:?}, way {number}");
                machine.pass(10 * MILLISECOND);
                assert_eq!(peek(&machine, MEMORY), 0xa, "{name}, {late:?}, way {number}");
                assert!(write(&machine, device, INPUT, 0xb) && peek(&machine, MEMORY) == 0xb, "it is the new cell's");
            }
        }
    }
}

#[test]
fn what_a_device_writes_late_arrives_while_it_stays() {
    for late in [Late::Unsent, Late::UnderWay] {
        let machine = machine([UnitConfig::server()]);
        let device = function(0, 3);
        let (iommu, cell) = with_endpoint(&machine, device);
        write_late(&machine, device, late);
        iommu.map(cell, region(INPUT + PAGE, OTHER, PAGE, RW)).unwrap();
        iommu.unmap(cell, range(INPUT + PAGE, PAGE)).unwrap();
        assert!(is_bus_master(&machine, device), "it does not leave");
        machine.pass(10 * MILLISECOND);
        assert_eq!(peek(&machine, MEMORY), 0xeeee_eeee_eeee_eeee, "{late:?}");
    }
}

#[test]
fn a_device_that_does_not_come_to_rest_is_named_and_blocked() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let device = function(0, 3);
        let (iommu, cell) = with_endpoint(&machine, device);
        let good = function(0, 4);
        machine.add_express(good);
        iommu.assign(good, cell).unwrap();
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        machine.set_config(device, DEVICE_STATUS, PENDING);
        let frames = machine.frames_in_use();
        for attempt in 0..3 {
            let start = machine.now_ns();
            let error = match attempt {
                0 => iommu.release(device).unwrap_err(),
                1 => iommu.destroy_cell(cell).unwrap_err(),
                _ => {
                    let mut change = iommu.change();
                    change.release(device).assign(device, other);
                    change.map(other, region(INPUT, OTHER, PAGE, RW));
                    change.commit().unwrap_err()
                }
            };
            let waited = machine.now_ns() - start;
            let (register, bit) = ("Device Status", "Transactions Pending");
            match error {
                Error::NotIdle { device: named, register: r, bit: b, waited_ns } => {
                    assert_eq!((named, r, b), (device, register, bit), "{name}");
                    assert!(waited_ns > Options::DEFAULT.timeout_ns && waited < 2 * waited_ns, "{name}: {waited_ns}");
                }
                error => panic!("{name}: {error}"),
            }
            machine.check();
            assert!(machine.frames_in_use() <= frames, "{name}: frames are lost");
            assert!(!is_bus_master(&machine, device), "{name}");
            assert_eq!(read(&machine, device, INPUT), None, "{name}: it is blocked");
            assert_eq!(read(&machine, good, INPUT).is_some(), attempt == 0, "{name}: the others do what they should");
            assert_eq!(iommu.assign(device, other).map(drop), Err(Error::Busy { device, cell }), "{name}");
            let mut differences = 0;
            iommu.audit(|_| differences += 1).unwrap();
            assert_eq!(differences, 0, "{name}");
        }
        assert_eq!(iommu.release(good).map(drop), Err(Error::NotAssigned(good)), "{name}: it was at rest");
        machine.set_config(device, DEVICE_STATUS, 0);
        iommu.destroy_cell(cell).unwrap();
        iommu.map(other, region(INPUT, OTHER, PAGE, RW)).unwrap();
        iommu.assign(device, other).unwrap();
        assert!(write(&machine, device, INPUT, 7) && peek(&machine, OTHER) == 7, "{name}");
    }
}

/// Two devices of one cell do not come to rest: the first is named, both stay blocked and in their cell.
#[test]
fn each_device_that_does_not_come_to_rest_stays_in_its_cell() {
    let machine = machine([UnitConfig::server()]);
    let busy = [function(0, 3), function(0, 4)];
    let (iommu, cell) = with_endpoint(&machine, busy[0]);
    machine.add_express(busy[1]);
    iommu.assign(busy[1], cell).unwrap();
    busy.iter().for_each(|device| machine.set_config(*device, DEVICE_STATUS, PENDING));
    let error = iommu.destroy_cell(cell).unwrap_err();
    assert!(matches!(error, Error::NotIdle { device, .. } if device == busy[0]), "{error}");
    let mut quarantined = Vec::new();
    iommu.assigned(|it| quarantined.push((it.device, it.cell, it.quarantined))).unwrap();
    assert_eq!(quarantined, busy.map(|device| (device, cell, true)));
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    for device in busy {
        assert_eq!(iommu.assign(device, other).map(drop), Err(Error::Busy { device, cell }));
        machine.set_config(device, DEVICE_STATUS, 0);
    }
    iommu.destroy_cell(cell).unwrap();
    for device in busy {
        iommu.assign(device, other).unwrap();
    }
}

/// All devices of a change have one time to come to rest, and not one each: who calls has to know how long it may take.
#[test]
fn all_devices_have_one_time_to_come_to_rest() {
    let machine = machine([UnitConfig::server()]);
    let busy = [3, 4, 5].map(|device| function(0, device));
    let (iommu, cell) = with_endpoint(&machine, busy[0]);
    for device in &busy[1..] {
        machine.add_express(*device);
        iommu.assign(*device, cell).unwrap();
    }
    busy.iter().for_each(|device| machine.set_config(*device, DEVICE_STATUS, PENDING));
    let start = machine.now_ns();
    let error = iommu.destroy_cell(cell).unwrap_err();
    let waited = machine.now_ns() - start;
    assert!(matches!(error, Error::NotIdle { .. }), "{error}");
    let timeout = Options::DEFAULT.timeout_ns;
    assert!((timeout..timeout + timeout / 2).contains(&waited), "{waited} ns");
}

/// While one cell waits for a device, another cell changes.
#[test]
fn a_release_that_waits_for_its_device_holds_up_no_other_cell() {
    let machine = machine([UnitConfig::server()]);
    let (stop, device) = (Stop::new(), function(1, 0));
    let before = |call, _: &Machine| {
        let is_waited_for = || machine.config_read(device, COMMAND) & 1 << 2 == 0;
        if call == Call::Pause && is_waited_for() && stop.look(call) {
            machine.set_config(device, DEVICE_STATUS, 0);
        }
    };
    let hal = Watched::shared(&machine, before);
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
    machine.add_express(device);
    let [one, two] = [device, function(0, 0)].map(|device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY + u64::from(device.bus()) * PAGE, PAGE, RW)).unwrap();
        iommu.assign(device, cell).unwrap();
        cell
    });
    machine.set_config(device, DEVICE_STATUS, PENDING);
    let released = stop.meanwhile(
        || iommu.release(device),
        || {
            iommu.unmap(two, range(INPUT, PAGE)).unwrap();
            iommu.release(function(0, 0)).unwrap();
            assert_eq!(
                iommu.assign(device, two).map(drop),
                Err(Error::Busy { device, cell: one }),
                "nobody has it yet"
            );
        },
    );
    released.unwrap();
    iommu.assign(device, two).unwrap();
}

#[test]
fn a_bridge_keeps_its_bus_mastering() {
    let machine = machine([UnitConfig::server()]);
    let bridge = function(0, 0x1e);
    machine.add_bridge(bridge, BridgeKind::ExpressToPci, 3..=4);
    machine.set_config(bridge, COMMAND, 0x0010_0006);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), bridge);
    iommu.release(bridge).unwrap();
    assert!(is_bus_master(&machine, bridge));
    iommu.destroy_cell(cell).unwrap();
}

#[test]
fn a_device_that_is_gone_is_not_waited_for() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    let (iommu, _) = with_endpoint(&machine, device);
    [0, COMMAND, 0x0c, 0x34, 0x60, DEVICE_STATUS].iter().for_each(|&at| machine.set_config(device, at, u32::MAX));
    let start = machine.now_ns();
    iommu.release(device).unwrap();
    assert!(machine.now_ns() - start < MILLISECOND);
}

/// U13: edits of one change are as if one came after the other, also where a device is given to the root cell first.
#[test]
fn a_device_passes_through_the_root_cell_in_one_change() {
    for changes in [1, 2] {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled(&machine);
        let (card, root) = (function(0, 2), iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap());
        let [first, last] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
        iommu.map(last, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        iommu.assign(card, first).unwrap();
        let edits = [
            Edit::Release(card),
            Edit::Assign(card, root, DeviceConfig::default()),
            Edit::Assign(card, last, DeviceConfig::default()),
        ];
        let (before, after) = edits.split_at(2 * (changes - 1));
        for part in [before, after] {
            iommu.commit(part).unwrap();
        }
        assert_eq!(iommu.device_info(card).unwrap().cell, Some(last), "in {changes}");
        assert!(write(&machine, card, INPUT, 1));
        assert_nothing_differs(&iommu, "after the changes");
    }
}

/// T4: what a cell loses by a change in which its only device does not come to rest, nobody reaches whom the cell has
/// later: the table of that device, which was to be left by it, is the cell's.
#[test]
fn a_table_that_was_to_be_left_grants_nothing_that_its_cell_lost() {
    type Lose =
        for<'c, 'i, 's, 'm> fn(&'c mut Change<'i, 's, &'m Machine>, CellId) -> &'c mut Change<'i, 's, &'m Machine>;
    let ways: [(&str, Lose, bool); 4] = [
        ("unmap", |change, cell| change.unmap(cell, range(INPUT, PAGE)), false),
        ("protect", |change, cell| change.protect(cell, range(INPUT, PAGE), Rights::READ), true),
        ("protect half", |change, cell| change.protect(cell, range(INPUT, LARGE / 2), Rights::READ), true),
        (
            "other memory",
            |change, cell| change.unmap(cell, range(INPUT, PAGE)).map(cell, region(INPUT, OTHER, PAGE, RW)),
            false,
        ),
    ];
    for (name, unit) in presets() {
        for (way, lose, reads) in ways {
            let machine = machine([unit.clone()]);
            let [busy, next] = [3, 4].map(|device| function(0, device));
            machine.add_express(busy);
            let iommu = enabled(&machine);
            let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), busy);
            assert!(write(&machine, busy, INPUT, 1));
            machine.set_config(busy, DEVICE_STATUS, PENDING);
            let mut change = iommu.change();
            let result = lose(change.release(busy), cell).commit();
            assert!(matches!(result, Err(Error::NotIdle { .. })), "{name}, {way}");
            iommu.assign(next, cell).unwrap();
            assert!(!write(&machine, next, INPUT, 2), "{name}, {way}");
            assert_eq!(read(&machine, next, INPUT).is_some(), reads, "{name}, {way}");
            assert!(write(&machine, next, INPUT + LARGE - PAGE, 3), "{name}, {way}: the rest");
            assert_nothing_differs(&iommu, format_args!("{name}, {way}"));
            machine.check();
        }
    }
}
