//! No physical byte is reached by devices of two cells, unless both cells have it so.

use cofferdam::CellConfig;
use cofferdam::addr::{Iova, PhysAddr, Region, Rights};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Difference, Error, MapError, Options, Owner, Refusal};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::{endpoint, of_machine};
use cofferdam_support::watched::Watched;

use crate::audit::{INPUT, RW, assert_nothing_differs, audit};
use crate::differences::entry_over;
use crate::moves::{DEVICE_STATUS, PENDING};

const MEMORY: u64 = 0x6000_0000;
const RESERVED: u64 = 0x8000_0000;
const SHARES_RESERVED: CellConfig = CellConfig { allow_shared_reserved: true, ..UNSAFE_INTERRUPTS };

/// A front on a machine whose firmware reserves a page for these devices of bus 0.
fn with_reserved<'m>(machine: &'m Machine, devices: &[u8]) -> Front<&'m Machine> {
    let scopes: Vec<_> = devices.iter().map(|device| endpoint(*device, 0)).collect();
    let table = of_machine(machine, &[]).rmrr(0, RESERVED, RESERVED + 0xfff, &scopes);
    enabled_front(machine, &table.table(), Options::default())
}

fn reserved_for(device: u8, cell: cofferdam::CellId) -> Owner {
    Owner::Reserved { device: function(0, device), cell }
}

#[test]
fn two_cells_have_the_same_memory_only_if_both_share_it() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let [a, b] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    let (page, part) = (region(INPUT, MEMORY, 4 * PAGE, RW), region(INPUT, MEMORY + 2 * PAGE, 4 * PAGE, RW));
    let taken = |cell| Err(Error::Owned { memory: outputs(MEMORY + 2 * PAGE, 2 * PAGE), owner: Owner::Cell(cell) });
    let done = Ok(());
    for (first, second, result) in
        [(false, false, taken(a)), (false, true, taken(a)), (true, false, taken(a)), (true, true, done)]
    {
        let map = |cell, region, shared| if shared { iommu.map_shared(cell, region) } else { iommu.map(cell, region) };
        map(a, page, first).unwrap();
        assert_eq!(map(b, part, second).map(drop), result, "{first} {second}");
        iommu.unmap(a, page.input).unwrap();
        let _ = iommu.unmap(b, part.input);
    }
    // In one change, in which it moves.
    iommu.map(a, page).unwrap();
    let mut change = iommu.change();
    change.map(b, part);
    assert_eq!(change.commit().map(drop), taken(a));
    change.unmap(a, page.input);
    change.commit().unwrap();
    // And what is shared no longer is another's no longer.
    iommu.unmap(b, part.input).unwrap();
    for cell in [a, b] {
        iommu.map_shared(cell, page).unwrap();
    }
    let mut change = iommu.change();
    change.unmap(a, page.input).map(a, page);
    let all = Error::Owned { memory: outputs(MEMORY, 4 * PAGE), owner: Owner::Cell(b) };
    assert_eq!(change.commit().unwrap_err(), all);
    assert_eq!(
        all.to_string(),
        "0x60000000..=0x60003fff is not free: cell 1 has it, and not both have it mapped as shared"
    );
}

/// I2: what firmware reserves for a device is its cell's, whoever comes first.
#[test]
fn reserved_memory_of_a_device_is_no_other_cells() {
    let machine = machine([UnitConfig::server()]);
    let iommu = with_reserved(&machine, &[3]);
    let (owner, other) = (function(0, 3), function(0, 4));
    let [one, two] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.assign(other, two).unwrap();
    let page = region(INPUT, RESERVED, PAGE, RW);
    let memory = outputs(RESERVED, PAGE);
    for map in [false, true] {
        iommu.assign(owner, one).unwrap();
        let refused = if map { iommu.map(two, page) } else { iommu.map_shared(two, page) };
        assert_eq!(refused, Err(Error::Owned { memory, owner: reserved_for(3, one) }));
        iommu.release(owner).unwrap();
        if map { iommu.map(two, page) } else { iommu.map_shared(two, page) }.unwrap();
        let reason = Refusal::Owned { memory, owner: Owner::Cell(two) };
        assert_eq!(iommu.assign(owner, one), Err(Error::Refused { device: owner, reason }));
        assert!(!write(&machine, owner, RESERVED, 1) && write(&machine, other, INPUT, 2));
        iommu.unmap(two, page.input).unwrap();
    }
    // Shared on purpose, by both.
    let three = iommu.create_cell(SHARES_RESERVED).unwrap();
    iommu.map_shared(two, page).unwrap();
    iommu.assign(owner, three).unwrap();
    assert!(write(&machine, owner, RESERVED, 3) && read(&machine, other, INPUT) == Some(3));
    assert_nothing_differs(&iommu, "shared");
    iommu.unmap(two, page.input).unwrap();
    assert!(matches!(iommu.map(two, page), Err(Error::Owned { .. })));
}

