//! Edits that take effect as a whole or not at all.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::NoFrame;
use cofferdam::iommu::{Error, Refusal};
use cofferdam::{CellConfig, CellId, Coherency, CoherencyPolicy};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::cost::{Cost, cost};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

fn four(bus: u8) -> [SourceId; 4] {
    [0, 1, 2, 3].map(|device| function(bus, device))
}

/// A cell with memory in three sizes and four devices, made by one change.
fn make(iommu: &Front<&Machine>) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.map(cell, region(0x10_0000, MEMORY + PAGE, 0x10_0000, RW));
    change.map(cell, region(0x4000_0000, MEMORY + 0x1000_0000, 32 * LARGE, RW));
    change.map(cell, region(0x1_0000_0000, 0x1_0000_0000, 0x2000_0000, RW));
    four(0).into_iter().for_each(|device| {
        change.assign(device, cell);
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
        assert_eq!(made, if caching { Cost::batch(3) } else { Cost::NOTHING }, "{name}");
        assert!(write(&machine, function(0, 2), 0x10_0000, 1), "{name}");
        // Four context entries and the domain.
        assert_eq!(cost(&iommu, || iommu.destroy_cell(cell.unwrap()).unwrap()), Cost::batch(6), "{name}");
        assert!(!write(&machine, function(0, 2), 0x10_0000, 1), "{name}");
    }
}

/// A device's search for a table ends before the device is touched: a failed one sends the unit nothing.
#[test]
fn attaching_to_a_shared_domain_costs_one_entry_at_most() {
    for (name, unit) in presets().into_iter().filter(|(_, unit)| unit.ecap >> 1 & 1 == 1) {
        let (caching, snoops) = (unit.cap >> 7 & 1 == 1, unit.ecap >> 7 & 1 == 1);
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, RW), function(0, 1));
        let attached = cost(&iommu, || assert!(iommu.assign(function(0, 2), cell).is_ok(), "{name}"));
        // The entry, the domain whose table it leads to (R33b), and the wait.
        assert_eq!(attached, if caching { Cost::batch(3) } else { Cost::NOTHING }, "{name}");
        assert!(write(&machine, function(0, 2), INPUT, 1), "{name}");
        let enforced = CellConfig { coherency: CoherencyPolicy::Enforced, ..UNSAFE_INTERRUPTS };
        let refusing = iommu.create_cell(enforced).unwrap();
        if !snoops {
            let refused = cost(&iommu, || assert!(iommu.assign(function(0, 3), refusing).is_err(), "{name}"));
            assert_eq!(refused, Cost::NOTHING, "{name}: it fits none of the cell's tables");
        }
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
        change.unmap(from, range(INPUT + PAGE, PAGE));
        change.map(to, region(INPUT + 2 * PAGE, MEMORY + PAGE, PAGE, RW));
        change.release(a);
        change.assign(a, to);
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
        change.unmap(cell, range(INPUT, 2 * PAGE));
        change.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW));
        change.protect(cell, range(INPUT, PAGE), Rights::READ);
        change.protect(cell, range(INPUT, PAGE), RW);
        change.assign(function(0, 2), cell);
        change.release(function(0, 2));
        change.commit().unwrap();
    });
    assert_eq!(nothing, Cost::NOTHING);
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
    change.unmap(cell, range(INPUT, 4 * PAGE));
    change.map(cell, region(INPUT, MEMORY + LARGE, LARGE, RW));
    change.protect(cell, range(INPUT + PAGE, PAGE), Rights::READ);
    change.unmap(cell, range(INPUT + 2 * PAGE, PAGE));
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
    type Fails = fn(&mut Change<'_, '_, &Machine>, CellId);
    let fails: [(Fails, Error); 6] = [
        (
            |change, cell| {
                change.map(cell, region(INPUT, MEMORY, PAGE, RW));
            },
            Error::Overlap(region(INPUT, MEMORY, 2 * LARGE, RW)),
        ),
        (
            |change, cell| {
                change.unmap(cell, range(0, PAGE));
            },
            Error::NotGranted(cofferdam::addr::Iova::new(0)),
        ),
        (
            |change, cell| {
                change.unmap(cell, range(INPUT, 5));
            },
            Error::Misaligned(range(INPUT, 5)),
        ),
        (
            |change, _| {
                change.release(function(0, 9));
            },
            Error::NotAssigned(function(0, 9)),
        ),
        (
            |change, cell| {
                change.assign(function(0, 3), cell);
            },
            Error::Refused { device: function(0, 3), reason: Refusal::UnsafeInterrupts },
        ),
        (
            |change, cell| {
                change.protect(cell, range(INPUT, PAGE), Rights::empty());
            },
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
            change.unmap(cell, range(INPUT + PAGE, PAGE));
            change.protect(cell, range(INPUT + LARGE, PAGE), Rights::READ);
            change.map(cell, region(INPUT + 4 * LARGE, MEMORY, PAGE, RW));
            change.assign(b, cell);
            change.release(a);
            fail(&mut change, careful);
            assert_eq!(change.commit().unwrap_err(), expected);
        });
        assert_eq!(nothing, Cost::NOTHING, "{expected}");
        assert_eq!(machine.snapshot(), before, "{expected}");
    }
    assert!(write(&machine, a, INPUT + PAGE, 1) && !write(&machine, b, INPUT, 1));
}

