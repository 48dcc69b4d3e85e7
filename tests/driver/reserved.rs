//! Memory that firmware reserves for devices, and what a cell may say about it (R66).

use cofferdam::addr::{Rights, SourceId};
use cofferdam::iommu::{Error, Options, Owner, Refusal};
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{BridgeKind, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{endpoint, of_machine, scope};

use crate::audit::{INPUT, RW, assert_nothing_differs, audit};

const MEMORY: u64 = 0x6000_0000;
const RESERVED: u64 = 0x7800_0000;

fn cell_of(iommu: &Front<&Machine>, config: CellConfig, devices: &[SourceId]) -> CellId {
    let cell = iommu.create_cell(config).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    for device in devices {
        iommu.assign(*device, cell).unwrap();
    }
    cell
}

#[test]
fn usb_and_graphics_lose_theirs_only_where_the_cell_says_so() {
    let device = function(0, 3);
    for (class, relaxable) in [
        (0x0c03_3001, true),
        (0x0c03_2000, true),
        (0x0300_0000, true),
        (0x0380_0002, true),
        (0x0c04_0000, false),
        (0x0c05_0000, false),
        (0x0403_0000, false),
        (0x0003_0000, false),
        (0x0106_0103, false),
        (0, false),
    ] {
        let machine = machine([UnitConfig::server()]);
        machine.set_config(device, 0, 0x1234_8086);
        machine.set_config(device, 0x08, class);
        let iommu = enabled_with_reserved(&machine, &[(RESERVED, RESERVED + PAGE - 1, 3)]);
        let info = iommu.device_info(device).unwrap();
        assert_eq!((info.relaxable, reserved(&iommu, device).len()), (relaxable, 1), "{class:#x}");
        for leave_out_relaxable in [false, true] {
            let cell = cell_of(&iommu, CellConfig { leave_out_relaxable, ..UNSAFE_INTERRUPTS }, &[device]);
            let left_out = relaxable && leave_out_relaxable;
            assert_eq!(write(&machine, device, RESERVED, 1), !left_out, "{class:#x}");
            assert!(write(&machine, device, INPUT, 1));
            assert_eq!(input_ranges(&iommu, cell).unwrap().len(), if left_out { 2 } else { 3 });
            let own = region(RESERVED, MEMORY, PAGE, RW);
            assert_eq!(iommu.map(cell, own).is_ok(), left_out, "the cell may have its own there");
            assert_eq!(write(&machine, device, RESERVED, 7) && peek(&machine, MEMORY) == 7, left_out);
            assert_nothing_differs(&iommu, format_args!("{class:#x}"));
            iommu.destroy_cell(cell).unwrap();
        }
    }
}

const IDENTICAL: CellConfig = CellConfig { allow_identical_reserved: true, ..UNSAFE_INTERRUPTS };

#[test]
fn a_cell_may_claim_the_memory_reserved_for_its_device() {
    let end = RESERVED + 4 * PAGE;
    for (name, unit) in presets() {
        for device_first in [false, true] {
            let machine = machine([unit.clone()]);
            let iommu = enabled_with_reserved(&machine, &[(RESERVED, end - 1, 3)]);
            let (owner, other) = (function(0, 3), function(0, 4));
            let reserved = region(RESERVED, RESERVED, 4 * PAGE, RW);
            // All of it and more; its end and more; its middle.
            for (first, bytes) in [(RESERVED - LARGE, 2 * LARGE), (end - PAGE, 2 * PAGE), (RESERVED + PAGE, PAGE)] {
                let own = region(first, first, bytes, RW);
                let cell = cell_of(&iommu, IDENTICAL, &[other]);
                if device_first {
                    iommu.assign(owner, cell).unwrap();
                    iommu.map(cell, own).unwrap();
                } else {
                    iommu.map(cell, own).unwrap();
                    iommu.assign(owner, cell).unwrap();
                }
                let reaches = |device| {
                    let edges = [first - PAGE, first, first + bytes - PAGE, first + bytes];
                    let all = edges.into_iter().chain((0..4).map(|page| RESERVED + page * PAGE));
                    all.map(|at| write(&machine, device, at, at) && peek(&machine, at) == at).collect::<Vec<_>>()
                };
                let within = |at| (first..first + bytes).contains(&at);
                let is_reserved = |at| (RESERVED..end).contains(&at);
                let expected = |device: SourceId, mapped: bool| {
                    let edges = [first - PAGE, first, first + bytes - PAGE, first + bytes];
                    let all = edges.into_iter().chain((0..4).map(|page| RESERVED + page * PAGE));
                    all.map(|at| mapped && within(at) || device == owner && is_reserved(at)).collect::<Vec<_>>()
                };
                let check = |mapped| {
                    for device in [owner, other] {
                        assert_eq!(reaches(device), expected(device, mapped), "{name}: {device}, {first:#x}, {mapped}");
                    }
                    assert_nothing_differs(&iommu, format_args!("{name}: {first:#x}, {mapped}"));
                };
                check(true);
                // Rights that the device needs are kept; all else of the region may change.
                let page = if first < RESERVED { RESERVED } else { first };
                let narrowed = iommu.protect(cell, range(page, PAGE), Rights::READ);
                assert_eq!(narrowed, Err(Error::Reserved(reserved)), "{name}");
                check(true);
                if first < RESERVED {
                    iommu.protect(cell, range(first, PAGE), Rights::READ).unwrap();
                    assert!(!write(&machine, owner, first, 1) && read(&machine, owner, first).is_some(), "{name}");
                    iommu.protect(cell, range(first, PAGE), RW).unwrap();
                    // Another way to its middle, and back.
                    iommu.unmap(cell, range(RESERVED + PAGE, PAGE)).unwrap();
                    assert!(write(&machine, owner, RESERVED + PAGE, 1) && !write(&machine, other, RESERVED + PAGE, 1));
                    assert_nothing_differs(&iommu, format_args!("{name}: a hole in its middle"));
                    iommu.map(cell, region(RESERVED + PAGE, RESERVED + PAGE, PAGE, RW)).unwrap();
                    check(true);
                }
                iommu.unmap(cell, own.input).unwrap();
                check(false);
                iommu.map(cell, own).unwrap();
                iommu.release(owner).unwrap();
                assert!(!write(&machine, owner, RESERVED, 1) && write(&machine, other, page, 1), "{name}");
                assert_nothing_differs(&iommu, format_args!("{name}: the device is released"));
                iommu.destroy_cell(cell).unwrap();
            }
        }
    }
}

#[test]
fn what_is_not_the_same_is_refused_and_changes_nothing() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_reserved(&machine, &[(RESERVED, RESERVED + 4 * PAGE - 1, 3)]);
    let device = function(0, 3);
    let reserved = region(RESERVED, RESERVED, 4 * PAGE, RW);
    let same = region(RESERVED, RESERVED, PAGE, RW);
    for (config, own) in [
        (UNSAFE_INTERRUPTS, same),
        (IDENTICAL, region(RESERVED, MEMORY, PAGE, RW)),
        (IDENTICAL, region(RESERVED, RESERVED + PAGE, PAGE, RW)),
        (IDENTICAL, region(RESERVED, RESERVED, PAGE, Rights::READ)),
        (IDENTICAL, region(RESERVED, RESERVED, PAGE, Rights::WRITE)),
    ] {
        let cell = cell_of(&iommu, config, &[]);
        iommu.map(cell, own).unwrap();
        let before = machine.snapshot();
        let refused = Error::Refused { device, reason: Refusal::ReservedMemory(reserved) };
        assert_eq!(iommu.assign(device, cell).map(drop), Err(refused));
        assert_eq!(machine.snapshot(), before);
        iommu.unmap(cell, own.input).unwrap();
        iommu.assign(device, cell).unwrap();
        let before = machine.snapshot();
        assert_eq!(iommu.map(cell, own).map(drop), Err(Error::Reserved(reserved)));
        assert_eq!(machine.snapshot(), before);
        assert_nothing_differs(&iommu, "a region is refused");
        iommu.destroy_cell(cell).unwrap();
    }
}

