//! Memory that a cell has and the root cell keeps.

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::NoFrame;
use cofferdam::iommu::{Difference, Error, MapError, Owner, Reach};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

use crate::audit::{RW, audit, reach};

const MEMORY: u64 = 0x4000_0000;
const INPUT: u64 = 0x8000_0000;

/// A page of the memory.
fn at(page: u64) -> u64 {
    MEMORY + page * PAGE
}

/// A root cell with large pages of memory, and a device.
fn root_with(iommu: &Front<&Machine>, disk: SourceId) -> CellId {
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.map(root, region(MEMORY, MEMORY, 2 * LARGE, RW)).assign(disk, root);
    change.commit().unwrap();
    root
}

/// All that a device reaches.
fn reach_of(iommu: &Front<&Machine>, device: SourceId) -> Vec<Reach> {
    reach(iommu).into_iter().filter(|reach| reach.source == device).collect()
}

/// Which of these cells share memory with the root cell, if an audit finds no difference.
#[track_caller]
fn sharing(iommu: &Front<&Machine>, cells: &[CellId]) -> Vec<CellId> {
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    cells.iter().copied().filter(|cell| iommu.shares(*cell) == Ok(true)).collect()
}

#[test]
fn the_root_cell_keeps_what_is_shared_with_its_own_rights() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (disk, card, other) = (function(0, 1), function(0, 2), function(0, 3));
        let root = root_with(&iommu, disk);
        iommu.protect(root, range(at(1), PAGE), Rights::READ).unwrap();
        let before = (reach_of(&iommu, disk), machine.frames_in_use(), iommu.statistics());

        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map_shared(cell, region(INPUT, at(0), 4 * PAGE, RW)).unwrap();
        let mut told = iommu.statistics();
        told.table_frames = before.2.table_frames;
        assert_eq!(told, before.2, "{name}: the root cell has nothing to do with it");
        assert_eq!(reach_of(&iommu, disk), before.0, "{name}");
        let mut change = iommu.change();
        change.map(cell, region(INPUT + 4 * PAGE, at(4), PAGE, RW)).assign(card, cell);
        change.commit().unwrap();
        let stranger = cell_with(&iommu, region(INPUT, at(8), 4 * PAGE, RW), other);
        assert_eq!(sharing(&iommu, &[cell, stranger]), [cell], "{name}");

        poke(&machine, at(1), 7);
        assert_eq!(read(&machine, disk, at(1)), Some(7), "{name}");
        assert!(!write(&machine, disk, at(1), 1), "{name}: the root cell has rights of its own");
        assert!(write(&machine, card, INPUT + PAGE, 8) && write(&machine, disk, at(2), 9), "{name}");
        assert_eq!((read(&machine, disk, at(1)), read(&machine, card, INPUT + 2 * PAGE)), (Some(8), Some(9)), "{name}");
        for page in [at(0), at(3)] {
            assert!(!write(&machine, other, page, 1), "{name}: another cell");
        }
        assert!(!write(&machine, disk, at(4), 1) && !write(&machine, disk, at(8), 1), "{name}: what is not shared");

        iommu.protect(cell, range(INPUT, 2 * PAGE), Rights::READ).unwrap();
        assert!(write(&machine, disk, at(0), 1) && !write(&machine, card, INPUT, 1), "{name}");
        assert_eq!(sharing(&iommu, &[cell, stranger]), [cell], "{name}: with other rights");
        iommu.destroy_cell(stranger).unwrap();
        iommu.destroy_cell(cell).unwrap();
        assert_eq!((reach_of(&iommu, disk), machine.frames_in_use()), (before.0, before.1), "{name}: as before");
        assert_eq!(sharing(&iommu, &[cell, stranger]), [], "{name}");
        machine.check();
    }
}