#[test]
fn a_cell_that_a_change_destroys_is_named_by_no_edit_after_that() {
    type Names = fn(&mut Change<'_, '_, &Machine>, CellId);
    let names: [Names; 5] = [
        |change, cell| {
            change.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW));
        },
        |change, cell| {
            change.unmap(cell, range(INPUT, PAGE));
        },
        |change, cell| {
            change.protect(cell, range(INPUT, PAGE), Rights::READ);
        },
        |change, cell| {
            change.assign(function(0, 2), cell);
        },
        |change, cell| {
            change.destroy(cell);
        },
    ];
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 1));
    let before = machine.snapshot();
    for name in names {
        let mut change = iommu.change();
        change.destroy(cell);
        name(&mut change, cell);
        assert_eq!(change.commit(), Err(Error::NoSuchCell(cell)));
        assert_eq!(machine.snapshot(), before);
    }
    assert!(write(&machine, function(0, 1), INPUT, 1) && !write(&machine, function(0, 2), INPUT, 1));
}

#[test]
fn without_a_frame_it_can_use_a_change_changes_nothing() {
    let all = presets().into_iter().flat_map(|unit| [NoFrame::NoneLeft, TOO_HIGH].map(|reason| (unit.clone(), reason)));
    for ((name, unit), reason) in all {
        let machine = if reason == TOO_HIGH { machine_with_a_frame_too_high(unit) } else { machine([unit]) };
        let iommu = enabled(&machine);
        let (a, b) = (function(0, 1), function(1, 2));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 2 * LARGE, RW), a);
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let before = machine.snapshot();
        for count in 0.. {
            match reason {
                TOO_HIGH => frames_before_too_high(&machine, count),
                _ => machine.allow_allocations(Some(count)),
            }
            let mut change = iommu.change();
            change.unmap(cell, range(INPUT + PAGE, PAGE));
            change.map_shared(cell, region(INPUT + 0x4000_0000, MEMORY + PAGE, 3 * PAGE, RW));
            change.map_shared(other, region(INPUT, MEMORY + PAGE, PAGE, RW));
            change.release(a);
            change.assign(b, cell);
            change.assign(a, other);
            let result = change.commit();
            machine.allow_allocations(None);
            if result.is_ok() {
                assert!(count > 5, "{name}: {count}");
                break;
            }
            assert_eq!(result.unwrap_err(), Error::NoFrame(reason), "{name}");
            assert_eq!(machine.snapshot(), before, "{name}: {count}");
        }
        assert!(write(&machine, a, INPUT, 5) && write(&machine, b, INPUT + 0x4000_0000, 6), "{name}");
        assert_eq!(peek(&machine, MEMORY + PAGE), 6, "{name}");
    }
}

