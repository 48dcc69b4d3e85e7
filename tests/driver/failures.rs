use cofferdam::CellId;
use cofferdam::addr::{Iova, Rights};
use cofferdam::error::UnitError;
use cofferdam::hal::NoFrame;
use cofferdam::iommu::{Committed, DeviceConfig, Difference, Error, Options};
use cofferdam::limits::{Full, Limits};
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::cost::cost;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// Tries `call` with ever more frames until it succeeds; each failure must leave frames and statistics as they were.
fn with_ever_more_frames<T>(
    machine: &Machine,
    iommu: &Front<&Machine>,
    kept: usize,
    mut call: impl FnMut() -> Result<T, Error>,
) -> u64 {
    let (frames, before) = (machine.frames_in_use(), iommu.statistics());
    for count in 0.. {
        machine.allow_allocations(Some(count));
        let result = call();
        machine.allow_allocations(None);
        match result {
            Ok(_) => return count,
            Err(Error::NoFrame(_) | Error::Unit(UnitError::NoFrame { .. })) => {
                assert!(machine.frames_in_use() <= frames + kept, "{count}: frames leak");
                assert_eq!(iommu.statistics().doorbells, before.doorbells, "{count}");
            }
            Err(error) => panic!("{count}: {error}"),
        }
    }
    unreachable!()
}

#[test]
fn running_out_of_frames_changes_nothing() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT + PAGE, MEMORY + PAGE, 2 * LARGE, RW)).unwrap();
        // An empty context table may stay: it blocks as its absence does.
        let frames = with_ever_more_frames(&machine, &iommu, 1, || {
            assert_eq!(read(&machine, device, INPUT + PAGE), None, "{name}");
            iommu.assign(device, cell)
        });
        assert!(frames > 3, "{name}: {frames}");
        assert!(write(&machine, device, INPUT + PAGE, 1), "{name}");

        let more = region(INPUT + 0x4000_0000, MEMORY, PAGE, RW);
        let frames = with_ever_more_frames(&machine, &iommu, 0, || {
            assert_eq!(read(&machine, device, INPUT + 0x4000_0000), None, "{name}");
            iommu.map(cell, more)
        });
        assert_eq!(frames, 2, "{name}");

        let hole = INPUT + LARGE + PAGE;
        with_ever_more_frames(&machine, &iommu, 0, || {
            assert!(write(&machine, device, hole, 1), "{name}: still there");
            iommu.unmap(cell, range(hole, PAGE))
        });
        assert_eq!(read(&machine, device, hole), None, "{name}");
    }
}

/// T4: a cell of several tables, and a change that finds frames for some of them: those are given back, whichever of
/// the tables it is that finds none.
#[test]
fn a_change_that_is_refused_gives_back_the_frames_of_all_tables() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client().serving(&[2]), UnitConfig::server()];
    let machine = machine(units);
    let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 4 * LARGE, RW), function(1, 3));
    let tables = iommu.statistics().table_frames;
    for bus in [2, 0] {
        iommu.assign(function(bus, 3), cell).unwrap();
    }
    assert!(iommu.statistics().table_frames >= tables + 6, "three tables");
    let at = |n: u64| INPUT + n * LARGE;
    type Try<'t> = (&'t str, &'t dyn Fn() -> Result<Committed, Error>);
    let far = region(INPUT + (1 << 30), MEMORY + 8 * LARGE, PAGE, RW);
    let tries: [Try<'_>; 5] = [
        ("map", &|| iommu.map(cell, far)),
        ("unmap", &|| iommu.unmap(cell, range(at(0) + PAGE, PAGE))),
        ("protect", &|| iommu.protect(cell, range(at(1) + PAGE, PAGE), Rights::READ)),
        ("several", &|| {
            let mut change = iommu.change();
            change.unmap(cell, range(at(2) + PAGE, PAGE)).protect(cell, range(at(3) + PAGE, PAGE), Rights::READ);
            change.commit()
        }),
        ("a device more, of a fourth table", &|| {
            let mut change = iommu.change();
            change
                .release(function(1, 3))
                .assign(function(1, 4), cell)
                .unmap(cell, range(far.input.start().as_u64(), PAGE));
            change.commit()
        }),
    ];
    for (name, change) in tries {
        // One of the units has no large pages, which would be split.
        let least = if name.starts_with("a device") { 0 } else { 2 };
        let frames = with_ever_more_frames(&machine, &iommu, 0, change);
        assert!(frames >= least, "{name}: {frames}");
    }
    iommu.destroy_cell(cell).unwrap();
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
}

