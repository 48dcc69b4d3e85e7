//! Attempts to make a change do what it must not: in capacities that are nearly used up, in failures, in time.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cofferdam::CellId;
use cofferdam::addr::Rights;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, Reach};
use cofferdam::limits::{Full, Limits};
use cofferdam_model::{Answer, Defect, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
const DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true };

/// A front with these capacities, switched on.
fn front_of<H: Hal>(hal: H, table: &[u8], limits: &Limits, options: Options) -> Front<H> {
    let memory = memory(limits).leak();
    let mut iommu = Front::new(hal, options);
    iommu.probe_acpi(memory, limits, table, |finding| panic!("{finding}")).unwrap();
    iommu.enable().unwrap();
    iommu
}

fn limited<'m>(machine: &'m Machine, limits: &Limits) -> Front<&'m Machine> {
    front_of(machine, &table_with_ats(machine), limits, Options::default())
}

/// All that devices reach.
fn reach<H: Hal>(iommu: &Front<H>) -> Vec<Reach> {
    let mut all = Vec::new();
    iommu.reach(|reach| all.push(reach)).unwrap();
    all
}

fn audited<H: Hal>(iommu: &Front<H>) -> Vec<String> {
    let mut all = Vec::new();
    iommu.audit(|difference| all.push(difference.to_string())).unwrap();
    all
}

/// What was taken from a cell in a change that failed is not in its configuration any more, also when the cell had as many
/// regions as it can have: a device that comes later must not be given it.
#[test]
fn what_a_failed_change_revoked_is_not_given_to_the_next_device() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 2, ..Limits::DEFAULT });
    let (silent, next) = (function(0, 3), function(0, 4));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 4 * PAGE, RW)).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    machine.add_ats(silent, 32);
    iommu.assign_with(silent, cell, DEVICE_TLB).unwrap();
    machine.set_device_tlb(silent, Answer::Never, 32);
    assert!(ats_write(&machine, silent, INPUT + PAGE, 1));
    // The second region goes, so the first may be split.
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT + LARGE, PAGE)).unmap(cell, range(INPUT + PAGE, PAGE));
    change.commit().unwrap_err();
    machine.set_device_tlb(silent, Answer::After(0), 32);
    iommu.release(silent).unwrap();
    iommu.assign(next, cell).unwrap();
    assert!(!write(&machine, next, INPUT + PAGE, 1), "it was taken from the cell");
}

/// The same for the root cell's memory as if there were no other cell.
#[test]
fn what_the_root_cell_gave_up_in_a_failed_change_stays_away() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 2, ..Limits::DEFAULT });
    let (silent, disk) = (function(0, 3), function(0, 1));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 4 * PAGE, RW)).unwrap();
    iommu.map(root, region(MEMORY + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    iommu.assign(disk, root).unwrap();
    machine.add_ats(silent, 32);
    iommu.assign_with(silent, root, DEVICE_TLB).unwrap();
    machine.set_device_tlb(silent, Answer::Never, 32);
    assert!(ats_write(&machine, silent, MEMORY + PAGE, 1));
    let mut change = iommu.change();
    change.unmap(root, range(MEMORY + LARGE, PAGE)).unmap(root, range(MEMORY + PAGE, PAGE));
    change.commit().unwrap_err();
    assert!(!write(&machine, disk, MEMORY + PAGE, 1));
    machine.set_device_tlb(silent, Answer::After(0), 32);
    iommu.release(silent).unwrap();
    // Any change that the root cell has part in.
    iommu.unmap(root, range(MEMORY + 3 * PAGE, PAGE)).unwrap();
    assert_eq!(audited(&iommu), [""; 0]);
    assert!(!write(&machine, disk, MEMORY + PAGE, 1), "nobody granted it again");
}

/// After a failed change the configuration and the tables say the same.
#[test]
fn a_failed_change_in_a_full_cell_leaves_no_difference() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, ..Limits::DEFAULT });
    let (silent, other) = (function(0, 3), function(0, 4));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 4 * PAGE, RW)).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    iommu.map(cell, region(INPUT + 2 * LARGE, MEMORY + 2 * LARGE, PAGE, RW)).unwrap();
    machine.add_ats(silent, 32);
    iommu.assign_with(silent, cell, DEVICE_TLB).unwrap();
    iommu.assign(other, cell).unwrap();
    machine.set_device_tlb(silent, Answer::Never, 32);
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT + LARGE, PAGE)).unmap(cell, range(INPUT + 2 * LARGE, PAGE));
    change.protect(cell, range(INPUT + PAGE, PAGE), Rights::READ);
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    assert_eq!(audited(&iommu), [""; 0]);
}

