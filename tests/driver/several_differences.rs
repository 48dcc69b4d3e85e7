//! T3: audits of tables in which several things are wrong at once: each is reported, and counted.

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::Difference;
use cofferdam_model::{BridgeKind, Defect, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, MEMORY_A, MEMORY_B, RW, assert_nothing_differs, audit};
use crate::differences::{context, entry_over, root_table};
use crate::moves::{DEVICE_STATUS, PENDING};

/// T3: two regions of a table that two devices use lead to memory of another cell.
#[test]
fn each_region_is_reported_of_each_device_and_owner() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let a = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    iommu.map(a, region(INPUT + LARGE, MEMORY_A + LARGE, PAGE, RW)).unwrap();
    iommu.assign(function(0, 5), a).unwrap();
    // Each owner has one of the pages.
    let b = cell_with(&iommu, region(0, MEMORY_B, PAGE, RW), function(0, 4));
    let c = cell_with(&iommu, region(0, MEMORY_B + LARGE, PAGE, RW), function(0, 6));
    assert_nothing_differs(&iommu, "before");
    for offset in [0, LARGE] {
        machine.flip(entry_over(&machine, 3, INPUT + offset, 1), MEMORY_A ^ MEMORY_B);
    }
    let found = audit(&iommu);
    for (source, (offset, owner)) in
        [3, 5].iter().flat_map(|device| [(0, b), (LARGE, c)].map(|wrong| (function(0, *device), wrong)))
    {
        let memory = outputs(MEMORY_B + offset, PAGE);
        for expected in [
            Difference::ExtraMapping { source, region: region(INPUT + offset, MEMORY_B + offset, PAGE, RW) },
            Difference::MissingMapping { source, region: region(INPUT + offset, MEMORY_A + offset, PAGE, RW) },
            Difference::CrossesCells { source, cell: Some(a), owner, memory },
        ] {
            assert!(found.contains(&expected), "{expected} is missing in {found:?}");
        }
    }
    assert_eq!(found.len(), 2 * 2 * 3, "{found:?}");
}

/// T3: one page of a cell is another cell's first page and its second region's, by a run that crosses both.
#[test]
fn a_run_over_memory_of_two_regions_is_reported_for_both() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let a = cell_with(&iommu, region(INPUT, MEMORY_A, 4 * PAGE, RW), function(0, 3));
    let b = cell_with(&iommu, region(0, MEMORY_B, PAGE, RW), function(0, 4));
    iommu.map(b, region(LARGE, MEMORY_B + 3 * PAGE, PAGE, RW)).unwrap();
    for page in 0..4 {
        machine.flip(entry_over(&machine, 3, INPUT + page * PAGE, 1), MEMORY_A ^ MEMORY_B);
    }
    let crossings: Vec<_> =
        audit(&iommu).into_iter().filter(|it| matches!(it, Difference::CrossesCells { .. })).collect();
    let expected = [0, 3].map(|page| {
        let first = MEMORY_B + page * PAGE;
        let memory = outputs(first, PAGE);
        Difference::CrossesCells { source: function(0, 3), cell: Some(a), owner: b, memory }
    });
    assert_eq!(crossings, expected);
}

/// T3: all source-ids of a device behind a bridge, and those of another device.
#[test]
fn each_source_id_that_is_blocked_is_reported() {
    let machine = machine([UnitConfig::client()]);
    machine.add_bridge(function(0, 0x1e), BridgeKind::ExpressToPci, 3..=4);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(3, 5));
    iommu.assign(function(0, 3), cell).unwrap();
    let mut ids = iommu.topology().requesters(iommu.hal(), function(3, 5)).unwrap().ids().to_vec();
    assert!(ids.len() > 1, "{ids:?}");
    ids.push(function(0, 3));
    for id in &ids {
        let table = peek(&machine, root_table(&machine) + u64::from(id.bus()) * 16) & !0xfff;
        machine.flip(PhysAddr::new(table + u64::from(id.device()) * 8 * 16), 1);
    }
    let mut found = audit(&iommu);
    found.retain(|it| matches!(it, Difference::Blocked { .. }));
    assert_eq!(found.len(), ids.len(), "{found:?}");
    for source in ids {
        assert!(found.contains(&Difference::Blocked { source, cell }), "{source}: {found:?}");
    }
}

