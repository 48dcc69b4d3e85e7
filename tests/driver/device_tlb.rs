//! Device-TLBs: who gets one, how it is switched on and off, and that it keeps nothing that a change takes away.

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, NoDeviceTlb, Refusal};
use cofferdam::limits::{Full, Limits};
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::cost::{Cost, cost};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

pub(crate) const RW: Rights = Rights::all();
pub(crate) const INPUT: u64 = 0x4000_0000;
pub(crate) const MEMORY: u64 = 0x6000_0000;
pub(crate) const OTHER: u64 = 0x7000_0000;
pub(crate) const DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true, messages: 0 };
/// Where the model has the ATS registers.
const ATS: u16 = 0x144;

/// A cell with 16 MiB less a page, and these devices with device-TLBs.
pub(crate) fn cell_of(machine: &Machine, iommu: &Front<&Machine>, devices: &[SourceId]) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map_shared(cell, region(INPUT + PAGE, MEMORY + PAGE, 8 * LARGE - PAGE, RW)).unwrap();
    for &device in devices {
        machine.add_ats(device, 32);
        iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    }
    cell
}

pub(crate) fn is_on(machine: &Machine, device: SourceId) -> bool {
    machine.config_read(device, ATS) & 1 << 31 != 0
}

#[test]
fn what_devices_have_cached_themselves_goes_with_each_change() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let devices = [function(0, 3), function(1, 4)];
        let cell = cell_of(&machine, &iommu, &devices);
        let (small, edge, large) = (INPUT + PAGE, INPUT + LARGE - PAGE, INPUT + 3 * LARGE);
        let fill = || {
            for device in devices {
                assert!(is_on(&machine, device), "{name}");
                for at in [small, edge, large, large + LARGE - PAGE, INPUT + 8 * LARGE - PAGE] {
                    let _ = (ats_read(&machine, device, at), ats_write(&machine, device, at, at));
                }
            }
        };
        let can =
            |at| devices.map(|device| (ats_read(&machine, device, at).is_some(), ats_write(&machine, device, at, 1)));
        fill();
        assert_eq!(can(large), [(true, true); 2], "{name}");
        iommu.protect(cell, range(edge, 2 * PAGE), Rights::READ).unwrap();
        machine.check();
        assert_eq!(
            [edge, edge + PAGE, edge + 2 * PAGE].map(can),
            [[(true, false); 2], [(true, false); 2], [(true, true); 2]]
        );
        fill();
        iommu.protect(cell, range(edge, 2 * PAGE), RW).unwrap();
        machine.check();
        assert_eq!(can(edge), [(true, true); 2], "{name}: no stale denial");
        fill();
        iommu.unmap(cell, range(large, LARGE)).unwrap();
        machine.check();
        iommu.unmap(cell, range(small, PAGE)).unwrap();
        machine.check();
        assert_eq!([can(large), can(small), can(edge)], [[(false, false); 2], [(false, false); 2], [(true, true); 2]]);
        iommu.map(cell, region(large, OTHER, PAGE, RW)).unwrap();
        assert!(ats_write(&machine, devices[0], large, 0xb) && peek(&machine, OTHER) == 0xb, "{name}: the new page");
        fill();
        iommu.release(devices[0]).unwrap();
        machine.check();
        assert!(!is_on(&machine, devices[0]) && is_on(&machine, devices[1]), "{name}");
        assert_eq!(can(edge), [(false, false), (true, true)], "{name}");
        iommu.destroy_cell(cell).unwrap();
        machine.check();
        assert_eq!(can(edge), [(false, false); 2], "{name}");
    }
}

#[test]
fn a_device_that_moves_takes_nothing_of_its_old_cell_along() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let device = function(0, 3);
        cell_of(&machine, &iommu, &[device]);
        assert!(ats_write(&machine, device, INPUT + PAGE, 1), "{name}");
        iommu.release(device).unwrap();
        machine.check();
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(INPUT + PAGE, OTHER, PAGE, RW)).unwrap();
        iommu.assign_with(device, other, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, device, INPUT + PAGE, 2), "{name}");
        assert_eq!((peek(&machine, MEMORY + PAGE), peek(&machine, OTHER)), (1, 2), "{name}");
    }
}

#[test]
fn a_device_gets_no_device_tlb_unless_that_is_asked_for() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let device = function(0, 3);
        machine.add_ats(device, 32);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
        assert!(!is_on(&machine, device), "{name}");
        // One that is on all the same.
        machine.set_config(device, ATS, 1 << 31);
        assert_eq!(ats_read(&machine, device, INPUT), None, "{name}");
        assert_eq!(cost(&iommu, || iommu.unmap(cell, range(INPUT, PAGE)).unwrap()), Cost::batch(2), "{name}");
    }
}