/// What is granted may join what is left of several regions. Without it they are more than before, and more than after.
#[test]
fn a_change_has_room_for_what_is_left_if_it_fails() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 2, ..Limits::DEFAULT });
    let [cell, other] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    for (cell, input) in [(cell, INPUT), (root, MEMORY + LARGE)] {
        let memory = if cell == root { input } else { MEMORY };
        let page = |first: u64, pages: u64| region(input + first * PAGE, memory + first * PAGE, pages * PAGE, RW);
        iommu.map(cell, page(0, 4)).unwrap();
        iommu.map(cell, page(5, 6)).unwrap();
        if cell == root {
            // What counts is what the root cell would have without the others.
            iommu.map(other, region(INPUT + LARGE, memory + 5 * PAGE, 6 * PAGE, RW)).unwrap();
        }
        let before = reach(&iommu);
        // The hole is filled, and another one made below.
        let mut change = iommu.change();
        change.map(cell, page(4, 1)).unmap(cell, page(1, 1).input);
        let full = Full { what: "regions in this cell", capacity: 2 };
        assert_eq!(change.commit().map(drop), Err(Error::Full(full)));
        assert_eq!((reach(&iommu), audited(&iommu)), (before, vec![]));
        iommu.map(cell, page(4, 1)).unwrap();
        iommu.unmap(cell, page(1, 1).input).unwrap();
    }
}

/// A unit that fails while memory is granted may have let its devices in: the root cell does not get the memory back.
#[test]
fn the_root_cell_does_not_get_what_a_failed_grant_let_in() {
    let units = [UnitConfig::server().serving(&[1]), UnitConfig::server()];
    let machine = machine(units);
    let (disk, card) = (function(0, 1), function(1, 0));
    let used = AtomicBool::new(false);
    let before = |call: Call, machine: &Machine| {
        if call == Call::Pause && used.load(Ordering::Relaxed) {
            let _ = write(machine, card, INPUT, 1);
        }
    };
    let hal = Watched { machine: &machine, before };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), Options::default());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, Rights::READ)).unwrap();
    iommu.assign(card, cell).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    used.store(true, Ordering::Relaxed);
    // What gets more rights is flushed after it is granted.
    let mut change = iommu.change();
    change.map(cell, region(INPUT, MEMORY, PAGE, RW)).protect(cell, range(INPUT + LARGE, PAGE), RW);
    change.commit().unwrap_err();
    used.store(false, Ordering::Relaxed);
    // Changes that the root cell has part in.
    iommu.assign(disk, root).unwrap();
    iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    machine.abandon();
    assert_ne!(both, (true, true), "the card by what its unit has cached, and the root cell's disk");
}

/// The same for a device that arrives.
#[test]
fn the_root_cell_does_not_get_what_a_failed_arrival_may_reach() {
    let units = [UnitConfig::server().serving(&[1]), UnitConfig::server()];
    let machine = machine(units);
    let (disk, card) = (function(0, 1), function(1, 0));
    let used = AtomicBool::new(false);
    let before = |call: Call, machine: &Machine| {
        if call == Call::Pause && used.load(Ordering::Relaxed) {
            let _ = write(machine, card, INPUT, 1);
        }
    };
    let hal = Watched { machine: &machine, before };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), Options::default());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, Rights::READ)).unwrap();
    iommu.assign(function(1, 1), cell).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    used.store(true, Ordering::Relaxed);
    let mut change = iommu.change();
    change.map(cell, region(INPUT, MEMORY, PAGE, RW)).protect(cell, range(INPUT + LARGE, PAGE), RW);
    change.assign(card, cell);
    change.commit().unwrap_err();
    used.store(false, Ordering::Relaxed);
    iommu.assign(disk, root).unwrap();
    iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    machine.abandon();
    assert_ne!(both, (true, true), "the card by what its unit has cached, and the root cell's disk");
}

