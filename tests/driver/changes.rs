//! Edits that take effect as a whole or not at all.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::iommu::{Error, Options, Refusal};
use cofferdam::{CellId, Coherency, Iommu};
use cofferdam_model::{Defect, Machine, UnitConfig};

use crate::machine::*;
use crate::watched::{Call, Watched};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// What a call submits: descriptors, waits and doorbells.
fn cost<T>(iommu: &Iommu<&Machine>, call: impl FnOnce() -> T) -> (u64, u64, u64) {
    let before = iommu.statistics();
    call();
    let after = iommu.statistics();
    (after.descriptors - before.descriptors, after.waits - before.waits, after.doorbells - before.doorbells)
}

fn four(bus: u8) -> [SourceId; 4] {
    [0, 1, 2, 3].map(|device| function(bus, device))
}

/// A cell with memory in three sizes and four devices, made by one change.
fn make(iommu: &Iommu<&Machine>) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.map(cell, region(0x10_0000, MEMORY + PAGE, 0x10_0000, RW)).unwrap();
    change.map(cell, region(0x4000_0000, MEMORY + 0x1000_0000, 32 * LARGE, RW)).unwrap();
    change.map(cell, region(0x1_0000_0000, 0x1_0000_0000, 0x2000_0000, RW)).unwrap();
    four(0).into_iter().for_each(|device| {
        change.assign(device, cell).unwrap();
    });
    change.commit().unwrap();
    cell
}

#[test]
fn a_cell_is_made_and_destroyed_by_one_batch_each_at_most() {
    for (name, unit) in presets().into_iter().filter(|(_, unit)| unit.ecap >> 1 & 1 == 1) {
        let caching = unit.cap >> 7 & 1 == 1;
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let mut cell = None;
        let made = cost(&iommu, || cell = Some(make(&iommu)));
        // With caching mode the root entry is new, too: everything, by two descriptors.
        assert_eq!(made, if caching { (3, 1, 1) } else { (0, 0, 0) }, "{name}");
        assert!(write(&machine, function(0, 2), 0x10_0000, 1), "{name}");
        // Four context entries and the domain.
        assert_eq!(cost(&iommu, || iommu.destroy_cell(cell.unwrap()).unwrap()), (6, 1, 1), "{name}");
        assert!(!write(&machine, function(0, 2), 0x10_0000, 1), "{name}");
    }
}

#[test]
fn memory_and_devices_move_from_cell_to_cell_in_one_change() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (a, b) = (function(0, 1), function(0, 2));
        let from = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), a);
        let to = cell_with(&iommu, region(INPUT, MEMORY + LARGE, 2 * PAGE, RW), b);
        assert!(write(&machine, a, INPUT + PAGE, 1) && write(&machine, b, INPUT, 2));
        let mut change = iommu.change();
        change.unmap(from, range(INPUT + PAGE, PAGE)).unwrap();
        change.map(to, region(INPUT + 2 * PAGE, MEMORY + PAGE, PAGE, RW)).unwrap();
        change.release(a).unwrap();
        change.assign(a, to).unwrap();
        change.commit().unwrap();
        assert!(write(&machine, a, INPUT + 2 * PAGE, 7) && write(&machine, b, INPUT + 2 * PAGE, 8), "{name}");
        assert_eq!(peek(&machine, MEMORY + PAGE), 8, "{name}");
        assert!(write(&machine, a, INPUT, 9), "{name}");
        assert_eq!(peek(&machine, MEMORY + LARGE), 9, "{name}: a device has the memory of its cell alone");
    }
}

#[test]
fn what_a_change_takes_and_grants_again_is_not_touched() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), function(0, 1));
    let before = machine.snapshot();
    let nothing = cost(&iommu, || {
        let mut change = iommu.change();
        change.unmap(cell, range(INPUT, 2 * PAGE)).unwrap();
        change.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
        change.protect(cell, range(INPUT, PAGE), Rights::READ).unwrap();
        change.protect(cell, range(INPUT, PAGE), RW).unwrap();
        change.assign(function(0, 2), cell).unwrap();
        change.release(function(0, 2)).unwrap();
        change.commit().unwrap();
    });
    assert_eq!(nothing, (0, 0, 0));
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn edits_are_taken_one_after_the_other() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let device = function(0, 1);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), device);
    assert!(write(&machine, device, INPUT, 1));
    let mut change = iommu.change();
    // Where there was something else, page for page and in a large page.
    change.unmap(cell, range(INPUT, 4 * PAGE)).unwrap();
    change.map(cell, region(INPUT, MEMORY + LARGE, LARGE, RW)).unwrap();
    change.protect(cell, range(INPUT + PAGE, PAGE), Rights::READ).unwrap();
    change.unmap(cell, range(INPUT + 2 * PAGE, PAGE)).unwrap();
    change.commit().unwrap();
    assert!(write(&machine, device, INPUT, 1) && !write(&machine, device, INPUT + PAGE, 1));
    assert_eq!(peek(&machine, MEMORY + LARGE), 1);
    assert_eq!(read(&machine, device, INPUT + PAGE), Some(0));
    assert_eq!(read(&machine, device, INPUT + 2 * PAGE), None);
    assert!(write(&machine, device, INPUT + LARGE - PAGE, 1));
    iommu.destroy_cell(cell).unwrap();
    assert_eq!(machine.frames_in_use(), 4, "queue, status words, root and context table");
}

