use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use cofferdam::addr::Rights;
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

#[test]
fn four_cells_change_while_two_cpus_read_faults() {
    let machine = machine([UnitConfig::client().serving(&[1]), UnitConfig::client()]);
    let mut iommu = discover(&machine, &[&[1]]).unwrap();
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

/// Four CPUs, each with two cells and two devices: one behind a unit that all share, one behind a unit of its own but for
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
    let mut iommu = discover(&machine, &[&[1], &[2], &[3]]).unwrap();
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
