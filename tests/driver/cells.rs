use cofferdam::addr::Rights;
use cofferdam::iommu::{Error, MapError, Options, Owner, Refusal};
use cofferdam::{CellConfig, CellId, Coherency};
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::cost::{Calls, Cost, cost};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{endpoint, of_machine};
use cofferdam_support::watched::{Call, Watched};

const RW: Rights = Rights::all();
const MEMORY_A: u64 = 0x6000_0000;
const MEMORY_B: u64 = 0x7000_0000;
const INPUT: u64 = 0x4000_0000;

#[test]
fn each_device_reaches_its_own_cell_and_nothing_else() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (a, b) = (function(0, 3), function(0, 4));
        cell_with(&iommu, region(INPUT, MEMORY_A, 2 * LARGE, RW), a);
        cell_with(&iommu, region(INPUT, MEMORY_B, 2 * LARGE, RW), b);
        for (device, own, other) in [(a, MEMORY_A, MEMORY_B), (b, MEMORY_B, MEMORY_A)] {
            for offset in [0, PAGE, 2 * LARGE - 8] {
                poke(&machine, own + offset, own + offset);
                assert_eq!(read(&machine, device, INPUT + offset), Some(own + offset), "{name}");
                assert!(write(&machine, device, INPUT + offset, !own));
                assert_eq!((peek(&machine, own + offset), peek(&machine, other + offset) == !own), (!own, false));
            }
            for at in [INPUT - 8, INPUT + 2 * LARGE, 0, MEMORY_A, MEMORY_B] {
                assert_eq!(read(&machine, device, at), None, "{name}: {at:#x}");
                assert!(!write(&machine, device, at, 0), "{name}: {at:#x}");
            }
        }
        assert_eq!(read(&machine, function(0, 5), INPUT), None, "{name}: nobody's device");
    }
}

#[test]
fn a_unit_behind_write_buffers_sees_each_change() {
    let machine = machine([UnitConfig { cap: UnitConfig::client().cap | 1 << 4, ..UnitConfig::client() }]);
    let iommu = enabled(&machine);
    let (a, b) = (function(0, 3), function(1, 4));
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), a);
    machine.check();
    assert!(write(&machine, a, INPUT, 1));
    iommu.map(cell, region(INPUT + LARGE, MEMORY_B, PAGE, RW)).unwrap();
    machine.check();
    assert!(write(&machine, a, INPUT + LARGE, 1));
    iommu.assign(b, cell).unwrap();
    assert!(write(&machine, b, INPUT + LARGE, 1));
    iommu.unmap(cell, range(INPUT + LARGE, PAGE)).unwrap();
    assert!(!write(&machine, a, INPUT + LARGE, 1));
}

#[test]
fn rights_are_those_of_the_region() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, Rights::READ), device);
        iommu.map(cell, region(INPUT + LARGE, MEMORY_A + LARGE, PAGE, Rights::WRITE)).unwrap();
        assert!(read(&machine, device, INPUT).is_some() && !write(&machine, device, INPUT, 1), "{name}");
        assert!(read(&machine, device, INPUT + LARGE).is_none() && write(&machine, device, INPUT + LARGE, 1), "{name}");
    }
}

#[test]
fn rights_are_taken_away_and_given_at_once() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY_A, 2 * LARGE, RW), device);
        let part = range(INPUT + LARGE - PAGE, 2 * PAGE);
        let can = |at| (read(&machine, device, at).is_some(), write(&machine, device, at, 1));
        assert_eq!(can(INPUT + LARGE), (true, true), "{name}");
        iommu.protect(cell, part, Rights::READ).unwrap();
        for (at, expected) in [(0, true), (LARGE - PAGE, false), (LARGE, false), (LARGE + PAGE, true)] {
            assert_eq!(can(INPUT + at), (true, expected), "{name}: {at:#x}");
        }
        iommu.protect(cell, part, RW).unwrap();
        assert_eq!(can(INPUT + LARGE), (true, true), "{name}: no stale denial");
        let nothing = Error::Map(cofferdam::iommu::MapError::NoRights(part));
        assert_eq!(iommu.protect(cell, part, Rights::empty()), Err(nothing));
        let beyond = cofferdam::addr::Iova::new(INPUT + 2 * LARGE);
        assert_eq!(iommu.protect(cell, range(INPUT, 3 * LARGE), RW), Err(Error::NotGranted(beyond)));
    }
}