/// A change of much, which fails at its last edit: each of those, and what it says.
#[test]
fn a_change_that_is_refused_changes_no_table_and_no_device() {
    type Fails = fn(&mut cofferdam::iommu::Change<'_, &Machine, 64, 16, 256>, CellId);
    let fails: [(Fails, Error); 6] = [
        (
            |change, cell| drop(change.map(cell, region(INPUT, MEMORY, PAGE, RW))),
            Error::Overlap(region(INPUT, MEMORY, 2 * LARGE, RW)),
        ),
        (|change, cell| drop(change.unmap(cell, range(0, PAGE))), Error::NotGranted(cofferdam::addr::Iova::new(0))),
        (|change, cell| drop(change.unmap(cell, range(INPUT, 5))), Error::Misaligned(range(INPUT, 5))),
        (|change, _| drop(change.release(function(0, 9))), Error::NotAssigned(function(0, 9))),
        (
            |change, cell| drop(change.assign(function(0, 3), cell)),
            Error::Refused { device: function(0, 3), reason: Refusal::UnsafeInterrupts },
        ),
        (
            |change, cell| drop(change.protect(cell, range(INPUT, PAGE), Rights::empty())),
            Error::Map(cofferdam::iommu::MapError::NoRights(range(INPUT, PAGE))),
        ),
    ];
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = enabled(&machine);
    let (a, b) = (function(0, 1), function(0, 2));
    let (careful, cell) =
        (iommu.create_cell(Default::default()).unwrap(), iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.map(careful, region(INPUT, MEMORY, 2 * LARGE, RW)).unwrap();
    iommu.map(cell, region(INPUT, MEMORY + 4 * LARGE, 2 * LARGE, RW)).unwrap();
    iommu.assign(a, cell).unwrap();
    let before = machine.snapshot();
    for (fail, expected) in fails {
        let nothing = cost(&iommu, || {
            let mut change = iommu.change();
            change.unmap(cell, range(INPUT + PAGE, PAGE)).unwrap();
            change.protect(cell, range(INPUT + LARGE, PAGE), Rights::READ).unwrap();
            change.map(cell, region(INPUT + 4 * LARGE, MEMORY, PAGE, RW)).unwrap();
            change.assign(b, cell).unwrap();
            change.release(a).unwrap();
            fail(&mut change, careful);
            assert_eq!(change.commit().unwrap_err(), expected);
        });
        assert_eq!(nothing, (0, 0, 0), "{expected}");
        assert_eq!(machine.snapshot(), before, "{expected}");
    }
    assert!(write(&machine, a, INPUT + PAGE, 1) && !write(&machine, b, INPUT, 1));
}

#[test]
fn a_cell_that_a_change_destroys_is_named_by_no_edit_after_that() {
    type Names = fn(&mut cofferdam::iommu::Change<'_, &Machine, 64, 16, 256>, CellId);
    let names: [Names; 5] = [
        |change, cell| drop(change.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW))),
        |change, cell| drop(change.unmap(cell, range(INPUT, PAGE))),
        |change, cell| drop(change.protect(cell, range(INPUT, PAGE), Rights::READ)),
        |change, cell| drop(change.assign(function(0, 2), cell)),
        |change, cell| drop(change.destroy(cell)),
    ];
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 1));
    let before = machine.snapshot();
    for name in names {
        let mut change = iommu.change();
        change.destroy(cell).unwrap();
        name(&mut change, cell);
        assert_eq!(change.commit(), Err(Error::NoSuchCell(cell)));
        assert_eq!(machine.snapshot(), before);
    }
    assert!(write(&machine, function(0, 1), INPUT, 1) && !write(&machine, function(0, 2), INPUT, 1));
}

#[test]
fn a_change_that_finds_no_frame_changes_nothing_however_far_it_came() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (a, b) = (function(0, 1), function(1, 2));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 2 * LARGE, RW), a);
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let before = machine.snapshot();
        for count in 0.. {
            machine.allow_allocations(Some(count));
            let mut change = iommu.change();
            change.unmap(cell, range(INPUT + PAGE, PAGE)).unwrap();
            change.map(cell, region(INPUT + 0x4000_0000, MEMORY + PAGE, 3 * PAGE, RW)).unwrap();
            change.map(other, region(INPUT, MEMORY + PAGE, PAGE, RW)).unwrap();
            change.release(a).unwrap();
            change.assign(b, cell).unwrap();
            change.assign(a, other).unwrap();
            let result = change.commit();
            machine.allow_allocations(None);
            if result.is_ok() {
                assert!(count > 5, "{name}: {count}");
                break;
            }
            assert_eq!(result.unwrap_err(), Error::OutOfFrames, "{name}");
            assert_eq!(machine.snapshot(), before, "{name}: {count}");
        }
        assert!(write(&machine, a, INPUT, 5) && write(&machine, b, INPUT + 0x4000_0000, 6), "{name}");
        assert_eq!(peek(&machine, MEMORY + PAGE), 6, "{name}");
    }
}