#[test]
fn a_queue_that_dies_is_reported_and_no_frame_is_freed() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let device = function(0, 3);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), device);
    let frames = machine.frames_in_use();
    machine.break_unit(0, Defect::QueueDead);
    let error = iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err();
    let unit = machine.windows()[0];
    assert!(matches!(error, Error::Unit(UnitError::Timeout { unit: named, .. }) if named == unit), "{error}");
    assert_eq!(machine.frames_in_use(), frames, "the unit may still walk them");
    let failed = Err(Error::Unit(UnitError::Failed { unit }));
    assert_eq!(iommu.release(device), failed);
    assert_eq!(iommu.destroy_cell(cell), failed, "the cell stays");
    assert_eq!(iommu.assign(function(0, 4), cell), failed);
    assert_eq!(machine.frames_in_use(), frames);
    assert_eq!(read(&machine, function(0, 4), INPUT), None);
}

/// Of two units that walk the same tables one dies: whichever that is, what it may still walk is not freed, also when the other one
/// confirms all of a later change.
#[test]
fn what_one_of_two_units_may_walk_is_not_freed() {
    for dead in 0..2 {
        let machine = machine([UnitConfig::server().serving(&[7]), UnitConfig::server()]);
        let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
        iommu.enable().unwrap();
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), function(7, 3));
        iommu.assign(function(0, 3), cell).unwrap();
        let frames = machine.frames_in_use();
        machine.break_unit(dead, Defect::QueueDead);
        iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err();
        assert_eq!(machine.frames_in_use(), frames);
        let alive = if dead == 0 { 0 } else { 7 };
        iommu.assign(function(alive, 4), cell).unwrap();
        assert_eq!(machine.frames_in_use(), frames, "unit {dead} may still walk them");
        iommu.release(function(alive, 4)).unwrap();
        assert_eq!(machine.frames_in_use(), frames, "unit {dead} may still walk them");
        assert!(machine.abandon().iter().all(|violation| violation.rule != "R31"));
    }
}

#[test]
fn an_error_of_the_queue_fails_its_batch_alone_wherever_it_is() {
    // The batch is an invalidation and a wait; before it came a wait, and two invalidations and a wait.
    for (bad, at) in [(0, 4), (1, 5)] {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 8 * PAGE, RW), device);
        assert!(write(&machine, device, INPUT, 1));
        let frames = machine.frames_in_use();
        machine.break_unit(0, Defect::QueueErrorAfter(bad));
        match iommu.unmap(cell, range(INPUT, 8 * PAGE)).unwrap_err() {
            Error::Unit(UnitError::Queue { unit, register: "FSTS_REG", bit: "IQE", slot, .. }) => {
                assert_eq!((unit, slot), (machine.windows()[0], at));
            }
            other => panic!("{other}"),
        }
        assert_eq!(machine.frames_in_use(), frames, "what may be cached is not freed");
        machine.mend_unit(0);
        iommu.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW)).unwrap();
        iommu.unmap(cell, range(INPUT + LARGE, PAGE)).unwrap();
        assert_eq!(read(&machine, device, INPUT + LARGE), None, "the unit goes on");
        iommu.release(device).unwrap();
        assert_eq!(read(&machine, device, INPUT), None);
    }
}

#[test]
fn a_release_that_the_queue_refused_can_be_repeated() {
    for bad in 0..3 {
        let machine = machine([UnitConfig::server()]);
        let iommu = enabled(&machine);
        let device = function(0, 3);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
        assert!(write(&machine, device, INPUT, 1));
        machine.break_unit(0, Defect::QueueErrorAfter(bad));
        assert!(iommu.release(device).is_err());
        assert_eq!(iommu.assign(device, cell), Err(Error::Busy { device, cell }), "still listed");
        machine.mend_unit(0);
        iommu.release(device).unwrap();
        assert_eq!(read(&machine, device, INPUT), None);
    }
}

