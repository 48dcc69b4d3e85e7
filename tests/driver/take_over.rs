//! Units that firmware left on, and how they are given back.

use std::cell::Cell;

use cofferdam::addr::{PhysAddr, Rights};
use cofferdam::error::UnitError;
use cofferdam::hal::{Hal, NoFrame};
use cofferdam::interrupt::FaultEvent;
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
    let hal = Watched::new(machine([unit]), look);
    let table = of_machine(&hal.machine, &[]).table();
    let options = Options { memory, ..TAKES_OVER };
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
    let iommu = discover(&machine, &[]).unwrap();
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
        let iommu = discover(&machine, &[&[1]]).unwrap();
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
    let status = unsafe { machine.read32(mapped(window), status) };
    // SAFETY: as above.
    let head = unsafe { machine.read64(mapped(window), head) };
    // SAFETY: as above.
    let tail = unsafe { machine.read64(mapped(window), tail) };
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
        unsafe { machine.write64(mapped(machine.windows()[0]), QUEUE[1], 0x80) };
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
    unsafe { machine.write64(mapped(window), 0x90, ring.as_u64()) };
    // SAFETY: as above.
    unsafe { machine.write32(mapped(window), 0x18, 1 << 26) };
    machine.pass(1_000_000);
    for (tail, ns) in [(0x20, 2 * GIVES_UP_NS), (0x30, 0)] {
        // SAFETY: as above.
        unsafe { machine.write64(mapped(window), QUEUE[1], tail) };
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
        let iommu = discover(&machine, &[]).unwrap();
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
    let hal = Watched::new(machine([UnitConfig::client()]), look);
    let window = hal.machine.windows()[0];
    // SAFETY: the machine takes any access and reports a wrong one. Base 0 and limit 0 protect the first 2 MiB.
    unsafe { hal.machine.write32(mapped(window), PMEN, 1 << 31) };
    // SAFETY: as above.
    while unsafe { hal.machine.read32(mapped(window), PMEN) } & 1 == 0 {
        hal.machine.pause();
    }
    let table = of_machine(&hal.machine, &[]).table();
    let iommu = enabled_front(&hal, &table, TAKES_OVER);
    iommu.disable().unwrap();
    assert!(!reached.get() && !write(&hal.machine, function(0, 3), 0x1000, 1));
    assert!(write(&hal.machine, function(0, 3), LARGE, 1));
}

/// Regions that firmware left protected stay as they are while a unit is taken over, and may leave memory out: that is said.
#[test]
fn what_firmware_protected_counts_as_leaving_memory_out() {
    let machine = machine([UnitConfig::client().found_running()]);
    let window = machine.windows()[0];
    // SAFETY: the machine takes any access and reports a wrong one. Base 0 and limit 0 protect the first 2 MiB.
    unsafe { machine.write32(mapped(window), PMEN, 1 << 31) };
    // SAFETY: as above.
    while unsafe { machine.read32(mapped(window), PMEN) } & 1 == 0 {
        machine.pause();
    }
    let options = Options { memory: memory(0x8000_0000, 0x1_8000_0000), ..TAKES_OVER };
    let iommu = enabled_front(&machine, &of_machine(&machine, &[]).table(), options);
    let unit = iommu.units().next().unwrap();
    assert!(unit.state == UnitState::On && unit.gap, "{unit:?}");
}

#[test]
fn a_unit_that_does_not_confirm_to_be_off_keeps_its_frames() {
    for (bit, name) in [(31, "TES"), (26, "QIES")] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
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

/// U5, U14: a unit in abort mode that found no frame is handed back, with all of its frames; the mode is entered with a queue
/// that is valid in it.
#[test]
fn a_unit_in_abort_mode_is_handed_back() {
    const IQA: u32 = 0x90;
    for unit in [UnitConfig::everything(), UnitConfig::everything().found_running()] {
        let machine = machine([unit]);
        let iommu = discover(&machine, &[]).unwrap();
        machine.allow_allocations(Some(2));
        assert!(matches!(iommu.enable(), Err(Error::Unit(UnitError::NoFrame { .. }))));
        assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: true, .. }]));
        // SAFETY: the machine takes any access and reports a wrong one.
        let queue = unsafe { machine.read64(mapped(machine.windows()[0]), IQA) };
        assert_eq!(queue >> 11 & 1, 1, "descriptors of 256 bits");
        machine.allow_allocations(None);
        iommu.disable().unwrap();
        assert_eq!((states(&iommu), machine.frames_in_use()), (vec![UnitState::Off], 0));
        iommu.enable().unwrap();
        assert_eq!(states(&iommu), [UnitState::On]);
    }
}

