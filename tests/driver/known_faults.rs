//! Faults that are known: each test fails, and says what ought to be. What they are is in docs/testing.md.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cofferdam::hal::Hal;
use cofferdam::iommu::Options;
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, ResetPolicy};
use cofferdam_model::{Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

use crate::audit::{INPUT, RW};

const MEMORY: u64 = 0x6000_0000;

/// What there is no room for does not keep from the root cell what there is room for: a page that joins two of its regions.
#[test]
#[ignore = "a fault that is known"]
fn the_root_cell_has_again_what_there_is_room_for() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, root_regions: 3, ..Limits::DEFAULT });
    let disk = function(0, 1);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let at = |page: u64| MEMORY + page * PAGE;
    for (page, pages) in [(0, 5), (100, 1), (200, 1)] {
        iommu.map(root, region(at(page), at(page), pages * PAGE, RW)).unwrap();
    }
    iommu.assign(disk, root).unwrap();
    let [a, b, c] = [0; 3].map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.map(a, region(INPUT, at(100), PAGE, RW)).unwrap();
    iommu.map(a, region(INPUT + LARGE, at(200), PAGE, RW)).unwrap();
    iommu.map(b, region(INPUT, at(1), PAGE, RW)).unwrap();
    iommu.map(c, region(INPUT, at(3), PAGE, RW)).unwrap();
    // There is no room for either page.
    iommu.destroy_cell(a).unwrap();
    assert!(write(&machine, disk, at(2), 1) && !write(&machine, disk, at(3), 1) && write(&machine, disk, at(4), 1));
    // From three regions on: two of them are one again.
    iommu.destroy_cell(c).unwrap();
    assert!(write(&machine, disk, at(3), 2), "nobody else has it");
}

/// "The handle of a destroyed cell never names another", nor does an answer that was given about another.
#[test]
#[ignore = "a fault that is known"]
fn the_handle_of_a_cell_that_is_gone_names_no_later_one() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let gone = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.destroy_cell(gone).unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.destroy_cell(root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map_shared(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    let committed = iommu.assign(function(0, 2), cell).unwrap();
    let audit = iommu.audit(|_| ()).unwrap();
    let of =
        |cell| (committed.coherency_change(cell).is_some(), audit.shares(cell), audit.allows_unsafe_interrupts(cell));
    assert_eq!((of(cell).1, of(other)), (true, (false, false, true)));
    assert_eq!(of(gone), (false, false, false), "the cell that is there now: {:?}", of(cell));
}

/// A call that looks at functions comes although others never cease to reset devices, each in time.
#[test]
#[ignore = "a fault that is known"]
fn resets_that_overlap_starve_nobody() {
    const EACH: usize = 8;
    let machine = machine([UnitConfig::server()]);
    let device = |worker: usize, index: usize| function(worker as u8 + 1, index as u8);
    let begun = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let waits = AtomicBool::new(false);
    thread_local! {
        static WORKER: std::cell::Cell<Option<(usize, usize)>> = const { std::cell::Cell::new(None) };
        static WAITER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    let before = |call: Call, machine: &Machine| {
        if call != Call::Pause {
            return;
        }
        if WAITER.get() {
            waits.store(true, Ordering::SeqCst);
            // The others' time passes, and not that of the one that waits.
            thread::sleep(std::time::Duration::from_micros(200));
        }
        let Some((worker, index)) = WORKER.get() else { return };
        if machine.resets(device(worker, index)) == 0 {
            return;
        }
        begun[worker].fetch_max(index + 1, Ordering::SeqCst);
        // This reset does not end before the other worker has begun its next one.
        let needed = (index + 1 + worker).min(EACH);
        let start = std::time::Instant::now();
        while begun[1 - worker].load(Ordering::SeqCst) < needed && start.elapsed().as_secs() < 20 {
            thread::yield_now();
        }
        while worker == 0 && index == 0 && !waits.load(Ordering::SeqCst) && start.elapsed().as_secs() < 20 {
            thread::yield_now();
        }
    };
    let hal = Watched { machine: &machine, before };
    let options = Options { timeout_ns: 300_000_000, ..Options::DEFAULT };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
    for worker in 0..2 {
        for index in 0..EACH {
            machine.add_express(device(worker, index));
            machine.add_reset(device(worker, index), Reset::Express, 1000);
            let config = CellConfig { reset: ResetPolicy::Required, ..UNSAFE_INTERRUPTS };
            iommu.assign(device(worker, index), iommu.create_cell(config).unwrap()).unwrap();
        }
    }
    let started = machine.now_ns();
    let (results, released) = thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let iommu = &iommu;
                scope.spawn(move || {
                    (0..EACH)
                        .map(|index| {
                            WORKER.set(Some((worker, index)));
                            let start = iommu.hal().now_ns();
                            iommu.release(device(worker, index)).unwrap();
                            (iommu.hal().now_ns() - start) / 1_000_000
                        })
                        .collect::<Vec<u64>>()
                })
            })
            .collect();
        while begun[0].load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        WAITER.set(true);
        let result = iommu.unblocked(&mut |_| ()).map(drop);
        let at = machine.now_ns();
        let released: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        ((result, at), released)
    });
    let (result, at) = results;
    assert!(released.iter().flatten().all(|ms| *ms < 280), "no reset takes as long as the timeout: {released:?} ms");
    assert_eq!(result, Ok(()), "after {} ms; the releases took {released:?} ms", (at - started) / 1_000_000);
}
