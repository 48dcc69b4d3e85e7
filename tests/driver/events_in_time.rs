//! T5: what comes before any access of a call: faults of other devices at other addresses, and seconds in which the CPU is away.

use std::cell::{Cell, RefCell};

use cofferdam::addr::Rights;
use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::{Options, UnitState};
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

/// What devices try to write, each at an address of its own: also the upper halves differ.
const FIRST: [(u8, u64); 2] = [(1, 0x12_3456_7000), (2, 0x1_fedc_b000)];
const LATER: [(u8, u64); 2] = [(3, 0x2b_cdef_5000), (4, 0x9000)];

fn blocked(machine: &Machine, (device, at): (u8, u64)) {
    assert!(!write(machine, function(0, device), at, 0));
}

/// Counts accesses, so that something happens before one of them.
#[derive(Default)]
struct Countdown(Cell<Option<u32>>);

impl Countdown {
    fn begin(&self, accesses: u32) {
        self.0.set(Some(accesses));
    }

    /// Counts an access. True for the one that was to come.
    fn ends_now(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.and_then(|left| left.checked_sub(1)));
        left == Some(0)
    }

    /// True if there were fewer accesses.
    fn stop(&self) -> bool {
        self.0.take().is_some()
    }
}

/// T5: faults that come at any access while others are read: each is read once, with its own device and address.
#[test]
fn faults_that_come_while_faults_are_read_are_read_once() {
    for access in 0.. {
        let countdown = Countdown::default();
        let before = |_: Call, machine: &Machine| {
            if countdown.ends_now() {
                LATER.iter().for_each(|&it| blocked(machine, it));
            }
        };
        let machine = machine([UnitConfig::server().fault_records(8)]);
        let hal = Watched::new(&machine, before);
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
        FIRST.iter().for_each(|&it| blocked(&machine, it));
        let seen = RefCell::new(Vec::new());
        let note = |fault: cofferdam::fault::Fault| {
            seen.borrow_mut().push((fault.source.device(), fault.address.unwrap().as_u64()));
        };
        countdown.begin(access);
        let mut log = iommu.faults(note);
        let came = !countdown.stop();
        for _ in 0..2 {
            if log.pending {
                log = iommu.faults(note);
            }
        }
        assert!(!log.pending && !log.overflowed, "at access {access}");
        if !came {
            assert!(access > 10, "reading takes some accesses: {access}");
            assert_eq!(*seen.borrow(), FIRST);
            return;
        }
        // Those that came behind the last look are still to be read, and have sent an event.
        iommu.faults(note);
        assert_eq!(*seen.borrow(), [FIRST, LATER].concat(), "at access {access}");
        let events = machine.messages().len();
        assert!(!write(&machine, function(0, 5), 0, 0));
        assert_eq!(machine.messages().len(), events + 1, "at access {access}: the next fault sends an event");
    }
}

/// T5: a CPU that is away for longer than any deadline, at any access of a change, finds what the unit did meanwhile.
#[test]
fn a_cpu_that_is_away_for_seconds_fails_no_change() {
    for (name, unit) in [("a queue", UnitConfig::server()), ("registers", UnitConfig::first_generation())] {
        for access in 0.. {
            let countdown = Countdown::default();
            let before = |_: Call, machine: &Machine| {
                if countdown.ends_now() {
                    machine.pass(30_000_000_000);
                }
            };
            let machine = machine([unit.clone()]);
            let hal = Watched::new(&machine, before);
            let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
            let cell = cell_with(&iommu, region(0, 0x6000_0000, 2 * PAGE, Rights::all()), function(0, 1));
            assert!(write(&machine, function(0, 1), 0, 1));
            countdown.begin(access);
            assert_eq!(iommu.unmap(cell, range(0, PAGE)).map(drop), Ok(()), "{name}, at access {access}");
            assert_eq!(states(&iommu), [UnitState::On], "{name}, at access {access}");
            assert!(!write(&machine, function(0, 1), 0, 2), "{name}, at access {access}");
            if countdown.stop() {
                assert!(access > 10, "{name}: a change takes some accesses: {access}");
                break;
            }
        }
    }
}

/// T5: a unit that was handed back sends no event, nor does it when it is switched on again, until somebody asks for it.
#[test]
fn a_unit_that_was_handed_back_sends_no_event() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled(&machine);
        iommu.set_fault_event(Some(FaultEvent::to(0, 0x41))).unwrap();
        assert!(!write(&machine, function(0, 1), 0, 0));
        assert_eq!(machine.messages().len(), 1, "{name}");
        // The fault is not read.
        iommu.disable().unwrap();
        assert!(write(&machine, function(0, 1), 0x6000_0000, 0), "{name}");
        iommu.enable().unwrap();
        assert!(!write(&machine, function(0, 1), 0, 0), "{name}");
        assert_eq!(machine.messages().len(), 1, "{name}");
        assert_eq!(iommu.faults(|_| ()).records, 1, "{name}: what was left is gone");
    }
}