/// I2: the root cell loses what firmware reserves for a device of another cell, and has it again when the device is gone.
/// Each memory that is reserved for a device is held against what other cells have, wherever it is in the table.
#[test]
fn each_reserved_memory_of_a_device_is_no_other_cells() {
    let all = [RESERVED, RESERVED + LARGE];
    for taken in all {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled_with_reserved(&machine, &all.map(|first| (first, first + 0xfff, 3)));
        let owner = cell_with(&iommu, region(INPUT, taken, PAGE, RW), function(0, 4));
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let reason = Refusal::Owned { memory: outputs(taken, PAGE), owner: Owner::Cell(owner) };
        assert_eq!(iommu.assign(function(0, 3), cell), Err(Error::Refused { device: function(0, 3), reason }));
        iommu.unmap(owner, range(INPUT, PAGE)).unwrap();
        iommu.assign(function(0, 3), cell).unwrap();
        let owned = Error::Owned { memory: outputs(taken, PAGE), owner: reserved_for(3, cell) };
        assert_eq!(iommu.map(owner, region(INPUT, taken, PAGE, RW)), Err(owned));
    }
}

#[test]
fn the_root_cell_has_no_memory_of_another_cells_device() {
    for first in [true, false] {
        let machine = machine([UnitConfig::server()]);
        let iommu = with_reserved(&machine, &[3]);
        let (owner, disk) = (function(0, 3), function(0, 4));
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        if first {
            iommu.assign(owner, cell).unwrap();
        }
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(RESERVED - LARGE, RESERVED - LARGE, 2 * LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        if !first {
            assert!(write(&machine, disk, RESERVED, 1));
            iommu.assign(owner, cell).unwrap();
        }
        assert!(write(&machine, owner, RESERVED, 2) && !write(&machine, disk, RESERVED, 3));
        assert!(write(&machine, disk, RESERVED + PAGE, 3) && write(&machine, disk, RESERVED - PAGE, 3));
        assert_nothing_differs(&iommu, "the cell has the device");
        if first { iommu.release(owner).map(drop) } else { iommu.destroy_cell(cell).map(drop) }.unwrap();
        assert!(write(&machine, disk, RESERVED, 4) && !write(&machine, owner, RESERVED, 5));
        let lenient = iommu.create_cell(SHARES_RESERVED).unwrap();
        iommu.assign(owner, lenient).unwrap();
        assert!(write(&machine, disk, RESERVED, 6) && read(&machine, owner, RESERVED) == Some(6), "both may");
        assert_nothing_differs(&iommu, "shared");
    }
}

/// I3: devices for which firmware reserves the same memory are not given to two cells, unless both allow it.
#[test]
fn two_cells_have_no_devices_with_reserved_memory_in_common() {
    let machine = machine([UnitConfig::server()]);
    let iommu = with_reserved(&machine, &[3, 4]);
    let (one, two) = (function(0, 3), function(0, 4));
    let [a, b, c, d] = [UNSAFE_INTERRUPTS, UNSAFE_INTERRUPTS, SHARES_RESERVED, SHARES_RESERVED]
        .map(|config| iommu.create_cell(config).unwrap());
    iommu.assign(one, a).unwrap();
    for cell in [b, c] {
        let refused = iommu.assign(two, cell).unwrap_err();
        let Error::Refused { device, reason: Refusal::SharesReserved(others) } = refused else { panic!("{refused}") };
        assert_eq!((device, others.first().collect::<Vec<_>>()), (two, vec![one]));
    }
    iommu.assign(two, a).unwrap();
    iommu.release(one).unwrap();
    assert!(iommu.assign(one, c).is_err(), "one of the two does not allow it");
    iommu.release(two).unwrap();
    iommu.assign(one, c).unwrap();
    iommu.assign(two, d).unwrap();
    assert!(write(&machine, one, RESERVED, 1) && read(&machine, two, RESERVED) == Some(1));
    assert_nothing_differs(&iommu, "both allow it");
    let mut shared = vec![];
    iommu.shared_memory(|it| shared.push((it.memory, it.cells))).unwrap();
    assert_eq!(shared, [(outputs(RESERVED, PAGE), [c, d])]);
}

/// I6: what is beyond the machine's addresses is refused when it is mapped, and not cut off later.
#[test]
fn memory_beyond_the_machines_addresses_is_refused() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let output_bits = iommu.topology().host_address_width();
    assert!(output_bits < 52);
    let at = |output: u64| Region::new(Iova::new(INPUT), PhysAddr::new(output), 2 * PAGE, RW).unwrap();
    for region in [at((1 << output_bits) - PAGE), at(1 << output_bits), at((1 << 52) - PAGE)] {
        let refused = Err(Error::Map(MapError::OutputTooHigh { region, output_bits }));
        assert_eq!([iommu.map(cell, region), iommu.map_shared(cell, region)], [refused, refused]);
    }
    iommu.map(cell, at((1 << output_bits) - 2 * PAGE)).unwrap();
}

