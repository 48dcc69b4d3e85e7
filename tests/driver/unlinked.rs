//! Page tables that a change took out, and that a unit may still walk.

use cofferdam::CellId;
use cofferdam::addr::Rights;
use cofferdam::iommu::Error;
use cofferdam::limits::Limits;
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::moves::{DEVICE_STATUS, PENDING};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
/// An input with three tables of its own, beside two that `INPUT` has as well.
const FAR: u64 = 1 << 40;

/// Frames in use, all of which the statistics have.
fn frames(machine: &Machine, iommu: &Front<&Machine>) -> usize {
    let frames = machine.frames_in_use();
    assert_eq!(iommu.statistics().table_frames, frames as u64);
    frames
}

#[test]
fn they_come_back_with_the_change_that_takes_them_out() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), function(0, 3));
    let before = frames(&machine, &iommu);
    iommu.map(cell, region(FAR, MEMORY, PAGE, RW)).unwrap();
    assert_eq!(frames(&machine, &iommu), before + 3);
    iommu.unmap(cell, range(FAR, PAGE)).unwrap();
    assert_eq!(frames(&machine, &iommu), before);
}

/// A cell whose memory is unmapped while the unit has a defect, and the frames in use.
fn taken_out_while(defect: Defect, machine: &Machine, iommu: &Front<&Machine>) -> (CellId, usize) {
    let device = function(0, 3);
    let cell = cell_with(iommu, region(INPUT, MEMORY, 8 * PAGE, RW), device);
    assert!(write(machine, device, INPUT, 1));
    let before = frames(machine, iommu);
    machine.break_unit(0, defect);
    iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err();
    assert_eq!(frames(machine, iommu), before, "the unit may still walk the tables");
    (cell, before)
}

#[test]
fn they_stay_for_a_dead_unit_whatever_changes_come_later() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (cell, before) = taken_out_while(Defect::QueueDead, &machine, &iommu);
    iommu.map(cell, region(FAR, MEMORY, PAGE, RW)).unwrap_err();
    // This asks no unit.
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(other, region(FAR, MEMORY + LARGE, PAGE, RW)).unwrap();
    assert_eq!(frames(&machine, &iommu), before, "the unit may still walk the tables");
    machine.abandon();
}

/// Two units walk one table: whichever of them is dead, what was taken out stays for it.
#[test]
fn they_stay_whichever_of_two_units_is_dead() {
    for dead in 0..2 {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), function(0, 3));
        let with_one = frames(&machine, &iommu);
        iommu.assign(function(1, 0), cell).unwrap();
        let before = frames(&machine, &iommu);
        assert_eq!(before, with_one + 1, "a context table: they have one page table");
        machine.break_unit(dead, Defect::QueueDead);
        iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err();
        assert_eq!(frames(&machine, &iommu), before);
        iommu.map(cell, region(FAR, MEMORY, PAGE, RW)).unwrap_err();
        // The other unit does what it is asked.
        iommu.release([function(1, 0), function(0, 3)][1 - dead]).unwrap();
        assert_eq!(frames(&machine, &iommu), before, "unit {dead} may still walk the tables");
        machine.abandon();
    }
}

/// The audit counts the frames that are not given back: tables that were taken out, and those of quarantined devices alone.
#[test]
fn an_audit_counts_the_frames_that_a_unit_may_still_read() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let counted = || iommu.audit(|difference| panic!("{difference}")).unwrap().quarantined_frames;
    let (device, beside) = (function(0, 3), function(0, 4));
    machine.add_express(device);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), device);
    let tables = iommu.statistics().table_frames;
    machine.set_config(device, DEVICE_STATUS, PENDING);
    assert_eq!(counted(), 0);
    iommu.release(device).unwrap_err();
    // A top table and one of each level below; a device that is not quarantined uses them as well.
    assert_eq!(counted(), 5);
    iommu.assign(beside, cell).unwrap();
    assert_eq!((counted(), iommu.statistics().table_frames), (0, tables));
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err();
    machine.mend_unit(0);
    assert_eq!(counted(), 4, "all but the top one");
    iommu.commit(&[]).unwrap();
    iommu.map(cell, region(FAR, MEMORY, PAGE, RW)).unwrap();
    assert_eq!(counted(), 0);
}

#[test]
fn they_come_back_when_the_unit_has_repeated_a_failed_flush() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (cell, before) = taken_out_while(Defect::QueueErrorAfter(0), &machine, &iommu);
    machine.mend_unit(0);
    iommu.map(cell, region(FAR, MEMORY, PAGE, RW)).unwrap();
    assert_eq!(frames(&machine, &iommu), before, "as many are gone as are new");
    assert_eq!(read(&machine, function(0, 3), INPUT), None);
}

#[test]
fn they_go_with_the_domain_that_they_were_taken_out_of() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let device = function(0, 3);
    let empty = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let before = frames(&machine, &iommu);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), device);
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err();
    machine.mend_unit(0);
    iommu.destroy_cell(cell).unwrap();
    // A context table stays.
    assert_eq!(frames(&machine, &iommu), before + 1);
    iommu.destroy_cell(empty).unwrap();
}

/// U4: a unit that refused a command once goes on, and has confirmed that it forgot the table: its frames are given back.
#[test]
fn no_frame_is_lost_to_a_unit_that_goes_on() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = limited(&machine, &Limits::DEFAULT);
    let card = function(0, 4);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    iommu.release(card).unwrap();
    for _ in 0..4 {
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        assert!(matches!(iommu.assign(card, cell), Err(Error::Unit(_))));
        machine.mend_unit(0);
        iommu.assign(card, cell).or_else(|_| iommu.release(card)).unwrap();
        let _ = iommu.release(card);
    }
    iommu.destroy_cell(cell).unwrap();
    assert_eq!(machine.frames_in_use(), iommu.statistics().table_frames as usize);
}

/// U4: wherever a unit refuses a command or dies, each frame in use is one of the statistics', and none is once all is over.
#[test]
fn no_frame_is_invisible_wherever_a_unit_fails() {
    for unit in [UnitConfig::server(), UnitConfig::server().caching_mode(true)] {
        for defect in (0..8).map(Defect::QueueErrorAfter).chain([Defect::QueueDead]) {
            let machine = machine([unit.clone().serving(&[1]), unit.clone()]);
            let iommu = discover(&machine, &[&[1]]).unwrap();
            iommu.enable().unwrap();
            let [old, new, elsewhere] = [function(1, 3), function(1, 4), function(0, 3)];
            let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), old);
            let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, 8 * PAGE, RW), elsewhere);
            assert!(write(&machine, old, INPUT, 1));
            machine.break_unit(0, defect);
            let mut change = iommu.change();
            change.unmap(cell, range(INPUT, 4 * PAGE)).release(old).release(elsewhere).assign(elsewhere, cell);
            change.map(other, region(FAR, MEMORY + 2 * LARGE, PAGE, RW)).assign(new, other);
            let failed = change.commit().is_err();
            frames(&machine, &iommu);
            if defect == Defect::QueueDead {
                assert!(failed);
                machine.abandon();
                continue;
            }
            machine.mend_unit(0);
            // Some are released by now.
            [old, new, elsewhere].map(|device| iommu.release(device)).into_iter().for_each(drop);
            frames(&machine, &iommu);
            for cell in [cell, other] {
                iommu.destroy_cell(cell).unwrap();
            }
            iommu.disable().unwrap();
            assert_eq!(frames(&machine, &iommu), 0, "{defect:?}");
        }
    }
}