#[test]
fn a_root_cell_may_have_all_memory_with_what_is_reserved_in_it() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_reserved(&machine, &[(RESERVED, RESERVED + PAGE - 1, 3)]);
    let (owner, other, third) = (function(0, 3), function(0, 4), function(0, 5));
    let root = iommu.create_root_cell(IDENTICAL).unwrap();
    let mut change = iommu.change();
    change.map(root, region(1 << 30, 1 << 30, 1 << 30, RW));
    change.assign(owner, root).assign(other, root);
    change.commit().unwrap();
    assert!(write(&machine, owner, RESERVED, 1) && write(&machine, other, RESERVED, 2));
    assert_nothing_differs(&iommu, "the root cell has it all");
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut change = iommu.change();
    change.map(cell, region(0, RESERVED - PAGE, 4 * PAGE, RW)).assign(third, cell);
    let refused =
        Error::Owned { memory: outputs(RESERVED, PAGE), owner: Owner::Reserved { device: owner, cell: root } };
    assert_eq!(change.commit().unwrap_err(), refused);
    let mut change = iommu.change();
    change.map(cell, region(0, RESERVED - PAGE, PAGE, RW)).map(cell, region(PAGE, RESERVED + PAGE, PAGE, RW));
    change.assign(third, cell);
    change.commit().unwrap();
    let reached =
        [RESERVED - PAGE, RESERVED, RESERVED + PAGE].map(|at| [owner, other].map(|it| write(&machine, it, at, 3)));
    assert_eq!(
        reached,
        [[false, false], [true, true], [false, false]],
        "the root cell keeps what is reserved for its device"
    );
    assert_nothing_differs(&iommu, "a cell has the pages around it");
    iommu.destroy_cell(cell).unwrap();
    assert!(write(&machine, other, RESERVED, 4) && write(&machine, owner, RESERVED + PAGE, 4));
    assert_nothing_differs(&iommu, "the cell is gone");
    iommu.destroy_cell(root).unwrap();
}