#[test]
fn sharing_begins_and_ends_without_a_gap_for_the_cell() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (disk, card) = (function(0, 1), function(0, 2));
    root_with(&iommu, disk);
    let cell = cell_with(&iommu, region(INPUT, at(0), 4 * PAGE, RW), card);
    let tables = machine.frames_in_use();
    assert!(!write(&machine, disk, at(1), 1));

    let again = |shared| {
        let before = (reach_of(&iommu, card), iommu.statistics());
        let mut change = iommu.change();
        change.unmap(cell, range(INPUT, 2 * PAGE));
        let part = region(INPUT, at(0), 2 * PAGE, RW);
        if shared {
            change.map_shared(cell, part)
        } else {
            change.map(cell, part)
        };
        change.commit().unwrap();
        assert_eq!(reach_of(&iommu, card), before.0);
        iommu.statistics().descriptors - before.1.descriptors
    };
    assert_eq!(again(true), 0, "what is granted to the root cell was in no cache");
    assert!(write(&machine, disk, at(1), 1) && !write(&machine, disk, at(2), 1), "half of it");
    assert_eq!(sharing(&iommu, &[cell]), [cell]);
    assert_eq!(again(false), 2, "the root cell's pages, and a wait; nothing of the cell's");
    assert!(!write(&machine, disk, at(1), 1) && write(&machine, card, INPUT + PAGE, 1));
    assert_eq!(sharing(&iommu, &[cell]), []);
    assert_eq!(machine.frames_in_use(), tables);
}

#[test]
fn nobody_has_for_itself_what_another_cell_shares() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let (disk, card) = (function(0, 1), function(0, 2));
    // Before there is a root cell.
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map_shared(cell, region(INPUT, at(0), 2 * PAGE, RW)).unwrap();
    iommu.assign(card, cell).unwrap();
    let root = root_with(&iommu, disk);
    assert!(write(&machine, disk, at(0), 1) && write(&machine, card, INPUT, 1));
    let owner = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let taken = Err(Error::Owned { memory: outputs(at(1), PAGE), owner: Owner::Cell(cell) });
    assert_eq!(iommu.map(owner, region(INPUT, at(1), PAGE, RW)), taken);
    iommu.map_shared(owner, region(INPUT, at(1), PAGE, RW)).unwrap();
    assert!(write(&machine, disk, at(1), 1) && write(&machine, card, INPUT + PAGE, 1), "three share it");
    iommu.unmap(owner, range(INPUT, PAGE)).unwrap();
    let mut change = iommu.change();
    change.map(owner, region(INPUT, at(1), PAGE, RW)).unmap(cell, range(INPUT + PAGE, PAGE));
    change.commit().unwrap();
    assert!(write(&machine, disk, at(0), 1) && !write(&machine, disk, at(1), 1));
    assert!(!write(&machine, card, INPUT + PAGE, 1));
    iommu.destroy_cell(owner).unwrap();
    assert!(write(&machine, disk, at(1), 1));
    // Of itself the root cell keeps nothing.
    iommu.unmap(root, range(at(0), PAGE)).unwrap();
    assert!(!write(&machine, disk, at(0), 1) && write(&machine, card, INPUT, 1));
    iommu.map_shared(root, region(at(0), at(0), PAGE, Rights::READ)).unwrap();
    assert!(!write(&machine, disk, at(0), 1) && read(&machine, disk, at(0)).is_some());
    assert_eq!(sharing(&iommu, &[root, cell]), [cell], "and not the root cell");
    let shifted = region(at(0), at(1), PAGE, RW);
    assert_eq!(iommu.map_shared(root, shifted), Err(Error::NotOneToOne(shifted)));
}

