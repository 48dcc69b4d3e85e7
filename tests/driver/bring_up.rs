use std::cell::Cell;

use cofferdam::addr::Rights;
use cofferdam::error::UnitError;
use cofferdam::fault::FaultLog;
use cofferdam::hal::{Hal, NoFrame};
use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::{Difference, Error, Options, UnitState};
use cofferdam::limits::{Full, Limits};
use cofferdam::topology::NoConfigSpace;
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{dmar, endpoint, of_machine};
use cofferdam_support::watched::{Call, Watched};

#[test]
fn every_usable_unit_comes_up_and_blocks_everything() {
    for (name, unit) in presets() {
        let has_queue = unit.ecap & 2 != 0;
        let machine = machine([unit.clone()]);
        let iommu = discover(&machine, &[]).unwrap();
        assert_eq!(states(&iommu), [UnitState::Off], "{name}");
        assert!(write(&machine, function(0, 3), 0x1000, 1), "{name}: DMA is free before");
        iommu.enable().unwrap();
        assert_eq!(read(&machine, function(0, 3), 0x1000), None, "{name}");
        // A queue for abort mode has wide descriptors.
        let frames = if has_queue { 3 + usize::from(unit.ecap >> 52 & 1 != 0) } else { 1 };
        assert_eq!(machine.frames_in_use(), frames, "{name}: queue, status words, root table");
        assert_eq!(iommu.statistics().table_frames, frames as u64, "{name}");
        assert_eq!(states(&iommu), [UnitState::On], "{name}");
    }
}

#[test]
fn two_units_come_up_and_each_blocks_its_own() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client()];
    let machine = machine(units);
    discover(&machine, &[&[1]]).unwrap().enable().unwrap();
    assert_eq!(read(&machine, function(1, 0), 0), None);
    assert_eq!(read(&machine, function(0, 0), 0), None);
}

#[test]
fn memory_stays_protected_until_translation_is_on() {
    const PMEN: u32 = 0x64;
    for unit in [UnitConfig::client(), UnitConfig::everything()] {
        let machine = machine([unit]);
        let window = machine.windows()[0];
        // SAFETY: the machine takes any access and reports a wrong one.
        let status = || unsafe { machine.read32(mapped(window), PMEN) } & 1;
        // SAFETY: as above. Base 0 and limit 0 protect the first 2 MiB.
        unsafe { machine.write32(mapped(window), PMEN, 1 << 31) };
        while status() == 0 {
            machine.pause();
        }
        let iommu = discover(&machine, &[]).unwrap();
        assert!(!write(&machine, function(0, 3), 0x1000, 1) && write(&machine, function(0, 3), LARGE, 1));
        iommu.enable().unwrap();
        assert_eq!(status(), 0, "translation blocks from here on");
        cell_with(&iommu, region(0, 0, LARGE, Rights::all()), function(0, 3));
        assert!(write(&machine, function(0, 3), 0x1000, 1));
    }
}

/// A unit of a version that has no invalidation registers, and no queue either.
fn unusable() -> UnitConfig {
    UnitConfig { version: 0x60, ..UnitConfig::first_generation() }
}

#[test]
fn a_unit_without_any_way_to_invalidate_is_refused_by_name() {
    let machine = machine([unusable()]);
    let iommu = discover(&machine, &[]).unwrap();
    let unit = machine.windows()[0];
    let missing = "invalidation queue, and no invalidation registers either";
    let error = UnitError::Unsupported { unit, register: "ECAP_REG", bit: "QI", missing };
    assert_eq!(iommu.enable(), Err(Error::Unit(error)));
    assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: false }]);
    assert!(write(&machine, function(0, 0), 0x1000, 1), "DMA is as free as before");
    assert_eq!((machine.frames_in_use(), machine.journal(100).contains(":=")), (0, false), "nothing was written");
}