/// U14: a queue of 256-bit descriptors serves its unit as one of 128 bits does, round and round, and goes on after errors.
#[test]
fn a_queue_of_wide_descriptors_goes_round_and_recovers() {
    for slots in [256, 512, 1 << 15] {
        let machine = machine([UnitConfig::everything()]);
        let options = Options { queue_slots: slots, ..TAKES_OVER };
        let iommu = enabled_front(&machine, &of_machine(&machine, &[]).table(), options);
        let frames = iommu.statistics().table_frames - 1;
        assert_eq!(frames, u64::from(slots.min(1 << 14)) / 256 * 3, "and the root table");
        let cell = cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(0, 3));
        for page in 1..400 {
            iommu.map(cell, region(page * PAGE, MEMORY, PAGE, Rights::all())).unwrap();
            if page % 50 == 0 {
                machine.break_unit(0, Defect::QueueErrorAfter(page % 100 / 50));
                assert!(matches!(
                    iommu.unmap(cell, range(page * PAGE, PAGE)),
                    Err(Error::Unit(UnitError::Queue { .. }))
                ));
            } else {
                iommu.unmap(cell, range(page * PAGE, PAGE)).unwrap();
            }
            assert!(!write(&machine, function(0, 3), page * PAGE, 1) || page % 50 == 0);
        }
        machine.take_violations();
        iommu.destroy_cell(cell).unwrap();
    }
}

/// FECTL, IECTL and PECTL.
const EVENTS: [u32; 3] = [0x38, 0xa0, 0xe0];

/// U6: no event of a unit that somebody else had programmed is sent after the unit is taken over.
#[test]
fn the_events_of_a_former_owner_are_masked() {
    // With page requests.
    let units = presets().into_iter().chain([("page requests", UnitConfig::server())]);
    for (name, unit) in units {
        let ecap = unit.ecap | u64::from(name == "page requests") << 29;
        let unit = UnitConfig { ecap, ..unit };
        let machine = machine([unit.clone()]);
        let window = machine.windows()[0];
        let has = [true, ecap & 2 != 0, ecap >> 29 & 1 != 0];
        let own = || EVENTS.into_iter().zip(has).filter(|(_, has)| *has).map(|(at, _)| at);
        for at in own() {
            // Vector 0x31 of CPU 0, not masked.
            for (offset, value) in [(4, 0x31), (8, 0xfee0_0000), (12, 0), (0, 0)] {
                // SAFETY: the machine takes any access and reports a wrong one.
                unsafe { machine.write32(mapped(window), at + offset, value) };
            }
        }
        let iommu = enabled(&machine);
        for at in own() {
            // SAFETY: as above.
            assert_eq!(unsafe { machine.read32(mapped(window), at) } >> 31, 1, "{name}: {at:#x}");
        }
        assert!(!write(&machine, function(0, 3), 0x1000, 1), "{name}");
        machine.pass(1_000_000);
        assert_eq!(machine.messages().len(), 0, "{name}");
        assert_eq!(iommu.faults(|_| ()).records, 1, "{name}");
    }
}

/// Has a unit remap interrupts by a table and a queue that are not the driver's: with these words in the table, and this in the low
/// bits of IRTA.
pub(crate) fn remap_interrupts(machine: &Machine, unit: usize, low: u64, words: &[(usize, u64)]) -> [PhysAddr; 2] {
    let window = machine.windows()[unit];
    let [queue, table] = [(); 2].map(|()| machine.allocate(0).unwrap());
    let command = |value: u32, bit: u32| {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.write32(mapped(window), 0x18, value | bit) };
        // SAFETY: as above.
        while unsafe { machine.read32(mapped(window), 0x1c) } & bit == 0 {
            machine.pause();
        }
    };
    // IQA, QIE; IRTA with 256 entries, SIRTP; an invalidation of all entries and a wait; IRE.
    // SAFETY: as above.
    unsafe { machine.write64(mapped(window), 0x90, queue.as_u64()) };
    command(0, 1 << 26);
    // SAFETY: as above.
    unsafe { machine.write64(mapped(window), 0xb8, table.as_u64() | low) };
    command(1 << 26, 1 << 24);
    let in_queue = [4, 0, 5, 0].into_iter().enumerate().map(|(word, value)| (queue, word, value));
    for (frame, word, value) in in_queue.chain(words.iter().map(|&(word, value)| (table, word, value))) {
        // SAFETY: the frame has just been allocated.
        let first = unsafe { machine.phys_to_virt(frame) };
        // SAFETY: a frame has 512 words.
        let word = unsafe { first.add(word) };
        // SAFETY: the word is in the frame.
        unsafe { machine.store(word, value) };
    }
    for frame in [queue, table] {
        // SAFETY: the frame is allocated.
        let first = unsafe { machine.phys_to_virt(frame) };
        // SAFETY: a frame has 4096 bytes.
        unsafe { machine.write_back(first, 4096) };
    }
    machine.fence();
    // SAFETY: as above.
    unsafe { machine.write64(mapped(window), 0x88, 32) };
    machine.pass(1_000_000);
    command(1 << 26, 1 << 25);
    [queue, table]
}

