//! Capacities that are used up, of nothing or one, or for which the memory is too small.

use std::mem::MaybeUninit;

use cofferdam::addr::Rights;
use cofferdam::iommu::{DeviceConfig, Difference, Edit, Error, Options};
use cofferdam::limits::{Full, Limits};
use cofferdam_model::UnitConfig;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::tables::of_machine;

use crate::audit::{INPUT, RW, assert_nothing_differs, audit, reach};
use crate::random_changes::{edits_that_keep_cells, table_of_two_units, two_units};

const DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true, messages: 0 };

/// One device-TLB leaves and comes back without, another comes: in one batch both may be asked.
#[test]
fn device_tlbs_that_leave_count_also_if_the_device_stays() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { device_tlbs: 1, ..Limits::DEFAULT });
    let (first, second) = (function(0, 3), function(0, 4));
    let [a, b] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    [first, second].iter().for_each(|device| machine.add_ats(*device, 32));
    // ATS_CTRL.E: somebody else has switched it on.
    machine.set_config(second, 0x144, 1 << 31);
    iommu.assign_with(first, a, DEVICE_TLB).unwrap();
    let mut change = iommu.change();
    change.release(first).assign(first, b).assign_with(second, b, DEVICE_TLB);
    let full = Full { what: "devices with a device-TLB behind this unit", capacity: 1 };
    assert_eq!(change.commit().map(drop), Err(Error::Full(full)));
}

/// The number of device-TLBs is a limit of each unit: those behind another do not count.
#[test]
fn each_unit_has_room_for_device_tlbs_of_its_own() {
    let machine = two_units(1);
    let limits = Limits { device_tlbs: 1, ..Limits::DEFAULT };
    let iommu = limited_front(&machine, &table_of_two_units(&machine), &limits, Options::default());
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    for bus in [0, 1] {
        iommu.assign_with(function(bus, 0), cell, DEVICE_TLB).unwrap();
        let full = Full { what: "devices with a device-TLB behind this unit", capacity: 1 };
        assert_eq!(iommu.assign_with(function(bus, 1), cell, DEVICE_TLB).map(drop), Err(Error::Full(full)));
    }
}

const MEMORY: u64 = 0x6000_0000;

/// Every field of the capacities.
const FIELDS: [fn(&mut Limits) -> &mut usize; 11] = [
    |it| &mut it.units,
    |it| &mut it.scopes,
    |it| &mut it.reserved,
    |it| &mut it.cells,
    |it| &mut it.regions,
    |it| &mut it.root_regions,
    |it| &mut it.domains,
    |it| &mut it.devices,
    |it| &mut it.device_tlbs,
    |it| &mut it.windows,
    |it| &mut it.changes,
];

/// The capacities of a machine of two units of which nothing is left over.
const TIGHT: Limits = Limits {
    units: 2,
    scopes: 64,
    reserved: 1,
    cells: 3,
    regions: 2,
    root_regions: 2,
    domains: 1,
    devices: 2,
    device_tlbs: 1,
    windows: 1,
    interrupts: 64,
    lines: 1,
    changes: 1,
};

#[test]
fn a_front_takes_just_the_memory_that_its_capacities_say() {
    let machine = two_units(0);
    let table = table_of_two_units(&machine);
    let read = |limits: &Limits, words: usize| {
        let memory = vec![MaybeUninit::uninit(); words].leak();
        Front::new(&machine, Options::default()).probe_acpi(memory, limits, &table, |_| ())
    };
    let mut random = Random::new(7);
    for _ in 0..200 {
        let mut limits = TIGHT;
        FIELDS[3..].iter().for_each(|field| *field(&mut limits) = random.below(9) as usize);
        limits.changes = limits.changes.max(1);
        let words = limits.words();
        assert_eq!(read(&limits, words), Ok(()), "{limits:?}");
        assert!(matches!(read(&limits, words - 1), Err(Error::Full(_))), "{limits:?}");
    }
    for field in FIELDS {
        for value in [usize::MAX, usize::MAX - 1, usize::MAX / 2, usize::MAX / 8, 1 << 32] {
            let mut limits = TIGHT;
            *field(&mut limits) = value;
            for words in [0, 1, TIGHT.words()] {
                assert!(read(&limits, words).is_err(), "{limits:?}");
            }
        }
    }
}

