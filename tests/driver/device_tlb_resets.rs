//! Device-TLBs behind a unit that was reset, that lost its queue, or that was forgotten: what they have cached outlives that.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Error, Options};
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{Answer, Defect, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, RW, audit};

const MEMORY: u64 = 0x6000_0000;
const CARD: SourceId = SourceId::new(0, 0, 3, 0).unwrap();
const DISK: SourceId = SourceId::new(0, 0, 4, 0).unwrap();
const DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true, messages: 0 };

/// A machine whose card may have a device-TLB.
fn machine_with_card() -> Machine {
    let machine = machine([UnitConfig::server()]);
    machine.add_ats(CARD, 32);
    machine
}

/// A cell of two pages with the card, which has cached where the first is.
fn card_with_a_page(machine: &Machine) -> (Front<&Machine>, CellId) {
    let iommu = enabled_with_ats(machine);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
    iommu.assign_with(CARD, cell, DEVICE_TLB).unwrap();
    assert!(ats_write(machine, CARD, INPUT, 1));
    (iommu, cell)
}

/// The unit is switched on again after the first page was taken from the card, and another cell, whose disk is `DISK`, maps it:
/// not both reach it.
fn assert_page_is_not_reached_by_both(machine: &Machine, iommu: &Front<&Machine>, other: CellId, name: &str) {
    let mut withheld = 0;
    iommu.withheld(|_| withheld += 1).unwrap();
    assert_eq!(withheld, 1, "{name}");
    let enabled = iommu.enable();
    let mapped = iommu.map(other, region(INPUT + PAGE, MEMORY, PAGE, RW));
    let both = (ats_write(machine, CARD, INPUT, 2), write(machine, DISK, INPUT + PAGE, 3));
    let said = audit(iommu);
    assert!(enabled.is_ok() && both != (true, true), "{name}: {enabled:?} {mapped:?} {both:?}; audit: {said:?}");
}

fn cell_with_disk(iommu: &Front<&Machine>) -> CellId {
    cell_with(iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), DISK)
}

/// A unit that was reset alone is on again, but a device-TLB behind it still has what was taken away meanwhile.
#[test]
fn a_reset_unit_frees_nothing_a_device_tlb_has() {
    for dead in [false, true] {
        let machine = machine_with_card();
        let (iommu, cell) = card_with_a_page(&machine);
        let other = cell_with_disk(&iommu);
        if dead {
            machine.break_unit(0, Defect::QueueDead);
            iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
            machine.mend_unit(0);
            machine.reset_unit(0);
        } else {
            machine.reset_unit(0);
            iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        }
        assert_page_is_not_reached_by_both(&machine, &iommu, other, if dead { "dead before" } else { "reset" });
        machine.abandon();
    }
}

/// What a device-TLB may still write after its unit was reset: rights that were taken away.
#[test]
fn a_reset_unit_leaves_no_rights_in_a_device_tlb() {
    let machine = machine_with_card();
    let (iommu, cell) = card_with_a_page(&machine);
    machine.reset_unit(0);
    iommu.protect(cell, range(INPUT, PAGE), Rights::READ).unwrap_err();
    iommu.enable().unwrap();
    iommu.commit(&[]).unwrap();
    let (writes, said) = (ats_write(&machine, CARD, INPUT, 2), audit(&iommu));
    let needs = iommu.units().any(|unit| unit.needs_flush);
    machine.abandon();
    assert!(!writes, "audit {said:?}, needs a flush: {needs}");
}

/// A queue that was lost alone, as by somebody else's command, and comes back.
#[test]
fn a_queue_that_comes_back_frees_nothing_a_device_tlb_has() {
    const GCMD: u32 = 0x18;
    let machine = machine_with_card();
    let (iommu, cell) = card_with_a_page(&machine);
    let other = cell_with_disk(&iommu);
    // Translation stays on, the queue goes off.
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write32(mapped(machine.windows()[0]), GCMD, 1 << 31) };
    machine.pass(1_000_000);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    assert_page_is_not_reached_by_both(&machine, &iommu, other, "the queue alone");
    machine.abandon();
}

/// A device-TLB that did not answer stays blocked when its unit was reset and is on again.
#[test]
fn who_is_quarantined_stays_so_after_a_reset() {
    let machine = machine_with_card();
    let (iommu, cell) = card_with_a_page(&machine);
    machine.set_device_tlb(CARD, Answer::Never, 32);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    machine.reset_unit(0);
    iommu.enable().unwrap();
    machine.set_config(CARD, 0x144, 1 << 31);
    assert!(!ats_write(&machine, CARD, INPUT, 2) && !ats_write(&machine, CARD, INPUT + PAGE, 2));
    assert!(!write(&machine, CARD, INPUT + PAGE, 2));
    machine.abandon();
}

/// A device behind a unit that was forgotten and is back has its device-TLB emptied before it comes again.
#[test]
fn a_device_tlb_of_a_forgotten_unit_is_emptied() {
    for device_tlb in [false, true] {
        let machine = machine_with_card();
        let (iommu, cell) = card_with_a_page(&machine);
        machine.break_unit(0, Defect::QueueDead);
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        // SAFETY: the device does nothing until the unit is back.
        unsafe { iommu.forget_unit(machine.windows()[0]) }.unwrap();
        machine.mend_unit(0);
        machine.reset_unit(0);
        iommu.enable().unwrap();
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
        iommu.assign_with(CARD, other, DeviceConfig { device_tlb, messages: 0 }).unwrap();
        assert!(!ats_write(&machine, CARD, INPUT, 2), "{device_tlb}");
        machine.abandon();
    }
}

/// A device whose reset was given up reads all ones, as one that was pulled out does, but is there: it is released only
/// once it has answered that its device-TLB is empty.
#[test]
fn who_does_not_come_back_from_a_reset_does_not_count_as_gone() {
    const MILLISECOND: u64 = 1_000_000;
    let machine = machine_with_card();
    machine.add_express(CARD);
    machine.add_reset(CARD, Reset::Express, 400 * MILLISECOND);
    let options = Options { timeout_ns: 50 * MILLISECOND, ..Options::DEFAULT };
    let iommu = enabled_front(&machine, &table_with_ats(&machine), options);
    let cell = iommu.create_cell(CellConfig { reset: ResetPolicy::Required, ..UNSAFE_INTERRUPTS }).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    iommu.assign_with(CARD, cell, DEVICE_TLB).unwrap();
    assert!(ats_write(&machine, CARD, INPUT, 1));
    let given_up = |result| matches!(result, Err(Error::NotReset { device: CARD, waited_ns }) if waited_ns != 0);
    assert!(given_up(iommu.release(CARD)));
    assert_eq!(machine.config_read(CARD, 0), u32::MAX);
    machine.set_device_tlb(CARD, Answer::Never, 32);
    let silent = UnitError::Device { unit: machine.windows()[0], requester: CARD.into() };
    assert_eq!(iommu.release(CARD), Err(Error::Unit(silent)));
    machine.set_device_tlb(CARD, Answer::After(0), 32);
    machine.pass(400 * MILLISECOND);
    iommu.release(CARD).unwrap();
    assert_eq!(machine.resets(CARD), 1);
}
