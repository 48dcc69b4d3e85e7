//! Random histories on random machines of the model, against plain maps of what each device may reach.
//!
//! A step is one call of the driver or one access of a device. `COFFERDAM_STEPS` says how many steps each kind of histories
//! here takes at least, and `COFFERDAM_FIRST` with which history to begin, to go on behind one that failed; `COFFERDAM_HISTORY` picks a
//! single history by its number, to repeat it and to print each of its steps. Those of [`presets`] are as long as ever.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod access;
mod audited;
mod broken;
mod express;
mod history;
mod interrupts;
mod lines;
mod live;
mod oracle;
mod pages;
mod place;
mod plan;
mod plug;
mod ports;
mod power;
mod presets;
mod remains;
mod request;
mod routed;
mod routes;
mod stage;
mod suggest;
mod visible;

use std::cell::RefCell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use cofferdam::Iommu;
use cofferdam_model::Machine;
use cofferdam_support::front::{self, SMALL, memory};
use cofferdam_support::random::Random;
use cofferdam_support::watched::{Call, Watched};

use history::History;
use plan::{Plan, Size};

/// The machine, at which whoever sends interrupts looks before each access of the driver.
type Seen<'m> = &'m Watched<&'m Machine, dyn Fn(Call, &Machine) + 'm>;
type Front<'m> = Iommu<'m, Seen<'m>>;
type Change<'i, 'm> = front::Change<'i, 'm, Seen<'m>>;

/// What came of one history, or of many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    steps: u64,
    /// Changes that were made, and that failed: in a unit, for a device that did not answer, and for lack of frames.
    commits: u64,
    failed: u64,
    unanswered: u64,
    starved: u64,
    /// Frames that the driver never frees, and units that are out of service.
    kept: u64,
    units: u64,
    /// How often units lost power and were switched on again, and how often one of them owed a flush then.
    sleeps: u64,
    owing: u64,
    /// Units that were gone, and that the driver has forgotten.
    vanished: u64,
    forgotten: u64,
    /// Devices that were pulled out.
    pulled_out: u64,
    /// Devices that came back or to an empty place, and others that came in the place of one; bridges that came with a device.
    plugged_in: u64,
    replaced: u64,
    bridges: u64,
    /// Devices that the driver blocked since others answered in their places, and ports that were reset.
    others_blocked: u64,
    ports_reset: u64,
    /// Histories with a unit that was not there at first.
    lost: u64,
    /// How often a virtual function came to a cell, and how often the physical one with memory that firmware reserves for it.
    virtual_ones: u64,
    physical_ones: u64,
    /// How often ports lost what isolates devices, and how often devices of two cells reached each other then.
    ports_open: u64,
    exposed: u64,
    /// Interrupts that were routed, that were sent, and that arrived.
    routed: u64,
    sent: u64,
    arrived: u64,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
        self.starved += other.starved;
        self.kept += other.kept;
        self.units += other.units;
        self.sleeps += other.sleeps;
        self.owing += other.owing;
        self.vanished += other.vanished;
        self.forgotten += other.forgotten;
        self.pulled_out += other.pulled_out;
        self.plugged_in += other.plugged_in;
        self.replaced += other.replaced;
        self.bridges += other.bridges;
        self.others_blocked += other.others_blocked;
        self.ports_reset += other.ports_reset;
        self.lost += other.lost;
        self.virtual_ones += other.virtual_ones;
        self.physical_ones += other.physical_ones;
        self.ports_open += other.ports_open;
        self.exposed += other.exposed;
        self.routed += other.routed;
        self.sent += other.sent;
        self.arrived += other.arrived;
    }

    /// Changes that were made, or failed for another reason than what was asked for.
    fn changes(&self) -> u64 {
        self.commits + self.failed + self.unanswered + self.starved
    }
}

/// A kind of histories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    test: &'static str,
    breaks: bool,
    /// The live tables are read after each change, and changes are what counts, not steps.
    audits: bool,
    /// Steps of one history.
    length: u64,
    /// Steps of all, if nothing else is asked for.
    total: u64,
    size: Size,
}

impl Kind {
    /// What counts, and how it is called.
    fn progress(&self, all: &Outcome) -> u64 {
        if self.audits { all.changes() } else { all.steps }
    }

    fn unit(&self) -> &'static str {
        if self.audits { "changes" } else { "steps" }
    }
}

