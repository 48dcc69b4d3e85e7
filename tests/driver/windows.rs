//! Memory where requests of a device never reach a unit: bridges on the way pass them on to what is behind them.

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::Hal as _;
use cofferdam::iommu::{Difference, Error, Options, Refusal};
use cofferdam::limits::{Full, Limits};
use cofferdam::topology::{BridgeWindow, WindowKind};
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::tables::{bridge, of_machine};

use crate::groups::{of, switch};

const RW: Rights = Rights::all();
const MEMORY: u64 = 0x6000_0000;
const MIB: u64 = 1 << 20;
const ACS: u16 = 0x1d;
const CLOSED: (u64, u64) = (MIB, 0);
/// What is open of the switch: memory behind its upstream port, of which one downstream port has part, and prefetchable
/// memory behind the other.
const UPSTREAM: (u64, u64) = (0x8000_0000, 0x8fff_ffff);
const INNER: (u64, u64) = (0x8800_0000, 0x880f_ffff);
const PREFETCHABLE: (u64, u64) = (0x30_0000_0000, 0x31_ffff_ffff);

fn with_switch(machine: &Machine, downstream: [Option<u16>; 2]) -> [SourceId; 2] {
    let devices = switch(machine, Some(ACS), downstream);
    machine.set_windows(of(0, 1, 0), (0x7000_0000, 0xafff_ffff), (0x20_0000_0000, 0x3f_ffff_ffff));
    machine.set_windows(of(1, 0, 0), UPSTREAM, PREFETCHABLE);
    machine.set_windows(of(2, 0, 0), CLOSED, PREFETCHABLE);
    machine.set_windows(of(2, 1, 0), INNER, CLOSED);
    devices
}

fn cell(iommu: &Front<&Machine>) -> CellId {
    iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()
}

fn page(at: u64) -> cofferdam::addr::Region {
    region(at, MEMORY, PAGE, RW)
}

/// The window of a refusal: of a device that arrives, or of one that the cell has.
fn refused(error: Error) -> (Option<SourceId>, BridgeWindow) {
    match error {
        Error::Refused { device, reason: Refusal::Window(window) } => (Some(device), window),
        Error::Window(window) => (None, window),
        error => panic!("{error}"),
    }
}

fn reported(window: BridgeWindow) -> (SourceId, bool, (u64, u64)) {
    (
        window.bridge,
        window.kind == WindowKind::Prefetchable,
        (window.range.start().as_u64(), window.range.last().as_u64()),
    )
}

