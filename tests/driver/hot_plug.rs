//! Hot-plug: others in the places of devices, ports that are reset, and what the rescan does about it.

use cofferdam::addr::SourceId;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Difference, Edit, Error};
use cofferdam_model::{Answer, BridgeKind, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{assert_nothing_differs, audit};
use crate::device_tlb::{DEVICE_TLB, INPUT, MEMORY, OTHER, RW, is_on};
use crate::groups::{of, switch};

const COMMAND: u16 = 0x04;
const MASTER: u32 = 1 << 2;
pub(crate) const BAR: u16 = 0x10;
const BUSES: u16 = 0x18;
/// Where the model has the ATS capability of a function, and its registers.
const ATS: u16 = 0x140;
/// Of another device, what it has where the former had ATS: a capability of a vendor's own.
const OTHER_CAPABILITY: [(u16, u32); 2] = [(ATS, 0x0001_000b), (ATS + 4, 0x5678)];

/// A device of another kind, as it comes out of a slot: a bus master by its own firmware, with base addresses. It knows nothing of
/// device-TLBs.
pub(crate) fn plug_in_another(machine: &Machine, device: SourceId) {
    machine.plug_in(device);
    machine.add_express(device);
    let registers = [(0, 0x1001_1af4), (BAR, 0xfeed_0000), (0x100, u32::from(ATS) << 20 | 1 << 16 | 3)];
    registers.iter().chain(&OTHER_CAPABILITY).for_each(|&(at, value)| machine.set_config(device, at, value));
    machine.set_device_tlb(device, Answer::Never, 1);
}

pub(crate) fn assert_untouched(machine: &Machine, device: SourceId, when: &str) {
    for (at, value) in [(BAR, 0xfeed_0000)].into_iter().chain(OTHER_CAPABILITY) {
        assert_eq!(machine.config_read(device, at), value, "{when}: {at:#x} of another device");
    }
}

pub(crate) fn is_master(machine: &Machine, device: SourceId) -> bool {
    machine.config_read(device, COMMAND) & MASTER != 0
}

pub(crate) fn quarantined<H: Hal>(iommu: &Front<H>) -> Vec<SourceId> {
    let mut all = Vec::new();
    iommu.assigned(|it| all.extend(Some(it.device).filter(|_| it.quarantined))).unwrap();
    all
}

/// Another kind of device reaches what the cell has until the rescan, and nothing after it, until it is released.
#[test]
fn the_rescan_blocks_another_device() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let (device, stays) = (function(0, 3), function(0, 4));
        [device, stays].iter().for_each(|device| machine.add_express(*device));
        let iommu = enabled(&machine);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
        iommu.assign(stays, cell).unwrap();
        // One of the same kind is not told from it.
        machine.plug_in(device);
        machine.add_express(device);
        iommu.isolate().unwrap();
        assert_nothing_differs(&iommu, name);
        plug_in_another(&machine, device);
        let other = Difference::OtherDevice { source: device, cell };
        assert_eq!(audit(&iommu), [other], "{name}");
        for _ in 0..2 {
            iommu.isolate().unwrap();
            assert!(!write(&machine, device, INPUT, 1) && write(&machine, stays, INPUT, 1), "{name}");
            assert!(!is_master(&machine, device) && is_master(&machine, stays), "{name}");
            assert_eq!((quarantined(&iommu), audit(&iommu)), (vec![device], vec![other]), "{name}");
        }
        iommu.release(device).unwrap();
        let next = cell_with(&iommu, region(INPUT, OTHER, PAGE, RW), device);
        assert!(write(&machine, device, INPUT, 7) && peek(&machine, OTHER) == 7, "{name}");
        assert_untouched(&machine, device, name);
        assert_nothing_differs(&iommu, name);
        [cell, next].iter().for_each(|cell| assert!(iommu.destroy_cell(*cell).is_ok()));
        machine.check();
    }
}

/// Who shares a source-id with it is blocked with it, and both leave together.
#[test]
fn the_rescan_blocks_who_shares_a_source_id_with_another_device() {
    let machine = machine([UnitConfig::server()]);
    let (port, devices, stays) = (function(0, 1), [function(1, 2), function(1, 3)], function(0, 4));
    machine.add_bridge(port, BridgeKind::ExpressToPci, 1..=1);
    devices.iter().chain([&stays]).for_each(|device| machine.add_express(*device));
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), stays);
    devices.iter().for_each(|device| assert!(iommu.assign(*device, cell).is_ok()));
    plug_in_another(&machine, devices[0]);
    iommu.isolate().unwrap();
    assert_eq!(audit(&iommu), [Difference::OtherDevice { source: devices[0], cell }]);
    assert_eq!(quarantined(&iommu), devices);
    assert!(devices.iter().all(|device| !write(&machine, *device, INPUT, 1) && !is_master(&machine, *device)));
    assert!(write(&machine, stays, INPUT, 1));
    iommu.commit(&devices.map(Edit::Release)).unwrap();
    iommu.assign(devices[0], cell).unwrap();
    assert!(write(&machine, devices[0], INPUT, 1));
    assert_nothing_differs(&iommu, "it has its cell anew");
}

