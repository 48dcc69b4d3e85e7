//! Devices that are assigned before the units are switched on, and those that keep their reserved memory in a cell without
//! memory of its own.

use std::cell::{Cell, RefCell};

use cofferdam::addr::{Iova, SourceId};
use cofferdam::error::UnitError;
use cofferdam::fault::Cause;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, Options, UnitState};
use cofferdam::topology::Role;
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{Table, endpoint, of_machine};
use cofferdam_support::watched::{Call, Watched};

use crate::audit::{RW, assert_nothing_differs};

const MEMORY: u64 = 0x6000_0000;
const RESERVED: u64 = 0x7800_0000;
/// What firmware reserves, and for which devices of bus 0: for one, for two, and two ranges for one.
const ALL: [(u64, u64, &[u8]); 4] = [
    (RESERVED, 2 * PAGE, &[3]),
    (RESERVED + 0x10_0000, PAGE, &[4]),
    (RESERVED + 0x20_0000, PAGE, &[4, 5]),
    (RESERVED + 0x30_0000, 3 * PAGE, &[6]),
];
const DEVICES: [u8; 4] = [3, 4, 5, 6];
/// For a cell that devices come to with nothing but their reserved memory: they are not reset when they leave it.
const KEPT: CellConfig = CellConfig { reset: ResetPolicy::Never, ..UNSAFE_INTERRUPTS };

fn table_of(machine: &Machine) -> Table {
    ALL.iter().fold(of_machine(machine, &[]), |table, (first, bytes, devices)| {
        let users: Vec<_> = devices.iter().map(|device| endpoint(*device, 0)).collect();
        table.rmrr(0, *first, first + bytes - 1, &users)
    })
}

/// A front whose units are prepared, and a cell without memory that has every device for which firmware reserves some.
fn prepared<H: Hal>(hal: H, table: &Table) -> (Front<H>, CellId) {
    let iommu = front(hal, &table.clone().table(), Options::default()).unwrap();
    iommu.prepare().unwrap();
    let kept = iommu.create_cell(KEPT).unwrap();
    let scopes = iommu.topology().scopes().iter();
    let mut users: Vec<SourceId> =
        scopes.filter(|scope| matches!(scope.role, Role::Reserved(_))).map(|scope| scope.source).collect();
    users.sort_unstable_by_key(|user| user.requester());
    users.dedup();
    let mut change = iommu.change();
    users.iter().for_each(|user| {
        change.assign(*user, kept);
    });
    change.commit().unwrap();
    assert!(users.iter().copied().eq(DEVICES.map(|device| function(0, device))));
    (iommu, kept)
}

/// The devices of a cell.
fn devices_of<H: Hal>(iommu: &Front<H>, cell: CellId) -> Vec<SourceId> {
    let mut all = Vec::new();
    iommu.assigned(|it| all.extend((it.cell == cell).then_some(it.device))).unwrap();
    all
}

/// The pages that a device reaches, of all reserved memory and what is beside it.
fn reached(machine: &Machine, device: u8) -> Vec<u64> {
    let ranges = ALL.iter().flat_map(|(first, bytes, _)| (first - PAGE..first + bytes + PAGE).step_by(PAGE as usize));
    let all = ranges.chain([0, PAGE, MEMORY, MEMORY + PAGE, 0x1000_0000]);
    all.filter(|at| write(machine, function(0, device), *at, *at) && peek(machine, *at) == *at).collect()
}

/// The pages that firmware reserves for a device.
fn own(device: u8) -> Vec<u64> {
    let own = ALL.iter().filter(|(.., devices)| devices.contains(&device));
    own.flat_map(|(first, bytes, _)| (*first..first + bytes).step_by(PAGE as usize)).collect()
}

/// True if a device reaches the whole of its reserved memory.
fn reaches_own(machine: &Machine, device: u8) -> bool {
    own(device).iter().all(|at| read(machine, function(0, device), *at).is_some())
}