#[test]
fn sharing_that_is_refused_or_fails_changes_nothing() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = enabled(&machine);
    let (disk, card) = (function(0, 1), function(0, 2));
    root_with(&iommu, disk);
    let cell = cell_with(&iommu, region(INPUT, at(0), 2 * PAGE, RW), card);
    let before = machine.snapshot();
    let overlapping = region(INPUT + PAGE, at(5), PAGE, RW);
    assert_eq!(iommu.map_shared(cell, overlapping), Err(Error::Overlap(region(INPUT, at(0), 2 * PAGE, RW))));
    let odd = region(INPUT + 4 * PAGE, at(5) + 8, PAGE, RW);
    assert!(matches!(iommu.map_shared(cell, odd), Err(Error::Map(MapError::Misaligned(_)))));
    machine.allow_allocations(Some(0));
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE));
    change.map_shared(cell, region(INPUT, at(0), PAGE, RW));
    change.map_shared(cell, region(INPUT + LARGE, at(9), PAGE, RW));
    assert_eq!(change.commit().unwrap_err(), Error::NoFrame(NoFrame::NoneLeft));
    machine.allow_allocations(None);
    assert_eq!(machine.snapshot(), before);
    assert_eq!(sharing(&iommu, &[cell]), []);

    // The unit fails: the root cell is not given what was to be shared.
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.unmap(cell, range(INPUT, PAGE));
    change.map_shared(cell, region(INPUT, at(0), PAGE, RW));
    assert!(matches!(change.commit().unwrap_err(), Error::Unit(_)));
    assert_eq!(reach_of(&iommu, disk).len(), 1, "all but the cell's first two pages");
    let differences = audit(&iommu);
    assert!(!differences.iter().any(|one| matches!(one, Difference::CrossesCells { .. })), "{differences:?}");
}

/// For each page of input, which page of memory is behind it, and whether it is shared.
type Pages = [Option<(u64, bool)>; 16];

#[test]
fn after_any_history_the_root_cell_has_what_nobody_owns() {
    let mut random = Random::new(0x5a5a);
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let disk = function(0, 1);
    root_with(&iommu, disk);
    let devices = [function(0, 2), function(0, 3)];
    let new = |device| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign(device, cell).unwrap();
        (cell, [None; 16])
    };
    let mut cells: [(CellId, Pages); 2] = devices.map(new);
    for step in 0..500 {
        let which = random.below(2) as usize;
        let (cell, pages) = &mut cells[which];
        let cell = *cell;
        let (page, output, shared) = (random.below(16) as usize, random.below(16), random.one_in(2));
        let input = INPUT + page as u64 * PAGE;
        let mut change = iommu.change();
        let before = pages[page].take();
        if before.is_some() {
            change.unmap(cell, range(input, PAGE));
        }
        if !random.one_in(3) {
            let part = region(input, at(output), PAGE, RW);
            if shared {
                change.map_shared(cell, part)
            } else {
                change.map(cell, part)
            };
            pages[page] = Some((output, shared));
        }
        let granted = pages[page];
        let is_taken = |(output, shared)| {
            let theirs = cells[1 - which].1.iter().flatten();
            theirs.clone().any(|theirs| theirs.0 == output && !(theirs.1 && shared))
        };
        match change.commit() {
            Ok(_) => assert!(!granted.is_some_and(is_taken), "step {step}"),
            Err(error) => {
                assert!(matches!(error, Error::Owned { .. }) && granted.is_some_and(is_taken), "step {step}: {error}");
                cells[which].1[page] = before;
            }
        }
        if step % 50 == 49 {
            iommu.destroy_cell(cell).unwrap();
            cells[which] = new(devices[which]);
        }
        let all = || cells.iter().flat_map(|(_, pages)| pages.iter().flatten());
        for page in 0..16 {
            let taken = all().any(|other| *other == (page, false));
            assert_eq!(write(&machine, disk, at(page), 1), !taken, "step {step}, page {page}");
        }
        let shares = |cell| cells.iter().any(|(id, pages)| *id == cell && pages.iter().flatten().any(|page| page.1));
        let found = sharing(&iommu, &[cells[0].0, cells[1].0]);
        assert!(found.iter().all(|cell| shares(*cell)), "step {step}: {found:?}");
        assert_eq!(found.len(), cells.iter().filter(|(cell, _)| shares(*cell)).count(), "step {step}: {found:?}");
    }
    machine.check();
}