#[test]
fn no_cell_has_memory_where_a_switch_passes_requests_on() {
    let machine = machine([UnitConfig::server()]);
    let devices = with_switch(&machine, [None, None]);
    let iommu = enabled(&machine);
    let upstream = of(1, 0, 0);
    let both = [(upstream, false, UPSTREAM), (upstream, true, PREFETCHABLE)];
    for device in devices {
        if device == devices[1] {
            iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        }
        assert_eq!(
            windows(&iommu, device).into_iter().map(reported).collect::<Vec<_>>(),
            both,
            "the others lie within"
        );
        for (at, window) in [
            (UPSTREAM.0, both[0]),
            (UPSTREAM.1 - 0xfff, both[0]),
            (INNER.0, both[0]),
            (PREFETCHABLE.0, both[1]),
            (PREFETCHABLE.1 - 0xfff, both[1]),
        ] {
            assert!(machine.taken_by(device, at).is_some());
            // Memory first, or the device.
            let cell = cell(&iommu);
            iommu.map(cell, page(at)).unwrap();
            let (named, found) = refused(iommu.assign(device, cell).unwrap_err());
            assert_eq!((named, reported(found)), (Some(device), window));
            iommu.unmap(cell, range(at, PAGE)).unwrap();
            iommu.assign(device, cell).unwrap();
            let with_device = machine.snapshot();
            let error = iommu.map(cell, page(at)).unwrap_err();
            assert_eq!(refused(error), (None, found));
            assert_eq!(machine.snapshot(), with_device, "nothing changed");
            iommu.destroy_cell(cell).unwrap();
            // In one change, in either order.
            let cell = self::cell(&iommu);
            for mapped_first in [true, false] {
                let mut change = iommu.change();
                if mapped_first {
                    change.map(cell, page(at)).assign(device, cell);
                } else {
                    change.assign(device, cell).map(cell, page(at));
                }
                assert_eq!(refused(change.commit().unwrap_err()), (Some(device), found));
            }
            iommu.destroy_cell(cell).unwrap();
        }
        let cell = cell(&iommu);
        iommu.assign(device, cell).unwrap();
        let outside = [UPSTREAM.0 - PAGE, UPSTREAM.1 + 1, PREFETCHABLE.0 - PAGE, PREFETCHABLE.1 + 1];
        for at in outside {
            iommu.map(cell, page(at)).unwrap();
            assert!(write(&machine, device, at, at) && peek(&machine, MEMORY) == at, "within the root port's alone");
        }
        let holes: Vec<(u64, u64)> =
            vec![(0, UPSTREAM.0), (UPSTREAM.1 + 1, 0xfee0_0000), (0xfef0_0000, PREFETCHABLE.0)];
        let ranges = input_ranges(&iommu, cell).unwrap();
        let ranges: Vec<_> = ranges.iter().map(|it| (it.start().as_u64(), it.last().as_u64() + 1)).collect();
        assert_eq!(ranges, [holes, vec![(PREFETCHABLE.1 + 1, 1 << 57)]].concat());
        iommu.release(device).unwrap();
        assert_eq!(input_ranges(&iommu, cell).unwrap().len(), 2, "it is gone");
        iommu.map(cell, page(INNER.0)).unwrap();
        iommu.destroy_cell(cell).unwrap();
    }
    let window =
        BridgeWindow { bridge: upstream, kind: WindowKind::Prefetchable, range: range(PREFETCHABLE.0, 2 << 32) };
    assert_eq!(
        Error::Window(window).to_string(),
        format!(
            "a device of the cell cannot reach memory in the prefetchable memory window {} of {upstream}",
            window.range
        )
    );
}

#[test]
fn a_port_that_redirects_lets_its_devices_have_any_memory() {
    let machine = machine([UnitConfig::server()]);
    let devices = with_switch(&machine, [Some(ACS), None]);
    let iommu = enabled(&machine);
    assert!(windows(&iommu, devices[0]).is_empty());
    assert_eq!(windows(&iommu, devices[1]).len(), 2, "the other port does not");
    let cell = cell(&iommu);
    iommu.assign(devices[0], cell).unwrap();
    for at in [UPSTREAM.0, INNER.0, PREFETCHABLE.1 - 0xfff] {
        iommu.map(cell, page(at)).unwrap();
        assert!(write(&machine, devices[0], at, at) && peek(&machine, MEMORY) == at);
    }
    let window = refused(iommu.assign(devices[1], cell).unwrap_err());
    assert_eq!(window.0, Some(devices[1]));
}