/// T3: two source-ids of nobody, and what each reaches.
#[test]
fn each_source_id_of_nobody_is_reported_with_what_it_reaches() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let a = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    for stranger in [8, 9] {
        for half in [0, 8] {
            let word = peek(&machine, context(&machine, 3).as_u64() + half);
            machine.flip(context(&machine, stranger) + half, word);
        }
    }
    let found = audit(&iommu);
    let memory = outputs(MEMORY_A, PAGE);
    let expected: Vec<_> = [8, 9]
        .map(|stranger| function(0, stranger))
        .into_iter()
        .flat_map(|source| {
            [
                Difference::UnassignedSource { source },
                Difference::ExtraMapping { source, region: region(INPUT, MEMORY_A, PAGE, RW) },
                Difference::CrossesCells { source, cell: None, owner: a, memory },
            ]
        })
        .collect();
    // All tables together are read for strangers: the second one finds that none is left.
    let cut_short = found.iter().filter(|it| matches!(it, Difference::TooManyTables { .. })).count();
    let whole: Vec<_> = found.iter().filter(|it| !matches!(it, Difference::TooManyTables { .. })).copied().collect();
    assert!(whole == expected || (cut_short == 1 && whole == expected[..4]), "{found:?}");
}

/// T3: the domain-id that an entry has in common with another is looked for at all devices of the unit.
#[test]
fn a_domain_id_in_common_with_any_device_is_reported() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    for device in [3, 4, 5] {
        cell_with(&iommu, region(INPUT, MEMORY_A + u64::from(device) * PAGE, PAGE, RW), function(0, device));
    }
    let upper = |device| peek(&machine, context(&machine, device).as_u64() + 8);
    let (entry, other) = (context(&machine, 5) + 8, upper(4));
    machine.flip(entry, upper(5) ^ other);
    let (source, other) = (function(0, 5), function(0, 4));
    let expected = [
        Difference::DomainId { source, found: 2, expected: 3 },
        Difference::SharedDomainId { source, other, domain_id: 2 },
    ];
    assert_eq!(audit(&iommu), expected);
}

/// T3: a run over two ranges that a cell shares, and over what lies above them, is reported for what it does not share.
#[test]
fn what_lies_above_shared_ranges_is_reported() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let a = cell_with(&iommu, region(INPUT + LARGE, MEMORY_A, PAGE, RW), function(0, 3));
    let b = cell_with(&iommu, region(0, MEMORY_B + LARGE, PAGE, RW), function(0, 4));
    for page in 0..2 {
        iommu.map_shared(a, region(INPUT + page * 2 * LARGE, MEMORY_B + page * PAGE, PAGE, RW)).unwrap();
    }
    iommu.map_shared(b, region(LARGE, MEMORY_B, 3 * PAGE, RW)).unwrap();
    assert_nothing_differs(&iommu, "before");
    let first = peek(&machine, entry_over(&machine, 3, INPUT, 1).as_u64());
    for page in 1..3 {
        machine.flip(entry_over(&machine, 3, INPUT + page * PAGE, 1), first + page * PAGE);
    }
    let memory = outputs(MEMORY_B + 2 * PAGE, PAGE);
    let crossing = Difference::CrossesCells { source: function(0, 3), cell: Some(a), owner: b, memory };
    let found = audit(&iommu);
    assert!(found.contains(&crossing), "{found:?}");
}

