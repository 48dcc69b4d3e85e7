//! What a change that failed leaves behind: a flush that its unit needs, memory that devices may still reach, devices that stay;
//! and how that ends.

use std::sync::atomic::{AtomicU32, Ordering};

use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::iommu::{Edit, Error, Options, Remains};
use cofferdam::{CellId, Coherency};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

use crate::audit::assert_nothing_differs;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// A cell with a card whose memory is unmapped while its unit refuses a command: the card still reaches it.
fn with_a_flush_missing(machine: &Machine) -> (Front<&Machine>, CellId, SourceId) {
    let iommu = discover(machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let card = function(1, 2);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    assert!(write(machine, card, INPUT, 1));
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    assert!(matches!(iommu.unmap(cell, range(INPUT, PAGE)), Err(Error::Unit(_))));
    machine.mend_unit(0);
    assert!(write(machine, card, INPUT, 2), "the unit has it cached");
    assert_eq!(needing(&iommu), [true, false]);
    (iommu, cell, card)
}

fn needing(iommu: &Front<&Machine>) -> Vec<bool> {
    iommu.units().map(|unit| unit.needs_flush).collect()
}

/// U12: each change of the cell has the unit asked for everything first: also the same `unmap`, which is refused since the
/// tables have lost the range, and a change without edits.
#[test]
fn the_next_change_of_a_cell_repeats_a_failed_flush() {
    type Change = fn(&Front<&Machine>, CellId) -> Result<(), Error>;
    let again: Change = |iommu, cell| {
        let result = iommu.unmap(cell, range(INPUT, PAGE));
        assert!(matches!(result, Err(Error::NotGranted(_))), "{result:?}");
        Ok(())
    };
    let changes: [Change; 3] = [
        again,
        |iommu, _| iommu.commit(&[]).map(drop),
        |iommu, cell| iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).map(drop),
    ];
    for change in changes {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let (iommu, cell, card) = with_a_flush_missing(&machine);
        // Another cell has nothing to do with that.
        cell_with(&iommu, region(INPUT, MEMORY + 8 * LARGE, PAGE, RW), function(0, 1));
        assert_eq!(needing(&iommu), [true, false]);
        change(&iommu, cell).unwrap();
        assert!(!write(&machine, card, INPUT, 3));
        assert_eq!(needing(&iommu), [false, false]);
        let before = iommu.statistics().descriptors;
        iommu.commit(&[]).unwrap();
        assert_eq!(iommu.statistics().descriptors, before, "once");
        machine.check();
    }
}