#[test]
fn what_is_unmapped_is_gone_and_what_stays_stays() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY_A, 2 * LARGE, RW), device);
        let hole = INPUT + LARGE - PAGE;
        assert!(write(&machine, device, hole, 1) && write(&machine, device, hole + PAGE, 1));
        iommu.unmap(cell, range(hole, 2 * PAGE)).unwrap();
        for at in [hole, hole + PAGE, hole + 2 * PAGE - 8] {
            assert_eq!(read(&machine, device, at), None, "{name}: {at:#x}");
        }
        for at in [INPUT, hole - 8, hole + 2 * PAGE, INPUT + 2 * LARGE - 8] {
            poke(&machine, at - INPUT + MEMORY_A, at);
            assert_eq!(read(&machine, device, at), Some(at), "{name}: {at:#x}");
        }
        iommu.map(cell, region(hole, MEMORY_B, PAGE, RW)).unwrap();
        poke(&machine, MEMORY_B, 0xb);
        assert_eq!((read(&machine, device, hole), read(&machine, device, hole + PAGE)), (Some(0xb), None), "{name}");
    }
}

#[test]
fn a_page_used_then_remapped_is_the_new_one() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), device);
        assert!(write(&machine, device, INPUT, 1));
        iommu.unmap(cell, range(INPUT, LARGE)).unwrap();
        iommu.map(cell, region(INPUT, MEMORY_B, PAGE, RW)).unwrap();
        assert!(write(&machine, device, INPUT, 2));
        assert_eq!((peek(&machine, MEMORY_A), peek(&machine, MEMORY_B)), (1, 2), "{name}");
        assert_eq!(read(&machine, device, INPUT + PAGE), None, "{name}: the rest of the large page is gone");
    }
}

#[test]
fn a_device_that_moves_leaves_its_old_cell_behind() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let (a, b) = (function(0, 3), function(0, 4));
        cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), a);
        let cell_b = cell_with(&iommu, region(INPUT, MEMORY_B, LARGE, RW), b);
        assert!(write(&machine, a, INPUT, 1));
        iommu.release(a).unwrap();
        assert!(!write(&machine, a, INPUT, 2), "{name}");
        iommu.assign(a, cell_b).unwrap();
        assert!(write(&machine, a, INPUT, 3) && write(&machine, b, INPUT + 8, 4), "{name}");
        assert_eq!((peek(&machine, MEMORY_A), peek(&machine, MEMORY_B), peek(&machine, MEMORY_B + 8)), (1, 3, 4));
    }
}

#[test]
fn destroying_the_cells_gives_every_page_table_back() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let before = machine.frames_in_use();
        let (a, b) = (function(0, 3), function(2, 4));
        let cell = cell_with(&iommu, region(INPUT + PAGE, MEMORY_A, LARGE, RW), a);
        iommu.assign(b, cell).unwrap();
        assert_eq!(iommu.statistics().table_frames as usize, machine.frames_in_use(), "{name}");
        iommu.destroy_cell(cell).unwrap();
        assert!(read(&machine, a, INPUT + PAGE).is_none() && read(&machine, b, INPUT + PAGE).is_none(), "{name}");
        assert_eq!(machine.frames_in_use(), before + 2, "{name}: two context tables stay");
        assert_eq!(iommu.statistics().table_frames as usize, machine.frames_in_use(), "{name}");
        assert_eq!(iommu.destroy_cell(cell), Err(Error::NoSuchCell(cell)));
        let next = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_ne!(next, cell, "a handle never names another cell");
    }
}