/// A release whose IOTLB invalidation was refused leaves pages and a domain-id cached. Whatever comes next behind that unit
/// begins with a flush of everything, until one is confirmed.
#[test]
fn what_a_refused_flush_left_is_gone_before_the_next_grant() {
    for (name, unit) in presets().into_iter().filter(|(_, unit)| unit.ecap >> 1 & 1 == 1) {
        let machine = machine([unit.clone().serving(&[1]), unit.clone()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (old, new, elsewhere) = (function(0, 3), function(0, 4), function(1, 0));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, 2 * PAGE, RW), old);
        poke(&machine, MEMORY + LARGE, 0xbeef);
        assert!(write(&machine, old, INPUT, 1), "{name}");
        machine.break_unit(1, Defect::QueueErrorAfter(1));
        let mut change = iommu.change();
        change.unmap(cell, range(INPUT, PAGE)).release(old);
        assert!(matches!(change.commit(), Err(Error::Unit(UnitError::Queue { .. }))), "{name}");

        let caching = unit.cap >> 7 & 1 == 1;
        let submitted = |call: &dyn Fn()| cost(&iommu, call).descriptors;
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let others = submitted(&|| {
            iommu.assign(elsewhere, other).unwrap();
        });
        assert_eq!(others, if caching { 3 } else { 0 }, "{name}: the other unit has nothing to repeat");
        machine.break_unit(1, Defect::QueueErrorAfter(1));
        assert!(
            matches!(iommu.assign(new, cell), Err(Error::Unit(UnitError::Queue { .. }))),
            "{name}: it still has to repeat it"
        );
        assert_eq!(read(&machine, new, INPUT + PAGE), None, "{name}");
        let with_everything = submitted(&|| {
            iommu.assign(new, cell).unwrap();
        });
        assert_eq!(with_everything, if caching { 3 + 3 } else { 3 }, "{name}: context-cache, IOTLB and a wait");
        let map = |at| iommu.map(cell, region(at, MEMORY + LARGE, PAGE, RW)).unwrap();
        let as_ever = submitted(&|| {
            map(INPUT);
        });
        assert_eq!(as_ever, if caching { 2 } else { 0 }, "{name}: once");
        assert_eq!(read(&machine, new, INPUT), Some(0xbeef), "{name}");
        iommu.release(old).unwrap();
        machine.check();
    }
}

#[test]
fn a_unit_that_fails_leaves_the_others_working() {
    let units = [UnitConfig::server().serving(&[1]), UnitConfig::server()];
    let machine = machine(units);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (a, b) = (function(1, 0), function(0, 0));
    cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), a);
    let cell = cell_with(&iommu, region(INPUT, MEMORY + PAGE, PAGE, RW), b);
    machine.break_unit(0, Defect::QueueDead);
    assert!(iommu.release(a).is_err());
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
    assert_eq!(read(&machine, b, INPUT), None);
    iommu.release(b).unwrap();
}

#[test]
fn a_mapping_that_cannot_be_flushed_is_not_granted() {
    let machine = machine([UnitConfig::qemu_10_0(true)]);
    let iommu = enabled(&machine);
    let device = function(0, 3);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
    machine.break_unit(0, Defect::QueueDead);
    assert!(iommu.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW)).is_err());
    assert_eq!(read(&machine, device, INPUT + LARGE), None);
    assert_eq!(iommu.unmap(cell, range(INPUT + LARGE, PAGE)), Err(Error::NotGranted(Iova::new(INPUT + LARGE))));
}

#[test]
fn rights_that_cannot_be_flushed_only_shrink() {
    let (r, w) = (Rights::READ, Rights::WRITE);
    for (name, unit) in presets().into_iter().filter(|(_, unit)| unit.ecap >> 1 & 1 == 1) {
        for (before, after, left) in
            [(r, RW, r), (w, RW, w), (RW, w, w), (r, w, Rights::empty()), (w, r, Rights::empty())]
        {
            let machine = machine([unit.clone().serving(&[1]), unit.clone()]);
            let iommu = discover(&machine, &[&[1]]).unwrap();
            iommu.enable().unwrap();
            let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE, before), function(1, 0));
            let device = function(0, 3);
            iommu.assign(device, cell).unwrap();
            machine.break_unit(0, Defect::QueueDead);
            assert!(iommu.protect(cell, range(INPUT + PAGE, PAGE), after).is_err());
            let reads = read(&machine, device, INPUT + PAGE).is_some();
            let found = (reads, write(&machine, device, INPUT + PAGE, 1));
            assert_eq!(found, (left.contains(r), left.contains(w)), "{name}: {before:?} to {after:?}");
        }
    }
}