/// T3: a root entry with a reserved bit hides no bus behind it.
#[test]
fn a_malformed_root_entry_hides_no_bus_behind_it() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(1, 3));
    iommu.assign(function(2, 3), cell).unwrap();
    assert_nothing_differs(&iommu, "before");
    let root = root_table(&machine);
    let contexts = peek(&machine, root + 2 * 16) & !0xfff;
    for half in [0, 8] {
        let word = peek(&machine, contexts + 3 * 8 * 16 + half);
        machine.flip(PhysAddr::new(contexts + 4 * 8 * 16 + half), word);
    }
    let at = PhysAddr::new(root + 16);
    machine.flip(at, 2);
    let found = audit(&iommu);
    let malformed =
        |it: &Difference| matches!(*it, Difference::Malformed { at: place, bits, .. } if (place, bits) == (at, 2));
    assert!(found.iter().any(malformed), "{found:?}");
    assert!(found.contains(&Difference::UnassignedSource { source: function(2, 4) }), "{found:?}");
}

/// T3: an entry with an ignored bit leads to memory of another cell all the same.
#[test]
fn ignored_bits_hide_nothing_else_of_an_entry() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    let a = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    let b = cell_with(&iommu, region(0, MEMORY_B, PAGE, RW), function(0, 4));
    let (unit, source, at) = (machine.windows()[0], function(0, 3), entry_over(&machine, 3, INPUT, 1));
    machine.flip(at, 1 << 52 | (MEMORY_A ^ MEMORY_B));
    let found = audit(&iommu);
    for expected in [
        Difference::IgnoredBits { unit, at, bits: 1 << 52 },
        Difference::ExtraMapping { source, region: region(INPUT, MEMORY_B, PAGE, RW) },
        Difference::CrossesCells { source, cell: Some(a), owner: b, memory: outputs(MEMORY_B, PAGE) },
    ] {
        assert!(found.contains(&expected), "{expected} is missing in {found:?}");
    }
    machine.abandon();
}

/// T3: reserved bits in both halves of an entry are two differences.
#[test]
fn both_malformed_halves_of_an_entry_are_reported() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled(&machine);
    cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    let lower = context(&machine, 3);
    let upper = PhysAddr::new(lower.as_u64() + 8);
    machine.flip(lower, 1 << 5);
    machine.flip(upper, 1 << 40);
    let found = audit(&iommu);
    for (at, set) in [(lower, 1 << 5), (upper, 1 << 40)] {
        let is_it = |it: &Difference| matches!(*it, Difference::Malformed { at: place, bits, .. } if (place, bits) == (at, set));
        assert!(found.iter().any(is_it), "{at:?}: {found:?}");
    }
    machine.abandon();
}

/// T3: each device whose table has no end is reported, and the bound of one is not that of the next.
#[test]
fn each_table_without_an_end_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    for (device, memory) in [(3, MEMORY_A), (4, MEMORY_B)] {
        cell_with(&iommu, region(INPUT, memory, PAGE, RW), function(0, device));
        let root = peek(&machine, context(&machine, device).as_u64()) & !0xfff;
        for index in 0..512 {
            let at = PhysAddr::new(root + index * 8);
            machine.flip(at, peek(&machine, at.as_u64()) ^ (root | 3));
        }
    }
    let whole = cell_with(&iommu, region(INPUT, MEMORY_B + LARGE, PAGE, RW), function(0, 7));
    let found = audit(&iommu);
    for source in [3, 4].map(|device| function(0, device)) {
        let endless = found.iter().filter(|it| **it == Difference::TooManyTables { source }).count();
        assert_eq!(endless, 1, "{source}: {found:?}");
    }
    let of_whole =
        |it: &&Difference| matches!(it, Difference::MissingMapping { source, .. } if *source == function(0, 7));
    assert_eq!(found.iter().find(of_whole), None, "{whole:?} is read to its end");
}

