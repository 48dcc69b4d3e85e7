use std::thread;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, NoDeviceTlb, Options, Refusal, Statistics};
use cofferdam::vtd::UnitState;
use cofferdam::{CellId, Iommu, limits};
use cofferdam_model::{Answer, BridgeKind, Defect, GIVES_UP_NS, Machine, UnitConfig};

use crate::machine::*;
use crate::watched::{Call, Stop, Watched};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
const OTHER: u64 = 0x7000_0000;
const DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true };
/// Where the model has the ATS registers.
const ATS: u16 = 0x144;

/// A cell with 16 MiB less a page, and these devices with device-TLBs.
fn cell_of(machine: &Machine, iommu: &Iommu<&Machine>, devices: &[SourceId]) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT + PAGE, MEMORY + PAGE, 8 * LARGE - PAGE, RW)).unwrap();
    for &device in devices {
        machine.add_ats(device, 32);
        iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    }
    cell
}

fn is_on(machine: &Machine, device: SourceId) -> bool {
    machine.config_read(device, ATS) & 1 << 31 != 0
}

/// What `call` has had submitted: descriptors, waits and doorbells.
fn submitted<T>(iommu: &Iommu<&Machine>, call: impl FnOnce() -> T) -> (u64, u64, u64) {
    let count = |Statistics { descriptors, waits, doorbells, .. }| (descriptors, waits, doorbells);
    let before = count(iommu.statistics());
    call();
    let after = count(iommu.statistics());
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
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
        assert_eq!(submitted(&iommu, || iommu.unmap(cell, range(INPUT, PAGE)).unwrap()), (2, 1, 1), "{name}");
    }
}

#[test]
fn an_unmapping_costs_one_invalidation_each_for_the_unit_and_for_its_device_tlbs_and_one_wait() {
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
            assert_eq!(submitted(&iommu, || iommu.unmap(cell, unmapped).unwrap()), (5, 1, 1), "{name}");
            machine.check();
        }
    }
}

#[test]
fn a_new_mapping_asks_no_device_with_caching_mode_either() {
    for (caching, expected) in [(false, (0, 0, 0)), (true, (2, 1, 1))] {
        let machine = machine([UnitConfig::server().caching_mode(caching)]);
        let iommu = enabled_with_ats(&machine);
        let device = function(0, 3);
        let cell = cell_of(&machine, &iommu, &[device]);
        let new = INPUT + 16 * LARGE;
        assert_eq!(ats_read(&machine, device, new), None);
        let map = || iommu.map(cell, region(new, MEMORY, PAGE, RW)).unwrap();
        assert_eq!(submitted(&iommu, map), expected, "caching mode {caching}");
        assert!(ats_read(&machine, device, new).is_some());
    }
}

#[test]
fn a_device_that_was_switched_on_before_is_emptied_before_it_is_let_in() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let cell = cell_of(&machine, &iommu, &[]);
    let device = function(0, 3);
    machine.add_ats(device, 32);
    machine.set_config(device, ATS, 1 << 31 | 5 << 16);
    let assign = || iommu.assign_with(device, cell, DEVICE_TLB).unwrap();
    assert_eq!(submitted(&iommu, assign), (2, 1, 1), "one invalidation");
    assert_eq!(machine.config_read(device, ATS) >> 16, 1 << 15, "on, for pages of 4 KiB");
    iommu.release(device).unwrap();
    assert_eq!(submitted(&iommu, assign), (0, 0, 0), "it is known to be empty");
}