#[test]
fn an_unmapping_costs_one_invalidation_for_each_and_one_wait() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let devices = [function(0, 3), function(0, 4), function(1, 0)];
        let cell = cell_of(&machine, &iommu, &devices);
        iommu.assign(function(0, 9), cell).unwrap();
        let elsewhere = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        machine.add_ats(function(0, 5), 32);
        iommu.assign_with(function(0, 5), elsewhere, DEVICE_TLB).unwrap();
        for at in [INPUT + PAGE, INPUT + LARGE] {
            devices.iter().for_each(|device| assert!(ats_write(&machine, *device, at, 1)));
        }
        for unmapped in [range(INPUT + PAGE, PAGE), range(INPUT + LARGE, LARGE)] {
            assert_eq!(cost(&iommu, || iommu.unmap(cell, unmapped).unwrap()), Cost::batch(5), "{name}");
            machine.check();
        }
    }
}

#[test]
fn a_new_mapping_asks_no_device_with_caching_mode_either() {
    for (caching, expected) in [(false, Cost::NOTHING), (true, Cost::batch(2))] {
        let machine = machine([UnitConfig::server().caching_mode(caching)]);
        let iommu = enabled_with_ats(&machine);
        let device = function(0, 3);
        let cell = cell_of(&machine, &iommu, &[device]);
        let new = INPUT + 16 * LARGE;
        assert_eq!(ats_read(&machine, device, new), None);
        let map = || iommu.map(cell, region(new, MEMORY, PAGE, RW)).unwrap();
        assert_eq!(cost(&iommu, map), expected, "caching mode {caching}");
        assert!(ats_read(&machine, device, new).is_some());
    }
}

#[test]
fn one_that_was_on_before_is_emptied_before_its_device_comes() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let cell = cell_of(&machine, &iommu, &[]);
    let device = function(0, 3);
    machine.add_ats(device, 32);
    machine.set_config(device, ATS, 1 << 31 | 5 << 16);
    let assign = || iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    assert_eq!(cost(&iommu, assign), Cost::batch(2), "one invalidation");
    assert_eq!(machine.config_read(device, ATS) >> 16, 1 << 15, "on, for pages of 4 KiB");
    iommu.release(device).unwrap();
    assert_eq!(cost(&iommu, assign), Cost::NOTHING, "it is known to be empty");
}

#[test]
fn where_units_throttle_a_virtual_function_names_its_physical() {
    for (unit, fields) in [(UnitConfig::server(), 0), (UnitConfig::everything(), 0x0100 << 48 | 8 << 12)] {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (physical, device) = (SourceId::from_requester(0, 0x0108), SourceId::from_requester(0, 0x0189));
        machine.add_ats(physical, 7);
        machine.add_ats(device, 32);
        machine.set_config(device, 0, u32::MAX);
        // SR-IOV behind the ATS capability: two functions, the first 0x80 behind the physical one, then each next one.
        let registers = [
            (0x140, 0x1800_0000 | 1 << 16 | 0xf),
            (0x180, 1 << 16 | 0x10),
            (0x188, 1),
            (0x190, 2),
            (0x194, 1 << 16 | 0x80),
        ];
        registers.iter().for_each(|&(offset, value)| machine.set_config(physical, offset, value));
        for (register, global) in [(7, false), (1 << 6 | 7, true)] {
            machine.set_config(physical, ATS, register);
            let ats = iommu.device_info(device).unwrap().ats.unwrap();
            let named = (fields != 0).then_some(physical);
            assert_eq!((ats.queue_depth, ats.global_invalidate, ats.pfsid), (7, global, named));
        }
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, device, INPUT, 1));
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        let expected = format!("{:#018x}", 0x0189_0007_0003_u64 | fields);
        assert!(machine.journal(40).contains(&expected), "{expected} in\n{}", machine.journal(40));
        machine.set_config(physical, ATS, 1 << 16);
        iommu.release(device).unwrap();
        let refused = Error::Refused { device, reason: Refusal::NoDeviceTlb(NoDeviceTlb::PageSize) };
        assert_eq!(iommu.assign_with(device, cell, DEVICE_TLB), Err(refused));
    }
}

