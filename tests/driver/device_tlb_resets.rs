//! Device-TLBs behind a unit that was reset, that lost its queue, or that was forgotten: what they have cached outlives that.

use cofferdam::addr::Rights;
use cofferdam::hal::Hal;
use cofferdam::iommu::DeviceConfig;
use cofferdam_model::{Answer, Defect, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::{INPUT, RW, audit};

const MEMORY: u64 = 0x6000_0000;
const DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true };

fn withheld<H: Hal>(iommu: &Front<H>) -> usize {
    let mut count = 0;
    iommu.withheld(|_| count += 1).unwrap();
    count
}

/// A unit that was reset alone is on again, but a device-TLB behind it still has what was taken away meanwhile.
#[test]
fn a_reset_unit_frees_nothing_a_device_tlb_has() {
    for dead in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let mut iommu = enabled_with_ats(&machine);
        let (card, disk) = (function(0, 3), function(0, 4));
        machine.add_ats(card, 32);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
        iommu.assign_with(card, cell, DEVICE_TLB).unwrap();
        let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), disk);
        assert!(ats_write(&machine, card, INPUT, 1));
        if dead {
            machine.break_unit(0, Defect::QueueDead);
            iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
            machine.mend_unit(0);
            machine.reset_unit(0);
        } else {
            machine.reset_unit(0);
            iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        }
        assert_eq!(withheld(&iommu), 1);
        iommu.enable().unwrap();
        let mapped = iommu.map(other, region(INPUT + PAGE, MEMORY, PAGE, RW));
        let both = (ats_write(&machine, card, INPUT, 2), write(&machine, disk, INPUT + PAGE, 3));
        let said = audit(&iommu);
        machine.abandon();
        assert_ne!(both, (true, true), "dead {dead}: {mapped:?}; audit: {said:?}");
    }
}

/// What a device-TLB may still write after its unit was reset: rights that were taken away.
#[test]
fn a_reset_unit_leaves_no_rights_in_a_device_tlb() {
    let machine = machine([UnitConfig::server()]);
    let mut iommu = enabled_with_ats(&machine);
    let card = function(0, 3);
    machine.add_ats(card, 32);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
    iommu.assign_with(card, cell, DEVICE_TLB).unwrap();
    assert!(ats_write(&machine, card, INPUT, 1));
    machine.reset_unit(0);
    iommu.protect(cell, range(INPUT, PAGE), Rights::READ).unwrap_err();
    iommu.enable().unwrap();
    iommu.commit(&[]).unwrap();
    let (writes, said) = (ats_write(&machine, card, INPUT, 2), audit(&iommu));
    let needs = iommu.units().any(|unit| unit.needs_flush);
    machine.abandon();
    assert!(!writes, "audit {said:?}, needs a flush: {needs}");
}

/// A queue that was lost alone, as by somebody else's command, and comes back.
#[test]
fn a_queue_that_comes_back_frees_nothing_a_device_tlb_has() {
    const GCMD: u32 = 0x18;
    let machine = machine([UnitConfig::server()]);
    let mut iommu = enabled_with_ats(&machine);
    let (card, disk) = (function(0, 3), function(0, 4));
    machine.add_ats(card, 32);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
    iommu.assign_with(card, cell, DEVICE_TLB).unwrap();
    let other = cell_with(&iommu, region(INPUT, MEMORY + LARGE, PAGE, RW), disk);
    assert!(ats_write(&machine, card, INPUT, 1));
    // Translation stays on, the queue goes off.
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write32(machine.windows()[0], GCMD, 1 << 31) };
    machine.pass(1_000_000);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    assert_eq!(withheld(&iommu), 1);
    let enabled = iommu.enable();
    let mapped = iommu.map(other, region(INPUT + PAGE, MEMORY, PAGE, RW));
    let both = (ats_write(&machine, card, INPUT, 2), write(&machine, disk, INPUT + PAGE, 3));
    let said = audit(&iommu);
    machine.abandon();
    assert_ne!(both, (true, true), "{enabled:?} {mapped:?}; audit: {said:?}");
}

/// A device-TLB that did not answer stays blocked when its unit was reset and is on again.
#[test]
fn who_is_quarantined_stays_so_after_a_reset() {
    let machine = machine([UnitConfig::server()]);
    let mut iommu = enabled_with_ats(&machine);
    let card = function(0, 3);
    machine.add_ats(card, 32);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
    iommu.assign_with(card, cell, DEVICE_TLB).unwrap();
    assert!(ats_write(&machine, card, INPUT, 1));
    machine.set_device_tlb(card, Answer::Never, 32);
    iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
    machine.reset_unit(0);
    iommu.enable().unwrap();
    machine.set_config(card, 0x144, 1 << 31);
    assert!(!ats_write(&machine, card, INPUT, 2) && !ats_write(&machine, card, INPUT + PAGE, 2));
    assert!(!write(&machine, card, INPUT + PAGE, 2));
    machine.abandon();
}

/// A device behind a unit that was forgotten and is back has its device-TLB emptied before it comes again.
#[test]
fn a_device_tlb_of_a_forgotten_unit_is_emptied() {
    for device_tlb in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let mut iommu = enabled_with_ats(&machine);
        let card = function(0, 3);
        machine.add_ats(card, 32);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
        iommu.assign_with(card, cell, DEVICE_TLB).unwrap();
        assert!(ats_write(&machine, card, INPUT, 1));
        machine.break_unit(0, Defect::QueueDead);
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap_err();
        // SAFETY: the device does nothing until the unit is back.
        unsafe { iommu.forget_unit(machine.windows()[0]) }.unwrap();
        machine.mend_unit(0);
        machine.reset_unit(0);
        iommu.enable().unwrap();
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(other, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW)).unwrap();
        iommu.assign_with(card, other, DeviceConfig { device_tlb }).unwrap();
        assert!(!ats_write(&machine, card, INPUT, 2), "{device_tlb}");
        machine.abandon();
    }
}