#[test]
fn one_unusable_unit_is_named_and_the_others_come_up() {
    for units in [[UnitConfig::client(), unusable()], [unusable(), UnitConfig::client()]] {
        let good = usize::from(units[0].version == 0x60);
        let [first, second] = units;
        let machine = machine([first.serving(&[1]), second]);
        let iommu = discover(&machine, &[&[1]]).unwrap();
        let error = iommu.enable().unwrap_err();
        let bad = machine.windows()[1 - good];
        assert!(matches!(error, Error::Unit(UnitError::Unsupported { unit, .. }) if unit == bad), "{error}");
        assert_eq!(states(&iommu)[good], UnitState::On);
        assert!(matches!(states(&iommu)[1 - good], UnitState::Failed { blocking: false, .. }));
        let bus = |unit: usize| if unit == 0 { 1 } else { 0 };
        let (kept, free) = (function(bus(good), 3), function(bus(1 - good), 3));
        assert!(!write(&machine, kept, 0x1000, 1) && write(&machine, free, 0x1000, 1));
        let cell = cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), kept);
        assert!(write(&machine, kept, 0, 1));
        assert_eq!(iommu.assign(free, cell), Err(Error::Unit(UnitError::Failed { unit: bad })));
        assert_eq!(iommu.enable(), Err(Error::Unit(UnitError::Failed { unit: bad })));
        assert!(write(&machine, kept, 0, 1), "the others are not touched by another try");
    }
}

#[test]
fn a_unit_that_translates_nothing_is_refused_by_name() {
    let unit = UnitConfig::qemu_10_0(false);
    let machine = machine([UnitConfig { cap: unit.cap & !(0x1f << 8), ..unit }]);
    let error = discover(&machine, &[]).unwrap().enable().unwrap_err();
    assert!(matches!(error, Error::Unit(UnitError::Unsupported { register: "CAP_REG", bit: "SAGAW", .. })), "{error}");
}

#[test]
fn a_unit_that_reads_all_ones_is_refused_by_name() {
    let machine = machine([UnitConfig::server()]);
    machine.break_unit(0, Defect::AllOnes);
    let unit = machine.windows()[0];
    let dead = UnitError::Dead { unit, register: "VER_REG", value: u64::from(u32::MAX) };
    let insisting = Options { require_all_units: true, ..Options::default() };
    let table = of_machine(&machine, &[]).table();
    assert_eq!(front(&machine, &table, insisting).map(drop), Err(Error::Unit(dead)));
    let iommu = discover(&machine, &[]).unwrap();
    assert_eq!(states(&iommu), [UnitState::Failed { error: dead, blocking: false }]);
    assert_eq!(iommu.enable(), Err(Error::Unit(dead)));
    machine.mend_unit(0);
    assert_eq!(iommu.enable(), Err(Error::Unit(dead)), "nobody knows what it can do");
    assert_eq!(iommu.disable(), Err(Error::Unit(dead)));
}