/// Memory that is reserved for a quarantined device is still its cell's: the audit names another's device that reaches it.
#[test]
fn reserved_memory_of_a_quarantined_device_has_an_owner() {
    let machine = machine([UnitConfig::client()]);
    let iommu = with_reserved(&machine, &[3]);
    let (quarantined, source) = (function(0, 3), function(0, 4));
    machine.add_express(quarantined);
    let owner = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(quarantined, owner).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), source);
    machine.set_config(quarantined, DEVICE_STATUS, PENDING);
    iommu.release(quarantined).unwrap_err();
    assert_nothing_differs(&iommu, "it is blocked");
    assert_eq!(
        iommu.map(cell, region(INPUT + PAGE, RESERVED, PAGE, RW)),
        Err(Error::Owned { memory: outputs(RESERVED, PAGE), owner: reserved_for(3, owner) })
    );
    machine.flip(entry_over(&machine, 4, INPUT, 1), MEMORY ^ RESERVED);
    let crosses = Difference::CrossesCells { source, cell: Some(cell), owner, memory: outputs(RESERVED, PAGE) };
    let found = audit(&iommu);
    assert!(found.contains(&crosses), "{found:?}");
}

/// I7: registers of a unit are no cell's memory, nor can they be reserved for a device.
#[test]
fn registers_of_a_unit_are_no_memory() {
    let machine = machine([UnitConfig::server(), UnitConfig::server()]);
    let window = machine.windows()[1];
    let base = window.base.as_u64();
    let table = of_machine(&machine, &[&[1]]).rmrr(0, base, base + 0xfff, &[endpoint(3, 0)]).table();
    let iommu = front_with_findings(&machine, &table, Options::default(), |_| ()).unwrap();
    iommu.enable().unwrap();
    let [root, cell] =
        [iommu.create_root_cell(UNSAFE_INTERRUPTS), iommu.create_cell(UNSAFE_INTERRUPTS)].map(Result::unwrap);
    let refused = Error::Owned { memory: outputs(base, PAGE), owner: Owner::Registers(window) };
    assert_eq!(iommu.map(cell, region(INPUT, base - PAGE, 2 * PAGE, RW)), Err(refused));
    assert_eq!(iommu.map_shared(cell, region(INPUT, base, PAGE, Rights::READ)), Err(refused));
    assert_eq!(iommu.map(root, region(base - 8 * PAGE, base - 8 * PAGE, 16 * PAGE, RW)), Err(refused));
    for cell in [root, cell] {
        let assigned = iommu.assign(function(0, 3), cell);
        assert!(matches!(assigned, Err(Error::Refused { reason: Refusal::LostReserved, .. })), "{assigned:?}");
    }
}