#[test]
fn a_virtual_function_is_named_with_its_physical_function_where_the_unit_throttles() {
    for (unit, fields) in [(UnitConfig::server(), 0), (UnitConfig::everything(), 0x0100 << 48 | 8 << 12)] {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (physical, device) = (SourceId::from_requester(0, 0x0108), SourceId::from_requester(0, 0x0189));
        machine.add_ats(physical, 7);
        machine.add_ats(device, 32);
        machine.set_config(device, 0, u32::MAX);
        // SR-IOV behind the ATS capability: two functions, the first 0x80 behind the physical one, then each next one.
        let registers =
            [(0x140, 0x1800_0000 | 1 << 16 | 0xf), (0x180, 1 << 16 | 0x10), (0x190, 2), (0x194, 1 << 16 | 0x80)];
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
    let refusal = |machine: &Machine, iommu: &Iommu<&Machine>, device| {
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
    let mut iommu = enabled_with_ats(&machine);
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
    let devices: Vec<SourceId> = (0..limits::DEVICE_TLBS as u8).map(|device| function(0, device)).collect();
    let plain = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    devices.iter().for_each(|device| drop(iommu.assign(function(2, device.device()), plain).unwrap()));
    let cell = cell_of(&machine, &iommu, &devices);
    let one_more = function(1, 0);
    machine.add_ats(one_more, 32);
    let full = limits::Full { what: "devices with a device-TLB behind this unit", capacity: limits::DEVICE_TLBS };
    assert_eq!(iommu.assign_with(one_more, cell, DEVICE_TLB), Err(Error::Full(full)));
    // What leaves is still to be asked, but what moves is asked once.
    let mut change = iommu.change();
    change.release(devices[0]).unwrap().assign_with(one_more, cell, DEVICE_TLB).unwrap();
    assert_eq!(change.commit().map(drop), Err(Error::Full(full)));
    let mut change = iommu.change();
    for &device in &devices {
        change.release(device).unwrap().assign_with(device, cell, DEVICE_TLB).unwrap();
    }
    change.commit().unwrap();
    iommu.assign(one_more, cell).unwrap();
    devices.iter().for_each(|device| assert!(ats_write(&machine, *device, INPUT + LARGE, 1)));
    let unmap = || iommu.unmap(cell, range(INPUT + LARGE, LARGE)).unwrap();
    assert_eq!(submitted(&iommu, unmap), (1 + devices.len() as u64 + 1, 1, 1));
    iommu.destroy_cell(cell).unwrap();
}

#[test]
fn a_device_that_does_not_answer_is_named_and_others_are_served() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (dead, alive) = (function(0, 3), function(0, 4));
        let cell = cell_of(&machine, &iommu, &[dead]);
        let other = cell_of(&machine, &iommu, &[alive]);
        assert!(ats_write(&machine, alive, INPUT + PAGE, 1) && ats_write(&machine, dead, INPUT + LARGE, 2), "{name}");
        machine.set_device_tlb(dead, Answer::Never, 32);
        let error = iommu.unmap(cell, range(INPUT + LARGE, LARGE)).unwrap_err();
        let named = UnitError::Device { unit: machine.windows()[0], requester: 0x18 };
        assert_eq!(error, Error::Unit(named), "{name}");
        assert_eq!(iommu.units().next().unwrap().state, UnitState::On, "{name}");
        iommu.unmap(other, range(INPUT + PAGE, PAGE)).unwrap();
        assert!(!ats_write(&machine, alive, INPUT + PAGE, 1), "{name}");
        iommu.release(alive).unwrap();
        assert!(!ats_write(&machine, dead, INPUT + LARGE, 3), "{name}");
    }
}

/// Three devices of one cell with 8 pages cached in each that has a device-TLB; the first of two does not answer any more.
fn silenced(machine: &Machine, iommu: &Iommu<&Machine>) -> (CellId, [SourceId; 3]) {
    let (silent, answering, plain) = (function(0, 3), function(0, 4), function(0, 5));
    let cell = cell_of(machine, iommu, &[silent, answering]);
    iommu.assign(plain, cell).unwrap();
    for device in [silent, answering] {
        assert!((0..8).all(|page| ats_write(machine, device, INPUT + LARGE + page * PAGE, 1)));
    }
    // I/O space, memory space, bus master.
    machine.set_config(silent, 4, 0x0010_0007);
    machine.set_device_tlb(silent, Answer::Never, 32);
    (cell, [silent, answering, plain])
}

fn not_answered(machine: &Machine, device: SourceId) -> Result<(), Error> {
    Err(Error::Unit(UnitError::Device { unit: machine.windows()[0], requester: device.requester() }))
}

#[test]
fn a_device_that_does_not_answer_is_fenced_and_everybody_else_is_served() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (cell, [silent, answering, plain]) = silenced(&machine, &iommu);
        let (frames, gone) = (machine.frames_in_use(), INPUT + LARGE);
        assert_eq!(iommu.unmap(cell, range(gone, LARGE)).map(drop), not_answered(&machine, silent), "{name}");
        machine.check();
        assert_eq!(machine.frames_in_use(), frames, "{name}: what it might reach is kept back");
        assert_eq!((is_on(&machine, silent), machine.config_read(silent, 4)), (false, 3), "{name}");
        for at in [gone, INPUT + PAGE] {
            assert!(ats_read(&machine, silent, at).is_none() && read(&machine, silent, at).is_none(), "{name}");
        }
        for (device, reads) in [(answering, ats_read as fn(&Machine, SourceId, u64) -> Option<u64>), (plain, read)] {
            assert!(
                reads(&machine, device, gone).is_none() && reads(&machine, device, INPUT + PAGE).is_some(),
                "{name}"
            );
        }
        // It is asked no more.
        iommu.map(cell, region(gone, OTHER, PAGE, RW)).unwrap();
        assert!(ats_write(&machine, answering, gone, 2) && peek(&machine, OTHER) == 2, "{name}");
        assert_eq!(submitted(&iommu, || iommu.unmap(cell, range(gone, PAGE)).unwrap()), (3, 1, 1), "{name}");
        assert!(read(&machine, silent, INPUT + PAGE).is_none(), "{name}");
        // But before it goes to anybody else.
        assert_eq!(iommu.release(silent).map(drop), not_answered(&machine, silent), "{name}");
        assert_eq!(iommu.assign(silent, cell).map(drop), Err(Error::Busy { device: silent, cell }), "{name}");
        machine.check();
        machine.set_device_tlb(silent, Answer::After(100), 32);
        iommu.release(silent).unwrap();
        iommu.assign_with(silent, cell, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, silent, INPUT + PAGE, 3), "{name}");
    }
}

