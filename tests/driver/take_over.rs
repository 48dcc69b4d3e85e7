//! Units that firmware left on, and how they are given back.

use std::cell::Cell;

use cofferdam::addr::{PhysAddr, Rights};
use cofferdam::error::UnitError;
use cofferdam::hal::{Hal, NoFrame};
use cofferdam::iommu::{Error, Options};
use cofferdam::iommu::{MainMemory, UnitState};
use cofferdam_model::{Answer, Defect, GIVES_UP_NS, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::Watched;

const MEMORY: u64 = 0x6000_0000;
/// Memory above 4 GiB.
const HIGH: u64 = 0x1_4000_0000;

const PMEN: u32 = 0x64;

fn memory(low_end: u64, high_end: u64) -> Option<MainMemory> {
    Some(MainMemory { low_end: PhysAddr::new(low_end), high_end: PhysAddr::new(high_end) })
}

/// What a device reached at these two addresses at any moment of bring-up, and whether the driver says so.
fn reached(unit: UnitConfig, memory: Option<MainMemory>) -> ([bool; 2], bool) {
    let reached = Cell::new([false; 2]);
    let look = |_, machine: &Machine| {
        let [low, high] = reached.get();
        reached.set([low | write(machine, function(0, 3), MEMORY, 1), high | write(machine, function(0, 3), HIGH, 1)]);
    };
    let hal = Watched { machine: machine([unit]), before: look };
    let table = of_machine(&hal.machine, &[]).table();
    let options = Options { memory, ..Options::default() };
    let iommu = enabled_front(&hal, &table, options);
    let unit = iommu.units().next().unwrap();
    assert_eq!((unit.state, unit.found_on), (UnitState::On, true));
    // A device works after all, so nothing is protected any more.
    cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(0, 4));
    assert!(write(&hal.machine, function(0, 4), 0, 1));
    (reached.get(), unit.gap)
}

#[test]
fn every_usable_unit_that_firmware_left_on_is_taken_over() {
    for (name, unit) in presets() {
        let machine = machine([unit.found_running()]);
        let iommu = enabled(&machine);
        assert_eq!(states(&iommu), [UnitState::On], "{name}");
        assert_eq!(read(&machine, function(0, 3), 0x1000), None, "{name}");
    }
}

#[test]
fn in_abort_mode_no_request_gets_through() {
    assert_eq!(reached(UnitConfig::everything().found_running(), None), ([false; 2], false));
}

#[test]
fn with_memory_protected_no_request_gets_through() {
    let client = UnitConfig::client().found_running();
    assert_eq!(reached(client.clone(), memory(0x8000_0000, 0x1_8000_0000)), ([false; 2], false));
    // A mebibyte that the unit cannot protect alone is left out, and memory behind is memory-mapped I/O.
    assert_eq!(reached(client.clone(), memory(0x8010_0000, 0x1_8000_0000)), ([false; 2], true));
    assert_eq!(reached(client.clone(), memory(0x8000_0000, 0)), ([false, true], false), "as it was told");
    let low_only = UnitConfig { cap: client.cap & !(1 << 6), ..client };
    assert_eq!(reached(low_only, memory(0x8000_0000, 0x1_8000_0000)), ([false, true], true));
}

#[test]
fn without_a_way_to_avoid_it_the_gap_is_reported() {
    assert_eq!(reached(UnitConfig::client().found_running(), None), ([true; 2], true));
    let server = UnitConfig::server().found_running();
    assert_eq!(reached(server, memory(0x8000_0000, 0x1_8000_0000)), ([true; 2], true));
}

#[test]
fn in_abort_mode_the_tables_are_set_up_while_nothing_is_reached() {
    let machine = machine([UnitConfig::everything()]);
    machine.allow_allocations(Some(2));
    let mut iommu = discover(&machine, &[]).unwrap();
    let unit = machine.windows()[0];
    let error = UnitError::NoFrame { unit, reason: NoFrame::NoneLeft };
    assert_eq!(iommu.enable(), Err(Error::Unit(error)), "no frame for the root table");
    assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: true }]);
    assert_eq!(read(&machine, function(0, 0), 0), None);
    machine.allow_allocations(None);
    iommu.enable().unwrap();
    assert_eq!(states(&iommu), [UnitState::On]);
}

#[test]
fn a_unit_that_fails_early_goes_on_with_firmwares_tables() {
    // The queue's status bit is stuck, so neither firmware's queue can be switched off nor the driver's on.
    for defect in [Defect::StatusStuckLow(1 << 26), Defect::StatusStuckHigh(1 << 26)] {
        let machine = machine([UnitConfig::server().found_running().serving(&[1]), UnitConfig::server()]);
        machine.break_unit(0, defect);
        let mut iommu = discover(&machine, &[&[1]]).unwrap();
        let error = iommu.enable().unwrap_err();
        assert!(matches!(error, Error::Unit(UnitError::Timeout { bit: "QIES", .. })), "{error}");
        assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }, UnitState::On]));
        assert!(!write(&machine, function(1, 0), MEMORY, 1), "firmware's empty table blocks it");
        assert!(!write(&machine, function(0, 0), MEMORY, 1));
        machine.take_violations();
    }
}

/// IQH, IQT, FSTS.
const QUEUE: [u32; 3] = [0x80, 0x88, 0x34];