/// F3: a device that was assigned before reaches its reserved memory at every moment from then on, and nothing else once the
/// units are on.
#[test]
fn reserved_memory_is_reached_at_every_moment_of_enable() {
    for (name, units) in boards() {
        let looks = Cell::new(0);
        let look = |_, machine: &Machine| {
            looks.set(looks.get() + 1);
            DEVICES.iter().for_each(|device| assert!(reaches_own(machine, *device), "{name}: {device}"));
        };
        let hal = Watched::new(machine(units), look);
        let (iommu, kept) = prepared(&hal, &table_of(&hal.machine));
        assert!(states(&iommu).iter().all(|state| *state == UnitState::Off), "{name}");
        assert!(write(&hal.machine, function(0, 7), MEMORY, 1), "{name}: no unit was switched on");
        looks.set(0);
        iommu.enable().unwrap();
        assert!(looks.get() > 20, "{name}");
        for device in DEVICES {
            assert_eq!(reached(&hal.machine, device), own(device), "{name}: {device}");
        }
        assert_eq!(reached(&hal.machine, 7), [], "{name}");
        assert_eq!(devices_of(&iommu, kept).len(), DEVICES.len());
        assert_nothing_differs(&iommu, name);
    }
}

/// F3: a device moves from the cell that keeps reserved memory to another and back, each by one change. It reaches its reserved
/// memory in both, is blocked once and not for longer than units take, and the other devices are not concerned.
#[test]
fn devices_move_from_reserved_memory_and_back() {
    for (name, units) in boards() {
        // When the device was first and last found blocked, and how often it came to be so.
        let blocked: RefCell<Vec<[u64; 2]>> = RefCell::default();
        let (was_blocked, watches) = (Cell::new(false), Cell::new(false));
        let look = |call, machine: &Machine| {
            if !watches.get() || call == Call::ConfigRead {
                return;
            }
            let now = machine.now_ns();
            [3, 4, 5].iter().for_each(|other| assert!(reaches_own(machine, *other), "{name}: {other}"));
            let is_blocked = !reaches_own(machine, 6);
            let mut blocked = blocked.borrow_mut();
            match blocked.last_mut().filter(|_| was_blocked.get()) {
                Some(last) if is_blocked => last[1] = now,
                None if is_blocked => blocked.push([now, now]),
                _ => {}
            }
            was_blocked.set(is_blocked);
        };
        let hal = Watched::new(machine(units), look);
        let machine = &hal.machine;
        let (iommu, kept) = prepared(&hal, &table_of(machine));
        iommu.enable().unwrap();
        let device = function(0, 6);
        let cell = iommu.create_cell(KEPT).unwrap();
        iommu.map(cell, region(0, MEMORY, PAGE, RW)).unwrap();
        watches.set(true);
        for (to, with_memory) in [(cell, true), (kept, false), (cell, true), (kept, false)] {
            let mut change = iommu.change();
            change.release(device).assign(device, to);
            change.commit().unwrap();
            assert_eq!(read(machine, device, 0).is_some(), with_memory, "{name}");
            assert!(reaches_own(machine, 6), "{name}");
        }
        watches.set(false);
        let blocked = blocked.take();
        assert_eq!(blocked.len(), 4, "{name}: {blocked:?}");
        for [first, last] in blocked {
            assert!(last - first < 1_000_000, "{name}: {} ns, where a reset alone takes 100 ms", last - first);
        }
        for device in DEVICES {
            assert_eq!(reached(machine, device), own(device), "{name}: {device}");
        }
        assert_nothing_differs(&iommu, name);
        iommu.destroy_cell(kept).unwrap();
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(reached(machine, 6), [], "{name}");
        iommu.disable().unwrap();
        assert_eq!(machine.frames_in_use(), 0, "{name}");
    }
}