#[test]
fn the_root_cell_waits_for_what_a_failed_unit_may_reach() {
    for defect in [Defect::QueueDead, Defect::QueueErrorAfter(0)] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (root, disk, card) = (iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 1), function(1, 3));
        iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
        iommu.assign(disk, root).unwrap();
        let (moved, gone) = (MEMORY + LARGE, MEMORY + 2 * LARGE);
        let cell = cell_with(&iommu, region(0, moved, 2 * LARGE, RW), card);
        iommu.map_shared(cell, region(4 * LARGE, MEMORY, PAGE, RW)).unwrap();
        assert!(write(&machine, card, 0, 1) && write(&machine, card, LARGE, 1), "{defect:?}");
        machine.break_unit(0, defect);
        assert!(iommu.unmap(cell, range(0, LARGE)).is_err(), "{defect:?}");
        let destroyed = iommu.destroy_cell(cell).is_ok();
        assert_eq!(destroyed, defect != Defect::QueueDead, "{defect:?}");
        // Any other change that the root cell has part in.
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(0, MEMORY + 4 * LARGE, LARGE, RW)).unwrap();
        for at in [moved, gone] {
            assert_eq!(write(&machine, disk, at, 2), destroyed, "{defect:?}: {at:#x}");
        }
        assert!(
            write(&machine, disk, MEMORY, 2) && write(&machine, disk, MEMORY + 3 * LARGE, 2),
            "{defect:?}: its own"
        );
    }
}

#[test]
fn the_root_cell_maps_again_what_it_lost_after_a_failure() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (root, disk) = (iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 1));
    let memory = region(MEMORY, MEMORY, PAGE, RW);
    iommu.map(root, memory).unwrap();
    iommu.assign(disk, root).unwrap();
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    iommu.unmap(root, memory.input).unwrap_err();
    iommu.map(root, memory).unwrap();
    assert!(write(&machine, disk, MEMORY, 1));
}

/// What the unit has cached of a device that it let in without saying so leads to the cell's table as long as that is there.
#[test]
fn a_device_that_a_failing_unit_may_have_let_in_stays_listed() {
    for (defect, dead) in [(Defect::QueueDead, true), (Defect::QueueErrorAfter(0), false)] {
        let machine = machine([UnitConfig::qemu_10_0(true).serving(&[1]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (device, good) = (function(1, 0), function(0, 3));
        let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), good);
        machine.break_unit(0, defect);
        assert!(iommu.assign(device, cell).is_err());
        let frames = machine.frames_in_use();
        let listed = iommu.assign(device, cell) == Err(Error::Busy { device, cell });
        assert_eq!(listed, dead, "{defect:?}");
        assert_eq!(iommu.destroy_cell(cell).is_err(), dead, "{defect:?}: the unit may walk its tables");
        assert!(machine.frames_in_use() < frames, "{defect:?}: the table of the device whose unit works");
        assert_eq!(machine.frames_in_use() as u64, iommu.statistics().table_frames, "{defect:?}");
        assert_eq!(read(&machine, good, INPUT), None, "{defect:?}");
    }
}

#[test]
fn a_mapping_that_one_unit_cannot_flush_is_granted_nowhere() {
    let unit = UnitConfig::server().caching_mode(true);
    let machine = machine([unit.clone().serving(&[1]), unit]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 3));
    iommu.assign(function(1, 0), cell).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    assert!(iommu.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW)).is_err());
    for device in [function(0, 3), function(1, 0)] {
        assert_eq!(read(&machine, device, INPUT + LARGE), None, "{device}");
    }
    assert!(write(&machine, function(0, 3), INPUT, 1), "what was granted before still is");
}