/// I7: the driver's tables, and all that the platform keeps for itself, are no cell's memory, nor can they be reserved for a
/// device.
#[test]
fn what_the_platform_keeps_for_itself_is_no_memory() {
    let machine = machine([UnitConfig::server()]);
    let frame = machine.allocate(0).unwrap().as_u64();
    let table = of_machine(&machine, &[]).rmrr(0, frame, frame + 0xfff, &[endpoint(3, 0)]).table();
    let iommu = front_with_findings(&machine, &table, Options::default(), |_| ()).unwrap();
    iommu.enable().unwrap();
    let [root, cell] =
        [iommu.create_root_cell(UNSAFE_INTERRUPTS), iommu.create_cell(UNSAFE_INTERRUPTS)].map(Result::unwrap);
    let own = machine.own_memory(outputs(0, 1 << 46)).unwrap();
    let (first, last, owner) = (own.first().as_u64(), own.last().as_u64(), Owner::Platform);
    for (at, pages, own) in [
        (first - PAGE, 2, outputs(first, PAGE)),
        (last + 1 - PAGE, 2, outputs(last + 1 - PAGE, PAGE)),
        (frame, 1, outputs(frame, PAGE)),
        (first - PAGE, 2 + (last - first).div_ceil(PAGE), own),
    ] {
        let refused = Err(Error::Owned { memory: own, owner });
        assert_eq!(iommu.map(cell, region(INPUT, at, pages * PAGE, RW)), refused);
        assert_eq!(iommu.map_shared(cell, region(INPUT, at, pages * PAGE, Rights::READ)), refused);
        assert_eq!(iommu.map(root, region(at, at, pages * PAGE, RW)), refused);
    }
    for cell in [root, cell] {
        let reason = Refusal::Owned { memory: outputs(frame, PAGE), owner };
        assert_eq!(iommu.assign(function(0, 3), cell), Err(Error::Refused { device: function(0, 3), reason }));
        iommu.map(cell, region(first - PAGE, first - PAGE, PAGE, RW)).unwrap();
        iommu.unmap(cell, range(first - PAGE, PAGE)).unwrap();
    }
    assert_eq!(owner.to_string(), "the platform keeps it for itself");
}

/// I1: memory that was granted when a unit failed is granted to nobody else until the unit has confirmed that it is gone.
#[test]
fn what_a_failed_grant_let_in_is_withheld_from_all_others() {
    for defect in [Defect::QueueErrorAfter(0), Defect::QueueDead] {
        let machine = machine([UnitConfig::server().caching_mode(true).serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (root, disk, card) = (iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 1), function(1, 3));
        iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        let cell = cell_with(&iommu, region(INPUT, RESERVED, PAGE, RW), card);
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        machine.break_unit(0, defect);
        let moved = region(INPUT + LARGE, MEMORY + LARGE, LARGE, RW);
        assert!(matches!(iommu.map(cell, moved), Err(Error::Unit(_))));
        let withheld = Error::Owned { memory: outputs(MEMORY + LARGE, LARGE), owner: Owner::Withheld(cell) };
        assert_eq!(iommu.map(other, moved), Err(withheld), "{defect:?}");
        assert_eq!(iommu.audit(|_| ()).unwrap().withheld, 1);
        // The root cell changes, and does not get it.
        iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
        let _ = write(&machine, card, INPUT + LARGE, 1);
        assert!(!write(&machine, disk, MEMORY + LARGE, 2), "{defect:?}");
        machine.mend_unit(0);
        // Each unit has confirmed a later change.
        let confirmed = iommu.map(cell, region(INPUT + PAGE, RESERVED + PAGE, PAGE, RW));
        assert_eq!(confirmed.is_ok(), defect != Defect::QueueDead);
        let now = iommu.map(other, moved);
        assert_eq!(now.is_ok(), confirmed.is_ok(), "{now:?}");
        assert!(!write(&machine, card, INPUT + LARGE, 1));
        machine.abandon();
    }
}

/// I1: what was taken from a cell, and what it only shared, is withheld as well; its own cell may have it again.
#[test]
fn what_a_failed_revocation_left_is_withheld_from_all_others() {
    for shared in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled(&machine);
        let memory = region(INPUT, MEMORY, PAGE, RW);
        let map = |cell, region, shared| if shared { iommu.map_shared(cell, region) } else { iommu.map(cell, region) };
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        map(cell, memory, shared).unwrap();
        iommu.assign(function(0, 3), cell).unwrap();
        let other = cell_with(&iommu, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW), function(0, 4));
        machine.break_unit(0, Defect::QueueErrorAfter(0));
        iommu.unmap(cell, memory.input).unwrap_err();
        machine.mend_unit(0);
        let withheld = Error::Owned { memory: outputs(MEMORY, PAGE), owner: Owner::Withheld(cell) };
        assert_eq!(iommu.map(other, memory), Err(withheld));
        let words = "0x60000000..=0x60000fff is not free: devices of cell 0 may still reach it, until a unit that failed \
                     confirms a change";
        assert_eq!(withheld.to_string(), words);
        map(cell, memory, shared).unwrap();
        iommu.unmap(cell, memory.input).unwrap();
        iommu.map(other, memory).unwrap();
        assert!(!write(&machine, function(0, 3), INPUT, 1) && write(&machine, function(0, 4), INPUT, 2));
        assert_nothing_differs(&iommu, "it is the other's");
    }
}