/// U3: a unit that does not answer, or shows what no unit can be, costs itself and its devices; all others work.
#[test]
fn a_unit_that_is_dead_at_first_costs_itself_alone() {
    let strange = UnitConfig { cap: UnitConfig::client().cap | 0b111, ..UnitConfig::client() };
    let outside = UnitConfig { cap: UnitConfig::client().cap | 0x3ff << 24, ..UnitConfig::client() };
    for (unit, gone, register, bit) in [
        (UnitConfig::client(), true, "VER_REG", ""),
        (strange, false, "CAP_REG", "ND"),
        (outside, false, "CAP_REG", "FRO"),
    ] {
        let machine = machine([unit.serving(&[1]), UnitConfig::client()]);
        // Or else the model expects that its queue is switched on, which nobody can.
        machine.break_unit(0, if gone { Defect::AllOnes } else { Defect::Slow(0) });
        let iommu = discover(&machine, &[&[1]]).unwrap();
        let error = iommu.enable().unwrap_err();
        match error {
            Error::Unit(UnitError::Dead { unit, register: named, .. }) if gone => {
                assert_eq!((unit, named), (machine.windows()[0], register));
            }
            Error::Unit(UnitError::Unsupported { unit, register: named, bit: field, .. }) => {
                assert_eq!((unit, named, field), (machine.windows()[0], register, bit));
            }
            other => panic!("{other}"),
        }
        let [UnitState::Failed { error: told, blocking: false }, UnitState::On] = states(&iommu)[..] else { panic!() };
        assert_eq!(Error::Unit(told), error);
        let (free, kept) = (function(1, 3), function(0, 3));
        assert!(write(&machine, free, 0x1000, 1) && !write(&machine, kept, 0x1000, 1));
        let cell = cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), kept);
        assert!(write(&machine, kept, 0, 1));
        assert_eq!(iommu.assign(free, cell), Err(Error::NoSuchDevice(free)), "no unit that translates");
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x40))).unwrap();
        assert!(!write(&machine, function(0, 9), 0, 1));
        let log = iommu.faults(|_| ());
        assert_eq!((log.records, log.unresponsive, machine.messages().len()), (1, gone, 1), "{register}");
        iommu.unmap(cell, range(0, PAGE)).unwrap();
        iommu.destroy_cell(cell).unwrap();
        assert_eq!(iommu.disable(), Err(error));
        assert_eq!(states(&iommu)[1], UnitState::Off);
    }
}

/// U3: faults that a unit has which cannot be used are not read, nor said to be pending, or whoever goes on while some are would
/// not come to an end.
#[test]
fn faults_of_a_unit_that_cannot_be_used_are_not_pending() {
    let client = UnitConfig::client();
    let machine = machine([UnitConfig { cap: client.cap | 0b111, ..client }.found_running()]);
    let iommu = discover(&machine, &[]).unwrap();
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { error: UnitError::Unsupported { .. }, .. }]));
    assert!(!write(&machine, function(0, 3), 0x1000, 1), "firmware blocks it");
    // SAFETY: the machine takes any access and reports a wrong one.
    let pending = || unsafe { machine.read32(mapped(machine.windows()[0]), 0x34) } >> 1 & 1 == 1;
    assert!(pending());
    for _ in 0..2 {
        assert_eq!(iommu.faults(|fault| panic!("{fault}")), FaultLog::default());
    }
    assert!(pending(), "it is left as it is");
}

/// I9: `enable` before any unit is known is an error, and nothing is claimed.
#[test]
fn a_front_that_knows_no_unit_is_not_enabled() {
    let machine = machine([UnitConfig::server()]);
    let iommu = empty_front(&machine, Options::DEFAULT);
    assert_eq!(iommu.enable(), Err(Error::NotProbed));
    assert_eq!(iommu.unblocked(&mut |_| ()), Err(Error::NotProbed));
    assert_eq!(iommu.audit(|_| ()).unwrap_err(), Error::NotEnabled);
}

/// U11: a queue that serves nothing is found when its unit is switched on, also where setting the root table needs no
/// invalidation; firmware's translation is still as it was.
#[test]
fn a_dead_queue_is_found_when_its_unit_is_switched_on() {
    for unit in [UnitConfig::qemu_11_1(false), UnitConfig::everything(), UnitConfig::server().found_running()] {
        let machine = machine([unit.clone()]);
        machine.break_unit(0, Defect::QueueDead);
        let iommu = discover(&machine, &[]).unwrap();
        match iommu.enable().unwrap_err() {
            Error::Unit(UnitError::Timeout { register, bit, .. }) => {
                assert_eq!((register, bit), ("IQ status word", "invalidation wait"));
            }
            other => panic!("{other}"),
        }
        assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }]));
        assert_eq!(write(&machine, function(0, 3), 0x1000, 1), !unit.found_running, "as before");
        machine.abandon();
    }
}