/// I12: interrupt remapping that is found on is told, and switched off before its queue is; it stays off afterwards.
#[test]
fn interrupt_remapping_that_is_found_on_is_switched_off() {
    for unit in [UnitConfig::server(), UnitConfig::qemu_10_0(false), UnitConfig::everything()] {
        let machine = machine([unit]);
        let frames = remap_interrupts(&machine, 0, 7, &[]);
        machine.take_violations();
        let iommu = discover(&machine, &[]).unwrap();
        iommu.enable().unwrap();
        assert!(iommu.units().all(|unit| unit.found_interrupts.is_some() && unit.state == UnitState::On));
        // SAFETY: the machine takes any access and reports a wrong one.
        let status = || unsafe { machine.read32(mapped(machine.windows()[0]), 0x1c) };
        assert_eq!(status() >> 25 & 0b11, 0b10, "the queue is on, remapping is not");
        // SAFETY: the unit uses neither any more.
        frames.into_iter().for_each(|frame| unsafe { machine.free(frame, 0) });
        cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(0, 3));
        assert!(write(&machine, function(0, 3), 0, 1));
        iommu.release(function(0, 3)).unwrap();
        iommu.disable().unwrap();
        assert_eq!(status() >> 25 & 0b11, 0);
        iommu.enable().unwrap();
        assert!(iommu.units().all(|unit| unit.found_interrupts.is_none()), "not this time");
    }
}

/// What the first call found is reported, however many calls it takes: what the driver did to the unit since is not firmware's.
#[test]
fn a_call_that_is_repeated_keeps_what_the_first_one_found() {
    let machine = machine([UnitConfig::server()]);
    remap_interrupts(&machine, 0, 7, &[]);
    machine.take_violations();
    let iommu = discover(&machine, &[]).unwrap();
    let mut failed = 0;
    for left in 0.. {
        machine.allow_allocations(Some(left));
        match iommu.enable() {
            Ok(_) => break,
            Err(Error::Unit(UnitError::NoFrame { .. })) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    machine.allow_allocations(None);
    assert!(failed > 1);
    assert!(iommu.units().all(|unit| unit.found_interrupts.is_some() && unit.state == UnitState::On));
}

/// U11: a unit that somebody left in another mode than legacy is taken over: its queue serves that mode as well, until the
/// driver's root table is set.
#[test]
fn a_unit_in_scalable_mode_is_taken_over() {
    let server = UnitConfig::server();
    let machine = machine([UnitConfig { ecap: server.ecap | 1 << 43, ..server }.found_running()]);
    let window = machine.windows()[0];
    // The same table, in scalable mode.
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write64(mapped(window), 0x20, 0x0800_0400) };
    // SAFETY: as above.
    unsafe { machine.write32(mapped(window), 0x18, 0xc400_0000) };
    machine.pass(1_000_000);
    // SAFETY: as above.
    assert_eq!(unsafe { machine.read32(mapped(window), 0x1c) }, 0xc400_0000);
    machine.take_violations();
    let iommu = enabled(&machine);
    assert_eq!(states(&iommu), [UnitState::On]);
    cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(0, 4));
    assert!(write(&machine, function(0, 4), 0, 1) && !write(&machine, function(0, 3), 0, 1));
}

/// Faults from before the driver had the unit are nobody's, and not counted.
#[test]
fn faults_from_before_are_not_counted() {
    let machine = machine([UnitConfig::server().found_running()]);
    assert!(!write(&machine, function(0, 3), MEMORY, 1), "firmware's table blocks it");
    let iommu = enabled(&machine);
    assert_eq!(faults_by_device(&iommu), []);
    assert_eq!(iommu.statistics().other_faults, 0);
    iommu.faults(|fault| panic!("{fault}"));
}

/// A unit that was handed back sends nobody an interrupt when it blocks something again, under whoever has it then.
#[test]
fn a_unit_that_is_handed_back_has_its_fault_event_masked() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
    // SAFETY: FECTL_REG.
    let masked = || unsafe { machine.read32(mapped(machine.windows()[0]), 0x38) } >> 31 == 1;
    assert!(!masked());
    iommu.disable().unwrap();
    assert!(masked());
}