#[test]
fn devices_that_need_the_same_share_a_table_and_others_do_not() {
    let graphics = UnitConfig::client_graphics().serving(&[1]);
    let machine = machine([graphics, UnitConfig::client()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), function(0, 3));
    let one = machine.frames_in_use();
    assert_eq!(iommu.coherency(cell), Ok(Coherency::Enforced));
    iommu.assign(function(0, 4), cell).unwrap();
    assert_eq!(machine.frames_in_use(), one, "the same table, the same context table");

    iommu.assign(function(1, 0), cell).unwrap();
    assert!(machine.frames_in_use() > one + 1, "a table of its own");
    assert_eq!(iommu.coherency(cell), Ok(Coherency::NotEnforced), "one table in use does not enforce snooping");
    iommu.map(cell, region(INPUT + LARGE, MEMORY_B, PAGE, RW)).unwrap();
    for device in [function(0, 3), function(0, 4), function(1, 0)] {
        assert!(write(&machine, device, INPUT, 1) && write(&machine, device, INPUT + LARGE, 1), "{device}");
    }
    iommu.unmap(cell, range(INPUT + LARGE, PAGE)).unwrap();
    for device in [function(0, 3), function(0, 4), function(1, 0)] {
        assert!(write(&machine, device, INPUT, 1) && !write(&machine, device, INPUT + LARGE, 1), "{device}");
    }

    iommu.release(function(1, 0)).unwrap();
    assert_eq!(iommu.coherency(cell), Ok(Coherency::Enforced), "as if it had never been there");
    assert_eq!(machine.frames_in_use(), one + 1, "except for the context table of its bus");
}

#[test]
fn a_new_mapping_costs_nothing_and_an_unmapping_one_batch() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), function(0, 3));
    let map = || iommu.map(cell, region(INPUT + LARGE, MEMORY_B, 64 * PAGE, RW)).unwrap();
    assert_eq!(cost(&iommu, map), Cost::NOTHING);
    assert_eq!(cost(&iommu, || iommu.unmap(cell, range(INPUT + LARGE, 64 * PAGE)).unwrap()), Cost::batch(2));
}

#[test]
fn with_caching_mode_a_mapping_costs_one_batch_a_call() {
    let machine = machine([UnitConfig::qemu_10_0(true)]);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), function(0, 3));
    let map = || iommu.map(cell, region(INPUT + LARGE + PAGE, MEMORY_B, 100 * PAGE, RW)).unwrap();
    assert_eq!(cost(&iommu, map), Cost::batch(2));
}

#[test]
fn what_may_not_be_is_refused_by_name() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let device = function(0, 3);
    let safe = iommu.create_cell(CellConfig::default()).unwrap();
    let refused = Error::Refused { device, reason: Refusal::UnsafeInterrupts };
    assert_eq!(iommu.assign(device, safe), Err(refused));
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, LARGE, RW), device);
    assert_eq!(iommu.assign(device, cell), Err(Error::Busy { device, cell }));
    assert_eq!(iommu.release(function(0, 4)), Err(Error::NotAssigned(function(0, 4))));
    let elsewhere = cofferdam::addr::SourceId::new(7, 0, 0, 0).unwrap();
    assert_eq!(iommu.assign(elsewhere, cell), Err(Error::NoSuchDevice(elsewhere)));
    let granted = region(INPUT, MEMORY_A, LARGE, RW);
    assert_eq!(iommu.map(cell, region(INPUT + PAGE, MEMORY_B, PAGE, RW)), Err(Error::Overlap(granted)));
    assert_eq!(iommu.unmap(cell, range(INPUT, 1)), Err(Error::Misaligned(range(INPUT, 1))));
    assert_eq!(iommu.unmap(cell, range(0, PAGE)), Err(Error::NotGranted(cofferdam::addr::Iova::new(0))));
}

