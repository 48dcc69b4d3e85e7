//! The machine is given back to a system that runs: what its devices and its interrupts do goes on, and registers are as they were.

use std::cell::{Cell, RefCell};

use cofferdam::addr::{PhysAddr, Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{FaultEvent, Source};
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, UnitState, Unroutable};
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use super::audit::audit;
use super::device_tlb::{DEVICE_TLB, is_on};
use super::interrupts::*;
use super::take_over::remap_interrupts;

const MEMORY: u64 = 0x6000_0000;
const DISK: SourceId = SourceId::from_requester(0, 3 << 3);
const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
/// What lies at the root cell's own addresses.
const ALL: (u64, u64) = (MEMORY, 8 * LARGE);

/// The registers of a unit that a system depends on: GSTS, FECTL to FEADDR, RTADDR, IQH, IQT, IQA, IRTA, IECTL, PMEN.
pub(super) fn registers(machine: &Machine, unit: usize) -> Vec<u64> {
    let window = machine.windows()[unit];
    let word = |at: u32| {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.read32(mapped(window), at) }.into()
    };
    let pair = |at: u32| {
        // SAFETY: as above.
        unsafe { machine.read64(mapped(window), at) }
    };
    let has_interrupts = machine.unit_config(unit).unwrap().ecap & 0b1010 == 0b1010;
    let has_queue = machine.unit_config(unit).unwrap().ecap & 0b10 != 0;
    let mut all: Vec<u64> = [0x1c, 0x38, 0x3c, 0x40].into_iter().map(word).collect();
    all.push(pair(0x20));
    if has_queue {
        all.extend([0x80, 0x88, 0x90].map(pair));
    }
    if has_interrupts {
        all.push(pair(0xb8));
    }
    if has_queue {
        all.push(word(0xa0));
    }
    all.push(word(0x64));
    // Whether the root and the interrupt table pointer were ever set says nothing of what is on.
    all[0] &= !(1 << 30 | 1 << 24);
    all
}

/// A root cell that has all memory and these devices, made before the units are switched on.
pub(super) fn root_with<H: Hal>(iommu: &Front<H>, devices: &[SourceId], edits: &[Edit], config: CellConfig) -> CellId {
    iommu.prepare().unwrap();
    let root = iommu.create_root_cell(config).unwrap();
    let (first, bytes) = ALL;
    let map = Edit::Map(root, region(first, first, bytes, Rights::all()));
    let assign = devices.iter().map(|&device| Edit::Assign(device, root, DeviceConfig::default()));
    let edits: Vec<_> = [map].into_iter().chain(assign).chain(edits.iter().copied()).collect();
    iommu.commit(&edits).unwrap();
    root
}

thread_local! {
    static RUNS: Cell<bool> = const { Cell::new(false) };
    static SENT: Cell<u32> = const { Cell::new(0) };
}

/// Of a device that never stops, no write is lost from before `enable` to after `hand_back`, whatever the driver is at.
#[test]
fn no_device_of_the_root_cell_stops() {
    for (name, unit) in presets() {
        let hal = Watched::new(machine([unit]), |_: Call, machine: &Machine| {
            if RUNS.get() {
                SENT.set(SENT.get() + 1);
                assert!(write(machine, DISK, MEMORY + 8, SENT.get().into()), "a write is lost");
                assert_eq!(peek(machine, MEMORY + 8), SENT.get().into());
            }
        });
        let before = registers(&hal.machine, 0);
        let iommu = front(&hal, &hal.machine.dmar(), Options::default()).unwrap();
        RUNS.set(true);
        SENT.set(0);
        let root = root_with(&iommu, &[DISK], &[], UNSAFE_INTERRUPTS);
        iommu.enable().unwrap();
        assert!(audit(&iommu).is_empty() && !write(&hal.machine, CARD, MEMORY, 1), "{name}");
        iommu.hand_back().unwrap();
        RUNS.set(false);
        assert!(SENT.get() > 30, "{name}: {}", SENT.get());
        assert_eq!(registers(&hal.machine, 0), before, "{name}");
        assert_eq!((states(&iommu), hal.machine.frames_in_use()), (vec![UnitState::Off], 0), "{name}");
        assert!(write(&hal.machine, CARD, MEMORY, 1), "{name}: as before");
        // And once more.
        iommu.prepare().unwrap();
        iommu.assign(DISK, root).unwrap();
        iommu.enable().unwrap();
        assert!(write(&hal.machine, DISK, MEMORY, 2) && !write(&hal.machine, CARD, MEMORY, 1), "{name}");
        iommu.hand_back().unwrap();
        assert_eq!(registers(&hal.machine, 0), before, "{name}");
        hal.machine.check();
    }
}