/// U12: a change without edits says that a unit still needs a flush, and one of a cell that has no device behind it succeeds.
#[test]
fn a_flush_that_cannot_be_repeated_fails_only_whom_it_concerns() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (iommu, cell, card) = with_a_flush_missing(&machine);
    let other = cell_with(&iommu, region(INPUT, MEMORY + 8 * LARGE, PAGE, RW), function(0, 1));
    for edits in [&[][..], &[Edit::Map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW))]] {
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        assert!(matches!(iommu.commit(edits), Err(Error::Unit(UnitError::Queue { .. }))));
        machine.mend_unit(0);
        assert!(!write(&machine, card, INPUT + LARGE, 3), "nothing is granted");
        assert_eq!(needing(&iommu), [true, false]);
    }
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(other, range(INPUT, PAGE)).unwrap();
    assert!(matches!(iommu.commit(&[]), Err(Error::Unit(UnitError::Timeout { .. }))));
    iommu.map(other, region(INPUT, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    machine.abandon();
}

/// U9, I1, U12: a change that fails says what it leaves: memory that is still reached, devices that stay, and coherency.
#[test]
fn a_change_that_fails_reports_what_it_leaves() {
    let machine = machine([UnitConfig::qemu_10_0(true).serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let [stays, comes, apart] = [function(1, 2), function(1, 3), function(0, 3)];
    let memory = |index: u64| region(INPUT + index * LARGE, MEMORY + index * LARGE, PAGE, RW);
    let cell = cell_with(&iommu, memory(0), stays);
    let other = cell_with(&iommu, memory(1), apart);
    let third = cell_with(&iommu, memory(2), function(0, 4));
    let commit = |edits: &[Edit]| {
        let mut all = vec![];
        let result = iommu.commit_reporting(edits, |remains| all.push(remains));
        (result.map(drop), all)
    };
    assert_eq!(commit(&[Edit::Protect(cell, range(INPUT, PAGE), Rights::READ)]), (Ok(()), vec![]), "all is done");
    machine.break_unit(0, Defect::QueueDead);
    let edits =
        [Edit::Unmap(cell, range(INPUT, PAGE)), Edit::Release(stays), Edit::Assign(comes, other, Default::default())];
    let (result, all) = commit(&edits);
    assert!(matches!(result, Err(Error::Unit(UnitError::Timeout { .. }))), "{result:?}");
    let mut expected = vec![];
    iommu.withheld(|it| expected.push(Remains::Withheld(it))).unwrap();
    iommu.assigned(|it| expected.extend(it.quarantined.then_some(Remains::Quarantined(it)))).unwrap();
    assert_eq!(all, expected);
    let [Remains::Withheld(memory_left), Remains::Quarantined(device)] = all[..] else { panic!("{all:?}") };
    assert_eq!((memory_left.cell, memory_left.memory.first().as_u64()), (cell, MEMORY));
    assert_eq!((device.device, device.cell), (stays, cell));
    // What is about other cells alone is no matter of a change.
    let (result, all) = commit(&[Edit::Unmap(third, range(INPUT, PAGE))]);
    assert_eq!((result, all), (Err(Error::NotGranted(Iova::new(INPUT))), vec![]));
    // It is so until that ends, whatever the next change fails for.
    let (result, all) = commit(&[Edit::Unmap(cell, range(INPUT, PAGE))]);
    assert_eq!((result, all), (Err(Error::NotGranted(Iova::new(INPUT))), expected));
    machine.abandon();
}

/// U12: what a refused change has its unit confirm after all, since it repeats the flush, is not reported as left.
#[test]
fn what_a_refused_change_has_confirmed_is_not_left() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (iommu, cell, card) = with_a_flush_missing(&machine);
    let mut withheld = 0;
    iommu.withheld(|_| withheld += 1).unwrap();
    assert_eq!(withheld, 1);
    let mut left = vec![];
    let again = iommu.commit_reporting(&[Edit::Unmap(cell, range(INPUT, PAGE))], |remains| left.push(remains));
    assert_eq!((again, &left[..]), (Err(Error::NotGranted(Iova::new(INPUT))), &[][..]));
    assert!(!write(&machine, card, INPUT, 3));
}

/// U8: without frames a table may lose more than the configuration says; no other device is given that table.
#[test]
fn a_failed_change_without_frames_leaves_no_difference() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (card, next) = (function(0, 2), function(0, 3));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), card);
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    machine.allow_allocations(Some(0));
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE)).release(card);
    let result = change.commit();
    assert!(matches!(result, Err(Error::Unit(_))), "{result:?}");
    machine.allow_allocations(None);
    machine.mend_unit(0);
    iommu.assign(next, cell).unwrap();
    assert_nothing_differs(&iommu, "after the change");
    assert!(write(&machine, next, INPUT + PAGE, 1), "its cell has it");
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    assert!(write(&machine, next, INPUT, 1), "it was gone");
}

/// A change of a cell that has [`PARTS`]: what it grants joins some of them.
type Joins = fn(&mut Change<'_, '_, &Machine>, CellId);

const HUGE: u64 = INPUT + 0x4000_0000;

/// Two halves of 2 MiB with different rights, and 1 GiB and 2 MiB that lack their last page.
const PARTS: [(u64, u64, u64, Rights); 4] = [
    (INPUT, MEMORY, LARGE / 2, RW),
    (INPUT + LARGE / 2, MEMORY + LARGE / 2, LARGE / 2, Rights::READ),
    (HUGE, 0x8000_0000, 0x4000_0000 - PAGE, RW),
    (INPUT + 2 * LARGE, MEMORY + 2 * LARGE, LARGE - PAGE, RW),
];

