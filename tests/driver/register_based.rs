//! Units without a queue, which are told what to forget through registers. All histories run on one, too.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cofferdam::addr::Rights;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Error, Options, UnitState};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::Watched;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

thread_local! {
    /// This thread is the CPU that waits for its turn.
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// With pages to select, which the first generation had not.
fn selective() -> UnitConfig {
    let first = UnitConfig::first_generation();
    UnitConfig { cap: first.cap | 1 << 39 | 9 << 48 | 3 << 34, ..first }
}

#[test]
fn each_kind_of_unit_without_a_queue_invalidates_all_it_should() {
    let first = UnitConfig::first_generation();
    let quick = UnitConfig { cap: first.cap & !(1 << 4), ..first.clone() };
    for unit in [selective(), first.caching_mode(true), quick.clone().coherent(true), quick.caching_mode(true)] {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (a, b) = (function(0, 3), function(1, 4));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 2 * LARGE, RW), a);
        iommu.assign(b, cell).unwrap();
        for device in [a, b] {
            assert!(write(&machine, device, INPUT, 1) && write(&machine, device, INPUT + LARGE, 1));
        }
        iommu.unmap(cell, range(INPUT + LARGE, PAGE)).unwrap();
        for device in [a, b] {
            assert!(write(&machine, device, INPUT, 1) && !write(&machine, device, INPUT + LARGE, 1));
        }
        iommu.map(cell, region(INPUT + LARGE, MEMORY, PAGE, Rights::READ)).unwrap();
        iommu.protect(cell, range(INPUT, PAGE), Rights::READ).unwrap();
        iommu.release(a).unwrap();
        assert!(read(&machine, b, INPUT + LARGE).is_some() && !write(&machine, b, INPUT, 1));
        assert!(!write(&machine, a, INPUT + PAGE, 1));
        let counts = iommu.statistics();
        assert_eq!((counts.descriptors, counts.doorbells), (0, 0));
    }
}

#[test]
fn units_with_a_queue_and_without_one_share_a_cell() {
    for units in [[selective(), UnitConfig::client()], [UnitConfig::client(), selective()]] {
        let [first, second] = units;
        let machine = machine([first.serving(&[1]), second]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (a, b) = (function(1, 3), function(0, 3));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), a);
        iommu.assign(b, cell).unwrap();
        assert!(write(&machine, a, INPUT, 1) && write(&machine, b, INPUT, 1));
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        assert!(!write(&machine, a, INPUT, 1) && !write(&machine, b, INPUT, 1));
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
        assert_eq!(machine.frames_in_use(), 0);
    }
}

#[test]
fn a_unit_that_invalidates_more_than_it_should_is_as_good() {
    let machine = machine([selective()]);
    machine.break_unit(0, Defect::RegistersCoarse);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), function(0, 3));
    assert!(write(&machine, function(0, 3), INPUT, 1));
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
    assert!(!write(&machine, function(0, 3), INPUT, 1));
}

#[test]
fn an_invalidation_that_fails_is_named_and_frees_no_frame() {
    for (defect, register, bit) in
        [(Defect::RegistersRefuse, "IOTLB_REG", "IAIG"), (Defect::RegistersDead, "IOTLB_REG", "IVT")]
    {
        let machine = machine([selective()]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), device);
        let frames = machine.frames_in_use();
        machine.break_unit(0, defect);
        let unit = machine.windows()[0];
        let named = |error: Error| match error {
            Error::Unit(UnitError::Invalidation { unit, register, bit }) => (unit, register, bit),
            Error::Unit(UnitError::Timeout { unit, register, bit, .. }) => (unit, register, bit),
            other => panic!("{other}"),
        };
        assert_eq!(named(iommu.unmap(cell, range(INPUT, LARGE)).unwrap_err()), (unit, register, bit));
        assert_eq!(machine.frames_in_use(), frames, "the unit may still walk them");
        assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: true, .. }]));
        assert_eq!(iommu.release(device), Err(Error::Unit(UnitError::Failed { unit })));
        assert!(!write(&machine, function(0, 4), INPUT, 1), "it blocks what it blocked");
    }
}

#[test]
fn an_invalidation_that_never_ends_keeps_the_unit_off() {
    const CCMD: u32 = 0x28;
    for unit in [UnitConfig::server(), selective()] {
        let machine = machine([unit]);
        machine.break_unit(0, Defect::RegistersDead);
        let window = machine.windows()[0];
        // SAFETY: the machine takes any access and reports a wrong one. ICC, global.
        unsafe { machine.write64(mapped(window), CCMD, 0xa000_0000_0000_0000) };
        let error = discover(&machine, &[]).unwrap().enable().unwrap_err();
        let bit = Error::Unit(UnitError::Timeout { unit: window, register: "CCMD_REG", bit: "ICC", waited_ns: 0 });
        let Error::Unit(UnitError::Timeout { unit, register, bit: name, .. }) = error else { panic!("{error}") };
        let named = UnitError::Timeout { unit, register, bit: name, waited_ns: 0 };
        assert_eq!(Error::Unit(named), bit);
    }
}

/// T2: who waits for its turn at the registers while another finds out that the unit hangs neither waits as long once
/// more, nor has the unit do anything.
#[test]
fn who_comes_after_a_failure_finds_out_at_once() {
    const WBF: u32 = 1 << 27;
    let first = UnitConfig::first_generation();
    let plain = UnitConfig { cap: first.cap & !(1 << 4), ..first.clone() };
    for (unit, defect) in [(plain, Defect::RegistersDead), (first, Defect::StatusStuckHigh(WBF))] {
        let (machine, stop, accesses) = (machine([unit]), Stop::new(), AtomicU32::new(0));
        let before = |call, _: &Machine| {
            stop.look(call);
            accesses.fetch_add(u32::from(WAITS.get()), Ordering::SeqCst);
        };
        let hal = Watched::shared(&machine, before);
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        let page = |n: u64| region(INPUT, MEMORY + n * LARGE, PAGE, RW);
        let [one, two] = [0, 1].map(|n| cell_with(&iommu, page(n), function(0, n as u8 + 3)));
        // Entries that become present wait in write buffers.
        let change = |cell, n: u64| match defect {
            Defect::RegistersDead => iommu.unmap(cell, range(INPUT, PAGE)),
            _ => iommu.map(cell, region(INPUT + LARGE, MEMORY + (n + 2) * LARGE, PAGE, RW)),
        };
        machine.break_unit(0, defect);
        thread::scope(|scope| {
            let hung = stop.halt(scope, || change(one, 0));
            let waits = scope.spawn(|| {
                WAITS.set(true);
                change(two, 1)
            });
            // It is at the lock when it does nothing any more.
            let mut done = 0;
            while done == 0 || accesses.load(Ordering::SeqCst) != done {
                done = accesses.load(Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
            let failed = hung().unwrap_err();
            assert!(matches!(failed, Error::Unit(UnitError::Timeout { .. })), "{failed}");
            let start = machine.now_ns();
            let unit = machine.windows()[0];
            assert_eq!(waits.join().unwrap(), Err(Error::Unit(UnitError::Failed { unit })), "{defect:?}");
            assert!(machine.now_ns() - start < Options::DEFAULT.timeout_ns / 2, "{defect:?}");
        });
        machine.abandon();
    }
}