/// What is left in an entry that lets nothing through is excused where its device is quarantined: by whichever of its source-ids,
/// and neither beside it nor for the same source-id in another segment.
#[test]
fn what_is_left_in_entries_is_excused_for_quarantine_alone() {
    let machine = machine(two_segments());
    machine.add_bridge(function(0, 0x1e), BridgeKind::Conventional, 3..=3);
    let quarantined = function(3, 1);
    machine.add_express(quarantined);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), quarantined);
    let elsewhere = SourceId::new(1, 3, 2, 0).unwrap();
    let other = cell_with(&iommu, region(INPUT, MEMORY_B, PAGE, RW), elsewhere);
    machine.set_config(quarantined, DEVICE_STATUS, PENDING);
    iommu.release(quarantined).unwrap_err();
    // SAFETY: registers of the machine's units.
    let roots = machine.windows().iter().map(|unit| unsafe { machine.read64(mapped(*unit), 0x20) }).collect::<Vec<_>>();
    let entry = |unit: usize, bus: u64, device: u64| {
        let table = peek(&machine, roots[unit] + bus * 16) & !0xfff;
        PhysAddr::new(table + device * 8 * 16)
    };
    for own in [entry(0, 3, 1), entry(0, 0, 0x1e)] {
        assert_ne!((peek(&machine, own.as_u64()), peek(&machine, own.as_u64() + 8)), (0, 0), "its rest stays");
    }
    assert_nothing_differs(&iommu, "one is quarantined");
    let bits = MEMORY_A;
    let left = [(0, entry(0, 0, 9)), (0, entry(0, 3, 2)), (1, entry(1, 3, 1))];
    left.iter().for_each(|(_, at)| machine.flip(*at, bits));
    let expected = left.map(|(unit, at)| Difference::IgnoredBits { unit: machine.windows()[unit], at, bits });
    assert_eq!(audit(&iommu), expected);
    left.iter().for_each(|(_, at)| machine.flip(*at, bits));
    assert_nothing_differs(&iommu, "as it was");
    iommu.destroy_cell(other).unwrap();
    machine.set_config(quarantined, DEVICE_STATUS, 0);
    iommu.destroy_cell(cell).unwrap();
    assert_nothing_differs(&iommu, "nobody has a cell");
}

/// A run that leads to registers of two units is reported for each, and so is each unit that does not translate.
#[test]
fn each_unit_is_reported_by_its_own_registers() {
    let machine = machine([UnitConfig::client(), UnitConfig::client().in_segment(1)]);
    let iommu = enabled(&machine);
    let source = function(0, 3);
    cell_with(&iommu, region(INPUT, MEMORY_A, 2 * LARGE, RW), source);
    let other = SourceId::new(1, 0, 3, 0).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY_B, PAGE, RW), other);
    let units = [machine.windows()[0], machine.windows()[1]];
    let bases = units.map(|unit| unit.base.as_u64());
    assert_eq!(bases[0] / LARGE, bases[1] / LARGE, "one large page");
    machine.flip(entry_over(&machine, 3, INPUT, 2), MEMORY_A ^ bases[0] & !(LARGE - 1));
    let mut found = audit(&iommu);
    found.retain(|it| matches!(it, Difference::ReachesRegisters { .. }));
    let expected = units.map(|unit| {
        let memory = outputs(unit.base.as_u64(), unit.bytes.into());
        Difference::ReachesRegisters { source, unit, memory }
    });
    assert_eq!(found, expected);
    machine.flip(entry_over(&machine, 3, INPUT, 2), MEMORY_A ^ bases[0] & !(LARGE - 1));
    assert_nothing_differs(&iommu, "flipped back");
    // The first does not respond; the second has another root table, which leads nowhere.
    machine.break_unit(0, Defect::AllOnes);
    // SAFETY: a register of the machine's second unit.
    let root = unsafe { machine.read64(mapped(units[1]), 0x20) };
    // SAFETY: nothing that the test relies on hangs on what the unit does then.
    unsafe { machine.write64(mapped(units[1]), 0x20, root ^ 1 << 38) };
    let found = audit(&iommu);
    let expected = Some(PhysAddr::new(root));
    for expected in [
        Difference::Unresponsive { unit: units[0] },
        Difference::RootTable { unit: units[1], found: root ^ 1 << 38, expected },
        Difference::Blocked { source: other, cell },
    ] {
        assert!(found.contains(&expected), "{expected} is missing in {found:?}");
    }
    machine.abandon();
}