#[test]
fn a_failed_mapping_is_taken_back_from_every_table_of_the_cell() {
    let units = [UnitConfig::server(), UnitConfig::client(), UnitConfig::client_graphics()];
    let [a, b, c] = units.map(|unit| unit.caching_mode(true));
    let machine = machine([a.serving(&[1]), b.serving(&[2]), c]);
    let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
    iommu.enable().unwrap();
    let devices = [function(1, 0), function(2, 0), function(0, 3)];
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), devices[0]);
    for device in &devices[1..] {
        iommu.assign(*device, cell).unwrap();
    }
    machine.break_unit(0, Defect::QueueDead);
    assert!(iommu.map(cell, region(INPUT + LARGE, MEMORY, PAGE, RW)).is_err());
    for device in devices {
        assert_eq!(read(&machine, device, INPUT + LARGE), None, "{device}");
    }
    assert!(write(&machine, devices[1], INPUT, 1) && write(&machine, devices[2], INPUT, 1), "granted before");
}

#[test]
fn a_failed_mapping_is_taken_back_without_a_frame_to_split_with() {
    for before in [Rights::empty(), Rights::READ] {
        let unit = UnitConfig::server();
        let machine = machine([unit.clone().caching_mode(true).serving(&[1]), unit]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        iommu.enable().unwrap();
        let (device, last) = (function(0, 3), INPUT + LARGE - PAGE);
        let cell = cell_with(&iommu, region(INPUT, MEMORY, LARGE - PAGE, RW), device);
        iommu.assign(function(1, 0), cell).unwrap();
        let missing = region(last, MEMORY + LARGE - PAGE, PAGE, if before.is_empty() { RW } else { before });
        if !before.is_empty() {
            iommu.map(cell, missing).unwrap();
        }
        machine.break_unit(0, Defect::QueueDead);
        machine.allow_allocations(Some(0));
        let change = if before.is_empty() { iommu.map(cell, missing) } else { iommu.protect(cell, missing.input, RW) };
        assert!(matches!(change, Err(Error::Unit(UnitError::Timeout { .. }))), "{change:?}");
        machine.allow_allocations(None);
        // The pages have become one, which cannot be split.
        assert!(!write(&machine, device, last, 1), "{before:?}");
        iommu.audit(|it| assert!(matches!(it, Difference::MissingMapping { .. }), "{it}")).unwrap();
    }
}

#[test]
fn a_width_that_one_device_lacks_refuses_that_device_alone() {
    let units = [UnitConfig::server().serving(&[1]), UnitConfig::client()];
    let machine = machine(units);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let high = region(1 << 40, MEMORY, PAGE, RW);
    let cell = cell_with(&iommu, high, function(1, 0));
    let error = iommu.assign(function(0, 0), cell).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("0000:00:00.0 does not fit this cell: {high}: the input passes the 39 bits that the unit translates")
    );
    assert!(write(&machine, function(1, 0), 1 << 40, 1));
    assert_eq!(read(&machine, function(0, 0), 1 << 40), None);
}

#[test]
fn capacities_that_are_used_up_are_named() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let full = |what, capacity| Error::Full(Full { what, capacity });
    let cells: Vec<_> = (0..Limits::DEFAULT.cells).map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()).collect();
    assert_eq!(iommu.create_cell(UNSAFE_INTERRUPTS).unwrap_err(), full("cells", Limits::DEFAULT.cells));
    for index in 0..Limits::DEFAULT.regions as u64 {
        iommu.map(cells[0], region(index * 2 * PAGE, MEMORY, PAGE, RW)).unwrap();
    }
    let more = region(INPUT, MEMORY, PAGE, RW);
    assert_eq!(iommu.map(cells[0], more).unwrap_err(), full("regions in this cell", Limits::DEFAULT.regions));
    for index in 0..Limits::DEFAULT.devices {
        iommu.assign(function((index / 32) as u8, (index % 32) as u8), cells[1]).unwrap();
    }
    assert_eq!(
        iommu.assign(function(200, 0), cells[1]).unwrap_err(),
        full("assigned devices", Limits::DEFAULT.devices)
    );
    assert_eq!(read(&machine, function(200, 0), 0), None);
}