/// Switches on a unit whose queue firmware left behind with this error standing and something that was not fetched.
fn take_over_stopped(machine: &Machine, error: u32) {
    let window = machine.windows()[0];
    let [head, tail, status] = QUEUE;
    // SAFETY: the machine takes any access and reports a wrong one.
    let status = unsafe { machine.read32(window, status) };
    // SAFETY: as above.
    let head = unsafe { machine.read64(window, head) };
    // SAFETY: as above.
    let tail = unsafe { machine.read64(window, tail) };
    assert!(status & error != 0 && head != tail, "{status:#x}");
    machine.take_violations();
    let iommu = enabled(machine);
    assert_eq!(states(&iommu), [UnitState::On]);
    assert_eq!(read(machine, function(0, 3), 0x1000), None);
    cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(0, 4));
    assert!(write(machine, function(0, 4), 0, 1));
}

#[test]
fn a_queue_that_stands_at_a_bad_descriptor_is_taken_over() {
    let units = [UnitConfig::server(), UnitConfig::qemu_10_0(false), UnitConfig::everything()];
    for unit in units {
        let machine = machine([unit.found_running()]);
        // The unit cannot fetch what is there.
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.write64(machine.windows()[0], QUEUE[1], 0x80) };
        machine.pass(1_000_000);
        take_over_stopped(&machine, 1 << 4);
    }
}

#[test]
fn a_queue_that_waits_for_a_device_is_taken_over() {
    let machine = machine([UnitConfig::server()]);
    let window = machine.windows()[0];
    machine.add_ats(function(0, 3), 32);
    machine.set_device_tlb(function(0, 3), Answer::Never, 32);
    let ring = machine.allocate(0).unwrap();
    // A device-TLB invalidation for 00:03.0 and a wait that notifies nobody.
    for (word, value) in [3 | 0x18 << 32, !0xfff, 5].into_iter().enumerate() {
        // SAFETY: the frame has just been allocated.
        let first = unsafe { machine.phys_to_virt(ring) };
        // SAFETY: a frame has 512 words.
        let word = unsafe { first.add(word) };
        // SAFETY: the word is in the frame.
        unsafe { machine.store(word, value) };
    }
    // IQA, then QIE and what the status is like then, IQT up to the end of the two.
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write64(window, 0x90, ring.as_u64()) };
    // SAFETY: as above.
    unsafe { machine.write32(window, 0x18, 1 << 26) };
    machine.pass(1_000_000);
    for (tail, ns) in [(0x20, 2 * GIVES_UP_NS), (0x30, 0)] {
        // SAFETY: as above.
        unsafe { machine.write64(window, QUEUE[1], tail) };
        machine.pass(ns);
    }
    take_over_stopped(&machine, 1 << 6);
    // SAFETY: the unit has another queue by now.
    unsafe { machine.free(ring, 0) };
}

#[test]
fn units_are_given_back_with_their_frames_and_come_up_again() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let mut iommu = discover(&machine, &[]).unwrap();
        for round in 0..2 {
            iommu.enable().unwrap();
            let cell = cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(2, 3));
            assert!(write(&machine, function(2, 3), 0, round), "{name}");
            let busy = Error::Busy { device: function(2, 3), cell };
            assert_eq!(iommu.disable(), Err(busy), "{name}");
            assert!(!write(&machine, function(0, 0), MEMORY, 1), "{name}: as it was");
            iommu.destroy_cell(cell).unwrap();
            machine.check();
            iommu.disable().unwrap();
            assert_eq!((machine.frames_in_use(), iommu.statistics().table_frames), (0, 0), "{name}");
            assert_eq!(states(&iommu), [UnitState::Off], "{name}");
            assert!(write(&machine, function(0, 0), MEMORY, 1), "{name}: DMA is as free as at first");
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            assert_eq!(iommu.assign(function(0, 0), cell), Err(Error::NotEnabled), "{name}");
            iommu.destroy_cell(cell).unwrap();
        }
    }
}

#[test]
fn what_was_protected_is_so_again_before_translation_ends() {
    let reached = Cell::new(false);
    let look = |_, machine: &Machine| reached.set(reached.get() | write(machine, function(0, 3), 0x1000, 1));
    let hal = Watched { machine: machine([UnitConfig::client()]), before: look };
    let window = hal.machine.windows()[0];
    // SAFETY: the machine takes any access and reports a wrong one. Base 0 and limit 0 protect the first 2 MiB.
    unsafe { hal.machine.write32(window, PMEN, 1 << 31) };
    // SAFETY: as above.
    while unsafe { hal.machine.read32(window, PMEN) } & 1 == 0 {
        hal.machine.pause();
    }
    let table = of_machine(&hal.machine, &[]).table();
    let mut iommu = enabled_front(&hal, &table, Options::default());
    iommu.disable().unwrap();
    assert!(!reached.get() && !write(&hal.machine, function(0, 3), 0x1000, 1));
    assert!(write(&hal.machine, function(0, 3), LARGE, 1));
}

#[test]
fn a_unit_that_does_not_confirm_to_be_off_keeps_its_frames() {
    for (bit, name) in [(31, "TES"), (26, "QIES")] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let mut iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        machine.break_unit(0, Defect::StatusStuckHigh(1 << bit));
        let error = iommu.disable().unwrap_err();
        let unit = machine.windows()[0];
        match error {
            Error::Unit(UnitError::Timeout { unit: named, register: "GSTS_REG", bit, .. }) => {
                assert_eq!((named, bit), (unit, name));
            }
            other => panic!("{other}"),
        }
        assert_eq!(machine.frames_in_use(), 3, "those of the unit that failed");
        let [UnitState::Failed { blocking, .. }, UnitState::Off] = states(&iommu)[..] else { panic!() };
        assert_eq!(blocking, name == "TES");
        assert_eq!(iommu.disable(), Err(Error::Unit(UnitError::Failed { unit })));
        assert!(write(&machine, function(0, 0), MEMORY, 1));
        machine.take_violations();
    }
}