/// A switch that loses its isolation passes on requests to memory that a cell has, or gets: the audit says so. Once isolation is
/// looked at again, no more is granted there, and what is there can be taken away.
#[test]
fn memory_where_a_switch_passes_requests_on_by_now_is_told() {
    let machine = machine([UnitConfig::server()]);
    let [device, _] = with_switch(&machine, [Some(ACS), Some(ACS)]);
    let iommu = enabled(&machine);
    let cell = cell(&iommu);
    iommu.assign(device, cell).unwrap();
    let reported = || {
        let mut all = vec![];
        iommu.audit(|difference| all.push(difference)).unwrap();
        all
    };
    iommu.map(cell, page(UPSTREAM.0)).unwrap();
    assert_eq!((windows(&iommu, device), reported()), (vec![], vec![]));
    // A port has none any more.
    machine.set_config(of(2, 0, 0), 0x184, ACS.into());
    machine.set_config(of(2, 0, 0), 0x180, 0);
    let upstream =
        BridgeWindow { bridge: of(1, 0, 0), kind: WindowKind::Memory, range: range(UPSTREAM.0, 0x1000_0000) };
    let lost = Difference::LostIsolation { source: device, cell };
    let within = |at| Difference::InWindow { source: device, bridge: of(1, 0, 0), input: range(at, PAGE) };
    assert_eq!(reported(), [lost, within(UPSTREAM.0)]);
    let text = format!("{device} has memory at {}, where its requests pass no unit", range(UPSTREAM.0, PAGE));
    assert!(within(UPSTREAM.0).to_string().starts_with(&text));
    // Nobody has noted it yet.
    iommu.map(cell, page(INNER.0)).unwrap();
    assert_eq!(machine.taken_by(device, INNER.0), Some(of(2, 1, 0)));
    assert_eq!(reported(), [lost, within(UPSTREAM.0)]);
    iommu.isolate().unwrap();
    assert_eq!(reported(), [within(UPSTREAM.0)]);
    let error = iommu.map(cell, page(INNER.0 + PAGE)).unwrap_err();
    assert_eq!(error, Error::Window(upstream));
    iommu.protect(cell, range(INNER.0, PAGE), Rights::READ).unwrap();
    assert_eq!(iommu.protect(cell, range(INNER.0, PAGE), RW).map(drop), Err(Error::Window(upstream)));
    let mut moved = iommu.change();
    moved.unmap(cell, range(UPSTREAM.0, PAGE)).map(cell, region(UPSTREAM.0, MEMORY + PAGE, PAGE, RW));
    assert_eq!(moved.commit().map(drop), Err(Error::Window(upstream)));
    iommu.map(cell, page(UPSTREAM.1 + 1)).unwrap();
    iommu.unmap(cell, range(UPSTREAM.0, PAGE)).unwrap();
    assert_eq!(reported(), [within(INNER.0)]);
    iommu.unmap(cell, range(INNER.0, PAGE)).unwrap();
    assert_eq!(reported(), []);
}

/// While configuration space does not show a device, its windows stay noted, though isolation is looked at again.
#[test]
fn windows_of_a_device_whose_link_is_down_stay_noted() {
    // The device alone, and with all that is above it.
    let path = [of(3, 0, 0), of(2, 0, 0), of(2, 1, 0), of(1, 0, 0)];
    for hidden in [&path[..1], &path] {
        let machine = machine([UnitConfig::server()]);
        let [device, _] = with_switch(&machine, [None, None]);
        let iommu = enabled(&machine);
        let cell = cell(&iommu);
        iommu.assign(device, cell).unwrap();
        let noted = windows(&iommu, device);
        let ids: Vec<_> = hidden.iter().map(|function| machine.config_read(*function, 0)).collect();
        hidden.iter().for_each(|function| machine.set_config(*function, 0, u32::MAX));
        iommu.isolate().unwrap();
        let window = refused(iommu.map(cell, page(UPSTREAM.0)).unwrap_err());
        assert!(window.0.is_none() && noted.contains(&window.1), "{window:?}, {hidden:?}");
        hidden.iter().zip(ids).for_each(|(function, id)| machine.set_config(*function, 0, id));
        assert_eq!(machine.taken_by(device, UPSTREAM.0), Some(of(1, 0, 0)));
    }
}

/// Windows for which there is no room are reported by the call, and those that were noted stay so.
#[test]
fn windows_without_room_leave_those_that_were_noted() {
    let machine = machine([UnitConfig::server()]);
    add_windows(&machine);
    machine.add_bridge(of(0, 3, 0), BridgeKind::Conventional, 201..=201);
    let iommu = enabled(&machine);
    let cell = cell(&iommu);
    [of(5, 31, 0), of(201, 0, 0)].iter().for_each(|device| iommu.assign(*device, cell).map(drop).unwrap());
    machine.set_windows(of(0, 3, 0), UPSTREAM, CLOSED);
    let full = Error::Full(Full { what: "windows of bridges", capacity: Limits::DEFAULT.windows });
    assert_eq!(iommu.isolate(), Err(full));
    assert_eq!(refused(iommu.map(cell, page(0)).unwrap_err()).1.bridge, of(5, 0, 0));
    iommu.map(cell, page(UPSTREAM.0)).unwrap();
    let mut reported = vec![];
    iommu.audit(|difference| reported.push(difference)).unwrap();
    assert!(matches!(reported[..], [Difference::InWindow { .. }]), "{reported:?}");
}