#[test]
fn a_unit_that_fails_keeps_its_memory_and_grants_nothing() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (dead, good, new) = (function(1, 0), function(0, 0), function(0, 1));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * PAGE, RW), dead);
    iommu.assign(good, cell).unwrap();
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE));
    change.map(other, region(INPUT, MEMORY, PAGE, RW));
    change.release(dead);
    change.assign(new, other);
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

/// F17: what a client prints says which of the two it is, in words of its own each.
#[test]
fn a_change_reports_which_cells_are_not_what_they_were() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client()];
    let machine = machine(units);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (graphics, card) = (function(1, 0), function(0, 1));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let changes = |committed| coherency_changes(&iommu, &committed, &[cell]);
    assert_eq!(changes(iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap()), []);
    assert_eq!(changes(iommu.assign(card, cell).unwrap()), []);
    assert_eq!(changes(iommu.assign(graphics, cell).unwrap()), [(cell, Coherency::NotEnforced)]);
    assert_eq!(changes(iommu.unmap(cell, range(INPUT, PAGE)).unwrap()), []);
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.release(graphics).assign(graphics, other);
    let moved = coherency_changes(&iommu, &change.commit().unwrap(), &[cell, other]);
    assert_eq!(moved, [(cell, Coherency::Enforced), (other, Coherency::NotEnforced)]);
    assert_eq!(
        moved.iter().map(|(_, now)| now.to_string()).collect::<Vec<_>>(),
        ["snoop enforced", "snoop not enforced"]
    );
    assert_eq!(coherency_changes(&iommu, &iommu.destroy_cell(other).unwrap(), &[cell, other]), [], "it is gone");
}

#[test]
fn what_a_failed_change_could_not_report_the_next_does() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client()];
    let machine = machine(units);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (graphics, card) = (function(1, 0), function(0, 1));
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), card);
    iommu.assign(graphics, cell).unwrap();
    machine.break_unit(1, Defect::QueueErrorAfter(0));
    let mut change = iommu.change();
    change.release(graphics).release(card);
    assert!(change.commit().is_err());
    machine.mend_unit(1);
    assert_eq!(iommu.coherency(cell), Ok(Coherency::Enforced));
    let committed = iommu.release(card).unwrap();
    assert_eq!(coherency_changes(&iommu, &committed, &[cell]), [(cell, Coherency::Enforced)]);
}

#[test]
fn flushes_that_nobody_needs_are_counted() {
    let caching = UnitConfig::server().caching_mode(true);
    for (unit, expected) in
        [(UnitConfig::server(), [0, 1, 2, 2]), (caching, [0; 4]), (behind_write_buffers(UnitConfig::client()), [0; 4])]
    {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let counted = || iommu.statistics().flushes_avoided;
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        let unused = counted();
        iommu.assign(function(0, 3), cell).unwrap();
        let assigned = counted();
        iommu.map(cell, region(INPUT + PAGE, MEMORY, PAGE, RW)).unwrap();
        let mapped = counted();
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        assert_eq!([unused, assigned, mapped, counted()], expected);
    }
}

/// A flush that nobody needs is counted also where the unit cannot be asked for what is needed beside it.
#[test]
fn a_flush_that_nobody_needs_counts_in_a_change_that_fails() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, Rights::READ)).unwrap();
    iommu.assign(function(0, 3), cell).unwrap();
    let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), function(0, 4));
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(other, range(INPUT, PAGE)).unwrap_err();
    let before = iommu.statistics().flushes_avoided;
    let mut change = iommu.change();
    change.protect(cell, range(INPUT, PAGE), RW).map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW));
    assert!(matches!(change.commit(), Err(Error::Unit(UnitError::Failed { .. }))));
    assert_eq!(iommu.statistics().flushes_avoided, before + 1);
    machine.abandon();
}
