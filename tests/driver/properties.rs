//! Units with any capabilities that a unit may have, and units of which any bit that the driver waits for is stuck.

use cofferdam::addr::Rights;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::Error;
use cofferdam::iommu::UnitState;
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

const MEMORY: u64 = 0x6000_0000;
const PMEN: u32 = 0x64;

/// A unit as the specification allows one, except that there may be no way to use it: no format of page tables, no way to
/// invalidate, or registers beyond its window.
fn any_unit(random: &mut Random) -> UnitConfig {
    let mut flag = |chance| random.one_in(chance);
    let bit = |on: bool, at: u32| u64::from(on) << at;
    let (coherent, queue, selective) = (flag(2), !flag(5), flag(2));
    // Older ones only have write buffers, and those do not snoop.
    let buffers = !coherent && flag(3);
    let cap = bit(buffers, 4) | bit(flag(2), 5) | bit(flag(2), 6) | bit(flag(3), 7) | bit(selective, 39);
    let cap = cap | bit(flag(2), 54) | bit(flag(2), 55) | bit(flag(2), 62) | bit(flag(2), 63);
    let ecap = bit(coherent, 0) | bit(queue, 1) | bit(flag(2), 6) | bit(flag(2), 7) | bit(flag(2), 52);
    let ecap = ecap | if queue { bit(flag(2), 2) | bit(flag(2), 3) | bit(flag(2), 4) } else { 0 };
    let found_running = flag(2);
    let mut pick = |values: &[u64]| random.of(values);
    let levels = pick(&[0b00010, 0b00100, 0b01000, 0b00110, 0b01100, 0b01110, 0]);
    let cap = cap | pick(&[0, 1, 2, 4, 6]) | levels << 8 | pick(&[31, 38, 47, 56]) << 16;
    let cap = cap | pick(&[0b00, 0b01, 0b11]) << 34 | pick(&[0, 3, 9, 18, 35]) << 48;
    // Fault records and invalidation registers, each where nothing else is.
    let (records, at, bytes) = (pick(&[1, 2, 8, 256]), pick(&[0x200, 0xf00, 0x1000]), pick(&[0x1000, 0x2000, 0x10000]));
    let cap = cap | (records - 1) << 40 | (at / 16) << 24;
    let ecap = ecap | (pick(&[0x100, 0x1f0, 0x3ff0]) / 16) << 8;
    let version = (pick(&[1, 2, 5, 6, 7]) << 4 | pick(&[0, 5])) as u32;
    UnitConfig { version, cap, ecap, found_running, bytes: bytes as u32, ..UnitConfig::server() }
}

/// Whether a driver can use it.
fn usable(unit: &UnitConfig) -> bool {
    let (old, queue) = (unit.version >> 4 < 6, unit.ecap & 2 != 0);
    let records_end = (unit.cap >> 24 & 0x3ff) * 16 + ((unit.cap >> 40 & 0xff) + 1) * 16;
    let registers_end = (unit.ecap >> 8 & 0x3ff) * 16 + 16;
    let fits = records_end <= unit.bytes.into() && (!old || registers_end <= unit.bytes.into());
    unit.cap >> 8 & 0x1f != 0 && (queue || old) && fits
}

/// Has firmware protect the first 2 MiB, if the unit can.
fn protect(machine: &Machine, unit: &UnitConfig) -> bool {
    if unit.cap >> 5 & 1 == 0 {
        return false;
    }
    let window = machine.windows()[0];
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write32(mapped(window), PMEN, 1 << 31) };
    // SAFETY: as above.
    while unsafe { machine.read32(mapped(window), PMEN) } & 1 == 0 {
        machine.pause();
    }
    true
}

#[test]
fn a_unit_with_any_capabilities_works_or_is_refused_by_name() {
    let (mut random, mut works) = (Random::new(0x1234_5678_9abc_def1), 0);
    for round in 0..400 {
        let unit = any_unit(&mut random);
        let text = format!("{round}: {unit:x?}");
        let machine = machine([unit.clone()]);
        if random.below(2) == 0 {
            protect(&machine, &unit);
        }
        let result = discover(&machine, &[]).and_then(|iommu| iommu.enable().map(|_| iommu));
        match result {
            Ok(iommu) => {
                assert!(usable(&unit), "{text}");
                works += 1;
                assert_eq!(states(&iommu), [UnitState::On], "{text}");
                let (device, other) = (function(1, 3), function(2, 4));
                assert!(!write(&machine, device, MEMORY, 1) && !write(&machine, other, 0x1000, 1), "{text}");
                let cell = cell_with(&iommu, region(0, MEMORY, 2 * LARGE, Rights::all()), device);
                iommu.assign(other, cell).unwrap();
                assert!(write(&machine, device, 8, 1) && write(&machine, other, LARGE, 1), "{text}");
                iommu.unmap(cell, range(PAGE, LARGE)).unwrap();
                machine.settle();
                assert!(write(&machine, device, 8, 1) && !write(&machine, other, LARGE, 1), "{text}");
                iommu.map(cell, region(LARGE, MEMORY, PAGE, Rights::READ)).unwrap();
                assert_eq!(read(&machine, other, LARGE + 8), Some(1), "{text}");
                iommu.destroy_cell(cell).unwrap();
                assert!(!write(&machine, device, 8, 1), "{text}");
                iommu.disable().unwrap();
                assert_eq!(machine.frames_in_use(), 0, "{text}");
            }
            Err(Error::Unit(UnitError::Unsupported { unit: named, .. })) => {
                assert!(!usable(&unit) && named == machine.windows()[0], "{text}");
                assert_eq!(machine.frames_in_use(), 0, "{text}");
            }
            Err(error) => panic!("{text}: {error}"),
        }
        let violations = machine.violations();
        assert!(violations.is_empty(), "{text}: {}", violations[0]);
    }
    assert!((150..350).contains(&works), "{works} of them work");
}