/// `None` if it failed, and why was told.
fn run(kind: Kind, number: u64, traced: bool) -> Option<Outcome> {
    let mut random = Random::new(number + 1);
    let mut plan = Plan::new(number, &mut random, kind.size);
    if kind.breaks {
        // A unit that did not forget in time has pages of another size, whatever the driver does from then on; and one that is
        // gone is seen to be when it was written to.
        plan.units.iter_mut().for_each(|unit| unit.forgives.extend(["R32", "R4"]));
    }
    let machine = plan.machine();
    let mut steps = 0;
    let live = RefCell::default();
    let before = |call: Call, machine: &Machine| live::before(&live, call, machine);
    let seen = Watched::new(&machine, before);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut memory = memory(&SMALL);
        let mut history = History::new(&plan, &seen, &live, &mut memory, random, kind, traced);
        while history.done.steps < kind.length {
            history.step();
            steps = history.done.steps;
        }
        history.end()
    }));
    if ran.is_err() {
        tell(format_args!(
            "history {number} failed after step {steps}, on {} with {} (seed of the caches: {:?})\n\
             repeat it with COFFERDAM_HISTORY={number} cargo test --test histories {}",
            plan.name,
            plan.units.len(),
            plan.seed,
            kind.test
        ));
        machine.violations().iter().for_each(|violation| tell(format_args!("{violation}")));
        let _ = machine.abandon();
    }
    ran.ok()
}

/// Past the harness, which keeps what tests print until they fail.
fn tell(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{what}");
}

fn run_all(kind: Kind) {
    let number = |name: &str| env::var(name).ok().map(|value| value.replace('_', "").parse::<u64>().expect("a number"));
    if let Some(number) = number("COFFERDAM_HISTORY") {
        assert!(run(kind, number, true).is_some(), "history {number} failed");
        return;
    }
    let wanted = number("COFFERDAM_STEPS").unwrap_or(kind.total);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    let first = number("COFFERDAM_FIRST").unwrap_or(0);
    let next = Mutex::new((first, Outcome::default(), Instant::now()));
    let failed = AtomicBool::new(false);
    let work = || loop {
        let number = {
            let mut next = next.lock().unwrap();
            if kind.progress(&next.1) >= wanted || failed.load(Ordering::Relaxed) {
                return;
            }
            next.0 += 1;
            next.0 - 1
        };
        let Some(outcome) = run(kind, number, false) else { return failed.store(true, Ordering::Relaxed) };
        let mut next = next.lock().unwrap();
        next.1.add(outcome);
        if next.2.elapsed() > Duration::from_secs(10) {
            next.2 = Instant::now();
            tell(format_args!("{}: {} of {wanted} {}", kind.test, kind.progress(&next.1), kind.unit()));
        }
    };
    thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    assert!(!failed.into_inner(), "a history failed, see above");
    let (end, all, _) = next.into_inner().unwrap();
    let mut text = format!("{}: {} steps in {} histories", kind.test, all.steps, end - first);
    text += &format!("; {} changes were made", all.commits);
    if kind.breaks {
        text += &format!(
            ", {} failed in a unit, {} for a device that did not answer, and {} for lack of frames; {} units were given up \
             and {} frames kept back",
            all.failed, all.unanswered, all.starved, all.units, all.kept
        );
    }
    text += &format!("; {} histories without one of the units; units were reset {} times", all.lost, all.sleeps);
    if kind.breaks {
        text += &format!(", of which {} while one owed a flush; {} were gone", all.owing, all.vanished);
        text += &format!(", and {} were forgotten; {} devices were pulled out", all.forgotten, all.pulled_out);
    }
    text += &format!(
        "; {} devices were plugged in, {} in the place of another kind, of which {} were blocked; {} bridges came, and {} ports \
         were reset",
        all.plugged_in, all.replaced, all.others_blocked, all.bridges, all.ports_reset
    );
    text += &format!(
        "; virtual functions came to a cell {} times, and physical ones with reserved memory {} times",
        all.virtual_ones, all.physical_ones
    );
    text += &format!("; ports lost control {} times, of two cells' devices {} times", all.ports_open, all.exposed);
    text += &format!("; {} interrupts were routed, {} sent, and {} arrived", all.routed, all.sent, all.arrived);
    tell(format_args!("{text}; {:.0} s", start.elapsed().as_secs_f32()));
}

const MACHINE: Size = Size { units: 4, buses: 6, devices: 16, frames: 2048 };
const SMALL_MACHINE: Size = Size { units: 2, buses: 3, devices: 6, frames: 512 };

/// Every device sees just what its cell has, at every moment; no rule is broken, and every frame is back at the end.
#[test]
fn every_history_leaves_each_device_with_what_its_cell_has() {
    let test = "every_history_leaves_each_device_with_what_its_cell_has";
    run_all(Kind { test, breaks: false, audits: false, length: 4000, total: 1_000_000, size: MACHINE });
}

/// Units fail, devices do not answer and memory runs out: nobody reaches more than before, and those behind other units
/// are served as ever.
#[test]
fn whatever_fails_leaves_no_device_with_more_than_before() {
    let test = "whatever_fails_leaves_no_device_with_more_than_before";
    run_all(Kind { test, breaks: true, audits: false, length: 500, total: 1_000_000, size: MACHINE });
}

/// After each change, made or failed, the live tables lead where the configuration does, and nowhere else.
#[test]
fn after_each_change_the_audit_equals_what_is_committed() {
    let test = "after_each_change_the_audit_equals_what_is_committed";
    run_all(Kind { test, breaks: true, audits: true, length: 1000, total: 500_000, size: SMALL_MACHINE });
}
