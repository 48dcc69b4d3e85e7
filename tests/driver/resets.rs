//! Devices that are reset when they leave their cells.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, Options, Refusal};
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{BridgeKind, Defect, Late, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

use crate::moves::{DEVICE_STATUS, PENDING};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
const OTHER: u64 = 0x7000_0000;
const MILLISECOND: u64 = 1_000_000;
/// What a reset takes, and no device may be looked at before.
const RESET: u64 = 100 * MILLISECOND;
const COMMAND: u16 = 0x04;
/// Device Control and Status, Device Control 2, and Access Control Services, where the model has them.
const CONTROL: u16 = 0x68;
const CONTROL_2: u16 = 0x88;
const ACS: u16 = 0x184;

/// A device that can be reset in one of two ways.
fn resettable(machine: &Machine, device: SourceId, reset: Reset, takes: u64) {
    if reset == Reset::Express {
        machine.add_express(device);
    }
    machine.add_reset(device, reset, takes);
}

fn with(reset: ResetPolicy) -> CellConfig {
    CellConfig { reset, ..UNSAFE_INTERRUPTS }
}

/// A cell with a page and these devices.
fn cell_of(iommu: &Front<&Machine>, reset: ResetPolicy, devices: &[SourceId]) -> CellId {
    let cell = iommu.create_cell(with(reset)).unwrap();
    iommu.map_shared(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    for device in devices {
        iommu.assign(*device, cell).unwrap();
    }
    cell
}

fn master(machine: &Machine, device: SourceId) {
    machine.set_config(device, COMMAND, machine.config_read(device, COMMAND) | 1 << 2);
}

#[test]
fn a_device_is_reset_between_cells_unless_the_cell_forbids_it() {
    for (name, unit) in presets() {
        for kind in [Reset::Express, Reset::Features] {
            for policy in [ResetPolicy::IfPossible, ResetPolicy::Required, ResetPolicy::Never] {
                let machine = machine([unit.clone()]);
                let device = function(0, 3);
                resettable(&machine, device, kind, 0);
                let iommu = enabled(&machine);
                let cell = cell_of(&iommu, policy, &[device]);
                machine.write_late(device, Iova::new(INPUT), &[0xee; 8], 500 * MILLISECOND, Late::Unsent);
                iommu.destroy_cell(cell).unwrap();
                let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
                iommu.map(other, region(INPUT, OTHER, PAGE, RW)).unwrap();
                iommu.assign(device, other).unwrap();
                assert_eq!(machine.config_read(device, COMMAND) & 6, 2, "{name}: memory yes, bus master no");
                master(&machine, device);
                poke(&machine, OTHER, 7);
                machine.pass(1000 * MILLISECOND);
                let reset = policy != ResetPolicy::Never;
                assert_eq!(
                    (peek(&machine, OTHER) == 7, machine.resets(device)),
                    (reset, reset.into()),
                    "{name}, {kind:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_under_way_is_awaited_before_a_reset() {
    for kind in [Reset::Express, Reset::Features] {
        let machine = machine([UnitConfig::server()]);
        let device = function(0, 3);
        resettable(&machine, device, kind, 0);
        let iommu = enabled(&machine);
        let cell = cell_of(&iommu, ResetPolicy::IfPossible, &[device]);
        machine.write_late(device, Iova::new(INPUT), &[0xee; 8], 3 * MILLISECOND, Late::UnderWay);
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(machine.resets(device), 1);
    }
}

#[test]
fn many_devices_are_reset_at_a_time_and_keep_their_registers() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let devices: Vec<SourceId> = (0..20).map(|device| function(0, device)).collect();
    let registers =
        [(0x0c, 0x10), (0x10, 0xfe00_0004), (0x14, 0x12), (0x24, 0xfd00_0000), (0x30, 0xfc00_0001), (0x3c, 0x10b)];
    for device in &devices {
        resettable(&machine, *device, Reset::Express, 0);
        registers.iter().for_each(|&(offset, value)| machine.set_config(*device, offset, value));
        machine.set_config(*device, CONTROL, 0x5936);
        machine.set_config(*device, CONTROL_2, 0x16);
        machine.add_acs(*device, 0x0c);
        machine.set_config(*device, ACS, 0x000c_000c);
    }
    let cell = cell_of(&iommu, ResetPolicy::Required, &devices);
    let start = machine.now_ns();
    iommu.destroy_cell(cell).unwrap();
    let waited = machine.now_ns() - start;
    assert!((RESET..2 * RESET).contains(&waited), "all at a time: {waited}");
    for device in devices {
        assert_eq!(machine.resets(device), 1);
        for (offset, value) in registers.into_iter().chain([(CONTROL, 0x5936), (CONTROL_2, 0x16), (ACS, 0x000c_000c)]) {
            assert_eq!(machine.config_read(device, offset), value, "{offset:#x}");
        }
        assert_eq!(machine.config_read(device, COMMAND) & 0xffff, 2);
    }
}

#[test]
fn a_device_that_does_not_come_back_is_named_and_blocked() {
    for policy in [ResetPolicy::IfPossible, ResetPolicy::Required] {
        let machine = machine([UnitConfig::server()]);
        let (device, good) = (function(0, 3), function(0, 4));
        resettable(&machine, device, Reset::Express, RESET + 1500 * MILLISECOND);
        resettable(&machine, good, Reset::Express, RESET / 2);
        let iommu = enabled(&machine);
        let cell = cell_of(&iommu, policy, &[device, good]);
        let error = iommu.destroy_cell(cell).unwrap_err();
        match error {
            Error::NotReset { device: named, waited_ns } => {
                assert_eq!(named, device);
                assert!(waited_ns > RESET + Options::DEFAULT.timeout_ns && waited_ns < 2 * Options::DEFAULT.timeout_ns);
            }
            error => panic!("{error}"),
        }
        assert!(error.to_string().starts_with("0000:00:03.0 was not reset within 1100 ms"), "{error}");
        assert_eq!(iommu.device_info(good).unwrap().cell, None);
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_eq!(iommu.assign(device, other).map(drop), Err(Error::Busy { device, cell }));
        assert!(!write(&machine, device, INPUT, 1) && !write(&machine, good, INPUT, 1));
        machine.pass(1000 * MILLISECOND);
        machine.add_reset(device, Reset::Express, 0);
        iommu.destroy_cell(cell).unwrap();
        iommu.assign(device, other).unwrap();
    }
}

/// One that comes back only after it was given up has its registers as before, and is not reset twice.
#[test]
fn a_device_that_comes_back_late_keeps_its_registers() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    resettable(&machine, device, Reset::Express, RESET + 1500 * MILLISECOND);
    let registers = [(0x10, 0xfe00_0004), (0x3c, 0x10b), (CONTROL, 0x5936), (CONTROL_2, 0x16)];
    registers.iter().for_each(|&(offset, value)| machine.set_config(device, offset, value));
    let iommu = enabled(&machine);
    cell_of(&iommu, ResetPolicy::Required, &[device]);
    let error = iommu.release(device).unwrap_err();
    assert!(matches!(error, Error::NotReset { .. }), "{error}");
    machine.pass(1000 * MILLISECOND);
    iommu.release(device).unwrap();
    assert_eq!((iommu.device_info(device).unwrap().cell, machine.resets(device)), (None, 1));
    for (offset, value) in registers {
        assert_eq!(machine.config_read(device, offset), value, "{offset:#x}");
    }
}

/// A root complex may answer for a function that asks for more time: with vendor 1, and the reset is not over.
#[test]
fn a_device_that_asks_for_more_time_is_waited_for() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    resettable(&machine, device, Reset::Express, 0);
    let iommu = enabled(&machine);
    let cell = cell_of(&iommu, ResetPolicy::IfPossible, &[device]);
    let id = machine.config_read(device, 0);
    machine.set_config(device, 0, 0xffff_0001);
    let error = iommu.release(device).unwrap_err();
    assert!(matches!(error, Error::NotReset { device: named, .. } if named == device), "{error}");
    assert_eq!(iommu.device_info(device).unwrap().cell, Some(cell));
    machine.set_config(device, 0, id);
    iommu.release(device).unwrap();
    assert_eq!((iommu.device_info(device).unwrap().cell, machine.resets(device)), (None, 1));
}

#[test]
fn what_has_to_be_reset_and_cannot_be_is_refused() {
    let machine = machine([UnitConfig::server()]);
    let (plain, device) = (function(0, 3), function(0, 4));
    machine.add_express(plain);
    resettable(&machine, device, Reset::Express, 0);
    let iommu = enabled(&machine);
    let cell = cell_of(&iommu, ResetPolicy::Required, &[device]);
    let refused = Error::Refused { device: plain, reason: Refusal::NoReset };
    assert_eq!(iommu.assign(plain, cell).unwrap_err(), refused);
    assert_eq!([plain, device].map(|device| iommu.device_info(device).unwrap().resettable), [false, true]);
    assert_eq!(refused.to_string(), "0000:00:03.0 is refused: it cannot be reset when it leaves the cell");
    // It has virtual functions now, which a reset would take with it.
    for (offset, value) in [(0x100, 0x0001_0010), (0x108, 1)] {
        machine.set_config(device, offset, value);
    }
    assert_eq!(iommu.release(device).map(drop), Err(Error::NotReset { device, waited_ns: 0 }));
    assert!(machine.resets(device) == 0 && !write(&machine, device, INPUT, 1));
    machine.set_config(device, 0x108, 0);
    iommu.release(device).unwrap();
    assert_eq!(machine.resets(device), 1);
    let easy = cell_of(&iommu, ResetPolicy::IfPossible, &[device, plain]);
    machine.set_config(device, 0x108, 1);
    iommu.destroy_cell(easy).unwrap();
    assert_eq!((machine.resets(device), machine.resets(plain)), (1, 0), "not with its virtual functions");
}

#[test]
fn half_a_capability_is_none() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    resettable(&machine, device, Reset::Features, 0);
    for can in [1 << 24, 2 << 24] {
        machine.set_config(device, 0xa0, can | 6 << 16 | 0x13);
        let iommu = enabled(&machine);
        let cell = iommu.create_cell(with(ResetPolicy::Required)).unwrap();
        assert_eq!(iommu.assign(device, cell).unwrap_err(), Error::Refused { device, reason: Refusal::NoReset });
        let iommu = iommu;
        iommu.disable().unwrap();
    }
}

#[test]
fn a_bridge_is_not_reset_with_all_that_is_behind_it() {
    let machine = machine([UnitConfig::server()]);
    let bridge = function(0, 3);
    machine.add_bridge(bridge, BridgeKind::Conventional, 1..=1);
    machine.add_reset(bridge, Reset::Features, 0);
    // Its registers are the model's own choice; what says that there are capabilities is not among them.
    machine.set_config(bridge, COMMAND, 1 << 20);
    let iommu = enabled(&machine);
    assert!(!iommu.device_info(bridge).unwrap().resettable);
    let cell = cell_of(&iommu, ResetPolicy::IfPossible, &[bridge]);
    iommu.destroy_cell(cell).unwrap();
    assert_eq!(machine.resets(bridge), 0);
}

#[test]
fn a_device_that_may_not_be_blocked_is_not_reset() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    resettable(&machine, device, Reset::Express, 0);
    let iommu = enabled(&machine);
    let cell = cell_of(&iommu, ResetPolicy::Required, &[device]);
    assert!(write(&machine, device, INPUT, 1));
    machine.break_unit(0, Defect::QueueDead);
    let error = iommu.destroy_cell(cell).unwrap_err();
    assert!(matches!(error, Error::Unit(_)), "{error}");
    assert_eq!(machine.resets(device), 0);
}

/// While a device is reset, whoever looks at other functions of the machine waits (R49).
#[test]
fn nobody_else_looks_at_a_device_that_is_reset() {
    let machine = machine([UnitConfig::server()]);
    let (stop, waits, round) = (Stop::new(), AtomicBool::new(false), AtomicUsize::new(0));
    let (device, other) = (function(0, 2), function(1, 0));
    machine.add_express(device);
    machine.add_reset(device, Reset::Express, 1000);
    let before = |call: Call, machine: &Machine| {
        let is_reset = machine.resets(device) as usize == round.load(Ordering::Relaxed);
        if call == Call::Pause && is_reset && !stop.look(call) {
            waits.store(true, Ordering::Relaxed);
        }
    };
    let hal = Watched::shared(&machine, before);
    let options = Options { timeout_ns: u64::MAX / 2, ..Options::DEFAULT };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let calls: [(&str, &(dyn Fn() + Sync)); 4] = [
        ("assign", &|| assert!(iommu.assign(other, cell).is_ok())),
        ("device_info", &|| drop(iommu.device_info(other).unwrap())),
        ("windows", &|| iommu.windows(other, &mut |_| ()).unwrap()),
        ("mute", &|| iommu.mute(other, true).unwrap()),
    ];
    for (name, call) in calls {
        let number = round.fetch_add(1, Ordering::Relaxed) as u64;
        cell_with(&iommu, region(INPUT, MEMORY + number * PAGE, PAGE, RW), device);
        waits.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let go_on = stop.halt(scope, || iommu.release(device));
            let looking = scope.spawn(call);
            while !waits.load(Ordering::Relaxed) && !looking.is_finished() {
                std::thread::yield_now();
            }
            go_on().unwrap();
            looking.join().unwrap();
        });
        assert_eq!(machine.take_violations(), [], "{name}");
    }
}