/// U8: what a change that fails has joined is two again without a frame: the tables have all that the cell lists, wherever a
/// unit fails and however few frames there are.
#[test]
fn what_joined_by_a_change_that_fails_comes_apart() {
    let changes: [Joins; 6] = [
        |change, cell| _ = change.map(cell, region(INPUT + 3 * LARGE - PAGE, MEMORY + 3 * LARGE - PAGE, PAGE, RW)),
        |change, cell| _ = change.map(cell, region(HUGE + 0x3fff_f000, 0xbfff_f000, PAGE, RW)),
        // Rights that are granted, and such that are taken away.
        |change, cell| _ = change.protect(cell, range(INPUT + LARGE / 2, LARGE / 2), RW),
        |change, cell| _ = change.protect(cell, range(INPUT, LARGE / 2), Rights::READ),
        |change, cell| {
            change.map(cell, region(INPUT + 3 * LARGE - PAGE, MEMORY + 3 * LARGE - PAGE, PAGE, RW));
            change.protect(cell, range(INPUT + LARGE / 2, LARGE / 2), RW);
            change.map(cell, region(HUGE + 0x3fff_f000, 0xbfff_f000, PAGE, RW));
        },
        // The same page, taken away and granted elsewhere.
        |change, cell| {
            let page = INPUT + 2 * LARGE;
            change.unmap(cell, range(page, PAGE)).map(cell, region(page, MEMORY + 9 * LARGE, PAGE, RW));
            change.map(cell, region(INPUT + 3 * LARGE - PAGE, MEMORY + 3 * LARGE - PAGE, PAGE, RW));
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for (frames, command) in (0..4).flat_map(|frames| (0..6).map(move |command| (frames, command))) {
            let what = format!("change {number}, {frames} frames, command {command}");
            let machine = machine([UnitConfig::server().caching_mode(true)]);
            let iommu = enabled(&machine);
            let card = function(0, 2);
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            for (input, memory, bytes, rights) in PARTS {
                iommu.map(cell, region(input, memory, bytes, rights)).unwrap();
            }
            iommu.assign(card, cell).unwrap();
            machine.break_unit(0, Defect::QueueErrorAfter(command));
            machine.allow_allocations(Some(frames));
            let mut edits = iommu.change();
            change(&mut edits, cell);
            let result = edits.commit();
            machine.allow_allocations(None);
            machine.mend_unit(0);
            iommu.commit(&[]).unwrap();
            assert_nothing_differs(&iommu, &what);
            for (input, ..) in PARTS {
                assert!(read(&machine, card, input + 8 * PAGE).is_some(), "{what}: {result:?}");
            }
            assert_eq!(machine.frames_in_use(), iommu.statistics().table_frames as usize, "{what}");
            machine.check();
        }
    }
}

/// U9: the coherency of a cell changes with a change that fails, and the hypervisor learns of it, once: by that change, or when
/// it asks.
#[test]
fn coherency_that_changes_with_a_failure_is_reported_once() {
    for asks in [false, true] {
        report_coherency(asks);
    }
}

fn report_coherency(asks: bool) {
    let machine = machine([UnitConfig::qemu_10_0(true).serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let reported = |iommu: &Front<&Machine>| {
        let mut all = vec![];
        iommu.coherency_changes(|cell, now| all.push((cell, now))).unwrap();
        all
    };
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 3));
    assert_eq!((iommu.coherency(cell).unwrap(), reported(&iommu)), (Coherency::Enforced, vec![]));
    machine.break_unit(0, Defect::QueueDead);
    let change = (cell, Coherency::NotEnforced);
    if asks {
        iommu.assign(function(1, 0), cell).unwrap_err();
        assert_eq!(reported(&iommu), [change]);
    } else {
        let mut all = vec![];
        let edits = [Edit::Assign(function(1, 0), cell, Default::default())];
        iommu.commit_reporting(&edits, |remains| all.push(remains)).unwrap_err();
        all.retain(|remains| matches!(remains, Remains::Coherency(..)));
        assert_eq!(all, [Remains::Coherency(change.0, change.1)]);
    }
    assert_eq!(iommu.coherency(cell).unwrap(), Coherency::NotEnforced, "the device stays");
    assert_eq!(reported(&iommu), []);
    machine.abandon();
}

/// U9: after a failure the front lists the memory that may still be reached, with its cell, and the devices that stay.
#[test]
fn what_a_failure_leaves_is_listed() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (stays, goes) = (function(1, 2), function(0, 2));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), stays);
    iommu.assign(goes, cell).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT + PAGE, PAGE)).release(stays).release(goes);
    change.commit().unwrap_err();
    let (mut withheld, mut assigned, mut regions) = (vec![], vec![], vec![]);
    iommu.withheld(|it| withheld.push((it.cell, it.memory.first().as_u64(), it.memory.last().as_u64()))).unwrap();
    iommu.assigned(|it| assigned.push((it.device, it.cell, it.quarantined))).unwrap();
    iommu.regions(cell, |region| regions.push(region)).unwrap();
    assert_eq!(withheld, [(cell, MEMORY + PAGE, MEMORY + 2 * PAGE - 1)]);
    assert_eq!(assigned, [(stays, cell, true)]);
    let left = [region(INPUT, MEMORY, PAGE, RW), region(INPUT + 2 * PAGE, MEMORY + 2 * PAGE, 2 * PAGE, RW)];
    assert_eq!(regions, left);
    machine.abandon();
}

