//! What a unit's devices may still reach after a change that failed is kept from the root cell.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cofferdam::addr::Rights;
use cofferdam::iommu::{DeviceConfig, Error, Options};
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// A device-TLB does not answer, so what was granted is taken back; by then another device has used it, and now the unit fails.
#[test]
fn what_could_not_be_taken_back_is_withheld() {
    // The first entry that is cleared is that of the device that does not answer, and another that of the page.
    let reached: Vec<_> = (0..6).map(reached_if_the_unit_fails_at).collect();
    assert!(!reached.contains(&(true, true)), "the card by what its unit has cached: {reached:?}");
    assert!(reached.contains(&(true, false)) && reached.contains(&(false, true)), "{reached:?}");
}

/// The unit of the card fails when that many entries were cleared. Whether the card and the root cell's disk reach the page.
fn reached_if_the_unit_fails_at(cleared: u32) -> (bool, bool) {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (disk, card, silent) = (function(0, 1), function(1, 0), function(1, 1));
    machine.add_ats(silent, 32);
    let (used, waited) = (AtomicBool::new(false), AtomicBool::new(false));
    let left = AtomicU32::new(cleared);
    let before = |call: Call, machine: &Machine| match call {
        Call::Pause if used.load(Ordering::Relaxed) => {
            let _ = write(machine, card, INPUT, 1);
            waited.store(true, Ordering::Relaxed);
        }
        Call::Store(0) if waited.load(Ordering::Relaxed) && left.fetch_sub(1, Ordering::Relaxed) == 0 => {
            machine.break_unit(0, Defect::QueueDead);
        }
        _ => {}
    };
    let hal = Watched { machine: &machine, before };
    let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
    let iommu = enabled_front(&hal, &table, Options::default());
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(root, region(MEMORY, MEMORY, 8 * LARGE, RW)).unwrap();
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT + LARGE, MEMORY + LARGE, PAGE, Rights::READ)).unwrap();
    iommu.assign(card, cell).unwrap();
    iommu.assign_with(silent, cell, DeviceConfig { device_tlb: true }).unwrap();
    machine.set_device_tlb(silent, Answer::Never, 32);
    used.store(true, Ordering::Relaxed);
    // What gets more rights is flushed after it is granted.
    let mut change = iommu.change();
    change.map(cell, region(INPUT, MEMORY, PAGE, RW)).protect(cell, range(INPUT + LARGE, PAGE), RW);
    assert!(matches!(change.commit(), Err(Error::Unit(_))));
    used.store(false, Ordering::Relaxed);
    assert!(waited.load(Ordering::Relaxed));
    iommu.assign(disk, root).unwrap();
    iommu.map(root, region(MEMORY + 8 * LARGE, MEMORY + 8 * LARGE, PAGE, RW)).unwrap();
    let both = (write(&machine, card, INPUT, 2), write(&machine, disk, MEMORY, 3));
    assert!(write(&machine, disk, MEMORY + 2 * LARGE, 4), "the rest is the root cell's");
    machine.abandon();
    both
}