/// A device that has not come back from its reset is left alone until it has, also when its release is repeated (R49).
#[test]
fn a_release_that_is_repeated_writes_nothing_during_a_reset() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 2);
    machine.add_express(device);
    machine.add_ats(device, 32);
    machine.add_reset(device, Reset::Express, 1 << 40);
    let options = Options { timeout_ns: 1_000_000, ..Options::DEFAULT };
    let iommu = limited_front(&machine, &table_with_ats(&machine), &Limits::DEFAULT, options);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
    assert!(matches!(iommu.release(device), Err(Error::NotReset { .. })));
    assert_eq!(machine.take_violations(), []);
    let again = iommu.release(device).map(drop);
    assert_eq!(machine.take_violations(), [], "{again:?}");
}

/// Nothing is attached to a device until its reset is over (R49): not to one either whose release is repeated before, when its
/// configuration space does not say yet that it can be reset.
#[test]
fn a_device_that_is_still_reset_is_given_to_no_other_cell() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 2);
    machine.add_express(device);
    machine.add_reset(device, Reset::Express, 1 << 40);
    machine.set_config(device, 0x10, 0xfe00_0000);
    let options = Options { timeout_ns: 1_000_000, ..Options::DEFAULT };
    let iommu = limited_front(&machine, &of_machine(&machine, &[]).table(), &Limits::DEFAULT, options);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
    assert!(matches!(iommu.release(device), Err(Error::NotReset { .. })));
    let again = iommu.release(device).map(drop);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let assigned = iommu.assign(device, other).map(drop);
    assert!(matches!(again, Err(Error::NotReset { .. })), "{again:?}, in {cell}; then {assigned:?}");
    machine.pass(1 << 41);
    iommu.release(device).unwrap();
    assert_eq!(machine.config_read(device, 0x10), 0xfe00_0000, "base addresses are as they were");
}

