//! Units that neither the number of a bus nor a source-id tells apart.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::NoFrame;
use cofferdam::iommu::{DeviceConfig, Error, Options, UnitState};
use cofferdam_model::{Defect, UnitConfig};
use cofferdam_support::cost::{Cost, cost};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

const MEMORY: u64 = 0x6000_0000;
const OTHER: u64 = 0x7000_0000;
const RW: Rights = Rights::all();

fn in_segment(segment: u16, bus: u8, device: u8) -> SourceId {
    SourceId::new(segment, bus, device, 0).unwrap()
}

/// U15: graphics behind one unit and the rest of their bus behind another: each has its own tables and its own frames, and what
/// happens to one device does not happen to its neighbour.
#[test]
fn two_units_of_one_bus_have_each_their_own() {
    let machine = machine(client_board());
    let iommu = discover(&machine, &[]).unwrap();
    assert!(iommu.enable().unwrap().is_nothing());
    let (graphics, neighbour) = (function(0, 2), function(0, 3));
    assert_ne!(iommu.device_info(graphics).unwrap().unit, iommu.device_info(neighbour).unwrap().unit);
    let frames = machine.frames_in_use();
    // One cell: frames for a context table of bus 0 in each unit.
    let both = cell_with(&iommu, region(0, MEMORY, PAGE, RW), graphics);
    iommu.assign(neighbour, both).unwrap();
    assert!(write(&machine, graphics, 0, 1) && write(&machine, neighbour, 8, 2));
    assert_eq!((peek(&machine, MEMORY), peek(&machine, MEMORY + 8)), (1, 2));
    assert!(!write(&machine, function(0, 4), 0, 3), "another neighbour");
    iommu.release(graphics).unwrap();
    assert!(!write(&machine, graphics, 0, 3) && write(&machine, neighbour, 8, 4));
    let own = cell_with(&iommu, region(0, OTHER, PAGE, RW), graphics);
    assert!(write(&machine, graphics, 0, 5));
    assert_eq!((peek(&machine, OTHER), peek(&machine, MEMORY)), (5, 1));
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    let mut faults = Vec::new();
    assert!(!write(&machine, graphics, PAGE, 1) && !write(&machine, neighbour, PAGE, 1));
    iommu.faults(|fault| faults.push((fault.unit, fault.source)));
    let expected = [(machine.windows()[0], graphics), (machine.windows()[1], function(0, 4))];
    assert_eq!(faults, expected, "the second unit has one record");
    for cell in [both, own] {
        iommu.destroy_cell(cell).unwrap();
    }
    assert_eq!(machine.frames_in_use(), frames + 2, "a context table of each unit");
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
}

/// U15: one unit of a bus fails; devices of the bus behind the other go on.
#[test]
fn a_unit_that_fails_costs_its_part_of_the_bus() {
    let machine = machine(client_board());
    let iommu = enabled(&machine);
    let (graphics, neighbour) = (function(0, 2), function(0, 3));
    let first = cell_with(&iommu, region(0, MEMORY, PAGE, RW), graphics);
    let second = cell_with(&iommu, region(0, OTHER, PAGE, RW), neighbour);
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(first, range(0, PAGE)).unwrap_err();
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: true, .. }, UnitState::On]));
    iommu.unmap(second, range(0, PAGE)).unwrap();
    assert!(!write(&machine, neighbour, 0, 1));
    machine.abandon();
}

/// Each unit is looked at before anything is done: one that is out of service leaves the others untouched.
#[test]
fn a_change_behind_two_units_begins_if_both_are_in_service() {
    for lost in 0..2 {
        let machine =
            machine([UnitConfig::server().caching_mode(true).serving(&[1]), UnitConfig::server().caching_mode(true)]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(0, MEMORY, PAGE, RW)).unwrap();
        machine.reset_unit(lost);
        let mut change = iommu.change();
        for bus in [0, 1] {
            change.assign(function(bus, 3), cell);
        }
        let mut result = Ok(());
        let frames = machine.frames_in_use();
        let spent = cost(&iommu, || result = change.commit().map(drop));
        assert!(matches!(result, Err(Error::Unit(UnitError::Reset { .. }))), "{result:?}");
        assert_eq!((spent, machine.frames_in_use()), (Cost::NOTHING, frames), "unit {lost}");
        machine.abandon();
    }
}

