//! Calls that look at functions of the machine, and others that reset devices: in which order they come.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Committed, Error, Options};
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{Machine, Reset, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::{endpoint, of_machine};
use cofferdam_support::watched::{Call, Watched};

use crate::audit::{INPUT, RW};

const MEMORY: u64 = 0x6000_0000;
const MILLISECOND: u64 = 1_000_000;

thread_local! {
    /// The device whose reset this thread's call is to be stopped in.
    static IN_RESET_OF: Cell<Option<SourceId>> = const { Cell::new(None) };
    /// How often this thread's calls waited.
    static PAUSES: Cell<u32> = const { Cell::new(0) };
}

/// Stops calls when they wait for the first time, or in a reset.
fn look(stop: &Stop) -> impl Fn(Call, &Machine) + Sync + '_ {
    move |call, machine| {
        if IN_RESET_OF.get().is_none_or(|device| machine.resets(device) > 0) {
            stop.look(call);
        }
        PAUSES.set(PAUSES.get() + u32::from(call == Call::Pause));
    }
}

fn resettable(machine: &Machine, device: SourceId) {
    machine.add_express(device);
    machine.add_reset(device, Reset::Express, 1000);
}

/// Adds a device that can be reset, in a cell of its own.
fn add<H: Hal>(machine: &Machine, iommu: &Front<H>, device: SourceId, reset: ResetPolicy) -> CellId {
    resettable(machine, device);
    let cell = iommu.create_cell(CellConfig { reset, ..UNSAFE_INTERRUPTS }).unwrap();
    iommu.assign(device, cell).unwrap();
    cell
}

/// A machine on which calls can be stopped, a device that can be reset, and a front without a limit of time.
macro_rules! fixture {
    ($machine:ident, $stop:ident, $iommu:ident, $device:ident) => {
        let ($machine, $stop, $device) = (machine([UnitConfig::server()]), Stop::new(), function(0, 1));
        let hal = Watched::shared(&$machine, look(&$stop));
        let options = Options { timeout_ns: u64::MAX, ..Options::DEFAULT };
        let $iommu = enabled_front(&hal, &of_machine(&$machine, &[]).table(), options);
        add(&$machine, &$iommu, $device, ResetPolicy::Required);
    };
}

/// How long a call takes that waits, as the machine counts time, in milliseconds; and how often it waits.
fn taken(machine: &Machine, run: impl FnOnce() -> Committed) -> (u64, u32) {
    PAUSES.set(0);
    let start = machine.now_ns();
    run();
    ((machine.now_ns() - start) / MILLISECOND, PAUSES.get())
}

/// Two CPUs that reset one device after the other, so that each reset ends only when the other CPU has begun its next one; but
/// none takes longer than 120 ms.
#[derive(Default)]
struct Overlap {
    begun: [AtomicUsize; 2],
    begun_at: [AtomicU64; 2],
    /// How often the call that waits for the end of resets has looked.
    looks: AtomicUsize,
    looked: AtomicBool,
}

