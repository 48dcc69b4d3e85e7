//! Devices that vanish while a call is at work, or in their reset, and others that come in their places meanwhile.

use std::cell::Cell;

use cofferdam::addr::SourceId;
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Difference, Error, Options};
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{BridgeKind, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use crate::audit::{assert_nothing_differs, audit};
use crate::device_tlb::{DEVICE_TLB, INPUT, MEMORY, RW};
use crate::hot_plug::{BAR, assert_untouched, is_master, plug_in_another, quarantined};

/// Link Capabilities and Link Status of the model's ports.
const LINK_CAPABILITIES: u16 = 0x4c;
const LINK_STATUS: u16 = 0x50;
const ACTIVE: u32 = 1 << 29;
const TO_RESET: CellConfig = CellConfig { reset: ResetPolicy::Required, ..UNSAFE_INTERRUPTS };
const PORT: SourceId = SourceId::from_requester(0, 1 << 3);
const BEHIND: SourceId = SourceId::from_requester(0, 1 << 8);

/// A device in a slot, with a device-TLB, whose reset takes so long.
fn slot(machine: &Machine, reset_ns: u64) {
    machine.add_bridge(PORT, BridgeKind::RootPort, 1..=1);
    [(LINK_CAPABILITIES, 1 << 20), (LINK_STATUS, ACTIVE)]
        .iter()
        .for_each(|&(at, value)| machine.set_config(PORT, at, value));
    machine.add_express(BEHIND);
    machine.add_ats(BEHIND, 32);
    machine.add_reset(BEHIND, Reset::Express, reset_ns);
}

fn pull(machine: &Machine) {
    machine.pull_out(BEHIND);
    machine.set_config(PORT, LINK_STATUS, 0);
}

/// Changes that are short of patience.
fn impatient<H: Hal>(hal: H, machine: &Machine) -> Front<H> {
    let options = Options { timeout_ns: 20_000_000, device_timeout_ns: 40_000_000, ..Options::DEFAULT };
    limited_front(hal, &table_with_ats(machine), &Limits::DEFAULT, options)
}

fn cell_with_tlb<H: Hal>(iommu: &Front<H>, config: CellConfig) -> CellId {
    let cell = iommu.create_cell(config).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
    iommu.assign_with(BEHIND, cell, DEVICE_TLB).unwrap();
    cell
}

/// A device whose reset does not end is kept while its link says that it is there, and not once it was pulled out, be it with the
/// port above it.
#[test]
fn a_device_that_is_pulled_out_of_its_reset_leaves_its_cell() {
    for with_port in [false, true] {
        let machine = machine([UnitConfig::server()]);
        slot(&machine, 1 << 40);
        let iommu = impatient(&machine, &machine);
        let cell = cell_with_tlb(&iommu, TO_RESET);
        for _ in 0..2 {
            assert!(matches!(iommu.destroy_cell(cell), Err(Error::NotReset { .. })));
        }
        assert_eq!(quarantined(&iommu), [BEHIND]);
        if with_port {
            [BEHIND, PORT].iter().for_each(|function| machine.pull_out(*function));
        } else {
            pull(&machine);
        }
        iommu.destroy_cell(cell).unwrap();
        machine.check();
    }
}

/// A port that cannot tell whether its link is active says nothing about it: the device is waited for.
#[test]
fn a_port_that_reports_no_link_lets_no_device_go() {
    let machine = machine([UnitConfig::server()]);
    slot(&machine, 1 << 40);
    [LINK_CAPABILITIES, LINK_STATUS].iter().for_each(|at| machine.set_config(PORT, *at, 0));
    let iommu = impatient(&machine, &machine);
    let cell = cell_with_tlb(&iommu, TO_RESET);
    for _ in 0..2 {
        assert!(matches!(iommu.destroy_cell(cell), Err(Error::NotReset { .. })));
    }
    machine.abandon();
}

/// What was noted of a device whose reset did not end is not written to another one in its place, which is reset itself.
#[test]
fn registers_of_a_device_are_not_restored_in_another() {
    for can_be_reset in [false, true] {
        let machine = machine([UnitConfig::server()]);
        slot(&machine, 1 << 40);
        machine.set_config(BEHIND, BAR, 0xfe00_0000);
        let iommu = impatient(&machine, &machine);
        let config = CellConfig { reset: ResetPolicy::IfPossible, ..UNSAFE_INTERRUPTS };
        let cell = cell_with_tlb(&iommu, config);
        assert!(matches!(iommu.release(BEHIND), Err(Error::NotReset { .. })));
        plug_in_another(&machine, BEHIND);
        if can_be_reset {
            machine.add_reset(BEHIND, Reset::Express, 0);
        }
        iommu.release(BEHIND).unwrap();
        assert_untouched(&machine, BEHIND, "in the place of one whose reset did not end");
        assert_eq!(machine.resets(BEHIND), u32::from(can_be_reset));
        assert!(!is_master(&machine, BEHIND));
        iommu.destroy_cell(cell).unwrap();
        machine.check();
    }
}

/// A call that is at work while something happens to the device.
#[derive(Clone, Copy, Debug)]
enum AtWork {
    Release,
    Unmap,
    Assign,
    Isolate,
    Sleep,
}

/// Does the call with something happening before its `n`th access, or wait. False if it ends before.
fn happens_at(n: usize, at_work: AtWork, is_replaced: bool) -> bool {
    let (armed, accesses) = (Cell::new(false), Cell::new(0));
    let (armed, accesses) = (&armed, &accesses);
    let look = move |call: Call, machine: &Machine| {
        // Nobody takes one out and puts another in between two accesses, but while somebody waits.
        if !armed.get() || is_replaced && call != Call::Pause {
            return;
        }
        if accesses.replace(accesses.get() + 1) == n {
            armed.set(false);
            if is_replaced { plug_in_another(machine, BEHIND) } else { pull(machine) }
        }
    };
    let hal = Watched::new(machine([UnitConfig::server()]), look);
    let (machine, when) = (&hal.machine, format!("{at_work:?}, before access {n}, replaced {is_replaced}"));
    slot(machine, 0);
    let iommu = impatient(&hal, machine);
    let cell = match at_work {
        AtWork::Assign => {
            let cell = iommu.create_cell(TO_RESET).unwrap();
            iommu.map(cell, region(INPUT, MEMORY, 2 * PAGE, RW)).unwrap();
            cell
        }
        _ => cell_with_tlb(&iommu, UNSAFE_INTERRUPTS),
    };
    armed.set(true);
    let config = DeviceConfig { device_tlb: true, messages: 0 };
    let result = match at_work {
        AtWork::Release => iommu.release(BEHIND).map(drop),
        AtWork::Unmap => iommu.unmap(cell, range(INPUT, PAGE)).map(drop),
        AtWork::Assign => iommu.assign_with(BEHIND, cell, config).map(drop),
        AtWork::Isolate => iommu.isolate(),
        AtWork::Sleep => iommu.suspend().and_then(|()| iommu.resume(|_| ())),
    };
    let happened = !armed.replace(false);
    match result {
        Ok(()) | Err(Error::Unit(UnitError::Device { .. }) | Error::NotReset { .. } | Error::NotIdle { .. }) => {}
        Err(Error::Refused { .. }) if matches!(at_work, AtWork::Assign) => {}
        Err(error) => panic!("{when}: {error}"),
    }
    if is_replaced && happened {
        // Nothing stands in the way of the rescan, and another device reaches nothing after it, unless it came before it was
        // looked at.
        iommu.isolate().unwrap();
        let has_it = iommu.device_info(BEHIND).unwrap().cell.is_some();
        let is_known = audit(&iommu).iter().any(|it| matches!(it, Difference::OtherDevice { .. }));
        assert!(!has_it || is_known || matches!(at_work, AtWork::Assign), "{when}");
        assert!(!is_known || !write(machine, BEHIND, INPUT, 1), "{when}: it reaches memory");
    }
    iommu.isolate().unwrap();
    let free = iommu.release(BEHIND).map(drop);
    assert!(matches!(free, Ok(()) | Err(Error::NotAssigned(_))), "{when}: {free:?}");
    iommu.destroy_cell(cell).unwrap();
    if is_replaced && happened {
        assert_untouched(machine, BEHIND, &when);
        assert!(!write(machine, BEHIND, INPUT, 1), "{when}");
    }
    assert_nothing_differs(&iommu, &when);
    machine.check();
    happened
}

/// Whenever a device vanishes, or another takes its place, it leaves its cell by the next release at the latest, nothing of another
/// is written to but its bus mastering, and the rest of the machine is as it was.
#[test]
fn whenever_a_device_vanishes_its_cell_is_free_again() {
    for at_work in [AtWork::Release, AtWork::Unmap, AtWork::Assign, AtWork::Isolate, AtWork::Sleep] {
        for is_replaced in [false, true] {
            let mut n = 0;
            while happens_at(n, at_work, is_replaced) {
                // Most of the rescan is looks at empty places, and most of a wait is pauses.
                n += 1 + if n < 200 { 0 } else { n / 8 };
            }
            let least = match at_work {
                _ if !is_replaced => 10,
                AtWork::Release | AtWork::Unmap => 1,
                // They wait for nothing.
                AtWork::Assign | AtWork::Isolate | AtWork::Sleep => 0,
            };
            assert!(n >= least, "{at_work:?}, replaced {is_replaced}: {n}");
        }
    }
}

/// The machine is given back although a device of the root cell with a device-TLB was pulled out, or another is in its place.
#[test]
fn a_device_that_was_pulled_out_does_not_keep_the_machine() {
    for is_replaced in [false, true] {
        let machine = machine([UnitConfig::server()]);
        slot(&machine, 0);
        let iommu = impatient(&machine, &machine);
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.map(root, region(MEMORY, MEMORY, PAGE, RW)).unwrap();
        iommu.assign_with(BEHIND, root, DEVICE_TLB).unwrap();
        if is_replaced {
            plug_in_another(&machine, BEHIND)
        } else {
            pull(&machine)
        }
        let before = machine.now_ns();
        iommu.hand_back().unwrap();
        assert!(machine.now_ns() - before < 1_000_000, "it was waited for");
        if is_replaced {
            assert_untouched(&machine, BEHIND, "the machine is given back");
        }
        machine.check();
    }
}