/// F19: a reset of a function loses the sizes of its base addresses and what its virtual functions are to have, and the driver
/// sets them as they were.
#[test]
fn sizes_and_virtual_functions_are_as_before_a_reset() {
    let machine = machine([UnitConfig::server()]);
    let device = function(0, 3);
    resettable(&machine, device, Reset::Express, 0);
    for (id, at) in [(0x15, 0x200), (0x24, 0x220), (0x10, 0x240)] {
        machine.add_extended(device, id, at);
    }
    let registers = [
        (0x10, 0xe000_0000),
        // Two base addresses of a size, and one of virtual functions.
        (0x208, 2 << 5 | 8 << 8),
        (0x210, 0x5 << 8 | 2),
        (0x228, 1 << 5 | 4 << 8),
        // ARI Capable Hierarchy; NumVFs; System Page Size; two base addresses.
        (0x248, 0x10),
        (0x250, 4),
        (0x260, 0x10),
        (0x264, 0xd000_000c),
        (0x268, 0x30),
    ];
    registers.iter().for_each(|&(at, value)| machine.set_config(device, at, value));
    let iommu = enabled(&machine);
    let cell = cell_of(&iommu, ResetPolicy::Required, &[device]);
    iommu.destroy_cell(cell).unwrap();
    assert_eq!(machine.resets(device), 1);
    for (at, value) in registers {
        assert_eq!(machine.config_read(device, at), value, "{at:#x}");
    }
}