#[test]
fn a_unit_that_disappears_is_reported_dead_and_not_blocking() {
    let units = [UnitConfig::server(), UnitConfig::first_generation(), UnitConfig::everything().found_running()];
    for unit in units {
        let name = unit.cap;
        let (mut at, mut gone) = (0, true);
        while gone {
            let (armed, accesses) = (Cell::new(false), Cell::new(0));
            let (armed, accesses) = (&armed, &accesses);
            let look = move |call: Call, machine: &Machine| {
                let counts = armed.get() && call != Call::ConfigRead;
                if counts && accesses.replace(accesses.get() + 1) == at {
                    machine.break_unit(0, Defect::AllOnes);
                }
            };
            let hal = Watched::new(machine([unit.clone()]), look);
            let options = Options { timeout_ns: 100_000, ..Options::default() };
            let iommu = front(&hal, &of_machine(&hal.machine, &[]).table(), options).unwrap();
            armed.set(true);
            let result = iommu.enable();
            gone = accesses.get() > at;
            if gone {
                let unit = hal.machine.windows()[0];
                let error = UnitError::Dead { unit, register: "GSTS_REG", value: u64::from(u32::MAX) };
                assert_eq!(result, Err(Error::Unit(error)), "{name:#x}: before access {at}");
                assert_eq!(
                    states(&iommu),
                    [UnitState::Failed { error, blocking: false }],
                    "{name:#x}: before access {at}"
                );
                hal.machine.take_violations();
            }
            at += 1;
        }
    }
}

#[test]
fn a_status_bit_that_never_comes_is_named_in_time() {
    for (bit, name) in [(26, "QIES"), (30, "RTPS"), (31, "TES")] {
        let machine = machine([UnitConfig::server()]);
        machine.break_unit(0, Defect::StatusStuckLow(1 << bit));
        let iommu = discover(&machine, &[]).unwrap();
        match iommu.enable().unwrap_err() {
            Error::Unit(UnitError::Timeout { unit, register: "GSTS_REG", bit, waited_ns }) => {
                assert_eq!((unit, bit), (machine.windows()[0], name));
                assert!((1_000_000_000..1_100_000_000).contains(&waited_ns), "{waited_ns}");
            }
            other => panic!("{name}: {other}"),
        }
        // A unit that failed stays out of service.
        assert_eq!(iommu.enable(), Err(Error::Unit(UnitError::Failed { unit: machine.windows()[0] })));
        machine.take_violations();
    }
}

#[test]
fn without_frames_a_unit_does_not_come_up_and_says_so() {
    for count in 0..3 {
        let machine = machine([UnitConfig::server()]);
        machine.allow_allocations(Some(count));
        let iommu = discover(&machine, &[]).unwrap();
        let unit = machine.windows()[0];
        assert_eq!(iommu.enable(), Err(Error::Unit(UnitError::NoFrame { unit, reason: NoFrame::NoneLeft })), "{count}");
        machine.allow_allocations(None);
        assert_eq!(iommu.enable().map(drop), Ok(()), "with memory it does, {count}");
        assert_eq!(machine.frames_in_use(), 3);
        assert_eq!(read(&machine, function(0, 0), 0), None);
    }
}

#[test]
fn a_frame_too_high_is_never_given_to_the_unit() {
    // A queue for abort mode is in two frames at a time.
    for (name, unit) in presets().into_iter().filter(|(_, unit)| unit.ecap >> 52 & 1 == 0) {
        let queue = usize::from(unit.ecap & 2 != 0) * 2;
        for count in 0..=queue {
            let machine = machine_with_a_frame_too_high(unit.clone());
            frames_before_too_high(&machine, count as u64);
            let iommu = discover(&machine, &[]).unwrap();
            let error = UnitError::NoFrame { unit: machine.windows()[0], reason: TOO_HIGH };
            assert_eq!(iommu.enable(), Err(Error::Unit(error)), "{name}, {count}");
            // Once its queue is on, it keeps that.
            let kept = if count == queue { queue } else { 0 };
            assert_eq!(machine.frames_in_use(), kept, "{name}, {count}");
            assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: false }], "{name}, {count}");
            assert_eq!(iommu.enable().map(drop), Ok(()), "with the frames that come then it does: {name}, {count}");
            iommu.disable().unwrap();
            assert_eq!(machine.frames_in_use(), 0, "{name}, {count}");
        }
    }
}

