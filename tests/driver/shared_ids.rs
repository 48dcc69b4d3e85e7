//! Devices whose requests cannot be distinguished: they belong to one cell, and leave it together.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Difference, Error, Options, Refusal};
use cofferdam_model::{BridgeKind, Defect, UnitConfig};
use cofferdam_support::cost::cost;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{of_machine, scope};

use crate::audit::assert_nothing_differs;
use crate::groups::{CELL, alone, of};
use crate::moves::{DEVICE_STATUS, PENDING};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
/// Device Capabilities and Device Control where the model has them, and Phantom Functions Enable.
const CAPABILITIES: u16 = 0x64;
const CONTROL: u16 = 0x68;
const PHANTOM: u32 = 1 << 9;

/// Behind a bridge to conventional PCI: their requests may carry one id.
#[test]
fn devices_come_one_by_one_and_leave_together() {
    for (name, unit) in presets() {
        for kind in [BridgeKind::ExpressToPci, BridgeKind::Conventional] {
            let machine = machine([unit.clone()]);
            machine.add_bridge(of(0, 0x1e, 0), kind, 3..=4);
            let [first, second] = [of(3, 1, 0), of(4, 2, 0)];
            [first, second].iter().for_each(|device| machine.add_express(*device));
            let iommu = enabled(&machine);
            let frames = machine.frames_in_use();
            let cell = alone(&iommu, first).unwrap();
            iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
            let refused = |device, other| Error::Refused { device, reason: Refusal::SharesRequester(other) };
            assert_eq!(alone(&iommu, second).unwrap_err(), refused(second, first), "{name}");
            iommu.assign(second, cell).unwrap();
            let audit = || {
                let mut found = Vec::new();
                iommu.audit(|difference| found.push(difference.to_string())).unwrap();
                found
            };
            assert_eq!(audit(), [""; 0], "{name}");
            assert!(write(&machine, first, INPUT, 1) && write(&machine, second, INPUT, 2), "{name}");
            for (device, other) in [(first, second), (second, first)] {
                assert_eq!(iommu.release(device).unwrap_err(), refused(device, other), "{name}");
            }
            assert!(write(&machine, first, INPUT, 1) && write(&machine, second, INPUT, 2), "{name}");
            machine.check();
            let mut change = iommu.change();
            change.release(first).release(second);
            change.commit().unwrap();
            assert!(!write(&machine, first, INPUT, 1) && !write(&machine, second, INPUT, 2), "{name}");
            // And back, both at once.
            let mut change = iommu.change();
            change.assign(second, cell).assign(first, cell);
            change.commit().unwrap();
            assert!(write(&machine, first, INPUT, 1) && write(&machine, second, INPUT, 2), "{name}");
            assert_eq!(audit(), [""; 0], "{name}");
            iommu.destroy_cell(cell).unwrap();
            assert!(!write(&machine, first, INPUT, 1) && !write(&machine, second, INPUT, 2), "{name}");
            // Context tables of three buses stay.
            assert!(machine.frames_in_use() <= frames + 3, "{name}");
        }
    }
}

#[test]
fn nobody_gets_the_source_id_of_a_quarantined_device() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 0x1e, 0), BridgeKind::Conventional, 3..=4);
    let [first, second] = [of(3, 1, 0), of(4, 2, 0)];
    machine.add_express(first);
    let iommu = enabled(&machine);
    let cell = alone(&iommu, first).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    machine.set_config(first, DEVICE_STATUS, PENDING);
    iommu.release(first).unwrap_err();
    let error = iommu.assign(second, cell).unwrap_err();
    assert_eq!(error, Error::Refused { device: second, reason: Refusal::SharesRequester(first) });
    assert!(!write(&machine, first, INPUT, 1) && !write(&machine, second, INPUT, 1));
}

#[test]
fn an_id_in_common_is_flushed_once_and_stays_after_a_failure() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    machine.add_bridge(of(0, 0x1e, 0), BridgeKind::Conventional, 3..=3);
    let [first, second] = [of(3, 1, 0), of(3, 2, 0)];
    [first, second].iter().for_each(|device| machine.add_express(*device));
    let iommu = enabled(&machine);
    let cell = iommu.create_cell(CELL).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    let attach = |device| cost(&iommu, || iommu.assign(device, cell).unwrap()).descriptors;
    iommu.assign(first, cell).unwrap();
    iommu.release(first).unwrap();
    assert_eq!(attach(first), 1 + attach(second), "its own id and the bridge's, then its own");
    let mut change = iommu.change();
    change.release(first).release(second);
    change.commit().unwrap();
    iommu.assign(first, cell).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    assert!(matches!(iommu.assign(second, cell), Err(Error::Unit(_))));
    let mut reported = String::new();
    iommu.audit(|difference| reported += &difference.to_string()).unwrap();
    assert!(
        !reported.contains("03:01.0") && !reported.contains("00:1e.0"),
        "nothing was taken from the first: {reported}"
    );
    machine.abandon();
}