/// U10: a unit that is out of service pins its devices' cells, until somebody who knows that they reach nothing says so.
#[test]
fn a_unit_that_is_dead_can_be_forgotten() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let [dead, alive] = [0, 1].map(|unit| machine.windows()[unit]);
    let before = machine.frames_in_use();
    let (lost, card) = (function(1, 2), function(0, 2));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), lost);
    let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), card);
    iommu.assign(card, other).unwrap_err();
    // SAFETY: nothing is forgotten, since both units work.
    let refused = [dead, alive].map(|unit| unsafe { iommu.forget_unit(unit) });
    assert_eq!(refused, [Err(Error::InService(dead)), Err(Error::InService(alive))]);
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    iommu.destroy_cell(cell).unwrap_err();
    // SAFETY: the device does nothing any more in this test.
    unsafe { iommu.forget_unit(dead) }.unwrap();
    let mut assigned = vec![];
    iommu.assigned(|it| assigned.push(it.device)).unwrap();
    assert_eq!(assigned, [card]);
    iommu.destroy_cell(cell).unwrap();
    iommu.destroy_cell(other).unwrap();
    // A context table for each unit stays.
    assert_eq!(machine.frames_in_use(), before + 2);
    let again = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(iommu.assign(lost, again), Err(Error::Unit(UnitError::Failed { unit: dead })));
    // Its registers are reset: its tables lead nowhere any more.
    machine.mend_unit(0);
    machine.reset_unit(0);
    iommu.enable().unwrap();
    assert!(!write(&machine, lost, INPUT, 1));
    assert_nothing_differs(&iommu, "the unit is back");
    iommu.assign(lost, again).unwrap();
    machine.abandon();
}

/// U10: a unit that was forgotten while it was gone, and that no change ever failed in, is out of service also when it is back:
/// it may have cached what was freed.
#[test]
fn a_unit_that_was_forgotten_is_not_back_by_itself() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (device, unit) = (function(0, 3), machine.windows()[0]);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
    machine.break_unit(0, Defect::AllOnes);
    // SAFETY: the device does nothing any more in this test.
    unsafe { iommu.forget_unit(unit) }.unwrap();
    machine.mend_unit(0);
    assert_eq!(iommu.assign(device, cell), Err(Error::Unit(UnitError::Failed { unit })));
    machine.reset_unit(0);
    iommu.enable().unwrap();
    iommu.assign(device, cell).unwrap();
    assert!(write(&machine, device, INPUT, 1));
    assert_nothing_differs(&iommu, "the unit is back");
    machine.abandon();
}

/// A flush fails once, in the grant, and the next one is confirmed: nothing is left of the grant.
#[test]
fn nothing_is_left_of_a_grant_that_failed_once() {
    for mended in 0..4 {
        let machine = machine([UnitConfig::server().caching_mode(true)]);
        let (card, disk) = (function(0, 2), function(0, 1));
        let left = AtomicU32::new(u32::MAX);
        let before = |call: Call, machine: &Machine| {
            if call == Call::Pause {
                let _ = write(machine, card, INPUT, 1);
                if left.load(Ordering::Relaxed) != u32::MAX && left.fetch_sub(1, Ordering::Relaxed) == 0 {
                    machine.mend_unit(0);
                    left.store(u32::MAX, Ordering::Relaxed);
                }
            }
        };
        let hal = Watched::new(&machine, before);
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), disk);
        iommu.assign(function(0, 9), other).unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        left.store(mended, Ordering::Relaxed);
        let mut change = iommu.change();
        change.map(cell, region(INPUT, MEMORY, PAGE, RW)).assign(card, cell);
        let failed = change.commit();
        left.store(u32::MAX, Ordering::Relaxed);
        machine.mend_unit(0);
        let mapped = iommu.map(other, region(INPUT + PAGE, MEMORY, PAGE, RW));
        let both = (write(&machine, card, INPUT, 2), write(&machine, disk, INPUT + PAGE, 3));
        machine.abandon();
        assert_ne!(both, (true, true), "{mended}: {failed:?} {mapped:?}");
    }
}