/// A device for whose windows there is no room keeps none from being looked at that comes after it.
#[test]
fn windows_without_room_keep_no_later_device_from_a_look() {
    let full = Error::Full(Full { what: "windows of bridges", capacity: Limits::DEFAULT.windows });
    // One gets windows, and the other has fewer: in one order there is room for them.
    let results = [[of(201, 0, 0), of(5, 31, 0)], [of(5, 31, 0), of(201, 0, 0)]].map(|devices| {
        let machine = machine([UnitConfig::server()]);
        add_windows(&machine);
        machine.add_bridge(of(0, 3, 0), BridgeKind::Conventional, 201..=201);
        devices.iter().for_each(|device| machine.add_express(*device));
        let iommu = enabled(&machine);
        let cell = cell(&iommu);
        devices.iter().for_each(|device| iommu.assign(*device, cell).map(drop).unwrap());
        let closed = 6 * MIB;
        assert!(iommu.map(cell, page(closed)).is_err());
        machine.set_windows(of(0, 3, 0), UPSTREAM, CLOSED);
        machine.set_windows(of(5, 0, 3), CLOSED, CLOSED);
        let result = iommu.isolate();
        iommu.map(cell, page(closed)).unwrap();
        assert_eq!(iommu.isolate(), Ok(()), "there is room now");
        assert_eq!(refused(iommu.map(cell, page(UPSTREAM.0)).unwrap_err()).1.bridge, of(0, 3, 0));
        result
    });
    assert!(results.contains(&Ok(())) && results.contains(&Err(full)), "{results:?}");
}

#[test]
fn on_conventional_pci_the_owner_of_an_address_takes_requests() {
    for kind in [BridgeKind::ExpressToPci, BridgeKind::Conventional] {
        let machine = machine([UnitConfig::server()]);
        machine.add_bridge(of(0, 2, 0), kind, 5..=6);
        machine.add_bridge(of(5, 1, 0), BridgeKind::Conventional, 6..=6);
        machine.set_windows(of(0, 2, 0), UPSTREAM, CLOSED);
        // Firmware's mistake: no part of what is above.
        machine.set_windows(of(5, 1, 0), (0x9000_0000, 0x900f_ffff), CLOSED);
        let iommu = enabled(&machine);
        let cell = cell(&iommu);
        iommu.assign(of(5, 3, 0), cell).unwrap();
        for (at, bridge) in [(UPSTREAM.0, of(0, 2, 0)), (0x9000_0000, of(5, 1, 0))] {
            assert_eq!(machine.taken_by(of(5, 3, 0), at), Some(bridge));
            assert_eq!(refused(iommu.map(cell, page(at)).unwrap_err()).1.bridge, bridge, "{kind:?}");
        }
        iommu.map_shared(cell, page(0x9010_0000)).unwrap();
        assert!(write(&machine, of(5, 3, 0), 0x9010_0000, 1));
        let beside = self::cell(&iommu);
        iommu.map_shared(beside, page(UPSTREAM.0)).unwrap();
        iommu.assign(function(0, 3), beside).unwrap();
        assert!(write(&machine, function(0, 3), UPSTREAM.0, 1), "the root complex translates first");
    }
}

/// Two windows that overlap are two: each part of both is refused.
#[test]
fn windows_that_overlap_are_kept_free_each_whole() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 2, 0), BridgeKind::Conventional, 5..=6);
    machine.add_bridge(of(5, 1, 0), BridgeKind::Conventional, 6..=6);
    let outer = (UPSTREAM.1 - MIB + 1, UPSTREAM.1 + MIB);
    machine.set_windows(of(0, 2, 0), UPSTREAM, CLOSED);
    machine.set_windows(of(5, 1, 0), outer, CLOSED);
    let iommu = enabled(&machine);
    let (cell, device) = (cell(&iommu), of(5, 3, 0));
    iommu.assign(device, cell).unwrap();
    for at in [UPSTREAM.0, UPSTREAM.1 - 0xfff, outer.1 - 0xfff] {
        assert!(machine.taken_by(device, at).is_some());
        assert_eq!(refused(iommu.map(cell, page(at)).unwrap_err()).0, None);
    }
    iommu.map(cell, page(outer.1 + 1)).unwrap();
    let ranges = input_ranges(&iommu, cell).unwrap();
    assert!(!ranges.iter().any(|it| it.overlaps(range(UPSTREAM.0, outer.1 + 1 - UPSTREAM.0))));
}