/// F3: where a device without a cell is blocked from its reserved memory, the topology says that it is that.
#[test]
fn a_fault_in_reserved_memory_is_said_to_be_one() {
    let machine = machine([UnitConfig::server()]);
    let table = table_of(&machine);
    let offset = table.offset() as usize - 4 * (24 + 8) - 8;
    let iommu = enabled_front(&machine, &table.table(), Options::default());
    for (device, at) in [(3, RESERVED + PAGE), (3, RESERVED + 2 * PAGE), (7, RESERVED), (4, RESERVED + 0x20_0000)] {
        assert!(!write(&machine, function(0, device), at, 1));
    }
    let mut found = Vec::new();
    iommu.faults(|fault| {
        assert_eq!(fault.cause, Cause::Blocked);
        found.push(iommu.topology().reserved_at(iommu.hal(), fault.source, fault.address.unwrap()));
    });
    let texts: Vec<_> = found.iter().map(|memory| memory.map(|memory| memory.to_string())).collect();
    let text = |range, offset| Some(format!("firmware reserves {range} for it, at offset {offset:#x} of its table"));
    let first = text("0x78000000..=0x78001fff", offset);
    assert_eq!(texts, [first, None, None, text("0x78200000..=0x78200fff", offset + 64)]);
}

/// F3: the same where the request carries the id of the bridge that the device is behind.
#[test]
fn a_fault_by_another_id_is_one_in_reserved_memory() {
    let machine = machine([UnitConfig::server()]);
    let iommu = front(&machine, &table_of(&machine).table(), Options::default()).unwrap();
    iommu.add_alias(function(0, 3), function(0, 9).into()).unwrap();
    let at = |source| iommu.topology().reserved_at(&machine, source, Iova::new(RESERVED)).is_some();
    assert!(at(function(0, 3)) && at(function(0, 9)) && !at(function(0, 4)));
}

#[test]
fn changes_before_enable_take_effect_with_it() {
    for (name, units) in boards() {
        let machine = machine(units);
        let iommu = front(&machine, &of_machine(&machine, &[]).table(), Options::default()).unwrap();
        let [first, second, third] = [3, 4, 5].map(|device| function(0, device));
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_eq!(iommu.assign(first, cell), Err(Error::NotEnabled), "{name}");
        assert_eq!(machine.frames_in_use(), 0, "{name}");
        iommu.prepare().unwrap();
        iommu.prepare().unwrap();
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        let mut change = iommu.change();
        change
            .map(root, region(MEMORY, MEMORY, LARGE, RW))
            .assign(first, root)
            .assign(second, root)
            .assign(third, root);
        change.commit().unwrap();
        // What a unit that translates would have to be asked to forget.
        iommu.commit(&[]).unwrap();
        let mut change = iommu.change();
        change.map(cell, region(0, MEMORY, 2 * PAGE, RW)).assign(second, cell).release(third);
        change.commit().unwrap();
        iommu.unmap(cell, range(PAGE, PAGE)).unwrap();
        assert_eq!(iommu.statistics().doorbells, 0, "{name}");
        assert!([first, second, third].iter().all(|device| write(&machine, *device, MEMORY, 1)), "{name}: still off");

        iommu.enable().unwrap();
        let reaches = |device, at| write(&machine, device, at, 1);
        assert!(reaches(first, MEMORY + PAGE) && !reaches(first, MEMORY) && !reaches(first, 0), "{name}");
        assert!(reaches(second, 0) && !reaches(second, PAGE) && !reaches(second, MEMORY), "{name}");
        assert!(!reaches(third, MEMORY + PAGE) && !reaches(third, 0), "{name}");
        assert_nothing_differs(&iommu, name);
        iommu.destroy_cell(cell).unwrap();
        assert!(reaches(first, MEMORY) && !reaches(second, 0), "{name}");
        iommu.destroy_cell(root).unwrap();
        iommu.disable().unwrap();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_eq!(iommu.assign(first, cell), Err(Error::NotEnabled), "{name}");
        assert_eq!(machine.frames_in_use(), 0, "{name}");
    }
}

#[test]
fn a_prepared_unit_gives_its_frames_back() {
    let machine = machine([UnitConfig::server()]);
    let iommu = front(&machine, &of_machine(&machine, &[]).table(), Options::default()).unwrap();
    iommu.prepare().unwrap();
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), function(0, 3));
    assert_eq!(iommu.disable(), Err(Error::Busy { device: function(0, 3), cell }));
    iommu.destroy_cell(cell).unwrap();
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
    assert!(write(&machine, function(0, 3), MEMORY, 1));
    assert_eq!(empty_front(&machine, Options::default()).prepare(), Err(Error::NotProbed));
}