/// The root cell's device, which a change that failed has let into another cell and taken back.
#[test]
fn a_card_of_the_root_cell_that_is_taken_back_is_nobodys() {
    let unit = UnitConfig::server().caching_mode(true);
    let machine = machine([unit.clone().serving(&[1]), unit]);
    let iommu = enabled_front(&machine, &of_machine(&machine, &[&[1]]).table(), Options::default());
    let (card, broken) = (function(0, 2), function(1, 2));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 4 * LARGE, RW)).unwrap();
    iommu.assign(card, root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.map(cell, region(INPUT, MEMORY, PAGE, RW)).assign(card, cell).assign(broken, cell);
    change.commit().unwrap_err();
    assert!(!write(&machine, card, INPUT, 1) && !write(&machine, card, MEMORY, 1));
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert!(iommu.map(other, region(INPUT, MEMORY, PAGE, RW)).is_err(), "a unit is dead that was to grant it");
    machine.abandon();
}

/// A unit that was given up takes no device until it is reset and switched on again, whatever it failed for.
#[test]
fn a_unit_that_was_given_up_is_not_prepared_again() {
    let machine = machine([UnitConfig::server()]);
    let iommu = discover(&machine, &[]).unwrap();
    iommu.prepare().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 3));
    machine.allow_allocations(Some(0));
    iommu.enable().unwrap_err();
    machine.allow_allocations(None);
    // SAFETY: the device does nothing any more in this test.
    unsafe { iommu.forget_unit(machine.windows()[0]) }.unwrap();
    let prepared = iommu.prepare();
    let assigned = iommu.assign(function(0, 4), cell).map(drop);
    let state = states(&iommu);
    machine.abandon();
    assert!(assigned.is_err(), "{prepared:?}, {assigned:?}, {state:?}");
}

/// U2: a unit that needs a flush and is out of service by now, behind which the root cell has a device, stops no other cell.
#[test]
fn a_flush_that_nobody_can_repeat_stops_no_other_cell() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * PAGE, RW)).unwrap();
    iommu.assign(function(1, 2), root).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY + 4 * PAGE, PAGE, RW), function(0, 2));
    for defect in [Defect::QueueErrorAfter(0), Defect::QueueDead] {
        machine.break_unit(0, defect);
        iommu.unmap(root, range(MEMORY, PAGE)).unwrap_err();
    }
    assert_eq!(needing(&iommu), [true, false]);
    iommu.destroy_cell(cell).unwrap();
    machine.abandon();
}

/// I1, U2: what a cell gives back the root cell does not get as long as a unit that would have to confirm that is out of service;
/// the cell is destroyed all the same.
#[test]
fn a_unit_that_confirms_nothing_gets_the_root_cell_nothing() {
    let unit = UnitConfig::server().caching_mode(true);
    let machine = machine([unit.clone().serving(&[1]), unit]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let whole = region(MEMORY, MEMORY, 8 * PAGE, RW);
    iommu.map(root, whole).unwrap();
    iommu.assign(function(1, 2), root).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY + 4 * PAGE, 4 * PAGE, RW), function(0, 2));
    let of_root = || {
        let mut regions = vec![];
        iommu.regions(root, |region| regions.push(region)).unwrap();
        regions
    };
    let left = [region(MEMORY, MEMORY, 4 * PAGE, RW)];
    assert_eq!(of_root(), left);
    machine.reset_unit(0);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
    iommu.destroy_cell(cell).unwrap();
    assert_eq!(of_root(), left);
    assert!(!write(&machine, function(0, 2), INPUT + PAGE, 1));
    machine.abandon();
}