const SIZE: u64 = 7;

fn entry(index: usize, source: SourceId) -> [(usize, u64); 2] {
    [(index * 2, 0x0200_0041_0001), (index * 2 + 1, 1 << 18 | u64::from(source.requester()))]
}

/// A unit with a queue of this many slots in use, remapping by a table that has the card's message 0 as entry 37, and with a fault
/// event that is sent.
pub(super) fn running(machine: &Machine, unit: usize) -> [PhysAddr; 2] {
    let frames = remap_interrupts(machine, unit, SIZE, &entry(37, CARD));
    for (offset, value) in
        [(0x3c, 0x31), (0x40, 0xfee0_1000), (0x44, 0), (0x38, 0), (0xa4, 0x32), (0xa8, 0xfee0_1000), (0xa0, 0)]
    {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.write32(mapped(machine.windows()[unit]), offset, value) };
    }
    frames
}

/// A unit that remaps interrupts and has a queue goes on with both, its fault event too, and no interrupt that is kept is lost.
#[test]
fn what_is_found_running_runs_on() {
    for unit in [UnitConfig::server(), UnitConfig::client(), UnitConfig::qemu_10_0(true), UnitConfig::everything()] {
        let arrived = RefCell::new(0);
        let hal = Watched::new(machine([unit]), |_: Call, machine: &Machine| {
            if RUNS.get() {
                *arrived.borrow_mut() += 1;
                let sent = machine.interrupt(CARD, 0xfee0_0010 | 37 << 5, 0);
                assert!(sent.is_ok(), "an interrupt is lost: {sent:?}");
                assert!(write(machine, CARD, MEMORY, 1), "a write is lost");
            }
        });
        let machine = &hal.machine;
        let frames = running(machine, 0);
        let before = registers(machine, 0);
        assert_eq!((before[0] >> 25 & 0b11, before[6]), (0b11, 0x20), "a queue that is in use, and remapping");
        machine.take_violations();
        let options = Options { take_over: true, ..Options::default() };
        let iommu = front(&hal, &machine.dmar(), options).unwrap();
        let found = iommu.units().next().unwrap();
        assert!(found.found_queue && found.found_fault_event && found.found_interrupts.is_some() && !found.found_on);
        iommu.remap_interrupts(&[0], false).unwrap();
        RUNS.set(true);
        let kept = Source::Message { device: CARD, index: 0 };
        iommu.prepare().unwrap();
        let root = iommu.create_root_cell(CONFIG).unwrap();
        let map = Edit::Map(root, region(MEMORY, MEMORY, PAGE, Rights::all()));
        iommu.commit(&[map, Edit::Assign(CARD, root, messages(0)), Edit::Keep(root, kept, 37)]).unwrap();
        iommu.enable().unwrap();
        iommu.hand_back().unwrap();
        RUNS.set(false);
        assert!(*arrived.borrow() > 30);
        assert_eq!(registers(machine, 0), before);
        assert_eq!(machine.frames_in_use(), 2, "those of the former owner");
        // What its owner submits next is done.
        let window = mapped(machine.windows()[0]);
        // SAFETY: the frame is the test's.
        let queue = unsafe { machine.phys_to_virt(frames[0]) };
        for (word, value) in [4, 0, 5, 0].into_iter().enumerate() {
            // SAFETY: a frame has 512 words.
            let word = unsafe { queue.add(4 + word) };
            // SAFETY: as above.
            unsafe { machine.store(word, value) };
        }
        machine.fence();
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.write64(window, 0x88, 0x40) };
        machine.pass(1_000_000);
        // SAFETY: as above.
        assert_eq!((unsafe { machine.read64(window, 0x80) }, unsafe { machine.read32(window, 0x34) }), (0x40, 0));
        machine.take_violations();
    }
}