#[test]
fn a_unit_that_fails_keeps_what_it_may_reach_and_nothing_is_granted() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let mut iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (dead, good, new) = (function(1, 0), function(0, 0), function(0, 1));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), dead);
    iommu.assign(good, cell).unwrap();
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE)).unwrap();
    change.map(other, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    change.release(dead).unwrap();
    change.assign(new, other).unwrap();
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    assert_eq!(read(&machine, good, INPUT), None, "taken away");
    assert!(write(&machine, good, INPUT + PAGE, 1), "and nothing else");
    assert_eq!(read(&machine, new, INPUT), None, "granted to nobody");
    assert_eq!(iommu.assign(dead, cell), Err(Error::Busy { device: dead, cell }), "still listed");
    iommu.assign(new, other).unwrap();
    assert_eq!(read(&machine, new, INPUT), None);
    iommu.destroy_cell(other).unwrap();
    assert!(iommu.destroy_cell(cell).is_err());
    assert_eq!(read(&machine, good, INPUT + PAGE), None);
}

#[test]
fn a_change_tells_which_cells_are_not_what_they_were() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client()];
    let machine = machine(units);
    let mut iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (graphics, card) = (function(1, 0), function(0, 1));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let told = |committed: cofferdam::iommu::Committed<16>| committed.coherency_changes().to_vec();
    assert_eq!(told(iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap()), []);
    assert_eq!(told(iommu.assign(card, cell).unwrap()), []);
    assert_eq!(told(iommu.assign(graphics, cell).unwrap()), [(cell, Coherency::NotEnforced)]);
    assert_eq!(told(iommu.unmap(cell, range(INPUT, PAGE)).unwrap()), []);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.release(graphics).unwrap().assign(graphics, other).unwrap();
    let moved = told(change.commit().unwrap());
    assert_eq!(moved, [(cell, Coherency::Enforced), (other, Coherency::NotEnforced)]);
    assert_eq!(told(iommu.destroy_cell(other).unwrap()), [], "it is gone");
}

#[test]
fn what_a_failed_change_could_not_tell_is_told_by_the_next() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client()];
    let machine = machine(units);
    let mut iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (graphics, card) = (function(1, 0), function(0, 1));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    iommu.assign(graphics, cell).unwrap();
    machine.break_unit(1, Defect::QueueErrorAfter(0));
    let mut change = iommu.change();
    change.release(graphics).unwrap().release(card).unwrap();
    assert!(change.commit().is_err());
    machine.mend_unit(1);
    assert_eq!(iommu.coherency(cell), Ok(Coherency::Enforced));
    let told = iommu.release(card).unwrap();
    assert_eq!(told.coherency_changes(), [(cell, Coherency::Enforced)]);
}

/// While a unit works on one cell's flush, a cell behind another unit changes.
#[test]
fn a_change_that_waits_for_its_unit_holds_up_no_other_cell() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let ((waits, waited), (go, gone)) = (mpsc::channel(), mpsc::channel());
    let hook = Mutex::new(None);
    let before = |call, _: &Machine| {
        // Once, when a change waits; the calls of other threads find no hook.
        let taken = if call == Call::Pause { hook.lock().unwrap().take() } else { None };
        if let Some((waits, gone)) = taken {
            let (waits, gone): (mpsc::Sender<()>, mpsc::Receiver<()>) = (waits, gone);
            waits.send(()).unwrap();
            gone.recv_timeout(Duration::from_secs(30)).expect("the other change is held up");
        }
    };
    let hal = Watched { machine: &machine, before };
    let mut iommu: Iommu<_> = Iommu::discover(&hal, topology(&machine, &[&[1]]), Options::default()).unwrap();
    iommu.enable().unwrap();
    let (slow, quick) = (function(1, 0), function(0, 0));
    let [one, two] = [slow, quick].map(|device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        iommu.assign(device, cell).unwrap();
        cell
    });
    *hook.lock().unwrap() = Some((waits, gone));
    let iommu = &iommu;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| iommu.unmap(one, range(INPUT, PAGE)));
        waited.recv().unwrap();
        iommu.unmap(two, range(INPUT, PAGE)).unwrap();
        assert_eq!(iommu.map(one, region(INPUT, MEMORY, PAGE, RW)), Err(Error::InChange), "its own cell waits");
        go.send(()).unwrap();
        waiting.join().unwrap().unwrap();
    });
    iommu.map(one, region(INPUT, MEMORY, PAGE, RW)).unwrap();
}