#[test]
fn a_device_that_needs_a_table_of_its_own_is_refused() {
    let machine = machine([UnitConfig::server()]);
    let (bridge, behind) = (of(0, 0x1e, 0), of(3, 1, 0));
    machine.add_bridge(bridge, BridgeKind::Conventional, 3..=3);
    machine.add_express(behind);
    // Its DMA must not be made to snoop.
    let named = no_snoop(&[(0x1e, 0), (1, 0)]);
    let table = of_machine(&machine, &[]).sidp(0, 0, &[named]).table();
    // A device behind a bridge is none that SIDP may list: a finding.
    let iommu = front_with_findings(&machine, &table, Options::default(), |_| ()).unwrap();
    iommu.enable().unwrap();
    for (first, second) in [(behind, bridge), (bridge, behind)] {
        let cell = alone(&iommu, first).unwrap();
        let plain = of(0, 5, 0);
        machine.add_express(plain);
        iommu.assign(plain, cell).unwrap();
        let reason = Refusal::SharesRequester(first);
        assert_eq!(iommu.assign(second, cell).unwrap_err(), Error::Refused { device: second, reason });
        iommu.destroy_cell(cell).unwrap();
    }
}

/// F7: a bridge to PCI that hides its PCI Express capability below a port may put (secondary, 0.0) into a request, or its own
/// id: all three are the device's, and it reaches its memory whichever comes.
#[test]
fn a_bridge_that_hides_its_capability_has_all_three_ids() {
    for port_first in [false, true] {
        for hidden in [false, true] {
            let machine = machine([UnitConfig::client()]);
            let port = || machine.add_bridge(of(0, 0x1c, 0), BridgeKind::RootPort, 3..=4);
            if port_first {
                port();
            }
            machine.add_bridge(of(3, 0, 0), BridgeKind::ExpressToPci, 4..=4);
            if !port_first {
                port();
            }
            if hidden {
                machine.set_config(of(3, 0, 0), 0x04, 0);
            }
            let devices = [of(4, 0, 0), of(4, 1, 0)];
            devices.iter().for_each(|device| machine.set_config(*device, 0, 0x0001_1412));
            let iommu = enabled(&machine);
            let ids = iommu.device_info(devices[1]).unwrap().requesters;
            let expected: &[_] =
                if hidden { &[devices[1], of(3, 0, 0), devices[0]] } else { &[devices[1], devices[0]] };
            assert_eq!(ids.ids(), expected, "hidden: {hidden}");
            let cell = alone(&iommu, devices[1]).unwrap();
            iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
            assert!(write(&machine, devices[1], INPUT, 1), "hidden: {hidden}, port first: {port_first}");
            assert!(matches!(
                alone(&iommu, devices[0]),
                Err(Error::Refused { reason: Refusal::SharesRequester(_), .. })
            ));
        }
    }
}

/// F7: a bridge that is part of the root complex has its own id alone, and so has one below a bridge to PCI.
#[test]
fn a_conventional_bridge_on_pci_has_its_own_id() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(4, 2, 0), BridgeKind::Conventional, 5..=5);
    machine.add_bridge(of(0, 0x1c, 0), BridgeKind::RootPort, 3..=5);
    machine.add_bridge(of(3, 0, 0), BridgeKind::ExpressToPci, 4..=5);
    machine.add_bridge(of(0, 0x1e, 0), BridgeKind::Conventional, 6..=6);
    let iommu = enabled(&machine);
    for (device, expected) in [(of(6, 1, 0), vec![of(0, 0x1e, 0)]), (of(5, 1, 0), vec![of(4, 2, 0), of(4, 0, 0)])] {
        machine.set_config(device, 0, 0x0001_1412);
        assert_eq!(iommu.device_info(device).unwrap().requesters.ids(), [vec![device], expected].concat());
        let cell = alone(&iommu, device).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        assert!(write(&machine, device, INPUT, 1), "{device}");
        iommu.destroy_cell(cell).unwrap();
    }
}

/// F8: a device that is known to use another function's id gets an entry with that, too, and shares a cell with that function.
#[test]
fn a_device_that_uses_another_functions_id_reaches_its_memory() {
    for both in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let [device, beside] = [of(0, 5, 0), of(0, 5, 1)];
        machine.add_express(device);
        machine.set_config(device, 0, 0x9230_1b4b);
        if both {
            machine.add_express(beside);
            [device, beside].iter().for_each(|it| machine.set_config(*it, 0x0c, 1 << 23));
            [device, beside].iter().for_each(|it| machine.add_acs(*it, 0x0c));
        }
        let iommu = enabled(&machine);
        assert_eq!(iommu.device_info(device).unwrap().requesters.ids(), [device, beside]);
        let cell = alone(&iommu, device).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        assert!(write(&machine, beside, INPUT, 1), "its requests come as function 1's");
        if both {
            let refused = Error::Refused { device: beside, reason: Refusal::SharesRequester(device) };
            assert_eq!(alone(&iommu, beside).unwrap_err(), refused);
            assert!(iommu.device_info(beside).unwrap().requesters.shared_with(device));
        }
        iommu.release(device).unwrap();
        assert!(!write(&machine, beside, INPUT, 1));
    }
}