#[test]
fn a_cell_stays_until_its_devices_have_answered() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (cell, [silent, answering, plain]) = silenced(&machine, &iommu);
        for _ in 0..2 {
            assert_eq!(iommu.destroy_cell(cell).map(drop), not_answered(&machine, silent), "{name}");
            machine.check();
            for device in [silent, answering, plain] {
                assert_eq!(read(&machine, device, INPUT + PAGE), None, "{name}: {device}");
            }
            assert!(!is_on(&machine, silent) && !is_on(&machine, answering), "{name}");
        }
        machine.set_device_tlb(silent, Answer::After(100), 32);
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(iommu.coherency(cell), Err(Error::NoSuchCell(cell)), "{name}");
    }
}

#[test]
fn a_device_that_does_not_answer_keeps_no_other_in_its_cell() {
    for (name, unit) in presets_with_device_tlbs() {
        let machine = machine([unit]);
        let iommu = enabled_with_ats(&machine);
        let (cell, [silent, answering, plain]) = silenced(&machine, &iommu);
        machine.set_device_tlb(answering, Answer::Never, 32);
        iommu.unmap(cell, range(INPUT + LARGE, LARGE)).unwrap_err();
        // One of two that are fenced by now answers again.
        machine.set_device_tlb(answering, Answer::After(100), 32);
        assert_eq!(iommu.destroy_cell(cell).map(drop), not_answered(&machine, silent), "{name}");
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(INPUT, OTHER, PAGE, RW)).unwrap();
        for device in [answering, plain] {
            iommu.assign(device, other).unwrap();
            assert!(write(&machine, device, INPUT, 1), "{name}");
        }
        assert_eq!(iommu.assign(silent, other).map(drop), Err(Error::Busy { device: silent, cell }), "{name}");
        machine.check();
    }
}

/// A change that makes up for what another has left asks each device behind the unit; one of them does not answer that.
#[test]
fn a_device_that_another_change_releases_is_that_changes_business() {
    let machine = machine([UnitConfig::server()]);
    let (first, second) = (Stop::new(), Stop::new());
    let looks = |call: Call, _: &Machine| {
        let _ = first.look(call) || second.look(call);
    };
    let hal = Watched { machine: &machine, before: looks };
    let mut iommu: Iommu<_> = Iommu::discover(&hal, topology_with_ats(&machine), Options::default()).unwrap();
    iommu.enable().unwrap();
    let silent = function(0, 3);
    machine.add_ats(silent, 32);
    let [cell, other, third] = [silent, function(0, 4), function(0, 5)].map(|device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, LARGE, RW)).unwrap();
        iommu.assign_with(device, cell, DeviceConfig { device_tlb: device == silent }).unwrap();
        cell
    });
    let answer = |answer| machine.set_device_tlb(silent, answer, 32);
    let unmap = |cell, page| iommu.unmap(cell, range(INPUT + page * PAGE, PAGE)).map(drop);
    let leave_something = |page| {
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        unmap(third, page).unwrap_err();
        machine.mend_unit(0);
        answer(Answer::Never);
    };
    let release = || iommu.release(silent).map(drop);

    leave_something(0);
    let mut meanwhile = Ok(());
    let released = first.meanwhile(release, || meanwhile = unmap(other, 0));
    assert_eq!((released, meanwhile), (not_answered(&machine, silent), Ok(())), "it is asked by its release alone");
    assert_eq!(iommu.assign(silent, other).map(drop), Err(Error::Busy { device: silent, cell }));

    answer(Answer::After(100));
    release().unwrap();
    iommu.assign_with(silent, cell, DEVICE_TLB).unwrap();
    leave_something(1);
    thread::scope(|scope| {
        // The second sees that neither is answered.
        let asked = first.halt(scope, || unmap(other, 1));
        assert_eq!(unmap(third, 2), not_answered(&machine, silent));
        answer(Answer::After(100));
        let released = second.halt(scope, release);
        assert_eq!(asked(), not_answered(&machine, silent));
        assert_eq!(released(), Ok(()), "it has answered meanwhile");
    });
    iommu.assign(silent, other).unwrap();
}

