//! What the benchmarks print, read.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Nanoseconds: the median, and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

/// What the driver asked of a machine, on one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Cost {
    pub doorbells: u64,
    pub waits: u64,
    pub registers: u64,
    pub frames: u64,
    pub frames_at_most: u64,
    pub frames_left: u64,
}

/// A line of `benches/times.rs`.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Time {
        work: String,
        contender: String,
        bytes: u64,
        low: f64,
        median: f64,
        high: f64,
    },
    Edit {
        units: u64,
        threads: u64,
        low: f64,
        median: f64,
        high: f64,
    },
    Wait {
        units: u64,
        threads: u64,
        low: f64,
        median: f64,
        high: f64,
    },
    Cost {
        work: String,
        #[serde(flatten)]
        cost: Cost,
    },
    Batch {
        registers: u64,
    },
    Place {
        pinned: bool,
    },
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Results {
    times: BTreeMap<(String, String, u64), Time>,
    /// By units and threads.
    pub edits: BTreeMap<(u64, u64), Time>,
    /// The same where units take a while to confirm.
    pub waits: BTreeMap<(u64, u64), Time>,
    costs: BTreeMap<String, Cost>,
    instructions: BTreeMap<(String, String), u64>,
    /// Registers read and written for a batch.
    pub registers_of_batch: Option<u64>,
    pub pinned: bool,
}

impl Results {
    /// Takes a line of `benches/times.rs`.
    pub fn hear_time(&mut self, line: &str) -> Result<()> {
        match serde_json::from_str(line)? {
            Line::Time { work, contender, bytes, low, median, high } => {
                self.times.insert((work, contender, bytes), Time { low, median, high });
            }
            Line::Edit { units, threads, low, median, high } => {
                self.edits.insert((units, threads), Time { low, median, high });
            }
            Line::Wait { units, threads, low, median, high } => {
                self.waits.insert((units, threads), Time { low, median, high });
            }
            Line::Cost { work, cost } => {
                self.costs.insert(work, cost);
            }
            Line::Batch { registers } => self.registers_of_batch = Some(registers),
            Line::Place { pinned } => self.pinned = pinned,
        }
        Ok(())
    }

    /// Takes a line of gungraun: the summary of one benchmark (its schema, version 7).
    pub fn hear_count(&mut self, line: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Summary {
            function_name: String,
            id: String,
        }
        let value: serde_json::Value = serde_json::from_str(line)?;
        let count = value.pointer("/profiles/0/data/total/metrics/Ir/values/new").and_then(serde_json::Value::as_u64);
        let count = count.context("no number of instructions")?;
        let Summary { function_name, id } = serde_json::from_value(value)?;
        self.instructions.insert((function_name, id), count);
        Ok(())
    }

    /// How long a work took, on so many bytes of memory.
    pub fn time(&self, work: &str, contender: &str, bytes: u64) -> Option<Time> {
        self.times.get(&(work.into(), contender.into(), bytes)).copied()
    }

    /// How many instructions a work took.
    pub fn instructions(&self, work: &str, contender: &str) -> Option<u64> {
        self.instructions.get(&(work.into(), contender.into())).copied()
    }

    /// What a work asked of a machine.
    pub fn cost(&self, work: &str) -> Option<Cost> {
        self.costs.get(work).copied()
    }

    /// How far a quartile is from its median at most, as a part of it, for all that one CPU did.
    pub fn noise(&self) -> f64 {
        let part = |time: &Time| (time.median - time.low).max(time.high - time.median) / time.median;
        self.times.values().map(part).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let mut results = Results::default();
        for line in [
            r#"{"kind":"place","pinned":true}"#,
            r#"{"kind":"cost","work":"cell","doorbells":4,"waits":3,"registers":5,"frames":6,
                "frames_at_most":7,"frames_left":0}"#,
            r#"{"kind":"time","work":"map_4k","contender":"stores","bytes":4096,"low":9.0,"median":10.0,"high":12.0}"#,
            r#"{"kind":"batch","registers":1}"#,
            r#"{"kind":"edit","units":8,"threads":2,"low":1.0,"median":1.0,"high":1.0}"#,
            r#"{"kind":"wait","units":1,"threads":4,"low":1.0,"median":1.0,"high":1.0}"#,
        ] {
            results.hear_time(line).unwrap();
        }
        assert!(results.pinned);
        let time = Time { low: 9.0, median: 10.0, high: 12.0 };
        assert_eq!(results.time("map_4k", "stores", 4096), Some(time));
        assert_eq!(results.time("map_4k", "stores", 8192), None);
        assert_eq!(results.cost("cell").map(|cost| (cost.waits, cost.frames)), Some((3, 6)));
        assert_eq!(results.edits.keys().collect::<Vec<_>>(), [&(8, 2)]);
        assert_eq!(results.waits.keys().collect::<Vec<_>>(), [&(1, 4)]);
        assert_eq!(results.registers_of_batch, Some(1));
        assert!((results.noise() - 0.2).abs() < 1e-9);
        assert!(results.hear_time("{}").is_err() && results.hear_time("warning: unused").is_err());
    }

    #[test]
    fn instructions_are_found_in_the_summary() {
        let mut results = Results::default();
        let line = r#"{"function_name":"cell","id":"cofferdam","kind":"LibraryBenchmark","profiles":[{"data":{"parts":[],
            "total":{"metrics":{"Ir":{"values":{"new":63107}}},"regressions":[]}},"tool":"Callgrind"}],"version":"7"}"#;
        results.hear_count(line).unwrap();
        assert_eq!(results.instructions("cell", "cofferdam"), Some(63_107));
        let without = line.replace("Ir", "Dr");
        assert!(results.hear_count(&without).unwrap_err().to_string().contains("no number"));
    }
}