#[test]
fn a_slow_unit_is_waited_for() {
    let machine = machine([UnitConfig::server()]);
    machine.break_unit(0, Defect::Slow(900_000_000));
    assert!(discover(&machine, &[]).unwrap().enable().unwrap().is_nothing());
}

#[test]
fn nothing_is_assigned_before_the_units_are_on() {
    let machine = machine([UnitConfig::server()]);
    let iommu = discover(&machine, &[]).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!(iommu.assign(function(0, 0), cell), Err(Error::NotEnabled));
}

#[test]
fn a_unit_of_amd_is_refused_by_name() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/firmware-tables");
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("ivrs-")).unwrap();
    let machine = machine([UnitConfig::server()]);
    let table = std::fs::read(file).unwrap();
    let unit = read_table(&table, &NoConfigSpace, |_| ()).unwrap().units()[0].window;
    let refused = front_with_findings(&machine, &table, Options::default(), |_| ()).map(|_| ());
    assert_eq!(refused, Err(Error::UnknownUnit(unit)));
}

#[test]
fn queues_are_as_large_as_was_asked_for_and_go_round() {
    for (slots, frames) in [(0, 2), (256, 2), (300, 4), (1 << 15, 256)] {
        let machine = machine([UnitConfig::server()]);
        let options = Options { queue_slots: slots, ..Options::default() };
        let iommu = enabled_front(&machine, &of_machine(&machine, &[]).table(), options);
        // And the root table.
        assert_eq!(iommu.statistics().table_frames, frames + 1, "{slots}");
        assert_eq!(machine.frames_in_use() as u64, frames + 1);
        let cell = cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), function(0, 3));
        for page in 1..300 {
            iommu.map(cell, region(page * PAGE, 0x6000_0000, PAGE, Rights::all())).unwrap();
            iommu.unmap(cell, range(page * PAGE, PAGE)).unwrap();
        }
        assert!(iommu.statistics().descriptors > 600);
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
        assert_eq!(machine.frames_in_use(), 0, "{slots}");
    }
}

#[test]
fn a_cell_beyond_the_units_domain_ids_is_refused_by_name() {
    let unit = UnitConfig { cap: UnitConfig::server().cap & !7, ..UnitConfig::server() };
    let machine = machine([unit]);
    let iommu = enabled(&machine);
    let assign = |number: u8| {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(0, 0x6000_0000 + u64::from(number) * PAGE, PAGE, Rights::all())).unwrap();
        iommu.assign(function(1, number), cell)
    };
    // 4 bits, and 0 is not used.
    (0..15).for_each(|number| assert_eq!(assign(number).map(|_| ()), Ok(())));
    let full = Error::Full(Full { what: "domain-ids of the unit", capacity: 15 });
    assert_eq!(assign(15).map(|_| ()), Err(full));
    assert!(write(&machine, function(1, 14), 0, 1) && !write(&machine, function(1, 15), 0, 1));
}