#[test]
fn no_capacity_of_nothing_or_one_breaks_a_call() {
    for (index, field) in FIELDS.iter().enumerate() {
        for value in 0..2 {
            let mut limits = Limits { device_tlbs: 8, devices: 16, ..TIGHT };
            *field(&mut limits) = value;
            let machine = two_units(1);
            let table = table_of_two_units(&machine);
            let memory = memory(&Limits { changes: limits.changes.max(1), ..limits }).leak();
            let iommu = Front::new(&machine, Options { accept_unblocked: true, ..Options::default() });
            let Ok(()) = iommu.probe_acpi(memory, &limits, &table, |_| ()) else {
                assert!([0, 10].contains(&index), "{limits:?}");
                continue;
            };
            iommu.enable().unwrap();
            let cells: Vec<_> = (0..3).filter_map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).ok()).collect();
            let Some(&first) = cells.first() else { continue };
            let mut random = Random::new(3);
            for _ in 0..100 {
                let edits = edits_that_keep_cells(&mut random, &cells, first);
                let _ = iommu.commit(&edits);
                // Without room for all scopes, no unit is known to serve some devices.
                let mut found = audit(&iommu);
                found.retain(|it| limits.scopes > 1 || !matches!(it, Difference::Unserved { .. }));
                assert_eq!(found, [], "{limits:?}: {edits:?}");
            }
            let all: Vec<_> = cells.iter().map(|cell| Edit::Destroy(*cell)).collect();
            iommu.commit(&all).unwrap();
            assert_eq!(reach(&iommu), [], "{limits:?}");
            iommu.disable().unwrap();
        }
    }
}

/// Memory for capacities of any size is enough.
#[test]
fn words_are_enough_for_any_capacities() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
    let mut random = Random::new(11);
    for _ in 0..300 {
        let mut up_to = |most: u64| random.below(most + 1) as usize;
        let limits = Limits {
            units: 2 + up_to(100),
            scopes: 64 + up_to(300),
            reserved: up_to(64),
            cells: up_to(64),
            regions: up_to(100),
            root_regions: up_to(100),
            domains: up_to(9),
            devices: up_to(300),
            device_tlbs: up_to(48),
            windows: up_to(64),
            interrupts: [0, 64, 1024, 0x1_0000][up_to(3)],
            lines: up_to(70),
            changes: 1 + up_to(20),
        };
        let memory = vec![MaybeUninit::uninit(); limits.words()].leak();
        let read = Front::new(&machine, Options::default()).probe_acpi(memory, &limits, &table, |_| ());
        assert_eq!(read, Ok(()), "{limits:?}");
    }
}

/// F18: the front is made in place, so that a thread with a small stack takes it from the first call to the last.
#[test]
fn a_thread_of_16_kib_is_enough_for_a_front() {
    let machine = &*Box::leak(Box::new(machine([UnitConfig::server()])));
    let (table, memory) = (of_machine(machine, &[]).table(), memory(&Limits::DEFAULT).leak());
    let thread = std::thread::Builder::new().stack_size(16 << 10);
    let life = thread.spawn(move || {
        let iommu = Front::new(machine, Options::default());
        iommu.probe_acpi(memory, &Limits::DEFAULT, &table, |finding| panic!("{finding}")).unwrap();
        iommu.enable().unwrap();
        let cell = cell_with(&iommu, region(0x10_0000, 0x6000_0000, PAGE, Rights::all()), function(0, 3));
        assert_eq!(iommu.audit(|_| ()).unwrap().differences, 0);
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
    });
    life.unwrap().join().unwrap();
}