/// What is withheld can be shared only with who shared it: both rules are those of memory that a cell has.
#[test]
fn what_is_withheld_is_shared_only_if_both_shared_it() {
    for (was_shared, shared) in [(false, false), (false, true), (true, false), (true, true)] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let memory = region(INPUT, MEMORY, PAGE, RW);
        let map = |cell, region, shared| if shared { iommu.map_shared(cell, region) } else { iommu.map(cell, region) };
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        map(cell, memory, was_shared).unwrap();
        iommu.assign(function(1, 0), cell).unwrap();
        let other = cell_with(&iommu, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW), function(0, 4));
        machine.break_unit(0, Defect::QueueDead);
        iommu.unmap(cell, memory.input).unwrap_err();
        let withheld = Error::Owned { memory: outputs(MEMORY, PAGE), owner: Owner::Withheld(cell) };
        let expected = if was_shared && shared { Ok(()) } else { Err(withheld) };
        assert_eq!(map(other, memory, shared).map(drop), expected, "{was_shared}, {shared}");
        machine.abandon();
    }
}

/// What a change that waits for its unit is giving its cell is that cell's already: nobody else gets it meanwhile.
#[test]
fn what_a_change_that_waits_gives_is_no_other_cells() {
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
    let old = region(INPUT, MEMORY, PAGE, RW);
    let new = region(INPUT + LARGE, MEMORY + LARGE, 4 * PAGE, RW);
    let cell = cell_with(&iommu, old, function(0, 3));
    let other = cell_with(&iommu, region(INPUT, RESERVED, PAGE, RW), function(0, 4));
    let part = region(INPUT + LARGE, MEMORY + LARGE + 3 * PAGE, 2 * PAGE, RW);
    let owned = Error::Owned { memory: outputs(MEMORY + LARGE + 3 * PAGE, PAGE), owner: Owner::Cell(cell) };
    let changed = stop.meanwhile(
        || iommu.change().unmap(cell, old.input).map(cell, new).commit(),
        || {
            assert_eq!(iommu.map(other, part), Err(owned));
            assert_eq!(iommu.map_shared(other, part), Err(owned));
        },
    );
    changed.unwrap();
    assert_eq!(iommu.map(other, part), Err(owned));
    assert_nothing_differs(&iommu, "one cell has it");
}

/// What two units may still reach is withheld until both have confirmed, whichever of them failed.
#[test]
fn what_a_second_unit_may_reach_is_withheld_too() {
    for dead in 0..2 {
        let machine =
            machine([UnitConfig::server().serving(&[1]), UnitConfig::server().serving(&[2]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
        iommu.enable().unwrap();
        let memory = region(INPUT, MEMORY, PAGE, RW);
        let cell = cell_with(&iommu, memory, function(1, 0));
        iommu.assign(function(2, 0), cell).unwrap();
        let other = cell_with(&iommu, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW), function(0, 4));
        machine.break_unit(dead, Defect::QueueDead);
        iommu.unmap(cell, memory.input).unwrap_err();
        let withheld = Error::Owned { memory: outputs(MEMORY, PAGE), owner: Owner::Withheld(cell) };
        assert_eq!(iommu.map(other, memory), Err(withheld), "unit {dead}");
        assert_eq!(iommu.audit(|_| ()).unwrap().withheld, 1, "unit {dead}");
        machine.abandon();
    }
}

/// I8: what is withheld is so from whatever root cell there is later.
#[test]
fn a_new_root_cell_does_not_get_what_is_withheld() {
    for from_root in [false, true] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (disk, card) = (function(0, 1), function(1, 3));
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
        let moved = region(MEMORY + LARGE, MEMORY + LARGE, LARGE, RW);
        let cell = if from_root {
            iommu.assign(card, root).unwrap();
            root
        } else {
            iommu.assign(disk, root).unwrap();
            cell_with(&iommu, moved, card)
        };
        assert!(write(&machine, card, MEMORY + LARGE, 1));
        machine.break_unit(0, Defect::QueueDead);
        iommu.unmap(cell, moved.input).unwrap_err();
        if from_root {
            let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            let withheld = Error::Owned { memory: outputs(MEMORY + LARGE, LARGE), owner: Owner::Withheld(root) };
            assert_eq!(iommu.map(other, moved), Err(withheld));
        } else {
            iommu.destroy_cell(root).unwrap();
            let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
            iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
            iommu.assign(disk, root).unwrap();
            assert!(write(&machine, disk, MEMORY, 2));
            assert!(!write(&machine, disk, MEMORY + LARGE, 2), "the card may still write it");
        }
        assert!(audit(&iommu).iter().all(|it| !it.to_string().contains("belongs to")));
        machine.abandon();
    }
}
