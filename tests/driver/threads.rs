//! Several CPUs that change cells at a time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use cofferdam::addr::Rights;
use cofferdam::iommu::{Edit, Error, Options};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

use crate::audit::{assert_nothing_differs, reach};
use crate::random_changes::{edits_that_keep_cells, table_of_two_units, two_units};

#[test]
fn four_cells_change_while_two_cpus_read_faults() {
    let machine = machine([UnitConfig::client().serving(&[1]), UnitConfig::client()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (iommu, machine, busy) = (&iommu, &machine, AtomicBool::new(true));
    let (provoked, read_back) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    // Once more at the end: on a busy machine a reader may have its first turn when all is over.
                    let mut last = false;
                    while !last {
                        last = !busy.load(Ordering::Relaxed);
                        read_back.fetch_add(iommu.faults(|_| ()).records, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let changers: Vec<_> = (0..4)
            .map(|number: u8| {
                let provoked = &provoked;
                scope.spawn(move || {
                    let (device, base) = (function(number % 2, number), 0x6000_0000 + u64::from(number) * LARGE);
                    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
                    for round in 0..60 {
                        iommu.map(cell, region(0, base, LARGE, Rights::all())).unwrap();
                        iommu.assign(device, cell).unwrap();
                        assert!(write(machine, device, 8, round), "{device}");
                        assert_eq!(peek(machine, base + 8), round);
                        iommu.unmap(cell, range(0, LARGE)).unwrap();
                        assert!(!write(machine, device, 8, 0), "{device}");
                        provoked.fetch_add(1, Ordering::Relaxed);
                        iommu.release(device).unwrap();
                    }
                    iommu.destroy_cell(cell).unwrap();
                })
            })
            .collect();
        let ended: Vec<_> = changers.into_iter().map(|thread| thread.join()).collect();
        // Also if one of them failed, or the readers would keep the test from ending.
        busy.store(false, Ordering::Relaxed);
        readers.into_iter().for_each(|thread| thread.join().unwrap());
        ended.into_iter().for_each(|result| result.unwrap());
    });
    let read_back = read_back.into_inner();
    // One record a unit, and faults of one source collapse: not all are recorded, but none twice.
    assert!(read_back > 0 && read_back <= provoked.into_inner(), "{read_back}");
    assert_eq!(machine.frames_in_use(), 3 + 3 + 2, "queues, root tables and the context tables of two buses");
}

/// Four CPUs, each with two cells and two devices: one behind a unit that all share, one behind a unit of its own except for
/// the last. Memory and devices move from one cell to the other by changes of several edits, which overlap with those of the
/// other CPUs, while two more CPUs read faults.
#[test]
fn memory_and_devices_move_between_cells_of_four_cpus_at_a_time() {
    let units = [
        UnitConfig::server().caching_mode(true).serving(&[1]),
        UnitConfig::client().serving(&[2]),
        UnitConfig::first_generation().serving(&[3]),
        UnitConfig::server(),
    ];
    let machine = machine(units);
    let iommu = discover(&machine, &[&[1], &[2], &[3]]).unwrap();
    iommu.enable().unwrap();
    let (iommu, machine, busy) = (&iommu, &machine, AtomicBool::new(true));
    thread::scope(|scope| {
        let reader = || {
            while busy.load(Ordering::Relaxed) {
                iommu.faults(|_| ());
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let changers: Vec<_> =
            (0..4).map(|number| scope.spawn(move || move_to_and_fro(iommu, machine, number))).collect();
        let ended: Vec<_> = changers.into_iter().map(|thread| thread.join()).collect();
        // Also if one of them failed, or the readers would keep the test from ending.
        busy.store(false, Ordering::Relaxed);
        readers.into_iter().for_each(|thread| thread.join().unwrap());
        ended.into_iter().for_each(|result| result.unwrap());
    });
    let buses = 5;
    let (queues, roots) = (3 * 2, 4);
    assert_eq!(machine.frames_in_use(), queues + roots + buses, "no frame of a page table is left");
}

fn move_to_and_fro(iommu: &Front<&Machine>, machine: &Machine, number: u8) {
    let (shared, own) = (function(0, number), function(number + 1, number));
    let memory = 0x6000_0000 + u64::from(number) * 4 * LARGE;
    let [a, b] = [0, 1].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    for round in 1..=40 {
        let mut change = iommu.change();
        change.map(a, region(0, memory, 2 * LARGE, Rights::all()));
        change.map(b, region(0, memory + 2 * LARGE, LARGE, Rights::all()));
        change.assign(shared, a);
        change.assign(own, b);
        change.commit().unwrap();
        assert!(write(machine, shared, LARGE + 8, round) && write(machine, own, 8, !round), "{number}");
        assert_eq!((peek(machine, memory + LARGE + 8), peek(machine, memory + 2 * LARGE + 8)), (round, !round));

        // A page of one cell's memory goes to the other, and the device that had it as well.
        let mut change = iommu.change();
        change.unmap(a, range(LARGE, PAGE));
        change.map(b, region(LARGE, memory + LARGE, PAGE, Rights::READ));
        change.release(shared);
        change.assign(shared, b);
        change.commit().unwrap();
        for device in [shared, own] {
            assert_eq!(read(machine, device, LARGE + 8), Some(round), "{number}: {device}");
            assert_eq!(read(machine, device, 8), Some(!round), "{number}: {device}");
            assert!(!write(machine, device, LARGE + 8, 0) && !write(machine, device, LARGE + PAGE, 0), "{number}");
        }

        let mut change = iommu.change();
        change.release(shared).release(own);
        change.unmap(b, range(0, LARGE + PAGE));
        change.unmap(a, range(0, LARGE));
        change.unmap(a, range(LARGE + PAGE, LARGE - PAGE));
        change.commit().unwrap();
        assert!(!write(machine, shared, 8, 0) && !write(machine, own, 8, 0), "{number}");
    }
    iommu.destroy_cell(a).unwrap();
    iommu.destroy_cell(b).unwrap();
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
    let options = Options { timeout_ns: u64::MAX / 2, ..Options::DEFAULT };
    let iommu = limited_front(&machine, &table_of_two_units(&machine), &limits, options);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut cells = vec![root];
    cells.extend((0..3).map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()));
    let (iommu, cells, machine) = (&iommu, &cells, &machine);
    let busy = &AtomicUsize::new(4);
    thread::scope(|scope| {
        for cpu in 0..4 {
            scope.spawn(move || {
                let mut random = Random::new(seed * 4 + cpu);
                let (mut made, mut failed) = (0, 0);
                for _ in 0..200 {
                    let edits = edits_that_keep_cells(&mut random, cells, root);
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
                    let unresponsive = function(random.below(2) as u8, random.below(2) as u8);
                    machine.break_unit(random.index(2), Defect::QueueErrorAfter(random.below(8)));
                    machine.set_device_tlb(unresponsive, Answer::Never, 32);
                    thread::yield_now();
                    (0..2).for_each(|unit| machine.mend_unit(unit));
                    machine.set_device_tlb(unresponsive, Answer::After(0), 32);
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
    assert_nothing_differs(iommu, format_args!("seed {seed}"));
    machine.check();
    let all: Vec<_> = cells.iter().map(|cell| Edit::Destroy(*cell)).collect();
    iommu.commit(&all).unwrap();
    assert_eq!(reach(iommu), [], "seed {seed}");
    assert_nothing_differs(iommu, format_args!("seed {seed}, without cells"));
    if !failing {
        assert_eq!(machine.frames_in_use(), iommu.statistics().table_frames as usize);
    }
}