/// L2: a unit with 16 domain-ids that uses none is not full since another unit has used as many. No id has two meanings on one
/// unit, also when a device comes to a cell whose table has an id that another cell uses there.
#[test]
fn each_unit_has_domain_ids_of_its_own() {
    let many = UnitConfig::server();
    let few = UnitConfig { cap: many.cap & !7, ..many.clone() };
    let machine = machine([few.serving(&[1]), many]);
    let limits = Limits { cells: 16, ..Limits::DEFAULT };
    let iommu = limited_front(&machine, &of_machine(&machine, &[&[1]]).table(), &limits, Options::default());
    let memory = |n: u64| region(INPUT, MEMORY + n * PAGE, PAGE, RW);
    let cells: Vec<_> = (0..15).map(|n| cell_with(&iommu, memory(n), function(0, n as u8 + 1))).collect();
    let last = cell_with(&iommu, memory(15), function(1, 0));
    for n in 0..14 {
        // What the cell has on the other unit has an id that is used on this one, or will be.
        iommu.assign(function(1, n + 1), cells[usize::from(n)]).unwrap();
    }
    let full = iommu.assign(function(1, 15), cells[14]).unwrap_err();
    assert_eq!(full, Error::Full(Full { what: "domain-ids of the unit", capacity: 15 }));
    iommu.assign(function(0, 31), last).unwrap();
    for (n, device) in
        (0..14).map(|n| (n, function(1, n as u8 + 1))).chain([(15, function(1, 0)), (15, function(0, 31))])
    {
        poke(&machine, MEMORY + n * PAGE, 0x100 + n);
        assert_eq!(read(&machine, device, INPUT), Some(0x100 + n), "{device}");
    }
    assert_nothing_differs(&iommu, "all ids in use");
    iommu.unmap(last, range(INPUT, PAGE)).unwrap();
    assert_eq!([function(0, 31), function(1, 0)].map(|device| read(&machine, device, INPUT)), [None; 2]);
    assert_eq!(read(&machine, function(1, 1), INPUT), Some(0x100));
    machine.check();
}

/// The same of the two tables of one cell.
#[test]
fn no_domain_id_is_that_of_two_tables_of_a_cell() {
    let many = UnitConfig::server();
    let few = UnitConfig { cap: many.cap & !7, ..many.clone() };
    let machine = machine([few.serving(&[1]), many.snoop_control(false)]);
    let limits = Limits { cells: 15, ..Limits::DEFAULT };
    let iommu = limited_front(&machine, &of_machine(&machine, &[&[1]]).table(), &limits, Options::default());
    let memory = |n: u64| region(INPUT, MEMORY + n * PAGE, PAGE, RW);
    // They have all ids that the first unit knows.
    let cells: Vec<_> = (0..15).map(|n| cell_with(&iommu, memory(n), function(0, n as u8 + 1))).collect();
    let devices = [function(0, 1), function(1, 0)];
    iommu.assign(devices[1], cells[0]).unwrap();
    assert!(devices.iter().all(|device| write(&machine, *device, INPUT, 1)));
    assert_nothing_differs(&iommu, "with two tables");
    iommu.map(cells[0], region(INPUT + PAGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    iommu.unmap(cells[0], range(INPUT, PAGE)).unwrap();
    for device in devices {
        assert!(write(&machine, device, INPUT + PAGE, 1) && !write(&machine, device, INPUT, 1), "{device}");
    }
    assert_nothing_differs(&iommu, "after changes in both");
    iommu.release(devices[1]).unwrap();
    assert!(write(&machine, devices[0], INPUT + PAGE, 1) && !write(&machine, devices[1], INPUT + PAGE, 1));
}

/// Each of as many cells as there can be has its own memory, and gives it back.
#[test]
fn sixty_four_cells_have_each_what_is_its_own() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { cells: 64, devices: 64, ..Limits::DEFAULT });
    let device = |n: usize| function(n as u8 / 32, n as u8 % 32);
    let own = |n: usize| MEMORY + n as u64 * PAGE;
    let cells: Vec<_> = (0..64).map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()).collect();
    assert_eq!(iommu.create_cell(UNSAFE_INTERRUPTS), Err(Error::Full(Full { what: "cells", capacity: 64 })));
    for (n, cell) in cells.iter().enumerate() {
        iommu.assign(device(n), *cell).unwrap();
        iommu.map(*cell, region(INPUT, own(n), PAGE, RW)).unwrap();
    }
    for n in 0..64 {
        assert!(write(&machine, device(n), INPUT, n as u64 + 1) && peek(&machine, own(n)) == n as u64 + 1, "cell {n}");
    }
    assert_nothing_differs(&iommu, "64 cells");
    for (n, cell) in cells.iter().enumerate() {
        iommu.unmap(*cell, range(INPUT, PAGE)).unwrap();
        assert!(!write(&machine, device(n), INPUT, 1), "cell {n}");
    }
}