#[test]
fn any_stuck_status_bit_is_named_with_what_it_blocks() {
    let names = [(23, "CFIS"), (24, "IRTPS"), (25, "IRES"), (26, "QIES"), (27, "WBFS"), (30, "RTPS"), (31, "TES")];
    let mut timeouts = Vec::new();
    for (name, unit) in presets() {
        for unit in [unit.clone(), unit.found_running()] {
            for (bit, status) in names {
                for defect in [Defect::StatusStuckLow(1 << bit), Defect::StatusStuckHigh(1 << bit)] {
                    let machine = machine([unit.clone()]);
                    machine.break_unit(0, defect);
                    let iommu = discover(&machine, &[]).unwrap();
                    let result = iommu.enable();
                    let reached = write(&machine, function(0, 3), MEMORY, 1);
                    let text = format!("{name}, found on: {}, {defect:x?}", unit.found_running);
                    match result {
                        Ok(_) => assert_eq!(states(&iommu), [UnitState::On], "{text}"),
                        Err(Error::Unit(error @ UnitError::Timeout { unit, register, bit, .. })) => {
                            assert_eq!((unit, register, bit), (machine.windows()[0], "GSTS_REG", status), "{text}");
                            let [UnitState::Failed { error: kept, blocking }] = states(&iommu)[..] else { panic!() };
                            assert_eq!(kept, error, "{text}");
                            assert!(!blocking || !reached, "{text}");
                            timeouts.push((bit, defect == Defect::StatusStuckLow(1 << 31)));
                        }
                        Err(error) => panic!("{text}: {error}"),
                    }
                    // What the status says wrongly is broken in the machine, not in the driver.
                    machine.abandon();
                }
            }
        }
    }
    for status in ["QIES", "RTPS", "TES", "WBFS"] {
        assert!(timeouts.iter().any(|(bit, _)| *bit == status), "{status}");
    }
}

#[test]
fn whatever_else_the_driver_waits_for_is_named_too() {
    let timeout = |result: Result<(), Error>| match result {
        Err(Error::Unit(UnitError::Timeout { register, bit, .. })) => (register, bit),
        other => panic!("{other:?}"),
    };
    // Protected memory that stays on keeps more blocked, not less.
    let machine = machine([UnitConfig::client()]);
    assert!(protect(&machine, &UnitConfig::client()));
    machine.break_unit(0, Defect::ProtectionStuck);
    let iommu = discover(&machine, &[]).unwrap();
    assert_eq!(timeout(iommu.enable().map(drop)), ("PMEN_REG", "PRS"));
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: true, .. }]));
    assert!(!write(&machine, function(0, 3), MEMORY, 1) && !write(&machine, function(0, 3), 0x1000, 1));

    // A write-buffer flush, where nothing is invalidated.
    let buffered = cofferdam_support::machine::machine([behind_write_buffers(UnitConfig::client())]);
    let iommu = enabled(&buffered);
    let cell = cell_with(&iommu, region(0, MEMORY, PAGE, Rights::all()), function(0, 3));
    buffered.break_unit(0, Defect::StatusStuckHigh(1 << 27));
    let result = iommu.map(cell, region(LARGE, MEMORY, PAGE, Rights::all()));
    assert_eq!(timeout(result.map(|_| ())), ("GSTS_REG", "WBFS"));
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: true, .. }]));
    assert!(!write(&buffered, function(0, 4), MEMORY, 1));
    buffered.abandon();

    // A queue that has died is noticed when it is to be switched off, and its frames stay.
    let dead = cofferdam_support::machine::machine([UnitConfig::server()]);
    let iommu = enabled(&dead);
    dead.break_unit(0, Defect::QueueDead);
    timeout(iommu.disable());
    assert_eq!(dead.frames_in_use(), 3);
    assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }]));
    dead.abandon();
}