fn others(error: Error) -> (SourceId, Vec<SourceId>) {
    match error {
        Error::Refused { device, reason: Refusal::SharesReserved(others) } => (device, others.first().collect()),
        error => panic!("{error}"),
    }
}

/// Machines where two devices have reserved memory in common: listed together, or in two structures that overlap.
fn in_common(machine: &Machine) -> [Vec<u8>; 3] {
    let page = |number: u64| RESERVED + number * PAGE;
    let table = || of_machine(machine, &[]);
    [
        table().rmrr(0, page(0), page(2) - 1, &[endpoint(3, 0), endpoint(4, 0)]).table(),
        table()
            .rmrr(0, page(0), page(2) - 1, &[endpoint(3, 0)])
            .rmrr(0, page(0), page(2) - 1, &[endpoint(4, 0)])
            .table(),
        table()
            .rmrr(0, page(0), page(2) - 1, &[endpoint(4, 0)])
            .rmrr(0, page(1), page(3) - 1, &[endpoint(3, 0)])
            .table(),
    ]
}

/// A front, whatever overlaps in its table.
fn any_front<'m>(machine: &'m Machine, table: &[u8]) -> Front<&'m Machine> {
    let iommu = front_with_findings(machine, table, Options::default(), |_| ()).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// I3: devices with reserved memory in common are kept in one cell, since one reads there what the other writes.
#[test]
fn devices_that_share_reserved_memory_share_a_cell() {
    let (a, b) = (function(0, 3), function(0, 4));
    let shared = RESERVED + PAGE;
    for number in 0..3 {
        let machine = machine([UnitConfig::server()]);
        let iommu = any_front(&machine, &in_common(&machine)[number]);
        for (first, second) in [(a, b), (b, a)] {
            let with: Vec<_> = iommu.device_info(first).unwrap().reserved_with.first().collect();
            assert_eq!(with, [second], "table {number}");
            let [own, other] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
            iommu.assign(first, own).unwrap();
            let before = machine.snapshot();
            assert_eq!(others(iommu.assign(second, other).unwrap_err()), (second, vec![first]), "table {number}");
            assert_eq!(machine.snapshot(), before, "nothing changed");
            // In one change, too.
            iommu.release(first).unwrap();
            let mut change = iommu.change();
            change.assign(first, own).assign(second, other);
            assert_eq!(others(change.commit().unwrap_err()), (first, vec![second]), "table {number}");
            // Both in one cell, and both move on at once.
            let mut change = iommu.change();
            change.assign(first, own).assign(second, own);
            change.commit().unwrap();
            assert!(write(&machine, first, shared, 5) && read(&machine, second, shared) == Some(5));
            let mut change = iommu.change();
            change.release(first).assign(first, other);
            assert_eq!(others(change.commit().unwrap_err()), (first, vec![second]), "table {number}");
            let mut change = iommu.change();
            change.release(first).release(second).assign(first, other).assign(second, other);
            change.commit().unwrap();
            assert_nothing_differs(&iommu, format_args!("table {number}"));
            iommu.destroy_cell(own).unwrap();
            iommu.destroy_cell(other).unwrap();
        }
    }
}

/// I3: cells that both know may share reserved memory; one that knows alone may not.
#[test]
fn cells_share_reserved_memory_if_both_allow_it() {
    const KNOWS: CellConfig = CellConfig { allow_shared_reserved: true, ..UNSAFE_INTERRUPTS };
    let (a, b) = (function(0, 3), function(0, 4));
    for (first, second) in [(KNOWS, KNOWS), (KNOWS, UNSAFE_INTERRUPTS), (UNSAFE_INTERRUPTS, KNOWS)] {
        let machine = machine([UnitConfig::server()]);
        let iommu = any_front(&machine, &in_common(&machine)[0]);
        cell_of(&iommu, first, &[a]);
        let second_cell = iommu.create_cell(second).unwrap();
        let result = iommu.assign(b, second_cell);
        if first == second {
            result.unwrap();
            assert!(write(&machine, a, RESERVED, 9) && read(&machine, b, RESERVED) == Some(9));
        } else {
            assert_eq!(others(result.unwrap_err()), (b, vec![a]));
        }
    }
}