thread_local! {
    /// Which of the two CPUs this thread is, and which of its devices is next.
    static WORKER: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

impl Overlap {
    const EACH: usize = 8;

    fn device(worker: usize, index: usize) -> SourceId {
        function(worker as u8 + 1, index as u8)
    }

    fn before(&self, call: Call, machine: &Machine) {
        if call != Call::Pause {
            return;
        }
        let until = |is_over: &dyn Fn() -> bool, real: Duration| {
            let start = Instant::now();
            while !is_over() && start.elapsed() < real {
                thread::yield_now();
            }
        };
        if LOOKS.get() {
            self.looks.fetch_add(1, Ordering::SeqCst);
            // The others' time passes, and not that of the one that waits.
            thread::sleep(Duration::from_micros(200));
        }
        let Some((worker, index)) = WORKER.get() else { return };
        let looks = self.looks.load(Ordering::SeqCst);
        if machine.resets(Self::device(worker, index)) == 0 {
            // Its CPU is no faster than the one that looks.
            let has_looked = || looks == 0 || self.looks.load(Ordering::SeqCst) != looks || self.is_over();
            return until(&has_looked, Duration::from_millis(100));
        }
        if self.begun[worker].fetch_max(index + 1, Ordering::SeqCst) <= index {
            self.begun_at[worker].store(machine.now_ns(), Ordering::SeqCst);
        }
        let has_begun = || self.begun[1 - worker].load(Ordering::SeqCst) >= (index + 1 + worker).min(Self::EACH);
        let begun_at = self.begun_at[worker].load(Ordering::SeqCst);
        let is_late = || machine.now_ns() > begun_at + 120 * MILLISECOND;
        until(&|| has_begun() || is_late(), Duration::from_secs(20));
        if (worker, index) == (0, 0) {
            until(&|| self.looks.load(Ordering::SeqCst) > 0, Duration::from_secs(20));
        }
    }

    fn is_over(&self) -> bool {
        self.looked.load(Ordering::SeqCst)
    }
}

/// A call that looks at functions comes although others never cease to reset devices, each in time.
#[test]
fn resets_that_overlap_starve_nobody() {
    for looks in ["unblocked", "assign", "mute"] {
        let (machine, overlap) = (machine([UnitConfig::server()]), Overlap::default());
        let hal = Watched::shared(&machine, |call, machine: &Machine| overlap.before(call, machine));
        let options = Options { timeout_ns: 300 * MILLISECOND, ..Options::DEFAULT };
        let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
        let all = |worker: usize| (0..Overlap::EACH).map(move |index| Overlap::device(worker, index));
        for worker in 0..2 {
            let cell = iommu.create_cell(CellConfig { reset: ResetPolicy::Required, ..UNSAFE_INTERRUPTS }).unwrap();
            for device in all(worker) {
                resettable(&machine, device);
                iommu.assign(device, cell).unwrap();
            }
        }
        let (cell, other) = (iommu.create_cell(UNSAFE_INTERRUPTS).unwrap(), function(0, 9));
        let (result, released) = thread::scope(|scope| {
            let release_all = |worker: usize| {
                let release = |(index, device)| {
                    WORKER.set(Some((worker, index)));
                    taken(&machine, || iommu.release(device).unwrap()).0
                };
                all(worker).enumerate().map(release).collect::<Vec<u64>>()
            };
            let workers = [0, 1].map(|worker| scope.spawn(move || release_all(worker)));
            while overlap.begun[0].load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            LOOKS.set(true);
            let result = match looks {
                "unblocked" => iommu.unblocked(&mut |_| ()).map(drop),
                "assign" => iommu.assign(other, cell).map(drop),
                _ => iommu.mute(other, true),
            };
            LOOKS.set(false);
            overlap.looked.store(true, Ordering::SeqCst);
            (result, workers.map(|worker| worker.join().unwrap()))
        });
        assert_eq!(result, Ok(()), "{looks}; the releases took {released:?} ms");
        let longest = released.into_iter().flatten().max();
        assert!(longest < Some(300), "{looks}: no release takes as long as the timeout: {longest:?} ms");
        assert_eq!(machine.violations(), [], "{looks}");
    }
}

/// One whose CPU is away, and that would look at functions, holds up the next reset for a moment, once.
#[test]
fn who_does_not_come_to_look_is_passed() {
    fixture!(machine, stop, iommu, device);
    let others = [function(0, 2), function(0, 3)];
    for other in others {
        add(&machine, &iommu, other, ResetPolicy::Required);
    }
    thread::scope(|scope| {
        let reset = stop.halt(scope, || {
            IN_RESET_OF.set(Some(device));
            iommu.release(device)
        });
        let away = stop.halt(scope, || iommu.device_info(device));
        reset().unwrap();
        let [first, second] = others.map(|other| taken(&machine, || iommu.release(other).unwrap()));
        assert!(first.0 < 110 && second.0 == 100, "{first:?}, {second:?}");
        assert!((256..260).contains(&(first.1 - second.1)), "{first:?}, {second:?}");
        away().unwrap();
    });
    assert_eq!(machine.violations(), []);
}

/// A reset that does not come to its end holds up nobody but those that wait for that, also without a limit of time.
#[test]
fn a_reset_without_end_holds_up_others_for_200_ms() {
    fixture!(machine, stop, iommu, device);
    let other = function(0, 2);
    add(&machine, &iommu, other, ResetPolicy::Required);
    thread::scope(|scope| {
        let reset = stop.halt(scope, || {
            IN_RESET_OF.set(Some(device));
            iommu.release(device)
        });
        let waits = stop.halt(scope, || iommu.device_info(device));
        let (ms, _) = taken(&machine, || iommu.release(other).unwrap());
        assert!((300..305).contains(&ms), "{ms} ms, and 100 of them are its own");
        reset().unwrap();
        assert_eq!(waits().unwrap().cell, None);
    });
    assert_eq!(machine.violations(), []);
}

/// A reset that was given up keeps nobody waiting, and hides none that is under way: who looks at functions waits for that.
#[test]
fn a_reset_that_was_given_up_hides_no_other() {
    let (machine, stop) = (machine([UnitConfig::server()]), Stop::new());
    let (lost, device) = (function(0, 1), function(0, 2));
    let hal = Watched::shared(&machine, look(&stop));
    let options = Options { timeout_ns: 300 * MILLISECOND, ..Options::DEFAULT };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
    let gone = add(&machine, &iommu, lost, ResetPolicy::Required);
    machine.add_reset(lost, Reset::Express, u64::MAX / 2);
    add(&machine, &iommu, device, ResetPolicy::Required);
    let error = iommu.release(lost).unwrap_err();
    assert!(matches!(error, Error::NotReset { .. }), "{error}");
    assert_eq!(iommu.device_info(lost).unwrap().cell, Some(gone), "nobody waits for it");
    thread::scope(|scope| {
        let reset = stop.halt(scope, || {
            IN_RESET_OF.set(Some(device));
            iommu.release(device)
        });
        let waits = stop.halt(scope, || iommu.device_info(device));
        reset().unwrap();
        assert_eq!(waits().unwrap().cell, None);
    });
    assert_eq!(machine.violations(), []);
}

/// A change that neither looks at functions nor resets any is not held up while another waits for the end of resets.
#[test]
fn what_resets_nothing_waits_for_no_reset() {
    fixture!(machine, stop, iommu, device);
    let other = function(0, 2);
    let cell = add(&machine, &iommu, other, ResetPolicy::Never);
    let [first, second] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    thread::scope(|scope| {
        let reset = stop.halt(scope, || {
            IN_RESET_OF.set(Some(device));
            iommu.release(device)
        });
        let waits = stop.halt(scope, || iommu.device_info(device));
        let changes: [(&str, &dyn Fn() -> Committed); 5] = [
            ("map", &|| iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap()),
            ("unmap", &|| iommu.unmap(cell, range(INPUT, PAGE)).unwrap()),
            ("release", &|| iommu.release(other).unwrap()),
            ("destroy_cell", &|| iommu.destroy_cell(first).unwrap()),
            ("map in another", &|| iommu.map(second, region(INPUT, MEMORY, PAGE, RW)).unwrap()),
        ];
        for (name, change) in changes {
            let (ms, _) = taken(&machine, change);
            assert_eq!(ms, 0, "{name}");
        }
        reset().unwrap();
        waits().unwrap();
    });
    assert_eq!(machine.violations(), []);
}

/// Whether the root cell has part in an assignment, since memory is reserved for some device, is not looked at while a
/// function is reset that has to be looked at for that.
#[test]
fn nobody_looks_for_reserved_memory_of_a_device_in_a_reset() {
    let (machine, stop) = (machine([UnitConfig::server()]), Stop::new());
    let hal = Watched::shared(&machine, look(&stop));
    let table = of_machine(&machine, &[]).rmrr(0, MEMORY, MEMORY + 0xfff, &[endpoint(9, 0)]).table();
    let options = Options { timeout_ns: u64::MAX, ..Options::DEFAULT };
    let iommu = enabled_front(&hal, &table, options);
    iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let (device, sibling) = (function(0, 1), SourceId::new(0, 0, 1, 1).unwrap());
    add(&machine, &iommu, device, ResetPolicy::Required);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    machine.add_express(sibling);
    thread::scope(|scope| {
        let reset = stop.halt(scope, || {
            IN_RESET_OF.set(Some(device));
            iommu.release(device)
        });
        let waits = stop.halt(scope, || iommu.assign(sibling, cell));
        reset().unwrap();
        waits().unwrap();
    });
    assert_eq!(machine.violations(), []);
}