/// A cell without a device is refused what no device of it could ever have.
#[test]
fn what_no_page_can_be_is_refused_before_there_is_a_device() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    let [odd, interrupts, none] = [
        region(INPUT, MEMORY_A + 0x800, PAGE, RW),
        region(INPUT, 0xfeef_f000, PAGE, RW),
        region(INPUT, MEMORY_A, PAGE, Rights::empty()),
    ];
    assert_eq!(iommu.map(cell, odd).map(drop), Err(MapError::Misaligned(odd).into()));
    assert_eq!(iommu.map(cell, interrupts).map(drop), Err(MapError::OutputInterrupts(interrupts).into()));
    assert_eq!(iommu.map(cell, none).map(drop), Err(MapError::NoRights(none.input).into()));
    iommu.map(cell, region(INPUT, MEMORY_A, 2 * PAGE, RW)).unwrap();
    for part in [range(INPUT + 0x800, PAGE), range(INPUT, 0x1800)] {
        assert_eq!(iommu.protect(cell, part, Rights::READ).map(drop), Err(Error::Misaligned(part)));
        assert_eq!(iommu.unmap(cell, part).map(drop), Err(Error::Misaligned(part)));
    }
}

#[test]
fn reserved_memory_follows_its_device_alone() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let reserved = 0x7800_0000;
        let iommu = enabled_with_reserved(&machine, &[(reserved, reserved + PAGE - 1, 3)]);
        let (usb, other) = (function(0, 3), function(0, 4));
        assert!(!write(&machine, usb, reserved, 1), "{name}: blocked without a cell");
        let a = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), usb);
        iommu.assign(other, a).unwrap();
        assert!(write(&machine, usb, reserved, 2) && write(&machine, usb, INPUT, 3), "{name}");
        assert!(!write(&machine, other, reserved, 4) && write(&machine, other, INPUT, 5), "{name}: its own table");
        assert_eq!(peek(&machine, reserved), 2);

        let there = region(reserved, reserved, PAGE, Rights::READ);
        let owned = region(reserved, reserved, PAGE, RW);
        assert_eq!(iommu.map(a, there), Err(Error::Reserved(owned)), "{name}");
        iommu.release(usb).unwrap();
        assert!(!write(&machine, usb, reserved, 6), "{name}");
        iommu.map(a, there).unwrap();
        let refused = Error::Refused { device: usb, reason: Refusal::ReservedMemory(owned) };
        assert_eq!(iommu.assign(usb, a), Err(refused), "{name}");

        let b = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(b, region(INPUT, MEMORY_B, PAGE, RW)).unwrap();
        let owned = Refusal::Owned { memory: outputs(reserved, PAGE), owner: Owner::Cell(a) };
        assert_eq!(iommu.assign(usb, b), Err(Error::Refused { device: usb, reason: owned }), "{name}");
        iommu.unmap(a, there.input).unwrap();
        iommu.assign(usb, b).unwrap();
        assert!(write(&machine, usb, reserved, 7) && peek(&machine, reserved) == 7, "{name}: in the next cell, too");
        iommu.unmap(b, range(INPUT, PAGE)).unwrap();
        assert!(write(&machine, usb, reserved, 8), "{name}");
    }
}

#[test]
fn memory_is_changed_without_a_look_at_configuration_space() {
    let machine = machine([UnitConfig::server()]);
    let reserved = 0x7800_0000;
    let table = of_machine(&machine, &[]).rmrr(0, reserved, reserved + PAGE - 1, &[endpoint(3, 0)]).table();
    let reads = Calls::new(Call::ConfigRead);
    let hal = Watched::new(&machine, |call, _: &Machine| reads.look(call));
    let iommu = enabled_front(&hal, &table, Options::default());
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    for device in [3, 4] {
        iommu.assign(function(0, device), cell).unwrap();
    }
    assert!(reads.take() > 0, "which memory is reserved for a device may hang on what it is");
    iommu.map(cell, region(INPUT, MEMORY_A, LARGE, RW)).unwrap();
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
    let owned = region(reserved, reserved, PAGE, RW);
    assert_eq!(iommu.map(cell, owned), Err(Error::Reserved(owned)), "it was noted once and for all");
    assert_eq!(reads.take(), 0);
}