#[test]
fn a_root_cells_device_has_to_suit_what_another_gives_back() {
    let machine = machine([UnitConfig::server()]);
    let devices = with_switch(&machine, [None, None]);
    let iommu = enabled(&machine);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let memory = region(UPSTREAM.0, UPSTREAM.0, PAGE, RW);
    iommu.map(root, memory).unwrap();
    let cell = cell(&iommu);
    iommu.map(cell, region(0, UPSTREAM.0, PAGE, RW)).unwrap();
    assert_eq!(refused(iommu.assign(devices[0], root).unwrap_err()).0, Some(devices[0]));
    iommu.unmap(root, memory.input).unwrap();
    iommu.assign(devices[0], root).unwrap();
    assert_eq!(refused(iommu.map(root, memory).unwrap_err()).0, None);
    iommu.destroy_cell(cell).unwrap();
}

#[test]
fn a_device_whose_reserved_memory_it_cannot_reach_is_refused() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 2, 0), BridgeKind::Conventional, 5..=5);
    machine.set_windows(of(0, 2, 0), UPSTREAM, CLOSED);
    // Memory of the bridge is memory of all that is behind it.
    let table = of_machine(&machine, &[]).rmrr(0, INNER.0, INNER.0 + 0xfff, &[bridge(2, 0)]).table();
    let iommu = enabled_front(&machine, &table, Options::default());
    let cell = cell(&iommu);
    assert_eq!(reserved(&iommu, of(5, 0, 0)).len(), 1);
    assert_eq!(refused(iommu.assign(of(5, 0, 0), cell).unwrap_err()).1.bridge, of(0, 2, 0), "R66");
}

/// Bridges whose windows the devices of bus 5 do not pass, as many as there is room for; one window begins at 0.
fn add_windows(machine: &Machine) {
    machine.add_bridge(of(0, 2, 0), BridgeKind::Conventional, 5..=200);
    for number in 0..Limits::DEFAULT.windows as u8 {
        let bridge = of(5, number / 8, number % 8);
        machine.add_bridge(bridge, BridgeKind::Conventional, 10 + number..=10 + number);
        let at = u64::from(number) * 2 * MIB;
        machine.set_windows(bridge, (at, at), CLOSED);
        machine.set_config(bridge, 0x0c, 1 << 23 | 1 << 16);
    }
}

#[test]
fn a_cell_learns_all_that_its_devices_do_not_reach() {
    let machine = machine([UnitConfig::server()]);
    add_windows(&machine);
    let reserved = |number: u64| 0x7000_0000 + 2 * number * PAGE;
    let reserved: Vec<_> =
        (0..Limits::DEFAULT.reserved as u64).map(|it| (reserved(it), reserved(it) + PAGE - 1, 4)).collect();
    let iommu = enabled_with_reserved(&machine, &reserved);
    let cell = cell(&iommu);
    iommu.assign(of(5, 31, 0), cell).unwrap();
    iommu.assign(of(0, 4, 0), cell).unwrap();
    // And interrupts.
    assert_eq!(input_ranges(&iommu, cell).unwrap().len(), Limits::DEFAULT.windows + Limits::DEFAULT.reserved + 1);
}

#[test]
fn a_window_of_two_devices_gives_its_place_to_no_new_one() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 2, 0), BridgeKind::Conventional, 5..=5);
    machine.set_windows(of(0, 2, 0), UPSTREAM, CLOSED);
    let iommu = enabled(&machine);
    let cell = cell(&iommu);
    iommu.assign(of(5, 0, 0), cell).unwrap();
    machine.set_windows(of(0, 2, 0), UPSTREAM, PREFETCHABLE);
    iommu.assign(of(5, 1, 0), cell).unwrap();
    for (at, prefetchable, window) in [(UPSTREAM.0, false, UPSTREAM), (PREFETCHABLE.0, true, PREFETCHABLE)] {
        let (_, found) = refused(iommu.map(cell, page(at)).unwrap_err());
        assert_eq!(reported(found), (of(0, 2, 0), prefetchable, window));
    }
}

