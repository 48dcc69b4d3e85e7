//! `disable` goes by what registers show to be on: a unit that has lost one of them was not reset, and may walk the driver's tables.

use cofferdam::hal::Hal;
use cofferdam::iommu::Error;
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::cost::{Cost, cost};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

const MEMORY: u64 = 0x6000_0000;
const GCMD: u32 = 0x18;
const GSTS: u32 = 0x1c;
const RTADDR: u32 = 0x20;
const TES: u32 = 1 << 31;
const RTPS: u32 = 1 << 30;
const QIES: u32 = 1 << 26;

fn status(machine: &Machine, unit: usize) -> u32 {
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.read32(mapped(machine.windows()[unit]), GSTS) }
}

/// Fails if the unit was handed back, or its frames, while it shows any of these bits.
fn assert_off_or_kept(machine: &Machine, iommu: &Front<&Machine>, disabled: Result<(), Error>, bits: u32) {
    let (now, frames, state) = (status(machine, 0), machine.frames_in_use(), states(iommu));
    let found = machine.violations();
    assert!(
        disabled.is_err() && frames != 0 || now & bits == 0,
        "{disabled:?}, GSTS {now:#x}, {frames} frames, {state:?}, {found:?}"
    );
}

/// The front of a unit that did not confirm in time that translation is on.
fn half_enabled(machine: &Machine) -> Front<&Machine> {
    let iommu = discover(machine, &[]).unwrap();
    iommu.prepare().unwrap();
    machine.break_unit(0, Defect::StatusStuckLow(TES));
    iommu.enable().unwrap_err();
    iommu
}

/// I10: `disable` gives no frame back that a unit still uses by its registers: here RTADDR_REG shows another address, and nothing
/// else has changed.
#[test]
fn disable_switches_off_what_still_translates() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    // SAFETY: as above.
    unsafe { machine.write64(mapped(machine.windows()[0]), RTADDR, 0x0800_0000) };
    let disabled = iommu.disable();
    let (now, frames, state) = (status(&machine, 0), machine.frames_in_use(), states(&iommu));
    let open = write(&machine, function(0, 3), MEMORY, 1);
    let found = machine.abandon();
    let is_on = now & (TES | QIES) != 0;
    assert!(
        disabled.is_err() && frames != 0 || !is_on && open,
        "{disabled:?}, GSTS {now:#x}, {frames} frames in use, {state:?}, open {open}, {found:?}"
    );
}

/// The same where RTPS is not shown any more.
#[test]
fn disable_switches_off_what_shows_no_root_table() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    machine.break_unit(0, Defect::StatusStuckLow(RTPS));
    let disabled = iommu.disable();
    assert_off_or_kept(&machine, &iommu, disabled, TES | QIES);
    machine.abandon();
}

/// A unit that did not confirm that translation is on in time, and whose queue is lost then: its tables are not given back while
/// it may walk them.
#[test]
fn a_half_enabled_unit_that_lost_its_queue_keeps_its_frames() {
    let machine = machine([UnitConfig::server()]);
    let iommu = half_enabled(&machine);
    machine.break_unit(0, Defect::StatusStuckLow(QIES));
    let disabled = iommu.disable();
    machine.mend_unit(0);
    assert_off_or_kept(&machine, &iommu, disabled, TES | QIES);
    machine.abandon();
}

/// The same, but it comes late, after the deadline: visible in GSTS_REG when `disable` is called.
#[test]
fn a_half_enabled_unit_that_is_late_is_switched_off_or_kept() {
    let machine = machine([UnitConfig::server()]);
    let iommu = half_enabled(&machine);
    machine.mend_unit(0);
    machine.break_unit(0, Defect::StatusStuckLow(QIES));
    let disabled = iommu.disable();
    assert_off_or_kept(&machine, &iommu, disabled, TES);
    machine.abandon();
}

/// After a sleep state firmware has its own tables on. `disable` says that all units are off, and then they are.
#[test]
fn disable_after_a_sleep_state_switches_firmware_off() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let (window, root) = (machine.windows()[0], machine.allocate(0).unwrap().as_u64());
    machine.reset_unit(0);
    // This is firmware: its root table, in which nothing is present, and translation.
    // SAFETY: as above.
    unsafe { machine.write64(mapped(window), RTADDR, root) };
    for command in [RTPS, TES] {
        // SAFETY: as above.
        unsafe { machine.write32(mapped(window), GCMD, command) };
        machine.pass(100_000);
    }
    assert!(status(&machine, 0) & TES != 0 && !write(&machine, function(0, 3), MEMORY, 1));
    let disabled = iommu.disable();
    let (now, state) = (status(&machine, 0), states(&iommu));
    let open = write(&machine, function(0, 3), MEMORY, 1);
    machine.abandon();
    assert!(disabled.is_err() || now & TES == 0 && open, "{disabled:?}, GSTS {now:#x}, {state:?}, open {open}");
}

/// T4: a unit that was handed back knows nothing any more, so it needs no flush for what failed before: neither for a
/// flush that was not repeated, nor for a failure that a reset ended.
#[test]
fn a_unit_that_was_handed_back_needs_no_flush() {
    for was_reset in [false, true] {
        let machine = machine([UnitConfig::server().caching_mode(true)]);
        let iommu = enabled(&machine);
        let needs = |iommu: &Front<&Machine>| iommu.units().map(|unit| unit.needs_flush).collect::<Vec<_>>();
        machine.break_unit(0, if was_reset { Defect::QueueDead } else { Defect::QueueErrorAfter(0) });
        iommu.mute(function(0, 3), true).unwrap_err();
        machine.mend_unit(0);
        if was_reset {
            machine.reset_unit(0);
            iommu.enable().unwrap();
        }
        assert_eq!(needs(&iommu), [true], "was reset: {was_reset}");
        iommu.disable().unwrap();
        assert_eq!(needs(&iommu), [false], "off, was reset: {was_reset}");
        iommu.enable().unwrap();
        assert_eq!(needs(&iommu), [false], "on again, was reset: {was_reset}");
        assert_eq!(cost(&iommu, || iommu.commit(&[]).unwrap()), Cost::NOTHING, "was reset: {was_reset}");
        machine.check();
    }
}