#[test]
fn only_a_named_device_is_sure_of_its_unit_in_a_broken_table() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    // A DRHD too short to be read.
    let table = of_machine(&machine, &[&[1]]).structure(0, &[0; 4]).table();
    let mut findings = Vec::new();
    let options = Options { accept_unblocked: true, ..Options::default() };
    let iommu = front_with_findings(&machine, &table, options, |it| findings.push(it)).unwrap();
    assert_eq!((findings.len(), iommu.topology().is_complete()), (1, false));
    assert!(iommu.enable().unwrap().table_incomplete);
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(1, 0));
    let device = function(0, 0);
    let refused = Error::Refused { device, reason: Refusal::UncertainUnit };
    assert_eq!(iommu.assign(device, cell), Err(refused));
    assert!(write(&machine, function(1, 0), INPUT, 1) && !write(&machine, device, INPUT, 1));
}

#[test]
fn a_device_behind_a_bridge_comes_and_goes_with_all_its_ids() {
    for (kind, alias) in [(BridgeKind::ExpressToPci, function(3, 0)), (BridgeKind::Conventional, function(0, 0x1e))] {
        for (name, unit) in presets() {
            let machine = machine([unit]);
            machine.add_bridge(function(0, 0x1e), kind, 3..=4);
            let iommu = enabled(&machine);
            let (device, neighbour) = (function(3, 5), function(3, 6));
            let cell = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), device);
            assert!(write(&machine, device, INPUT, 1), "{name}: its requests come as {alias}");
            let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            let refused = Error::Refused { device: neighbour, reason: Refusal::SharesRequester(device) };
            assert_eq!(iommu.assign(neighbour, other), Err(refused), "{name}: not to be told apart");
            iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
            assert!(!write(&machine, device, INPUT, 2), "{name}");
            iommu.faults(|fault| assert_eq!(fault.source, alias));
            iommu.map(cell, region(INPUT, MEMORY_A, PAGE, RW)).unwrap();
            iommu.release(device).unwrap();
            assert!(!write(&machine, device, INPUT, 3), "{name}");
            iommu.assign(neighbour, other).unwrap();
        }
    }
}

/// The id of a cell that was destroyed names no cell, in a call that changes something or in one that asks, though another cell
/// has its place by now.
#[test]
fn the_id_of_a_destroyed_cell_names_no_other_cell() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let gone = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    iommu.destroy_cell(gone).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, PAGE, RW), function(0, 3));
    assert_ne!(cell, gone);
    assert_eq!(cell.to_string(), gone.to_string(), "it has the same place");
    let none = Error::NoSuchCell(gone);
    let more = region(INPUT + LARGE, MEMORY_A + LARGE, PAGE, RW);
    let changes = [
        iommu.map(gone, more),
        iommu.map_shared(gone, more),
        iommu.unmap(gone, range(INPUT, PAGE)),
        iommu.protect(gone, range(INPUT, PAGE), Rights::READ),
        iommu.assign(function(0, 4), gone),
        iommu.destroy_cell(gone),
    ];
    assert_eq!(changes.map(|result| result.map(drop)), [Err(none); 6]);
    assert_eq!(iommu.regions(gone, |region| panic!("{region}")), Err(none));
    assert_eq!(iommu.input_ranges(gone, |range| panic!("{range}")), Err(none));
    assert_eq!(iommu.coherency(gone), Err(none));
    assert!(write(&machine, function(0, 3), INPUT, 1));
}

/// "The handle of a destroyed cell never names another", nor does what is said of a change or of a cell by it, whichever came first.
#[test]
fn the_handle_of_a_cell_that_is_gone_names_no_later_one() {
    let machine = machine([UnitConfig::first_generation()]);
    let iommu = enabled(&machine);
    let (device, neighbour) = (function(0, 2), function(0, 3));
    let [gone, other] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    let before = iommu.assign(device, gone).unwrap();
    assert_eq!(iommu.coherency_change(&before, gone), Ok(Some(Coherency::NotEnforced)));
    iommu.destroy_cell(gone).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(cell.to_string(), gone.to_string(), "it has the same place");
    iommu.map_shared(cell, region(INPUT, MEMORY_A, PAGE, RW)).unwrap();
    let after = iommu.assign(neighbour, cell).unwrap();
    let of = |committed, cell| iommu.coherency_change(committed, cell);
    assert_eq!((of(&before, cell), of(&after, cell)), (Ok(None), Ok(Some(Coherency::NotEnforced))));
    assert_eq!((of(&before, other), of(&after, other)), (Ok(None), Ok(None)));
    assert_eq!([cell, other].map(|cell| iommu.shares(cell)), [Ok(true), Ok(false)]);
    let none = Error::NoSuchCell(gone);
    assert_eq!((of(&before, gone), of(&after, gone)), (Err(none), Err(none)));
    assert_eq!((iommu.shares(gone), iommu.allows_unsafe_interrupts(gone)), (Err(none), Err(none)));
}