/// A unit that is out of service blocks nobody, and the rescan says so.
#[test]
fn the_rescan_tells_of_another_device_that_is_not_blocked() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (far, near) = (function(1, 3), function(0, 3));
    [far, near].iter().for_each(|device| machine.add_express(*device));
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), far);
    iommu.assign(near, cell).unwrap();
    [far, near].iter().for_each(|device| plug_in_another(&machine, *device));
    machine.break_unit(0, Defect::AllOnes);
    let failed = iommu.isolate();
    assert!(matches!(failed, Err(Error::Unit(UnitError::Dead { .. }))), "{failed:?}");
    assert_eq!(quarantined(&iommu), [near]);
    assert!(!write(&machine, near, INPUT, 1));
    machine.abandon();
}

/// What a device has where another had ATS is left alone, and nobody waits for a device-TLB that it has not.
#[test]
fn registers_of_another_device_are_left_alone() {
    for (name, unit) in presets_with_device_tlbs() {
        for (asked, looked) in [(false, false), (false, true), (true, false)] {
            let machine = machine([unit.clone()]);
            let device = function(0, 3);
            machine.add_express(device);
            machine.add_ats(device, 32);
            let iommu = enabled_with_ats(&machine);
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
            iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
            assert!(ats_write(&machine, device, INPUT, 1));
            plug_in_another(&machine, device);
            if asked {
                let error = iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
                assert!(matches!(error, Error::Unit(UnitError::Device { .. })), "{name}: {error}");
            } else if looked {
                iommu.isolate().unwrap();
            }
            let before = machine.now_ns();
            iommu.release(device).unwrap();
            assert!(machine.now_ns() - before < 1_000_000, "{name}: it was waited for");
            assert_untouched(&machine, device, name);
            assert!(!write(&machine, device, INPUT, 1), "{name}");
            iommu.destroy_cell(cell).unwrap();
            machine.check();
        }
    }
}

/// Another device that has a device-TLB may have filled it: it is emptied as the device leaves.
#[test]
fn the_device_tlb_of_another_device_is_emptied() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let device = function(0, 3);
        machine.add_ats(device, 32);
        let iommu = enabled_with_ats(&machine);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
        machine.plug_in(device);
        machine.add_ats(device, 1);
        machine.set_config(device, 0, 0x1001_1af4);
        // Whoever drives it switches its ATS on.
        machine.set_config(device, ATS + 4, 1 << 31 | 1 << 5 | 1);
        assert!(ats_write(&machine, device, INPUT, 1), "{name}");
        iommu.release(device).unwrap();
        assert!(!is_on(&machine, device) && !ats_write(&machine, device, INPUT, 1), "{name}");
        iommu.destroy_cell(cell).unwrap();
        machine.check();
    }
}

/// What a reset of a port takes from those behind it is named by the audit and comes back by the rescan, but for bus mastering,
/// which is not the driver's to switch on.
#[test]
fn a_port_that_is_reset_isolates_again() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let devices = switch(&machine, Some(0x1d), [Some(0x1d), Some(0x1d)]);
        devices.iter().for_each(|device| machine.add_ats(*device, 32));
        let iommu = enabled_with_ats(&machine);
        let cells = [MEMORY, OTHER].map(|memory| {
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map(cell, region(INPUT, memory, PAGE, RW)).unwrap();
            cell
        });
        devices
            .iter()
            .zip(cells)
            .for_each(|(device, cell)| assert!(iommu.assign_with(*device, cell, DEVICE_TLB).is_ok()));
        assert!(devices.iter().all(|device| ats_write(&machine, *device, INPUT, 1)), "{name}");
        let bridges = [of(1, 0, 0), of(2, 0, 0), of(2, 1, 0)];
        let numbers = bridges.map(|bridge| machine.config_read(bridge, BUSES));
        machine.reset_bus(of(0, 1, 0));
        assert!(bridges.iter().all(|bridge| machine.config_read(*bridge, BUSES) == 0), "{name}");
        bridges.iter().zip(numbers).for_each(|(bridge, numbers)| machine.set_config(*bridge, BUSES, numbers));
        assert!(machine.reaches(devices[0], devices[1]), "{name}");
        let told = audit(&iommu);
        let is_told = |from: usize, to: usize| {
            let (source, other) = (devices[from], devices[to]);
            told.contains(&Difference::NotIsolated { source, cell: cells[from], other, owner: cells[to] })
        };
        assert!(told.len() == 2 && is_told(0, 1) && is_told(1, 0), "{name}: {told:?}");
        iommu.isolate().unwrap();
        assert_nothing_differs(&iommu, name);
        assert!(!machine.reaches(devices[0], devices[1]) && !machine.reaches(devices[1], devices[0]), "{name}");
        for device in devices {
            assert!(is_on(&machine, device) && !is_master(&machine, device), "{name}");
            assert!(ats_write(&machine, device, INPUT, 2), "{name}");
        }
        iommu.unmap(cells[0], range(INPUT, PAGE)).unwrap();
        assert!(!ats_write(&machine, devices[0], INPUT, 1), "{name}");
        cells.iter().for_each(|cell| assert!(iommu.destroy_cell(*cell).is_ok()));
        machine.check();
    }
}

/// A device that is to be released, and whose ATS somebody else has off, is not given it back by the rescan.
#[test]
fn the_rescan_leaves_quarantined_devices_alone() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    machine.add_ats(device, 32);
    let iommu = enabled_with_ats(&machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    machine.set_device_tlb(device, Answer::Never, 32);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    assert_eq!(quarantined(&iommu), [device]);
    iommu.isolate().unwrap();
    assert!(!is_on(&machine, device));
    machine.set_device_tlb(device, Answer::After(1), 32);
    iommu.destroy_cell(cell).unwrap();
    machine.check();
}