/// T3: an entry with another table, another domain-id and device-TLBs let through: each is reported.
#[test]
fn all_that_is_wrong_with_one_entry_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    cell_with(&iommu, region(INPUT, MEMORY_B, PAGE, RW), function(0, 4));
    let [own, other] = [3, 4].map(|device| context(&machine, device));
    let difference = |half: u64| peek(&machine, (own + half).as_u64()) ^ peek(&machine, (other + half).as_u64());
    let (lower, upper) = (difference(0), difference(8));
    machine.flip(own, lower | 0b01 << 2);
    machine.flip(own + 8, upper);
    let found = audit(&iommu);
    let source = function(0, 3);
    assert!(
        found.iter().any(|it| matches!(it, Difference::PageTable { source: it, .. } if *it == source)),
        "{found:?}"
    );
    assert!(found.iter().any(|it| matches!(it, Difference::DomainId { source: it, .. } if *it == source)), "{found:?}");
    assert!(found.contains(&Difference::DeviceTlb { source, found: true }), "{found:?}");
    machine.abandon();
}

/// T3: all source-ids of nobody together have one bound: the audit reads no more tables for them than the driver made,
/// however many they are and wherever they lead.
#[test]
fn strangers_have_one_bound_together() {
    for is_endless in [false, true] {
        let machine = machine([UnitConfig::client()]);
        let iommu = enabled(&machine);
        cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
        iommu.map(iommu.device_info(function(0, 3)).unwrap().cell.unwrap(), region(0, MEMORY_B, PAGE, RW)).unwrap();
        let of_one = iommu.audit(|_| ()).unwrap().tables;
        assert!(of_one > 4, "{of_one}");
        // One that is not the first device's leads back to itself, if it is to have no end.
        let root = if is_endless {
            let table = machine.allocate(0).unwrap();
            (0..512).for_each(|index| machine.flip(table + index * 8, table.as_u64() | 3));
            table.as_u64()
        } else {
            peek(&machine, context(&machine, 3).as_u64()) & !0xfff
        };
        for stranger in 8..12 {
            machine.flip(context(&machine, stranger), root | 1);
            machine.flip(context(&machine, stranger) + 8, peek(&machine, context(&machine, 3).as_u64() + 8));
        }
        let mut found = Vec::new();
        let read = iommu.audit(|difference| found.push(difference)).unwrap().tables;
        assert_eq!(read, 2 * of_one, "endless: {is_endless}");
        for source in (9..12).map(|stranger| function(0, stranger)) {
            let cut_short = found.iter().filter(|it| **it == Difference::TooManyTables { source }).count();
            assert_eq!(cut_short, 1, "{source}, endless: {is_endless}");
        }
        machine.abandon();
    }
}

/// T3: the numbers of phantom functions that a device uses by now, or does not use any more, are reported one by one.
#[test]
fn each_source_id_that_configuration_space_has_otherwise_is_reported() {
    const CONTROL: u16 = 0x68;
    const PHANTOM: u32 = 1 << 9;
    for is_on in [false, true] {
        let machine = machine([UnitConfig::client()]);
        let device = function(0, 3);
        machine.add_express(device);
        // Two bits of the function number are tags.
        machine.set_config(device, 0x64, 2 << 3);
        machine.set_config(device, CONTROL, if is_on { PHANTOM } else { 0 });
        let iommu = enabled(&machine);
        cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), device);
        assert_nothing_differs(&iommu, "before");
        machine.set_config(device, CONTROL, if is_on { 0 } else { PHANTOM });
        let other = |function| SourceId::new(0, 0, 3, function).unwrap();
        let expected = [2, 4, 6].map(|function| Difference::OtherSourceId {
            source: device,
            id: other(function),
            noted: is_on,
            owner: None,
        });
        assert_eq!(audit(&iommu), expected);
    }
}