/// F8: a caller who knows of another id says so, before any device with either has a cell.
#[test]
fn a_caller_may_state_an_alias() {
    let machine = machine([UnitConfig::server()]);
    let [device, other, third] = [of(0, 5, 0), of(0, 9, 0), of(0, 10, 0)];
    [device, other, third].iter().for_each(|it| machine.add_express(*it));
    let iommu = enabled(&machine);
    iommu.add_alias(device, other.into()).unwrap();
    iommu.add_alias(device, other.into()).unwrap();
    let cell = alone(&iommu, device).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    assert!(write(&machine, device, INPUT, 1) && write(&machine, other, INPUT, 1));
    let refused = Error::Refused { device: other, reason: Refusal::SharesRequester(device) };
    assert_eq!(alone(&iommu, other).unwrap_err(), refused);
    for (source, alias) in [(device, third), (third, other)] {
        assert_eq!(iommu.add_alias(source, alias.into()), Err(Error::Busy { device, cell }));
    }
    iommu.release(device).unwrap();
    iommu.add_alias(third, other.into()).unwrap();
    iommu.assign(third, cell).unwrap();
    assert!(matches!(alone(&iommu, device), Err(Error::Refused { reason: Refusal::SharesRequester(_), .. })));
    // There is room for so many.
    let full = (0..=u8::MAX).find_map(|bus| iommu.add_alias(device, of(bus, 30, 0).into()).err());
    let before = iommu.device_info(third).unwrap();
    assert!(full.is_none() || matches!(full, Some(Error::Full(_))));
    assert_eq!(before.requesters.ids(), [third, other]);
}

/// The scope of a device with the property REQ_WO_PASID_PGSNP_NOTALLOWED.
fn no_snoop(hops: &[(u8, u8)]) -> Vec<u8> {
    let mut scope = scope(1, 0, 0, hops);
    scope[2] = 1 << 2;
    scope
}

/// L4: what firmware reserves for one of them, all of them reach, in whatever order they come.
#[test]
fn all_reach_what_is_reserved_for_one_of_them() {
    const RESERVED: u64 = 0x3000_0000;
    for (name, unit) in presets() {
        for swapped in [false, true] {
            let machine = machine([unit.clone()]);
            machine.add_bridge(of(0, 0x1e, 0), BridgeKind::Conventional, 3..=3);
            let [user, other] = [of(3, 0, 0), of(3, 1, 0)];
            [user, other].iter().for_each(|device| machine.set_config(*device, 0, 0x1234_8086));
            let named = scope(1, 0, 0, &[(0x1e, 0), (0, 0)]);
            let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + PAGE - 1, &[named]).table();
            let iommu = enabled_front(&machine, &table, Options::default());
            let cell = iommu.create_cell(CELL).unwrap();
            iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
            let order = if swapped { [other, user] } else { [user, other] };
            for device in order {
                iommu.assign(device, cell).unwrap();
            }
            for device in order {
                assert!(write(&machine, device, INPUT, 1) && write(&machine, device, RESERVED, 1), "{name}: {device}");
            }
            assert_nothing_differs(&iommu, name);
            let overlaps = iommu.map(cell, region(RESERVED, MEMORY + PAGE, PAGE, RW));
            assert!(matches!(overlaps, Err(Error::Reserved(_))), "{name}: {overlaps:?}");
            iommu.destroy_cell(cell).unwrap();
            assert!(!write(&machine, other, RESERVED, 1), "{name}");
        }
    }
}