/// R14: the last that a queue did that is given back is a wait, so whoever has it can switch it off.
#[test]
fn a_queue_that_is_given_back_can_be_taken_over_again() {
    for unit in [UnitConfig::server(), UnitConfig::client(), UnitConfig::qemu_10_0(true), UnitConfig::everything()] {
        let machine = machine([unit]);
        running(&machine, 0);
        let before = registers(&machine, 0);
        let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        for _ in 0..2 {
            // What the former owner did is its own.
            machine.take_violations();
            iommu.enable().unwrap();
            iommu.hand_back().unwrap();
            assert_eq!(registers(&machine, 0), before);
        }
        assert_eq!(machine.abandon(), []);
    }
}

/// A unit that was found translating goes on by the tables that it had.
#[test]
fn what_is_found_translating_translates_again() {
    let first = UnitConfig::first_generation();
    // CAP.PLMR
    let protecting = UnitConfig { cap: first.cap | 1 << 5, ..first.clone() };
    for unit in [first.clone(), behind_write_buffers(first), protecting] {
        let protects = unit.cap >> 5 & 1 == 1;
        let machine = machine([unit.found_running()]);
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { machine.write32(mapped(machine.windows()[0]), 0x64, 1 << 31) };
        machine.pass(1_000_000);
        let before = registers(&machine, 0);
        let regions = if protects { 1 << 31 | 1 } else { 0 };
        assert_eq!((before[0] >> 31, before.last()), (1, Some(&regions)), "translating, and memory is protected");
        let iommu = discover(&machine, &[]).unwrap();
        root_with(&iommu, &[DISK], &[], UNSAFE_INTERRUPTS);
        iommu.enable().unwrap();
        assert!(write(&machine, DISK, MEMORY, 1));
        iommu.hand_back().unwrap();
        assert_eq!(registers(&machine, 0), before);
        assert!(!write(&machine, DISK, MEMORY, 1), "its table lets nothing through");
        assert_eq!(states(&iommu), [UnitState::Off]);
        machine.take_violations();
    }
    // One with a queue, which lies where the platform gives nothing.
    let machine = machine([UnitConfig::server().found_running()]);
    let iommu = enabled(&machine);
    assert_eq!(iommu.hand_back(), Err(Error::Unit(UnitError::FoundQueue { unit: machine.windows()[0] })));
    machine.take_violations();
}

/// A unit that somebody else has on is not taken over by mistake: nothing was done to it.
#[test]
fn who_has_a_unit_on_keeps_it_unless_it_is_to_be_taken_over() {
    let translating = machine([UnitConfig::server(), UnitConfig::server().found_running()]);
    let remapping = machine([UnitConfig::server(), UnitConfig::server()]);
    running(&remapping, 1);
    remapping.take_violations();
    for (machine, bit) in [(translating, "TES"), (remapping, "QIES")] {
        let before = [0, 1].map(|unit| registers(&machine, unit));
        let iommu = front(&machine, &of_two(&machine), Options::default()).unwrap();
        let unit = machine.windows()[1];
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
        assert_eq!(iommu.faults(|fault| panic!("{fault}")).records, 0);
        let refused = iommu.enable();
        assert_eq!(refused, Err(Error::Unit(UnitError::FoundOn { unit, register: "GSTS_REG", bit })));
        assert_eq!([0, 1].map(|unit| registers(&machine, unit)), before);
        assert_eq!(states(&iommu), [UnitState::Off; 2]);
        assert!(iommu.units().nth(1).unwrap().found_on == (bit == "TES"));
        machine.take_violations();
    }
}

fn of_two(machine: &Machine) -> Vec<u8> {
    cofferdam_support::tables::of_machine(machine, &[&[1]]).table()
}