/// A cell is known by the caller's number, in its handle and in texts; the number alone makes nothing a cell.
#[test]
fn a_cell_bears_the_tag_of_its_caller() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let [plain, tagged] = [0, 300].map(|tag| iommu.create_cell(CellConfig { tag, ..CellConfig::DEFAULT }).unwrap());
    assert_eq!([plain, tagged].map(CellId::tag), [0, 300]);
    assert_eq!([plain, tagged].map(|cell| cell.to_string()), ["cell 0", "cell 1 (tag 300)"]);
    let mut found = Vec::new();
    iommu.map(tagged, region(INPUT, MEMORY_A, PAGE, RW)).unwrap();
    iommu.regions(tagged, |region| found.push(region)).unwrap();
    assert_eq!(found, [region(INPUT, MEMORY_A, PAGE, RW)]);
    let other = CellId::from_bits(tagged.to_bits() ^ 1 << 48).unwrap();
    assert_eq!(iommu.regions(other, |region| panic!("{region}")), Err(Error::NoSuchCell(other)));
    assert_eq!(iommu.destroy_cell(other), Err(Error::NoSuchCell(other)));
}

/// Whatever of a range is granted is taken away, and nothing else, in whatever pieces that is.
#[test]
fn any_part_of_a_range_is_unmapped() {
    const PAGES: u64 = 4;
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let device = function(0, 3);
    let ranges = (0..PAGES).flat_map(|first| (first..PAGES).map(move |last| (first, last)));
    for (first, last) in ranges {
        for granted in 0_u64..1 << PAGES {
            let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
            let is_granted = |page: &u64| granted >> page & 1 == 1;
            for page in (0..PAGES).filter(is_granted) {
                // Neighbours are no one region: each lies elsewhere.
                iommu.map(cell, region(page * PAGE, MEMORY_A + (PAGES - page) * PAGE, PAGE, RW)).unwrap();
            }
            iommu.assign(device, cell).unwrap();
            iommu.unmap_any(cell, range(first * PAGE, (last - first + 1) * PAGE)).unwrap();
            let reached = (0..PAGES).filter(|page| write(&machine, device, page * PAGE, 1));
            let left = (0..PAGES).filter(is_granted).filter(|page| !(first..=last).contains(page));
            assert!(reached.eq(left), "{granted:#b}, {first} to {last}");
            iommu.destroy_cell(cell).unwrap();
        }
    }
    // The root cell has again what another loses.
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY_B, MEMORY_B, 2 * PAGE, RW)).unwrap();
    iommu.assign(function(0, 4), root).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(0, MEMORY_B, PAGE, RW)).unwrap();
    assert!(!write(&machine, function(0, 4), MEMORY_B, 1));
    iommu.unmap_any(cell, range(0, 8 * PAGE)).unwrap();
    assert!(write(&machine, function(0, 4), MEMORY_B, 1));
    // The middle of a region, and what is no range of pages.
    let cell = cell_with(&iommu, region(0, MEMORY_A, 3 * PAGE, RW), device);
    iommu.unmap_any(cell, range(PAGE, PAGE)).unwrap();
    assert_eq!([0, 1, 2].map(|page| write(&machine, device, page * PAGE, 1)), [true, false, true]);
    assert!(matches!(iommu.unmap_any(cell, range(1, PAGE)), Err(Error::Misaligned(_))));
    machine.check();
}