/// T1: in two segments the same source-id is two devices: each reaches its own cell's memory, and its faults carry its segment.
#[test]
fn the_same_source_id_in_two_segments_is_two_devices() {
    let machine = machine(two_segments());
    let iommu = discover(&machine, &[]).unwrap();
    assert!(iommu.enable().unwrap().is_nothing());
    let (one, other) = (in_segment(0, 2, 3), in_segment(1, 2, 3));
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), one);
    assert!(write(&machine, one, 0, 1) && !write(&machine, other, 0, 2));
    let another = cell_with(&iommu, region(0, OTHER, PAGE, RW), other);
    assert!(write(&machine, one, 0, 3) && write(&machine, other, 0, 4));
    assert_eq!((peek(&machine, MEMORY), peek(&machine, OTHER)), (3, 4));
    iommu.release(one).unwrap();
    assert!(!write(&machine, one, 0, 5) && write(&machine, other, 0, 6));
    iommu.mute(other, true).unwrap();
    assert!(!write(&machine, other, PAGE, 1) && !write(&machine, one, PAGE, 1));
    let mut sources = Vec::new();
    iommu.faults(|fault| sources.push(fault.source));
    assert_eq!(sources, [one, one, other], "that of the second segment before it had a cell");
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    // Both in one cell.
    iommu.assign(one, another).unwrap();
    assert!(write(&machine, one, 0, 7) && write(&machine, other, 8, 8));
    iommu.unmap(another, range(0, PAGE)).unwrap();
    assert!(!write(&machine, one, 0, 1) && !write(&machine, other, 0, 1));
    iommu.destroy_cell(cell).unwrap();
    iommu.destroy_cell(another).unwrap();
}

/// A unit that finds no frame for its queue costs itself alone: the others are switched on, and translate for their devices (R11).
#[test]
fn a_unit_without_frames_holds_up_no_other() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.prepare().unwrap();
    // For the queue of the first, and its status words.
    machine.allow_allocations(Some(2));
    let unit = machine.windows()[1];
    let error = UnitError::NoFrame { unit, reason: NoFrame::NoneLeft };
    assert_eq!(iommu.enable(), Err(Error::Unit(error)));
    assert_eq!(states(&iommu), [UnitState::On, UnitState::Failed { error, blocking: false }]);
    machine.allow_allocations(None);
    let (device, other) = (function(1, 0), function(0, 3));
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), device);
    assert!(write(&machine, device, 0, 1) && !write(&machine, device, PAGE, 1));
    iommu.assign(other, cell).unwrap_err();
    iommu.unmap(cell, range(0, PAGE)).unwrap();
    assert!(!write(&machine, device, 0, 1));
    assert_eq!(machine.violations(), []);
    assert!(iommu.enable().unwrap().is_nothing(), "with frames");
    iommu.map(cell, region(0, MEMORY, PAGE, RW)).unwrap();
    iommu.assign(other, cell).unwrap();
    assert!(write(&machine, device, 0, 1) && write(&machine, other, 0, 1));
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    assert_eq!(machine.violations(), []);
}

/// An alias is refused for a device with either id that has a cell, and not for the one with the same id in another segment.
#[test]
fn an_alias_is_refused_for_a_device_of_its_segment_alone() {
    let machine = machine(two_segments());
    let iommu = discover(&machine, &[]).unwrap();
    iommu.enable().unwrap();
    let [device, beside] = [in_segment(0, 2, 3), in_segment(0, 2, 4)];
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, RW), device);
    for (source, alias) in [(device, beside), (beside, device)] {
        assert_eq!(iommu.add_alias(source, alias.into()), Err(Error::Busy { device, cell }));
        let [source, alias] = [source, alias].map(|it| in_segment(1, it.bus(), it.device()));
        iommu.add_alias(source, alias.into()).unwrap();
    }
    let ids = iommu.device_info(in_segment(1, 2, 3)).unwrap().requesters;
    assert_eq!(ids.ids(), [in_segment(1, 2, 3), in_segment(1, 2, 4)]);
    assert_eq!(iommu.device_info(beside).unwrap().requesters.ids(), [beside]);
}

/// An alias is nobody's in another segment: the device with its number has its source-id to itself, and may have a device-TLB.
#[test]
fn an_alias_makes_no_id_of_another_segment_a_shared_one() {
    let machine = machine(two_segments());
    let iommu = enabled_front(&machine, &table_with_ats(&machine), Options::default());
    iommu.add_alias(in_segment(0, 3, 0), in_segment(0, 1, 0).into()).unwrap();
    let device = in_segment(1, 1, 0);
    machine.add_ats(device, 32);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign_with(device, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
}