#[test]
fn the_next_assignment_flushes_a_failed_ones_root_entry() {
    let machine = machine([UnitConfig::qemu_10_0(true)]);
    let iommu = enabled(&machine);
    let (device, cell) = (function(2, 3), iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    // Enough for the bus's context table, and for nothing else.
    machine.allow_allocations(Some(1));
    assert_eq!(iommu.assign(device, cell), Err(Error::NoFrame(NoFrame::NoneLeft)));
    machine.allow_allocations(None);
    let global_context = format!("descriptor 4: {:#018x}", 0x11);
    assert!(!machine.journal(50).contains(&global_context));
    iommu.assign(device, cell).unwrap();
    assert!(machine.journal(50).contains(&global_context), "{}", machine.journal(50));
    iommu.release(device).unwrap();
    iommu.assign(device, cell).unwrap();
    assert!(!machine.journal(12).contains(&format!("{:#018x}", 0x11)), "and then no more");
}

/// "Cells that have no device behind it go on": a unit of the root cell's device is out of service. What the root cell would
/// be given back holds up everybody else.
#[test]
fn a_cell_without_a_device_behind_a_dead_unit_can_be_destroyed() {
    let (machine, results) = beside_a_dead_unit(|iommu, [cell, _]| [0; 3].map(|_| iommu.destroy_cell(cell).map(drop)));
    machine.abandon();
    assert!(results.contains(&Ok(())), "{results:?}");
}

/// The same for memory that the root cell never had, and for a device behind a unit that is on.
#[test]
fn a_cell_without_a_device_behind_a_dead_unit_goes_on() {
    let (machine, results) = beside_a_dead_unit(|iommu, [cell, other]| {
        let outside = |n: u64| region(INPUT + n * LARGE, MEMORY + 64 * LARGE + n * LARGE, PAGE, RW);
        let before = iommu.map(other, outside(1)).map(drop);
        let _ = iommu.destroy_cell(cell);
        [before, iommu.map(other, outside(2)).map(drop), iommu.unmap(other, outside(1).input).map(drop)]
    });
    machine.abandon();
    assert_eq!(results, [Ok(()); 3]);
}

/// A root cell with a device behind a unit that is out of service, and two cells with one each behind another.
fn beside_a_dead_unit<T>(then: impl FnOnce(&Front<&Machine>, [CellId; 2]) -> T) -> (Machine, T) {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    iommu.assign(function(1, 0), root).unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(0, 2));
    let other = cell_with(&iommu, region(INPUT, MEMORY + 64 * LARGE, PAGE, RW), function(0, 3));
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(root, range(MEMORY + LARGE, PAGE)).unwrap_err();
    let result = then(&iommu, [cell, other]);
    (machine, result)
}

/// The frames for context tables that a change got, and that fails before it grants anything, are given back: each time.
#[test]
fn frames_for_context_tables_are_given_back_by_a_failed_change() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled_with_ats(&machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    for attempt in 0..3 {
        let silent = function(0, attempt);
        machine.add_ats(silent, 32);
        iommu.assign_with(silent, cell, DeviceConfig { device_tlb: true, messages: 0 }).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        assert!(ats_write(&machine, silent, INPUT, 1));
        machine.set_device_tlb(silent, Answer::Never, 32);
        let mut change = iommu.change();
        change.unmap(cell, range(INPUT, PAGE)).assign(function(5, 0), cell);
        change.commit().unwrap_err();
        assert_eq!(iommu.device_info(function(5, 0)).unwrap().cell, None);
        assert_eq!(machine.frames_in_use() as u64, iommu.statistics().table_frames, "attempt {attempt}");
        machine.set_device_tlb(silent, Answer::After(0), 32);
        iommu.release(silent).unwrap();
    }
    iommu.assign(function(5, 0), cell).unwrap();
    iommu.destroy_cell(cell).unwrap();
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
}

/// What was outstanding when a unit was reset takes no room in its queue after that.
#[test]
fn a_queue_that_begins_again_after_a_reset_is_empty() {
    let machine = machine([UnitConfig::server().caching_mode(true)]);
    let iommu = enabled(&machine);
    let (device, page) = (function(0, 3), region(INPUT, MEMORY, PAGE, RW));
    let cell = cell_with(&iommu, page, device);
    machine.break_unit(0, Defect::QueueDead);
    iommu.unmap(cell, page.input).unwrap_err();
    machine.mend_unit(0);
    machine.reset_unit(0);
    iommu.enable().unwrap();
    // More often than there are descriptors in the queue.
    for round in 0..300 {
        iommu.map(cell, page).unwrap();
        assert!(write(&machine, device, INPUT, round));
        iommu.unmap(cell, page.input).unwrap();
    }
    assert!(!write(&machine, device, INPUT, 1));
}