/// A root cell that is made while another cell's change waits: it has nothing that the other is being given.
#[test]
fn a_root_cell_made_in_the_middle_of_a_change_takes_nothing() {
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched { machine: &machine, before: stop.looks() };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
    let (disk, card) = (function(0, 1), function(0, 2));
    let cell = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), card);
    assert!(write(&machine, card, INPUT, 1));
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE)).map(cell, region(INPUT, MEMORY, PAGE, RW));
    let edits = change.edits.clone();
    let changed = stop.meanwhile(
        || iommu.commit(&edits),
        || {
            assert_eq!(iommu.create_root_cell(UNSAFE_INTERRUPTS), Err(Error::InChange));
        },
    );
    changed.unwrap();
    assert!(write(&machine, card, INPUT, 2));
    assert!(!write(&machine, disk, MEMORY, 3), "only the cell has this memory");
}

/// What a unit may still reach is kept from a second root cell as well.
#[test]
fn a_second_root_cell_does_not_get_what_is_withheld() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let mut iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (disk, card) = (function(0, 1), function(1, 0));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, LARGE, RW)).unwrap();
    iommu.assign(disk, root).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    assert!(write(&machine, card, INPUT, 1));
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    iommu.destroy_cell(root).unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, LARGE, RW)).unwrap();
    iommu.assign(disk, root).unwrap();
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    machine.abandon();
    assert_ne!(both, (true, true), "the cell that had it is not destroyed");
}

