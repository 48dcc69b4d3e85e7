//! Two CPUs in calls that write several registers: the second comes at any access of the first.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use cofferdam::interrupt::FaultEvent;
use cofferdam::iommu::Options;
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

thread_local! {
    /// This thread is the first CPU.
    static FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Long enough for a call that nobody holds up.
const A_WHILE: Duration = Duration::from_millis(20);

/// T2: the fault event has the message of one call or of the other, never parts of both.
#[test]
fn a_fault_event_is_named_by_one_cpu_at_a_time() {
    let messages = [(0x0001_2300_fee4_5000, 0x41), (0x0002_3400_fee5_6000, 0x52)];
    let [first, second] =
        [(0x1_2345, 0x41), (0x2_3456, 0x52)].map(|(apic_id, vector)| Some(FaultEvent::to(apic_id, vector)));
    let mut stopped = 0;
    for access in 0..8 {
        let (left, stops, done) = (AtomicU32::new(access), AtomicBool::new(false), AtomicBool::new(false));
        let before = |_: Call, _: &Machine| {
            if FIRST.get() && left.fetch_sub(1, SeqCst) == 0 {
                stops.store(true, SeqCst);
                let since = Instant::now();
                while !done.load(SeqCst) && since.elapsed() < A_WHILE {
                    thread::yield_now();
                }
            }
        };
        let machine = machine([UnitConfig::client()]);
        let hal = Watched::shared(&machine, before);
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
        thread::scope(|scope| {
            let one = scope.spawn(|| {
                FIRST.set(true);
                iommu.set_fault_event(first)
            });
            while !stops.load(SeqCst) && !one.is_finished() {
                thread::yield_now();
            }
            iommu.set_fault_event(second).unwrap();
            done.store(true, SeqCst);
            one.join().unwrap().unwrap();
        });
        stopped += u32::from(stops.load(SeqCst));
        assert!(!write(&machine, function(0, 1), 0, 0));
        let sent = machine.messages();
        assert!(sent.len() == 1 && messages.contains(&sent[0]), "at access {access}: {sent:x?}");
        iommu.faults(|_| ());
    }
    assert!(stopped >= 5, "the message is several registers: {stopped}");
}