/// U10: a device that was pulled out, with a device-TLB and in need of a reset, does not keep its cell.
#[test]
fn a_device_that_was_pulled_out_leaves_its_cell() {
    for (name, unit) in presets_with_device_tlbs() {
        for first in [false, true] {
            let machine = machine([unit.clone()]);
            let (device, other) = (function(0, 2), function(0, 4));
            resettable(&machine, device, Reset::Express, 0);
            machine.add_ats(device, 32);
            let iommu = enabled_with_ats(&machine);
            let cell = cell_of(&iommu, ResetPolicy::Required, &[]);
            iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
            machine.pull_out(device);
            if first {
                // Whoever changes the cell before notices, and the device is blocked.
                let error = iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
                assert!(matches!(error, Error::Unit(_)), "{name}: {error}");
            }
            let before = machine.now_ns();
            iommu.destroy_cell(cell).unwrap();
            assert!(machine.now_ns() - before < MILLISECOND, "{name}: it was not waited for");
            assert!(!write(&machine, device, INPUT, 1));
            let cell = cell_of(&iommu, ResetPolicy::Never, &[other]);
            assert!(write(&machine, other, INPUT, 1), "{name}");
            iommu.destroy_cell(cell).unwrap();
        }
    }
}

/// I1: a device that a failed change let in and took back has done what its cell had it do: it comes to rest and is reset before
/// it is free for another cell.
#[test]
fn a_device_that_is_taken_back_is_quiesced_and_reset() {
    for how in [Late::Unsent, Late::UnderWay] {
        let unit = UnitConfig::server().caching_mode(true);
        let machine = machine([unit.clone().serving(&[1]), unit]);
        let (card, broken) = (function(0, 2), function(1, 2));
        for device in [card, broken] {
            machine.add_express(device);
            machine.add_reset(device, Reset::Express, 1000);
        }
        machine.set_config(card, 4, 0x0010_0007);
        let armed = AtomicBool::new(false);
        let before = |call: Call, machine: &Machine| {
            if call == Call::Pause && armed.load(Ordering::Relaxed) && write(machine, card, INPUT, 1) {
                armed.store(false, Ordering::Relaxed);
                machine.write_late(card, Iova::new(INPUT), &7_u64.to_le_bytes(), 5_000_000_000, how);
            }
        };
        let hal = Watched::new(&machine, before);
        let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), Options::default());
        let config = CellConfig { reset: ResetPolicy::Required, ..UNSAFE_INTERRUPTS };
        let [one, two] = [(); 2].map(|()| iommu.create_cell(config).unwrap());
        iommu.map(one, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        iommu.map(two, region(INPUT, MEMORY + LARGE, PAGE, RW)).unwrap();
        machine.break_unit(0, Defect::QueueDead);
        armed.store(true, Ordering::Relaxed);
        let mut change = iommu.change();
        change.assign(broken, one).assign(card, one);
        change.commit().unwrap_err();
        let came = !armed.load(Ordering::Relaxed);
        let mut listed = vec![];
        iommu.assigned(|it| listed.push(it.device)).unwrap();
        let pending = machine.config_read(card, DEVICE_STATUS) & PENDING != 0;
        let again = iommu.assign(card, two);
        machine.pass(10_000_000_000);
        let (resets, there) = (machine.resets(card), peek(&machine, MEMORY + LARGE));
        machine.abandon();
        assert!(came, "the card was let in for a moment");
        assert!(
            again.is_err() || there == 0 && resets > 0,
            "{how:?}: listed {listed:?}, pending {pending}, {again:?}, {resets} resets, the other cell's memory has {there}"
        );
    }
}

/// T3: of two devices that do not come back, each stays blocked in its cell.
#[test]
fn each_device_that_does_not_come_back_is_blocked() {
    let machine = machine([UnitConfig::server()]);
    let devices = [function(0, 3), function(0, 4)];
    devices.iter().for_each(|device| resettable(&machine, *device, Reset::Express, RESET + 1500 * MILLISECOND));
    let iommu = enabled(&machine);
    let cell = cell_of(&iommu, ResetPolicy::IfPossible, &devices);
    assert!(matches!(iommu.destroy_cell(cell), Err(Error::NotReset { .. })));
    let mut left = Vec::new();
    iommu.assigned(|it| left.push((it.device, it.cell, it.quarantined))).unwrap();
    assert_eq!(left, devices.map(|device| (device, cell, true)));
    machine.pass(1000 * MILLISECOND);
    iommu.destroy_cell(cell).unwrap();
}