#[test]
fn several_devices_that_do_not_answer_are_fenced_one_after_the_other() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let (cell, [silent, answering, plain]) = silenced(&machine, &iommu);
    let elsewhere = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(elsewhere, region(INPUT, OTHER, PAGE, RW)).unwrap();
    machine.add_ats(function(1, 0), 32);
    iommu.assign_with(function(1, 0), elsewhere, DEVICE_TLB).unwrap();
    machine.set_device_tlb(answering, Answer::Never, 32);
    assert_eq!(iommu.unmap(cell, range(INPUT + LARGE, LARGE)).map(drop), not_answered(&machine, silent));
    for fenced in [silent, answering] {
        assert!(ats_read(&machine, fenced, INPUT + PAGE).is_none() && !is_on(&machine, fenced));
    }
    assert!(read(&machine, plain, INPUT + PAGE).is_some() && read(&machine, plain, INPUT + LARGE).is_none());
    assert!(ats_write(&machine, function(1, 0), INPUT, 1), "another cell's device keeps what it has");
}

#[test]
fn all_devices_that_do_not_answer_are_fenced_by_the_change_that_asks_them() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let devices: Vec<SourceId> = (0..8).map(|device| function(0, device)).collect();
    let cell = cell_of(&machine, &iommu, &devices);
    for &device in &devices {
        assert!(ats_write(&machine, device, INPUT + LARGE, 1));
        machine.set_device_tlb(device, Answer::Never, 32);
    }
    assert_eq!(iommu.unmap(cell, range(INPUT + LARGE, LARGE)).map(drop), not_answered(&machine, devices[0]));
    for device in devices {
        assert!(!is_on(&machine, device) && read(&machine, device, INPUT + PAGE).is_none(), "{device}");
    }
}

#[test]
fn a_device_that_moves_and_does_not_answer_is_given_up_once() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let (cell, [silent, ..]) = silenced(&machine, &iommu);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let moved = submitted(&iommu, || {
        let mut change = iommu.change();
        change.release(silent).unwrap().assign_with(silent, other, DEVICE_TLB).unwrap();
        assert_eq!(change.commit().map(drop), not_answered(&machine, silent));
    });
    // Each time that it is asked, the unit waits long for it.
    assert!(moved.2 <= 5, "{moved:?}");
    assert_eq!(iommu.assign_with(silent, other, DEVICE_TLB), Err(Error::Busy { device: silent, cell }));
}

/// The unit gives a device up after twice that time.
const TIME: u64 = GIVES_UP_NS;

/// How it goes with an invalidation that a silent device does not answer, with a flush for another device that is behind it
/// in the queue, and with the unit, if they have so much time.
fn in_time(
    machine: &Machine,
    timeout_ns: u64,
    device_timeout_ns: u64,
) -> (Result<(), Error>, Result<(), Error>, UnitState) {
    let stop = Stop::new();
    let hal = Watched { machine, before: stop.looks() };
    let options = Options { timeout_ns, device_timeout_ns, ..Options::default() };
    let mut iommu: Iommu<_> = Iommu::discover(&hal, topology_with_ats(machine), options).unwrap();
    iommu.enable().unwrap();
    let (silent, plain) = (function(0, 3), function(0, 5));
    machine.add_ats(silent, 32);
    let [cell, other] = [silent, plain].map(|device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, LARGE, RW)).unwrap();
        iommu.assign_with(device, cell, DeviceConfig { device_tlb: device == silent }).unwrap();
        cell
    });
    machine.set_device_tlb(silent, Answer::Never, 32);
    let mut behind = Ok(());
    let unmap = |cell| iommu.unmap(cell, range(INPUT, PAGE)).map(drop);
    let result = stop.meanwhile(|| unmap(cell), || behind = unmap(other));
    (result, behind, states(&iommu)[0])
}

#[test]
fn a_device_has_time_of_its_own_to_answer_and_so_has_what_waits_behind_it() {
    for (timeout_ns, device_timeout_ns) in [(TIME / 10, 3 * TIME), (3 * TIME, 0)] {
        let machine = machine([UnitConfig::server()]);
        let named = not_answered(&machine, function(0, 3));
        assert_eq!(in_time(&machine, timeout_ns, device_timeout_ns), (named, Ok(()), UnitState::On));
    }
}

#[test]
fn a_device_that_its_unit_does_not_give_up_in_time_costs_the_unit() {
    let machine = machine([UnitConfig::server()]);
    let (result, behind, state) = in_time(&machine, TIME / 10, TIME);
    assert!(result.is_err() && behind.is_err());
    let UnitState::Failed { error: UnitError::Timeout { waited_ns, .. }, blocking: true } = state else { panic!() };
    assert!((TIME..2 * TIME).contains(&waited_ns), "{waited_ns}");
    machine.abandon();
}