#[test]
fn a_front_is_completed_in_place_and_only_once() {
    let machine = machine([UnitConfig::server(), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).table();
    let iommu = empty_front(&machine, Options { require_all_units: true, ..Options::DEFAULT });
    assert_eq!(iommu.units().count(), 0);
    let probe = |iommu: &Front<&Machine>, bytes: &[u8]| {
        let limits = Limits::DEFAULT;
        iommu.probe_acpi(memory(&limits).leak(), &limits, bytes, |finding| panic!("{finding}"))
    };
    assert!(matches!(probe(&iommu, &table[..20]), Err(Error::Firmware(_))));
    machine.break_unit(1, Defect::AllOnes);
    assert!(matches!(probe(&iommu, &table), Err(Error::Unit(UnitError::Dead { .. }))));
    assert_eq!((iommu.units().count(), iommu.topology().scopes().len()), (0, 0), "as it was");
    machine.mend_unit(1);
    probe(&iommu, &table).unwrap();
    assert_eq!(format!("{:?}", iommu.topology()), format!("{:?}", topology(&table, &&machine)), "the same in place");
    assert_eq!(probe(&iommu, &table), Err(Error::Probed));
    iommu.enable().unwrap();
    cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), function(1, 3));
    assert!(write(&machine, function(1, 3), 0, 1));
}

/// A unit whose registers the platform does not map costs itself alone: nothing of it is read, and its devices are refused.
#[test]
fn a_unit_that_is_mapped_nowhere_costs_itself_alone() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    machine.add_express(function(1, 3));
    machine.map_no_registers(0);
    let unit = machine.windows()[0];
    let iommu = discover(&machine, &[&[1]]).unwrap();
    assert!(matches!(iommu.enable(), Err(Error::Unit(UnitError::NotMapped { unit: named })) if named == unit));
    let failed = UnitState::Failed { error: UnitError::NotMapped { unit }, blocking: false };
    assert_eq!(states(&iommu), [failed, UnitState::On]);
    let cell = cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), function(0, 3));
    assert!(iommu.assign(function(1, 3), cell).is_err());
    let log = iommu.faults(|fault| panic!("{fault}"));
    assert!(!log.unresponsive && !log.busy);
    let differences = crate::audit::audit(&iommu);
    assert!(
        differences.iter().any(|it| matches!(it, Difference::Unresponsive { unit: named } if *named == unit)),
        "{differences:?}"
    );
    iommu.set_fault_event(None).unwrap();
    let all = Options { require_all_units: true, ..Options::default() };
    let refused = front(&machine, &of_machine(&machine, &[&[1]]).table(), all).map(drop);
    assert_eq!(refused, Err(Error::Unit(UnitError::NotMapped { unit })));
    machine.check();
}

/// The handle of a cell from before the front was read again names no cell made after.
#[test]
fn a_handle_from_before_a_failed_probe_names_no_later_cell() {
    let machine = machine([UnitConfig::server(), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).table();
    let iommu = empty_front(&machine, Options { require_all_units: true, ..Options::DEFAULT });
    let limits = Limits::DEFAULT;
    machine.break_unit(1, Defect::AllOnes);
    iommu.probe_acpi(memory(&limits).leak(), &limits, &table, |_| ()).unwrap_err();
    let early = iommu.create_cell(UNSAFE_INTERRUPTS);
    machine.mend_unit(1);
    iommu.probe_acpi(memory(&limits).leak(), &limits, &table, |_| ()).unwrap();
    let late = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_ne!(early, Ok(late), "it belongs to a front that knew of no unit");
}

/// Firmware names two units, at one base: one of them is left, and what it does not serve is blocked.
#[test]
fn two_units_at_one_base_are_one() {
    let machine = machine([UnitConfig::server()]);
    let base = machine.windows()[0].base.as_u64();
    let table = dmar().set(37, 0).drhd(0, 0, base, &[endpoint(3, 0)]).drhd(1, 0, base, &[]).table();
    let iommu = front_with_findings(&machine, &table, Options::default(), |_| ()).unwrap();
    iommu.enable().unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(0, 0x6000_0000, PAGE, Rights::all())).unwrap();
    [3, 4].iter().for_each(|device| iommu.assign(function(0, *device), cell).map(drop).unwrap());
    assert_eq!([3, 4, 5].map(|device| write(&machine, function(0, device), 0, 1)), [true, true, false]);
    assert!(crate::audit::audit(&iommu).is_empty() && states(&iommu).len() == 1);
}
