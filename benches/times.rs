//! How long the works take. Prints one line of JSON a result, for `cargo xtask bench`.
//!
//! `--quick` takes fewer samples.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::time::{Duration, Instant};

use cofferdam_benches::driver::{self, Edits};
use cofferdam_benches::job;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// How long a unit takes that is not at once done.
const LATENCY: Duration = Duration::from_micros(10);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const PEERS: [&str; 5] = ["cofferdam", "x86_64", "page_table_multiarch", "page_table_generic", "aarch64_paging"];
const ALL: [&str; 6] = ["stores", PEERS[0], PEERS[1], PEERS[2], PEERS[3], PEERS[4]];
const UNSNOOPED: [&str; 2] = ["stores_unsnooped", "cofferdam_unsnooped"];
const SPARSE: [&str; 3] = ["cofferdam", "page_table_generic", "aarch64_paging"];

/// What is done, on how much memory, by whom.
const WORKS: &[(&str, u64, &[&str])] = &[
    ("map_page", 256 * MIB, &ALL),
    ("map_page_alike", 256 * MIB, &ALL),
    ("unmap_page", 256 * MIB, &ALL),
    ("map_4k", GIB, &ALL),
    ("unmap_4k", GIB, &ALL),
    ("map_2m", 64 * GIB, &ALL),
    ("unmap_2m", 512 * GIB, &ALL),
    ("unmap_sparse", 512 * GIB, &SPARSE),
    ("map_page", 16 * MIB, &UNSNOOPED),
    ("map_4k", GIB, &UNSNOOPED),
    ("unmap_4k", GIB, &UNSNOOPED),
    ("batch", 0, &["cofferdam"]),
    ("cell", 0, &["cofferdam"]),
    ("carve", 0, &["cofferdam"]),
    ("route", 0, &["cofferdam"]),
    // As the work grows.
    ("map_2m", MIB, &PEERS),
    ("map_2m", GIB, &PEERS),
    ("map_2m", 1024 * GIB, &PEERS),
    ("unmap_2m", MIB, &PEERS),
    ("unmap_2m", GIB, &PEERS),
    ("unmap_2m", 1024 * GIB, &PEERS),
];

/// A line of output.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    /// Nanoseconds that a work took, over all samples: the median and the quartiles around it.
    Time { work: &'a str, contender: &'a str, bytes: u64, low: f64, median: f64, high: f64 },
    /// Nanoseconds that an edit of a cell took, by so many threads on so many units.
    Edit { units: usize, threads: usize, low: f64, median: f64, high: f64 },
    /// Nanoseconds that a change took for which all units have to confirm something, which takes each 10 µs.
    Wait { units: usize, threads: usize, low: f64, median: f64, high: f64 },
    /// What the driver asked of a machine.
    Cost {
        work: &'a str,
        #[serde(flatten)]
        cost: driver::Cost,
    },
    /// Registers read and written for a batch of 16 descriptors.
    Batch { registers: u64 },
    /// Where it was measured.
    Place { pinned: bool },
}

impl Line<'_> {
    fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("a line"));
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let samples = if quick { 5 } else { 41 };
    let cpus = sched_getaffinity(None).expect("the CPUs of this process");
    Line::Place { pinned: pin(&cpus) }.print();
    Line::Batch { registers: driver::registers_of_batch() }.print();
    let costs = [
        ("cell", driver::cost_of_cell()),
        ("carve", driver::cost_of_carving()),
        ("route", driver::cost_of_rerouting()),
    ];
    for (work, cost) in costs {
        Line::Cost { work, cost }.print();
    }
    for &(work, bytes, contenders) in WORKS {
        measure(work, bytes, contenders, samples);
    }
    let _ = sched_setaffinity(None, &cpus);
    let (samples, rounds) = (samples.min(11), if quick { 200 } else { 2000 });
    for units in [1, 8, 64] {
        let edits = Edits::new(units);
        for (threads, [low, median, high]) in by_threads(samples, |threads| edits.run(threads, rounds)) {
            Line::Edit { units, threads, low, median, high }.print();
        }
    }
    for units in [1, 8] {
        let edits = Edits::with_latency(units, LATENCY);
        for (threads, [low, median, high]) in by_threads(samples, |threads| edits.run_waits(threads, rounds)) {
            Line::Wait { units, threads, low, median, high }.print();
        }
    }
}

/// The quartiles of what one thread takes, and so on up to four. They take turns, too.
fn by_threads(samples: usize, run: impl Fn(usize) -> f64) -> impl Iterator<Item = (usize, [f64; 3])> {
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..samples {
        for (threads, times) in (1..).zip(&mut times) {
            times.push(run(threads));
        }
    }
    (1..).zip(times.map(quartiles))
}

/// Keeps to one CPU, the last, which has the fewest interrupts. False if that is not allowed.
fn pin(cpus: &CpuSet) -> bool {
    let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| cpus.is_set(*cpu)) else { return false };
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).is_ok()
}

/// The contenders take turns, so that whatever else the machine does meets all of them.
fn measure(work: &str, bytes: u64, contenders: &[&str], samples: usize) {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=samples {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let mut job = job(work, contender, bytes).expect("work that there is");
            let start = Instant::now();
            job.run();
            let took = start.elapsed();
            // The first round only warms up.
            if round > 0 {
                times.push(took.as_nanos() as f64);
            }
        }
    }
    for (contender, times) in contenders.iter().zip(times) {
        let [low, median, high] = quartiles(times);
        Line::Time { work, contender, bytes, low, median, high }.print();
    }
}

fn quartiles(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| times.get((times.len() - 1) * quarter / 4).copied().expect("a sample"))
}