/// Destroying a cell gives memory back to the root cell, and cannot be refused for that.
#[test]
fn a_cell_can_be_destroyed_when_the_root_cell_is_full() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 2, ..Limits::DEFAULT });
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 4 * PAGE, RW)).unwrap();
    iommu.map(root, region(MEMORY + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    iommu.assign(function(0, 1), root).unwrap();
    let [a, b] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.map(a, region(INPUT, MEMORY + LARGE, PAGE, RW)).unwrap();
    iommu.map(b, region(INPUT, MEMORY + PAGE, PAGE, RW)).unwrap();
    iommu.destroy_cell(a).unwrap();
}

/// A change that takes one region of the root cell and splits another has room for the outcome.
#[test]
fn the_root_cell_is_full_only_if_what_is_left_does_not_fit() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 2, ..Limits::DEFAULT });
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 4 * PAGE, RW)).unwrap();
    iommu.map(root, region(MEMORY + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
    let [a, b] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.map(b, region(INPUT, MEMORY + LARGE, PAGE, RW)).unwrap();
    iommu.map(a, region(INPUT, MEMORY + PAGE, PAGE, RW)).unwrap();
}

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

/// The handle of a cell from before the front was read again names no cell made after.
#[test]
fn a_handle_from_before_a_failed_probe_names_no_later_cell() {
    let machine = machine([UnitConfig::server(), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).table();
    let mut iommu = empty_front(&machine, Options::default());
    let limits = Limits::DEFAULT;
    machine.break_unit(1, Defect::AllOnes);
    iommu.probe_acpi(memory(&limits).leak(), &limits, &table, |_| ()).unwrap_err();
    let early = iommu.create_cell(UNSAFE_INTERRUPTS);
    machine.mend_unit(1);
    iommu.probe_acpi(memory(&limits).leak(), &limits, &table, |_| ()).unwrap();
    let late = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_ne!(early, Ok(late), "it belongs to a front that knew of no unit");
}

/// As `waits.rs` has it: fourteen cells fill a queue, the next waits for room.
#[test]
fn a_change_waits_for_room_also_without_device_tlbs() {
    const FULL: u8 = 14;
    let far_apart = |n: u64| INPUT + n * 512 * LARGE;
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched { machine: &machine, before: stop.looks() };
    let options = Options { timeout_ns: u64::MAX / 2, ..Options::DEFAULT };
    let limits = Limits { device_tlbs: 0, ..Limits::DEFAULT };
    let iommu = front_of(&hal, &of_machine(&machine, &[]).table(), &limits, options);
    let cells: Vec<_> = (0..=FULL)
        .map(|number| {
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            let mut change = iommu.change();
            for n in 0..8 {
                change.map(cell, region(far_apart(n), MEMORY + n * PAGE, PAGE, RW));
            }
            change.assign(function(1, number), cell);
            change.commit().unwrap();
            cell
        })
        .collect();
    let unmap_eight = |cell: CellId| {
        let edits: Vec<_> = (0..8).map(|n| Edit::Unmap(cell, range(far_apart(n), PAGE))).collect();
        iommu.commit(&edits).map(drop)
    };
    let (&last, full) = cells.split_last().unwrap();
    let before = iommu.statistics();
    machine.break_unit(0, Defect::QueueDead);
    std::thread::scope(|scope| {
        for &cell in full {
            scope.spawn(move || unmap_eight(cell).unwrap());
        }
        while iommu.statistics().waits < before.waits + u64::from(FULL) {
            std::thread::yield_now();
        }
        let changed = stop.meanwhile(|| unmap_eight(last), || machine.mend_unit(0));
        assert_eq!(changed, Ok(()));
    });
}

/// Cells, devices and pages of [`a_refused_change_leaves_no_trace`].
const PAGES: u64 = 6;

/// Random edits of few cells, pages and devices.
fn any_edits(random: &mut Random, cells: &[CellId], root: CellId) -> Vec<Edit> {
    let count = random.between(1, 3);
    let mut edits = Vec::new();
    for _ in 0..count {
        let cell = random.of(cells);
        let (page, device) = (random.below(PAGES), function(random.below(2) as u8, random.below(3) as u8));
        let pages = random.between(1, 2);
        let memory = MEMORY + page * PAGE;
        let input = if cell == root { memory } else { INPUT + page * PAGE };
        let rights = random.of(&[RW, RW, Rights::READ, Rights::WRITE]);
        let region = region(input, memory, pages * PAGE, rights);
        edits.push(match random.below(12) {
            0..3 => Edit::Map(cell, region),
            3 => Edit::MapShared(cell, region),
            4 | 5 => Edit::Unmap(cell, region.input),
            6 => Edit::Protect(cell, region.input, rights),
            7..10 => Edit::Assign(device, cell, DeviceConfig { device_tlb: random.one_in(2) }),
            10 => Edit::Release(device),
            _ if random.one_in(4) && cell != root => Edit::Destroy(cell),
            _ => Edit::Release(device),
        });
    }
    edits
}

/// Two machines: one is asked for all changes, with few frames now and then, the other only for those that the first made.
#[test]
fn a_refused_change_leaves_no_trace() {
    let mut counts = [0; 2];
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let units = || {
            let (one, two) = (UnitConfig::server(), UnitConfig::server());
            [one.caching_mode(seed.is_multiple_of(2)).serving(&[1]), two.coherent(seed.is_multiple_of(3))]
        };
        let machines = [machine(units()), machine(units())];
        let limits = Limits {
            units: 2,
            cells: 4,
            regions: random.between(1, 5) as usize,
            domains: random.between(1, 2) as usize,
            devices: random.between(2, 8) as usize,
            device_tlbs: random.between(0, 2) as usize,
            windows: 0,
            changes: 1,
            ..Limits::DEFAULT
        };
        for machine in &machines {
            for (bus, device) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] {
                machine.add_ats(function(bus, device), 32);
            }
        }
        let [all, made] = machines.each_ref().map(|machine| {
            let table = of_machine(machine, &[&[1]]).atsr(1, 0, &[]).table();
            front_of(machine, &table, &limits, Options::default())
        });
        let root = all.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_eq!(made.create_root_cell(UNSAFE_INTERRUPTS), Ok(root));
        let mut cells = vec![root];
        for step in 0..STEPS {
            while cells.len() < 4 {
                let cell = all.create_cell(UNSAFE_INTERRUPTS).unwrap();
                assert_eq!(made.create_cell(UNSAFE_INTERRUPTS), Ok(cell));
                cells.push(cell);
            }
            let edits = any_edits(&mut random, &cells, root);
            machines[0].allow_allocations(random.one_in(3).then(|| random.below(6)));
            let result = all.commit(&edits);
            machines[0].allow_allocations(None);
            let context = || format!("seed {seed}, step {step}, {limits:?}: {edits:?}: {result:?}");
            counts[usize::from(result.is_err())] += 1;
            if let Ok(committed) = result {
                assert_eq!(made.commit(&edits), Ok(committed), "{}", context());
            }
            assert_eq!(reach(&all), reach(&made), "{}", context());
            assert_eq!(audited(&all), [""; 0], "{}", context());
            assert_eq!(all.statistics().table_frames as usize, machines[0].frames_in_use(), "{}", context());
            assert_eq!(machines[0].frames_in_use(), machines[1].frames_in_use(), "{}", context());
            cells.retain(|cell| all.coherency(*cell).is_ok());
        }
        machines.iter().for_each(Machine::check);
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}

const SEEDS: u64 = 40;
const STEPS: u64 = 150;

/// Two units, of which one may cache what is absent, with devices that have device-TLBs and others.
fn two_units(seed: u64) -> Machine {
    let (one, two) = (UnitConfig::server(), UnitConfig::server());
    let machine =
        machine([one.caching_mode(seed.is_multiple_of(2)).serving(&[1]), two.coherent(seed.is_multiple_of(3))]);
    for (bus, device) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        machine.add_ats(function(bus, device), 32);
    }
    machine
}