/// Whether reserved memory is left out goes by the function for which firmware reserves it, not by one that shares its source-id.
#[test]
fn what_is_left_out_goes_by_whom_it_is_reserved_for() {
    const RESERVED: u64 = 0x3000_0000;
    const USB: u32 = 0x0c03_3000;
    const DISK: u32 = 0x0106_0100;
    for (classes, is_reached) in [([USB, DISK], false), ([DISK, USB], true)] {
        let machine = machine([UnitConfig::server()]);
        machine.add_bridge(of(0, 0x1e, 0), BridgeKind::Conventional, 3..=3);
        let [user, other] = [of(3, 0, 0), of(3, 1, 0)];
        for (device, class) in [user, other].into_iter().zip(classes) {
            machine.set_config(device, 0, 0x1234_8086);
            machine.set_config(device, 0x08, class);
        }
        let named = scope(1, 0, 0, &[(0x1e, 0), (0, 0)]);
        let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + PAGE - 1, &[named]).table();
        let iommu = enabled_front(&machine, &table, Options::default());
        let cell = iommu.create_cell(cofferdam::CellConfig { leave_out_relaxable: true, ..CELL }).unwrap();
        iommu.assign(other, cell).unwrap();
        assert_eq!(write(&machine, other, RESERVED, 1), is_reached);
        iommu.assign(user, cell).unwrap();
        assert_eq!([user, other].map(|device| write(&machine, device, RESERVED, 1)), [is_reached; 2]);
        assert_nothing_differs(&iommu, "both");
    }
}

/// An audit reports source-ids that a device has by now and not when it was assigned, and the reverse: with one of another
/// cell's device it reaches what that has.
#[test]
fn an_audit_tells_of_a_source_id_that_two_cells_have() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 3..=3);
    machine.add_acs(of(0, 1, 0), 0x1d);
    let [one, two] = [of(3, 0, 0), of(3, 0, 4)];
    for device in [one, two] {
        machine.add_express(device);
        machine.set_config(device, 0x0c, 1 << 23);
        machine.add_acs(device, 0x0c);
    }
    let iommu = enabled(&machine);
    let [first, second] = [(one, MEMORY), (two, MEMORY + LARGE)].map(|(device, memory)| {
        let cell = alone(&iommu, device).unwrap();
        iommu.map(cell, region(INPUT, memory, PAGE, RW)).unwrap();
        cell
    });
    let reported = || {
        let mut all = vec![];
        iommu.audit(|difference| all.push(difference)).unwrap();
        all
    };
    assert_eq!(reported(), []);
    // Phantom functions: the first uses the number of the other, too.
    machine.set_config(one, CAPABILITIES, machine.config_read(one, CAPABILITIES) | 1 << 3);
    let control = machine.config_read(one, CONTROL);
    machine.set_config(one, CONTROL, control | PHANTOM);
    let other = |noted, owner| Difference::OtherSourceId { source: one, id: two, noted, owner };
    assert_eq!(reported(), [other(false, Some(second))]);
    assert_eq!(
        other(false, Some(second)).to_string(),
        format!("requests of {one} may carry the source-id {two}, which {second} has, which was not noted")
    );
    iommu.destroy_cell(second).unwrap();
    assert_eq!(reported(), [other(false, None)]);
    // Assigned again, it has both.
    iommu.release(one).unwrap();
    iommu.assign(one, first).unwrap();
    assert_eq!(reported(), []);
    machine.set_config(one, CONTROL, control);
    assert_eq!(reported(), [other(true, None)]);
    // While its link is down nobody knows.
    let id = machine.config_read(one, 0);
    machine.set_config(one, 0, u32::MAX);
    assert_eq!(reported(), []);
    machine.set_config(one, 0, id);
    machine.set_config(one, CONTROL, control | PHANTOM);
    assert_eq!(reported(), []);
}

/// Each bus of a device's source-ids gets a context table, however the numbers of the buses lie.
#[test]
fn each_bus_of_a_devices_ids_gets_its_context_table() {
    for other in [2, 0x41, 0x81, 0xc1, 0xff] {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled(&machine);
        let (device, alias) = (function(1, 3), function(other, 3));
        iommu.add_alias(device, alias.into()).unwrap();
        cell_with(&iommu, region(0x4000_0000, 0x6000_0000, PAGE, Rights::all()), device);
        for id in [device, alias] {
            assert!(write(&machine, id, 0x4000_0000, 1), "{id}");
        }
        assert_nothing_differs(&iommu, "with both ids");
    }
}

/// An audit names whom a source-id belongs to that a device uses by now: not who has the same number in another segment.
#[test]
fn a_source_id_belongs_to_a_device_of_its_segment() {
    let machine = machine(two_segments());
    let [one, far] = [of(3, 0, 0), SourceId::new(1, 3, 0, 4).unwrap()];
    for device in [one, far] {
        machine.add_express(device);
    }
    let iommu = discover(&machine, &[]).unwrap();
    iommu.enable().unwrap();
    for device in [one, far] {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign(device, cell).unwrap();
    }
    machine.set_config(one, CAPABILITIES, machine.config_read(one, CAPABILITIES) | 1 << 3);
    machine.set_config(one, CONTROL, machine.config_read(one, CONTROL) | PHANTOM);
    let mut found = Vec::new();
    iommu.audit(|difference| found.push(difference)).unwrap();
    let id = of(3, 0, 4);
    assert!(found.contains(&Difference::OtherSourceId { source: one, id, noted: false, owner: None }), "{found:?}");
}