#[test]
fn there_is_room_for_so_many_windows_and_no_more() {
    let machine = machine([UnitConfig::server()]);
    add_windows(&machine);
    let iommu = enabled(&machine);
    let (device, cell) = (of(5, 31, 0), cell(&iommu));
    iommu.assign(device, cell).unwrap();
    assert_eq!(input_ranges(&iommu, cell).unwrap().len(), Limits::DEFAULT.windows + 1);
    // The same again are no more, but others are.
    iommu.assign(of(5, 30, 0), cell).unwrap();
    machine.add_bridge(of(0, 3, 0), BridgeKind::Conventional, 201..=201);
    machine.set_windows(of(0, 3, 0), UPSTREAM, CLOSED);
    let full = Error::Full(Full { what: "windows of bridges", capacity: Limits::DEFAULT.windows });
    let before = machine.snapshot();
    assert_eq!(iommu.assign(of(201, 0, 0), cell).map(drop), Err(full));
    assert_eq!(machine.snapshot(), before, "nothing changed");
    iommu.destroy_cell(cell).unwrap();
    let cell = self::cell(&iommu);
    iommu.assign(of(201, 0, 0), cell).unwrap();
}

/// F19: and addresses of VGA are among it.
#[test]
fn what_the_driver_reports_is_what_bridges_do() {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for round in 0..300 {
        let machine = machine([UnitConfig::server()]);
        // A path of four bridges, with another beside each of the lower three.
        let mut kinds = vec![BridgeKind::RootPort];
        for _ in 0..3 {
            kinds.push(match (random.below(5), kinds.last()) {
                (_, Some(BridgeKind::UpstreamPort)) => BridgeKind::DownstreamPort,
                (0, _) | (_, Some(BridgeKind::Conventional | BridgeKind::ExpressToPci)) => BridgeKind::Conventional,
                (1, _) => BridgeKind::ExpressToPci,
                // Which no machine has; or a switch of which configuration space does not show all.
                (2, _) => BridgeKind::DownstreamPort,
                _ => BridgeKind::UpstreamPort,
            });
        }
        let window = |random: &mut Random| {
            let first = random.below(16) * MIB;
            let bytes = random.below(5) * MIB;
            if bytes == 0 { CLOSED } else { (first, first + bytes - 1) }
        };
        for (level, kind) in (0..).zip(&kinds) {
            for beside in 0..=u8::from(level > 0) {
                let bridge = of(level, beside + 1, 0);
                let (first, last) = if beside == 0 { (level + 1, 9) } else { (20 + level, 20 + level) };
                machine.add_bridge(bridge, *kind, first..=last);
                if random.below(2) == 0 {
                    machine.add_acs(bridge, ACS);
                }
                let (memory, prefetchable) = (window(&mut random), window(&mut random));
                let prefetchable = (prefetchable.0 + (1 << 36), prefetchable.1 + (1 << 36));
                machine.set_windows(bridge, memory, prefetchable);
                if random.below(8) == 0 {
                    machine.set_config(bridge, 4, 1 << 20);
                }
                if random.below(4) == 0 {
                    machine.set_config(bridge, 0x3c, 8 << 16);
                }
            }
        }
        let iommu = enabled(&machine);
        let device = of(4, 3, 0);
        let windows = windows(&iommu, device);
        let vga = [0x9_f000, 0xa_0000, 0xb_ffff, 0xc_0000];
        for at in
            (0..24).flat_map(|mib| [mib * MIB, mib * MIB + MIB - 1]).flat_map(|at| [at, at + (1 << 36)]).chain(vga)
        {
            let inside = windows.iter().any(|it| it.range.contains(range(at, 1)));
            assert_eq!(
                inside,
                machine.taken_by(device, at).is_some(),
                "round {round}: {kinds:?}, {at:#x}, {windows:?}"
            );
        }
    }
}
