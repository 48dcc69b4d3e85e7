//! Memory that the root cell does not get, since a device of another cell may still reach it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cofferdam::CellId;
use cofferdam::addr::{Region, Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, Options, Owner};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::{endpoint, of_machine};
use cofferdam_support::watched::{Call, Watched};

use crate::audit::{INPUT, RW, audit};

const MEMORY: u64 = 0x6000_0000;
const RESERVED: u64 = 0x8000_0000;

/// A root cell with one region and one device.
fn root_cell_with<H: Hal>(iommu: &Front<H>, region: Region, device: SourceId) -> CellId {
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region).unwrap();
    iommu.assign(device, root).unwrap();
    root
}

/// A unit fails while a cell is granted memory of the root cell, and then the root cell changes. Its disk and the card of
/// the cell, which arrives with the grant if it was not there before, cannot both write that memory.
#[track_caller]
fn assert_a_failed_grant_is_withheld(arrives: bool) {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (disk, card) = (function(0, 1), function(1, 0));
    let used = AtomicBool::new(false);
    let before = |call: Call, machine: &Machine| {
        if call == Call::Pause && used.load(Ordering::Relaxed) {
            let _ = write(machine, card, INPUT, 1);
        }
    };
    let hal = Watched::new(&machine, before);
    let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), Options::default());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, Rights::READ)).unwrap();
    iommu.assign(if arrives { function(1, 1) } else { card }, cell).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    used.store(true, Ordering::Relaxed);
    // What gets more rights is flushed after it is granted.
    let mut change = iommu.change();
    change.map(cell, region(INPUT, MEMORY, PAGE, RW)).protect(cell, range(INPUT + LARGE, PAGE), RW);
    if arrives {
        change.assign(card, cell);
    }
    change.commit().unwrap_err();
    used.store(false, Ordering::Relaxed);
    // Changes that the root cell has part in.
    iommu.assign(disk, root).unwrap();
    iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    machine.abandon();
    assert_ne!(both, (true, true), "the card by what its unit has cached, and the root cell's disk");
}

#[test]
fn the_root_cell_does_not_get_what_a_failed_grant_let_in() {
    assert_a_failed_grant_is_withheld(false);
}

#[test]
fn the_root_cell_does_not_get_what_a_failed_arrival_may_reach() {
    assert_a_failed_grant_is_withheld(true);
}

/// A root cell that is made while another cell's change waits: it has nothing that the other is being given.
#[test]
fn a_root_cell_made_in_the_middle_of_a_change_takes_nothing() {
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
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
            assert_eq!(iommu.create_root_cell(UNSAFE_INTERRUPTS), Err(Error::InChange { cell: Some(cell) }));
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
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (disk, card) = (function(0, 1), function(1, 0));
    let root = root_cell_with(&iommu, region(MEMORY, MEMORY, LARGE, RW), disk);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    assert!(write(&machine, card, INPUT, 1));
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    iommu.destroy_cell(root).unwrap();
    root_cell_with(&iommu, region(MEMORY, MEMORY, LARGE, RW), disk);
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    machine.abandon();
    assert_ne!(both, (true, true), "the cell that had it is not destroyed");
}

/// How often the same memory was kept from the root cell does not matter once the cell that had it is gone.
#[test]
fn the_root_cell_has_again_what_was_withheld_more_than_once() {
    let machine = machine([UnitConfig::server()]);
    let iommu = limited(&machine, &Limits { regions: 3, root_regions: 3, ..Limits::DEFAULT });
    let (disk, card) = (function(0, 1), function(0, 2));
    root_cell_with(&iommu, region(MEMORY, MEMORY, 8 * PAGE, RW), disk);
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

/// A device-TLB does not answer, so what was granted is taken back; by then another device has used it, and now the unit fails.
#[test]
fn what_could_not_be_taken_back_is_withheld() {
    // The first entry that is cleared is that of the device that does not answer, and another that of the page.
    let reached: Vec<_> = (0..6).map(reached_if_the_unit_fails_at).collect();
    assert!(!reached.contains(&(true, true)), "the card by what its unit has cached: {reached:?}");
    assert!(reached.contains(&(true, false)) && reached.contains(&(false, true)), "{reached:?}");
}

/// The unit of the card fails when that many entries were cleared. Whether the card and the root cell's disk reach the page.
fn reached_if_the_unit_fails_at(cleared: u32) -> (bool, bool) {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (disk, card, silent) = (function(0, 1), function(1, 0), function(1, 1));
    machine.add_ats(silent, 32);
    let (used, waited) = (AtomicBool::new(false), AtomicBool::new(false));
    let left = AtomicU32::new(cleared);
    let before = |call: Call, machine: &Machine| match call {
        Call::Pause if used.load(Ordering::Relaxed) => {
            let _ = write(machine, card, INPUT, 1);
            waited.store(true, Ordering::Relaxed);
        }
        Call::Store(0) if waited.load(Ordering::Relaxed) && left.fetch_sub(1, Ordering::Relaxed) == 0 => {
            machine.break_unit(0, Defect::QueueDead);
        }
        _ => {}
    };
    let hal = Watched::new(&machine, before);
    let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
    let iommu = enabled_front(&hal, &table, Options::default());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, Rights::READ)).unwrap();
    iommu.assign(card, cell).unwrap();
    iommu.assign_with(silent, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
    machine.set_device_tlb(silent, Answer::Never, 32);
    used.store(true, Ordering::Relaxed);
    // What gets more rights is flushed after it is granted.
    let mut change = iommu.change();
    change.map(cell, region(INPUT, MEMORY, PAGE, RW)).protect(cell, range(INPUT + LARGE, PAGE), RW);
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    used.store(false, Ordering::Relaxed);
    assert!(waited.load(Ordering::Relaxed));
    iommu.assign(disk, root).unwrap();
    iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    assert!(write(&machine, disk, MEMORY + 2 * LARGE, 4), "the rest is the root cell's");
    machine.abandon();
    both
}