/// Queues that stop and devices that do not answer, at any moment of any change: the tables say what the configuration says.
#[test]
fn after_any_failure_the_tables_are_what_is_committed() {
    let mut failed = 0;
    for seed in 0..SEEDS {
        let mut random = Random::new(seed + 1000);
        let machine = two_units(seed);
        let limits = Limits { cells: 4, domains: 2, devices: 8, changes: 1, ..Limits::DEFAULT };
        let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
        let iommu = front_of(&machine, &table, &limits, Options::default());
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        let mut cells = vec![root];
        let mut silent = Vec::new();
        for step in 0..STEPS {
            while cells.len() < 4 {
                cells.push(iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
            }
            let edits = any_edits(&mut random, &cells, root);
            for unit in 0..2 {
                if random.one_in(3) {
                    machine.break_unit(unit, Defect::QueueErrorAfter(random.below(4)));
                }
            }
            if random.one_in(3) {
                let device = function(random.below(2) as u8, random.below(2) as u8);
                machine.set_device_tlb(device, Answer::Never, 32);
                silent.push(device);
            }
            let result = iommu.commit(&edits);
            failed += u64::from(matches!(result, Err(Error::Unit(_))));
            (0..2).for_each(|unit| machine.mend_unit(unit));
            for device in silent.drain(..) {
                machine.set_device_tlb(device, Answer::After(0), 32);
            }
            assert_eq!(audited(&iommu), [""; 0], "seed {seed}, step {step}: {edits:?}: {result:?}");
            cells.retain(|cell| iommu.coherency(*cell).is_ok());
        }
        machine.check();
        let all: Vec<_> = cells.iter().map(|cell| Edit::Destroy(*cell)).collect();
        iommu.commit(&all).unwrap();
        assert_eq!((reach(&iommu), audited(&iommu)), (vec![], vec![]), "seed {seed}");
    }
    assert!(failed > 100, "{failed}");
}

/// Four CPUs change the same few cells, with fewer slots than CPUs, while a fifth mutes devices and looks at all there is.
#[test]
fn cpus_that_change_the_same_cells_leave_what_is_committed() {
    (0..4).for_each(|seed| on_four_cpus(seed, false));
}

/// The same while queues stop and devices do not answer now and then.
#[test]
fn failures_of_one_cpus_change_cost_no_other_its_own() {
    (0..4).for_each(|seed| on_four_cpus(seed, true));
}

fn on_four_cpus(seed: u64, failing: bool) {
    let machine = two_units(seed);
    let limits = Limits { cells: 4, domains: 2, devices: 8, changes: 2, ..Limits::DEFAULT };
    let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
    let options = Options { timeout_ns: u64::MAX / 2, ..Options::DEFAULT };
    let iommu = front_of(&machine, &table, &limits, options);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut cells = vec![root];
    cells.extend((0..3).map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()));
    let (iommu, cells, machine) = (&iommu, &cells, &machine);
    let busy = &AtomicUsize::new(4);
    std::thread::scope(|scope| {
        for cpu in 0..4 {
            scope.spawn(move || {
                let mut random = Random::new(seed * 4 + cpu);
                let (mut made, mut failed) = (0, 0);
                for _ in 0..200 {
                    let edits = any_edits(&mut random, cells, root);
                    let edits: Vec<_> = edits.into_iter().filter(|it| !matches!(it, Edit::Destroy(_))).collect();
                    match iommu.commit(&edits) {
                        Ok(_) => made += 1,
                        Err(Error::Unit(_)) => failed += 1,
                        Err(_) => {}
                    }
                }
                busy.fetch_sub(1, Ordering::Relaxed);
                assert!(made > 10 && (failing || failed == 0), "{made}, {failed}");
            });
        }
        scope.spawn(move || {
            let (mut muted, mut random) = (false, Random::new(seed + 100));
            while busy.load(Ordering::Relaxed) != 0 {
                if failing {
                    let silent = function(random.below(2) as u8, random.below(2) as u8);
                    machine.break_unit(random.index(2), Defect::QueueErrorAfter(random.below(8)));
                    machine.set_device_tlb(silent, Answer::Never, 32);
                    std::thread::yield_now();
                    (0..2).for_each(|unit| machine.mend_unit(unit));
                    machine.set_device_tlb(silent, Answer::After(0), 32);
                }
                muted = !muted;
                let _ = iommu.mute(function(1, 3), muted);
                iommu.faults(|_| ());
                iommu.statistics();
                let _ = iommu.input_ranges(cells[1], |_| ());
                iommu.audit(|difference| panic!("{difference}")).unwrap();
            }
        });
    });
    assert_eq!(audited(iommu), [""; 0], "seed {seed}");
    machine.check();
    let all: Vec<_> = cells.iter().map(|cell| Edit::Destroy(*cell)).collect();
    iommu.commit(&all).unwrap();
    assert_eq!((reach(iommu), audited(iommu)), (vec![], vec![]), "seed {seed}");
    if !failing {
        assert_eq!(machine.frames_in_use(), iommu.statistics().table_frames as usize);
    }
}