/// What cannot be given back is not touched: a queue in memory that the platform does not give, a device or a pin of another cell.
#[test]
fn what_cannot_be_given_back_is_not_touched() {
    let machine = machine([UnitConfig::server()]);
    running(&machine, 0);
    machine.take_violations();
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    let root = root_with(&iommu, &[DISK], &[], CONFIG);
    iommu.enable().unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(CARD, cell, messages(0)).unwrap();
    let before = registers(&machine, 0);
    assert_eq!(iommu.hand_back(), Err(Error::Busy { device: CARD, cell }));
    iommu.release(CARD).unwrap();
    let pin = Source::Pin { io_apic: 0, pin: 3 };
    iommu.route(cell, pin, cofferdam::interrupt::Route::to(2, 0x41)).unwrap();
    assert_eq!(iommu.hand_back(), Err(Error::Route { source: pin, reason: Unroutable::Taken(cell) }));
    iommu.destroy_cell(cell).unwrap();
    machine.keep_found_memory();
    assert_eq!(iommu.hand_back(), Err(Error::Unit(UnitError::FoundQueue { unit: machine.windows()[0] })));
    // Its own queue goes on with each change.
    let quiet = |registers: Vec<u64>| [registers[0], registers[4], registers[7], registers[8]];
    assert_eq!(quiet(registers(&machine, 0)), quiet(before));
    assert!(write(&machine, DISK, MEMORY, 1) && audit(&iommu).is_empty());
    assert_eq!(iommu.coherency(root).map(drop), Ok(()));
    machine.take_violations();
}

/// A device-TLB is emptied and off before; a device that does not answer keeps the machine from being given back.
#[test]
fn device_tlbs_end_before() {
    for answers in [true, false] {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled_with_ats(&machine);
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, PAGE, Rights::all())).unwrap();
        machine.add_ats(DISK, 32);
        iommu.assign_with(DISK, root, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, DISK, MEMORY, 1) && is_on(&machine, DISK));
        if !answers {
            machine.set_device_tlb(DISK, cofferdam_model::Answer::Never, 32);
        }
        let handed_back = iommu.hand_back();
        assert!(!is_on(&machine, DISK));
        if answers {
            handed_back.unwrap();
            assert_eq!(machine.frames_in_use(), 0);
            machine.check();
        } else {
            assert!(matches!(handed_back, Err(Error::Unit(UnitError::Device { .. }))), "{handed_back:?}");
            assert_eq!(states(&iommu), [UnitState::On]);
            machine.take_violations();
        }
    }
}

/// A unit that is dead keeps its frames and its devices; the others are given back.
#[test]
fn one_dead_unit_keeps_no_other() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = front(&machine, &of_two(&machine), Options::default()).unwrap();
    let root = root_with(&iommu, &[function(1, 3), DISK], &[], UNSAFE_INTERRUPTS);
    iommu.enable().unwrap();
    machine.break_unit(0, Defect::AllOnes);
    let failed = iommu.hand_back();
    assert!(matches!(failed, Err(Error::Unit(UnitError::Dead { .. }))), "{failed:?}");
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { .. }, UnitState::Off]));
    assert!(machine.frames_in_use() != 0 && write(&machine, DISK, MEMORY, 1));
    let mut left = Vec::new();
    iommu.assigned(|device| left.push((device.device, device.cell))).unwrap();
    assert_eq!(left, [(function(1, 3), root)]);
    machine.abandon();
}

/// What a system had before the machine slept is what it gets back: a reset of the unit is not its state, whether it was switched on
/// again since or not.
#[test]
fn a_reset_is_not_what_was_found() {
    for again in [true, false] {
        let machine = machine([UnitConfig::server()]);
        running(&machine, 0);
        let before = registers(&machine, 0);
        machine.take_violations();
        let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        root_with(&iommu, &[DISK], &[], CONFIG);
        iommu.enable().unwrap();
        machine.reset_unit(0);
        if again {
            iommu.enable().unwrap();
        }
        iommu.hand_back().unwrap();
        assert_eq!(registers(&machine, 0), before, "{again}");
        machine.take_violations();
    }
}

/// Take-over that ends for want of frames has stopped nothing that runs, or hands it back, wherever it ends.
#[test]
fn a_take_over_that_ended_early_is_handed_back() {
    for left in 0..6 {
        let machine = machine([UnitConfig::server()]);
        running(&machine, 0);
        let before = registers(&machine, 0);
        machine.take_violations();
        let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        machine.allow_allocations(Some(left));
        let _ = iommu.enable();
        machine.allow_allocations(None);
        iommu.hand_back().unwrap();
        assert_eq!(registers(&machine, 0), before, "{left} frames");
        assert_eq!(machine.frames_in_use(), 2, "{left} frames");
        machine.take_violations();
    }
}