/// Each withholding that has no room of its own makes the root cell lose what lies between two others, though no unit's
/// devices can reach that, no other cell has it, and no error says so: by a change that succeeds and is about something else.
#[test]
fn the_root_cell_loses_nothing_that_nobody_may_reach() {
    let machine = machine([UnitConfig::server()]);
    let limits = Limits { cells: 2, regions: 2, root_regions: 2, ..Limits::DEFAULT };
    let iommu = limited(&machine, &limits);
    let (disk, card) = (function(0, 1), function(0, 2));
    root_cell_with(&iommu, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, 8 * LARGE, RW), disk);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(card, cell).unwrap();
    // None of it is the root cell's: it lies below and above.
    let own = [0, 20, 2, 22, 4].map(|n| MEMORY + n * LARGE);
    for memory in own {
        iommu.map(cell, region(INPUT, memory, PAGE, RW)).unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        machine.mend_unit(0);
        assert!(write(&machine, disk, MEMORY + 10 * LARGE, 1));
    }
    // The unit repeats what failed, and this succeeds.
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    assert!(write(&machine, disk, MEMORY + 10 * LARGE, 2), "nobody else ever had it");
}

/// A unit fails while it takes memory from one cell; what another cell gave up in the same change was confirmed by its own.
#[test]
fn the_root_cell_gets_what_no_failed_unit_may_reach() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (disk, card, broken) = (function(0, 1), function(0, 2), function(1, 0));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    iommu.assign(disk, root).unwrap();
    let one = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    let two = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), broken);
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.unmap(one, range(INPUT, PAGE)).unmap(two, range(INPUT, PAGE));
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    // A change that the root cell has part in.
    iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    assert!(!write(&machine, card, INPUT, 1) && !write(&machine, disk, MEMORY + LARGE, 2));
    let back = write(&machine, disk, MEMORY, 3);
    machine.abandon();
    assert!(back, "each unit behind which its cell has a device has confirmed");
}

/// I1: what is withheld since a cell's devices may reach it stays so while another change destroys the cell: no unit has
/// confirmed anything yet.
#[test]
fn what_is_withheld_stays_so_while_its_cell_is_destroyed() {
    for dies in [false, true] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let stop = Stop::new();
        let hal = Watched::shared(&machine, stop.looks());
        let iommu = enabled_front(&hal, &of_machine(&machine, &[&[1]]).table(), Options::default());
        let (card, disk) = (function(1, 2), function(0, 1));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
        let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), disk);
        assert!(write(&machine, card, INPUT, 1));
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        machine.mend_unit(0);
        if dies {
            machine.break_unit(0, Defect::QueueDead);
        }
        let mut both = (false, false);
        let mut mapped = None;
        let destroyed = stop.meanwhile(
            || iommu.destroy_cell(cell),
            || {
                mapped = Some(iommu.map(other, region(INPUT + PAGE, MEMORY, PAGE, RW)));
                both = (write(&machine, card, INPUT, 2), write(&machine, disk, INPUT + PAGE, 3));
            },
        );
        assert_eq!(destroyed.is_err(), dies);
        let after = (write(&machine, card, INPUT, 4), write(&machine, disk, INPUT + PAGE, 5));
        let said = audit(&iommu);
        machine.abandon();
        let refused = Error::Owned { memory: outputs(MEMORY, PAGE), owner: Owner::Withheld(cell) };
        assert_eq!(mapped, Some(Err(refused)), "dies {dies}, both {both:?}, after {after:?}, audit {said:?}");
    }
}

/// I1: the same for memory that firmware reserves for a device which arrives meanwhile.
#[test]
fn no_device_gets_what_is_withheld_while_its_cell_ends() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).rmrr(0, RESERVED, RESERVED + 0xfff, &[endpoint(3, 0)]).table();
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let iommu = enabled_front(&hal, &table, Options::default());
    let (card, named) = (function(1, 2), function(0, 3));
    let cell = cell_with(&iommu, region(INPUT, RESERVED, PAGE, RW), card);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert!(write(&machine, card, INPUT, 1));
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    machine.mend_unit(0);
    machine.break_unit(0, Defect::QueueDead);
    let mut assigned = None;
    let destroyed = stop.meanwhile(|| iommu.destroy_cell(cell), || assigned = Some(iommu.assign(named, other)));
    let both = (write(&machine, card, INPUT, 2), write(&machine, named, RESERVED, 3));
    let said = audit(&iommu);
    machine.abandon();
    assert_ne!(both, (true, true), "{destroyed:?} {assigned:?} {said:?}");
}