/// A `disable` that is refused, since a cell has a device, changes nothing: the front works as before.
#[test]
fn a_refused_disable_changes_nothing() {
    let (machine, device, other) = (machine([UnitConfig::server()]), function(0, 3), function(0, 4));
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), device);
    assert_eq!(iommu.disable(), Err(Error::Busy { device, cell }));
    iommu.assign(other, cell).unwrap();
    assert!(
        [device, other].iter().all(|device| write(&machine, *device, 0, 1) && !write(&machine, *device, MEMORY, 1))
    );
    assert_nothing_differs(&iommu, "after a refused disable");
    iommu.mute(function(0, 5), true).unwrap();
    iommu.isolate().unwrap();
}

/// A unit that does not translate yet answers no translation request.
#[test]
fn a_device_tlb_comes_after_enable() {
    let (machine, device) = (machine([UnitConfig::server()]), function(0, 3));
    machine.add_ats(device, 32);
    let iommu = front(&machine, &table_with_ats(&machine), Options::default()).unwrap();
    iommu.prepare().unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let with_tlb = DeviceConfig { device_tlb: true, messages: 0 };
    assert_eq!(iommu.assign_with(device, cell, with_tlb), Err(Error::NotEnabled));
    iommu.enable().unwrap();
    iommu.assign_with(device, cell, with_tlb).unwrap();
}

/// A unit that cannot be prepared, or not be switched on later, costs itself alone.
#[test]
fn a_unit_that_fails_keeps_its_devices_listed() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    machine.allow_allocations(Some(1));
    assert!(matches!(iommu.prepare(), Err(Error::Unit(UnitError::NoFrame { .. }))));
    machine.allow_allocations(None);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(0, MEMORY, PAGE, RW)).unwrap();
    iommu.assign(function(1, 3), cell).unwrap();
    assert!(matches!(iommu.assign(function(0, 3), cell), Err(Error::Unit(_))));
    iommu.prepare().unwrap();
    iommu.assign(function(0, 3), cell).unwrap();

    machine.break_unit(0, Defect::StatusStuckLow(1 << 31));
    let window = machine.windows()[0];
    let error = iommu.enable().unwrap_err();
    assert!(matches!(error, Error::Unit(UnitError::Timeout { unit, .. }) if unit == window), "{error}");
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }, UnitState::On]));
    assert_eq!(devices_of(&iommu, cell), [function(1, 3), function(0, 3)]);
    assert!(write(&machine, function(0, 3), 0, 1) && !write(&machine, function(0, 3), MEMORY, 1));
    assert!(matches!(iommu.release(function(1, 3)), Err(Error::Unit(_))));
    iommu.release(function(0, 3)).unwrap();
    machine.abandon();
}

/// A unit that found a frame for its queue and none for its root table: once `prepare` says that it is ready, it takes devices.
#[test]
fn a_unit_that_is_said_to_be_ready_takes_devices() {
    for allowed in 0..8 {
        let machine = machine([UnitConfig::client()]);
        let iommu = discover(&machine, &[]).unwrap();
        machine.allow_allocations(Some(allowed));
        let enabled = iommu.enable().map(drop);
        machine.allow_allocations(None);
        let prepared = iommu.prepare();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let assigned = iommu.assign(function(0, 3), cell).map(drop);
        assert!(
            prepared.is_err() || assigned.is_ok(),
            "{allowed} frames: enable {enabled:?}, prepare {prepared:?}, assign {assigned:?}"
        );
        iommu.enable().unwrap();
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
        assert_eq!(machine.frames_in_use(), 0);
    }
}

/// One that cannot be prepared keeps no other from it.
#[test]
fn each_unit_is_prepared_whatever_others_do() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    machine.break_unit(0, Defect::AllOnes);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    let failed = iommu.prepare();
    assert!(matches!(failed, Err(Error::Unit(_))), "{failed:?}");
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(function(1, 3), cell).unwrap_err();
    iommu.assign(function(0, 3), cell).unwrap();
    machine.abandon();
}