/// How often the same memory was kept from the root cell does not matter once the cell that had it is gone.
#[test]
fn the_root_cell_has_again_what_was_withheld_more_than_once() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, ..Limits::DEFAULT });
    let (disk, card) = (function(0, 1), function(0, 2));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * PAGE, RW)).unwrap();
    iommu.assign(disk, root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(card, cell).unwrap();
    for _ in 0..5 {
        iommu.map(cell, region(INPUT, MEMORY + PAGE, PAGE, RW)).unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        machine.mend_unit(0);
    }
    iommu.destroy_cell(cell).unwrap();
    assert!(write(&machine, disk, MEMORY + PAGE, 1));
}

/// Every field of the capacities.
const FIELDS: [fn(&mut Limits) -> &mut usize; 10] = [
    |it| &mut it.units,
    |it| &mut it.scopes,
    |it| &mut it.reserved,
    |it| &mut it.cells,
    |it| &mut it.regions,
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
    domains: 1,
    devices: 2,
    device_tlbs: 1,
    windows: 1,
    changes: 1,
};

#[test]
fn a_front_takes_just_the_memory_that_its_capacities_say() {
    let machine = two_units(0);
    let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
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
            let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
            let memory = memory(&Limits { changes: limits.changes.max(1), ..limits }).leak();
            let mut iommu = Front::new(&machine, Options::default());
            let Ok(()) = iommu.probe_acpi(memory, &limits, &table, |_| ()) else {
                assert!([0, 1, 9].contains(&index), "{limits:?}");
                continue;
            };
            iommu.enable().unwrap();
            let cells: Vec<_> = (0..3).filter_map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).ok()).collect();
            let Some(&first) = cells.first() else { continue };
            let mut random = Random::new(3);
            for _ in 0..100 {
                let edits = any_edits(&mut random, &cells, first);
                let edits: Vec<_> = edits.into_iter().filter(|it| !matches!(it, Edit::Destroy(_))).collect();
                let _ = iommu.commit(&edits);
                assert_eq!(audited(&iommu), [""; 0], "{limits:?}: {edits:?}");
            }
            let all: Vec<_> = cells.iter().map(|cell| Edit::Destroy(*cell)).collect();
            iommu.commit(&all).unwrap();
            assert_eq!(reach(&iommu), [], "{limits:?}");
            iommu.disable().unwrap();
        }
    }
}

/// While a device is reset, a change of another cell looks for the bridge above a device of its own, but not at the one
/// that is reset (R49).
#[test]
fn a_device_that_is_reset_is_not_looked_at_by_another_change() {
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
    let hal = Watched { machine: &machine, before };
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
        cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
        round.fetch_add(1, Ordering::Relaxed);
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