/// I3: what a cell leaves out leads nowhere.
#[test]
fn reserved_memory_that_is_left_out_is_not_shared() {
    let (a, b) = (function(0, 3), function(0, 4));
    let machine = machine([UnitConfig::server()]);
    for usb in [a, b] {
        machine.set_config(usb, 0, 0x1234_8086);
        machine.set_config(usb, 0x08, 0x0c03_3001);
    }
    let iommu = any_front(&machine, &in_common(&machine)[0]);
    cell_of(&iommu, UNSAFE_INTERRUPTS, &[a]);
    let second = iommu.create_cell(CellConfig { leave_out_relaxable: true, ..UNSAFE_INTERRUPTS }).unwrap();
    iommu.assign(b, second).unwrap();
    assert!(write(&machine, a, RESERVED, 1) && !write(&machine, b, RESERVED, 1));
    let text = "0000:00:04.0 is refused: firmware reserves memory for it and for 0000:00:03.0, which another cell has";
    iommu.release(b).unwrap();
    let refused = iommu.assign(b, iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()).unwrap_err();
    assert_eq!(refused.to_string(), text);
}

/// I2: firmware reserves memory for one of two functions that share a source-id: the root cell loses it when either is assigned.
#[test]
fn the_root_cell_loses_what_is_reserved_for_who_shares_an_id() {
    for partner in [false, true] {
        let machine = machine([UnitConfig::server()]);
        machine.add_bridge(function(0, 0x1e), BridgeKind::Conventional, 3..=3);
        let (named, sharing, disk) = (function(3, 1), function(3, 2), function(0, 4));
        [named, sharing].iter().for_each(|device| machine.add_express(*device));
        let scopes = [scope(1, 0, 0, &[(0x1e, 0), (1, 0)])];
        let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + 0xfff, &scopes).table();
        let iommu = front_with_findings(&machine, &table, Options::default(), |_| ()).unwrap();
        iommu.enable().unwrap();
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(RESERVED - LARGE, RESERVED - LARGE, 2 * LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let device = if partner { sharing } else { named };
        let assigned = iommu.assign(device, cell);
        let both = (write(&machine, device, RESERVED, 2), write(&machine, disk, RESERVED, 3));
        let said = audit(&iommu);
        machine.abandon();
        assert_ne!(both, (true, true), "partner {partner}: {assigned:?} {said:?}");
        assert!(said.is_empty(), "{said:?}");
    }
}

/// I2: the same where the two share an id by `add_alias`.
#[test]
fn the_root_cell_loses_what_is_reserved_for_an_alias() {
    let machine = machine([UnitConfig::server()]);
    let (named, sharing, disk) = (function(0, 3), function(0, 5), function(0, 4));
    let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + 0xfff, &[endpoint(3, 0)]).table();
    let iommu = front(&machine, &table, Options::default()).unwrap();
    iommu.add_alias(sharing, named.into()).unwrap();
    iommu.enable().unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(RESERVED - LARGE, RESERVED - LARGE, 2 * LARGE, RW)).unwrap();
    iommu.assign(disk, root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let assigned = iommu.assign(sharing, cell);
    let both = (write(&machine, sharing, RESERVED, 2), write(&machine, disk, RESERVED, 3));
    let said = audit(&iommu);
    machine.abandon();
    assert_ne!(both, (true, true), "{assigned:?} {said:?}");
}

/// Reserved memory that is withheld for another cell is given to no device.
#[test]
fn reserved_memory_that_is_withheld_is_given_to_no_device() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).rmrr(0, RESERVED, RESERVED + 0xfff, &[endpoint(3, 0)]).table();
    let iommu = enabled_front(&machine, &table, Options::default());
    let (card, named) = (function(1, 2), function(0, 3));
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(RESERVED, RESERVED, PAGE, RW)).unwrap();
    iommu.assign(card, root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert!(write(&machine, card, RESERVED, 1));
    machine.break_unit(0, Defect::QueueDead);
    let tries = [iommu.assign(named, cell), iommu.assign(named, cell), iommu.assign(named, root)];
    let both = (write(&machine, card, RESERVED, 2), write(&machine, named, RESERVED, 3));
    machine.abandon();
    assert_ne!(both, (true, true), "{tries:?}");
}