#[test]
fn a_device_that_cannot_have_a_device_tlb_is_refused_by_name() {
    let refusal = |machine: &Machine, iommu: &Front<&Machine>, device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let before = iommu.statistics();
        let refused = iommu.assign_with(device, cell, DEVICE_TLB);
        assert_eq!((iommu.statistics(), is_on(machine, device)), (before, false), "nothing changed");
        match refused {
            Err(Error::Refused { device: named, reason: Refusal::NoDeviceTlb(reason) }) if named == device => {
                let info = iommu.device_info(device).unwrap();
                assert_eq!((info.ats, info.refusal), (Err(reason), None), "it was to be known before");
                reason
            }
            other => panic!("{other:?}"),
        }
    };
    let device = function(3, 0);
    let server = || {
        let machine = machine([UnitConfig::server()]);
        machine.add_ats(device, 32);
        machine
    };
    let server_without_queue = UnitConfig { ecap: UnitConfig::server().ecap & !0b1010, ..UnitConfig::server() };
    for unit in [UnitConfig::client(), server_without_queue] {
        let without = machine([unit]);
        without.add_ats(device, 32);
        assert_eq!(refusal(&without, &enabled_with_ats(&without), device), NoDeviceTlb::Unit);
    }
    let unlisted = server();
    assert_eq!(refusal(&unlisted, &enabled(&unlisted), device), NoDeviceTlb::Firmware);
    let plain = server();
    let without = function(3, 1);
    plain.set_config(without, 0, 0x0001_8086);
    assert_eq!(refusal(&plain, &enabled_with_ats(&plain), without), NoDeviceTlb::Capability);
    for kind in [BridgeKind::ExpressToPci, BridgeKind::Conventional] {
        // The device has the very id that one of the bridges puts in the place of others.
        let behind = server();
        behind.add_bridge(function(0, 0x1e), kind, 3..=4);
        assert_eq!(refusal(&behind, &enabled_with_ats(&behind), device), NoDeviceTlb::SourceId);
    }
}

#[test]
fn a_device_that_caches_memory_needs_its_device_tlb() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let device = function(0, 3);
    machine.add_ats(device, 32);
    assert!(!iommu.device_info(device).unwrap().needs_device_tlb);
    // DVSEC of CXL: a device, Cache_Capable.
    let dvsec = [(0x140, 0x1800_0000 | 1 << 16 | 0xf), (0x180, 1 << 16 | 0x23), (0x184, 0x1e98), (0x188, 1 << 16)];
    dvsec.iter().for_each(|&(offset, value)| machine.set_config(device, offset, value));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(iommu.assign(device, cell), Err(Error::Refused { device, reason: Refusal::NeedsDeviceTlb }));
    iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    let info = iommu.device_info(device).unwrap();
    assert_eq!((info.needs_device_tlb, info.ats.is_ok(), info.refusal), (true, true, None));
    iommu.release(device).unwrap();
    iommu.disable().unwrap();
    let missing = Some(Refusal::NoDeviceTlb(NoDeviceTlb::Firmware));
    assert_eq!(enabled(&machine).device_info(device).unwrap().refusal, missing, "no cell can have it");
}

#[test]
fn there_are_so_many_device_tlbs_behind_one_unit_and_no_more() {
    let machine = machine([UnitConfig::everything()]);
    let iommu = enabled_with_ats(&machine);
    let devices: Vec<SourceId> = (0..Limits::DEFAULT.device_tlbs as u8).map(|device| function(0, device)).collect();
    let plain = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    for device in &devices {
        iommu.assign(function(2, device.device()), plain).unwrap();
    }
    let cell = cell_of(&machine, &iommu, &devices);
    let one_more = function(1, 0);
    machine.add_ats(one_more, 32);
    let full = Full { what: "devices with a device-TLB behind this unit", capacity: Limits::DEFAULT.device_tlbs };
    assert_eq!(iommu.assign_with(one_more, cell, DEVICE_TLB), Err(Error::Full(full)));
    // What leaves is still to be asked, but what moves is asked once.
    let mut change = iommu.change();
    change.release(devices[0]).assign_with(one_more, cell, DEVICE_TLB);
    assert_eq!(change.commit().map(drop), Err(Error::Full(full)));
    let mut change = iommu.change();
    for &device in &devices {
        change.release(device).assign_with(device, cell, DEVICE_TLB);
    }
    change.commit().unwrap();
    iommu.assign(one_more, cell).unwrap();
    devices.iter().for_each(|device| assert!(ats_write(&machine, *device, INPUT + LARGE, 1)));
    let unmap = || iommu.unmap(cell, range(INPUT + LARGE, LARGE)).unwrap();
    assert_eq!(cost(&iommu, unmap), Cost::batch(1 + devices.len() as u64 + 1));
    iommu.destroy_cell(cell).unwrap();
}
