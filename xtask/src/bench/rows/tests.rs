//! Whether the bars hold, by results that are made up.

use super::*;
use crate::bench::{Place, record::record};

/// Results in which everything takes as long, except for what is given.
fn results(others: &[(&str, &str, u64, f64)]) -> Results {
    let mut results = Results::default();
    let mut hear = |work: &str, contender: &str, bytes: u64, ns: f64| {
        let line = serde_json::json!({
            "kind": "time", "work": work, "contender": contender, "bytes": bytes, "low": ns, "median": ns, "high": ns
        });
        results.hear_time(&line.to_string()).unwrap();
    };
    let contenders = || PEERS.iter().map(|(name, _)| *name).chain([OURS, "stores"]);
    for work in &WORKS {
        contenders().for_each(|contender| hear(work.name, contender, work.bytes, 1e5));
    }
    for (work, bytes) in [("map_page", 16 * MIB), ("map_4k", GIB), ("unmap_4k", GIB)] {
        for contender in ["cofferdam_unsnooped", "stores_unsnooped"] {
            hear(work, contender, bytes, 1e3);
        }
    }
    for bytes in SIZES {
        for work in ["map_2m", "unmap_2m"] {
            contenders().for_each(|contender| hear(work, contender, bytes, 1e3));
        }
    }
    hear("unmap_sparse", OURS, 512 * GIB, 1e5);
    hear("batch", OURS, 0, 1e3);
    hear("cell", OURS, 0, 1e3);
    hear("carve", OURS, 0, 1e3);
    hear("route", OURS, 0, 1e3);
    others.iter().for_each(|(work, contender, bytes, ns)| hear(work, contender, *bytes, *ns));
    for (work, times) in [("cell", 2), ("carve", 2), ("route", 1)] {
        let (kind, name) = ("cost", work);
        let line = serde_json::json!({
            "kind": kind, "work": name, "doorbells": times, "waits": times, "registers": 2, "frames": 10,
            "frames_at_most": 11, "frames_left": 0
        });
        results.hear_time(&line.to_string()).unwrap();
    }
    results.hear_time(r#"{"kind":"edit","units":1,"threads":1,"low":1.0,"median":1.0,"high":1.0}"#).unwrap();
    for (threads, ns) in [(1, 30.0), (4, 10.0)] {
        results.hear_time(&slow_units(threads, ns)).unwrap();
    }
    results.hear_time(r#"{"kind":"batch","registers":1}"#).unwrap();
    let works = WORKS.iter().map(|work| (work.name, 30_000)).chain([
        ("batch", 250),
        ("cell", 30_000),
        ("carve", 100_000),
        ("route", 10_000),
    ]);
    for (work, count) in works {
        for contender in contenders().chain([OURS_AMD]) {
            let line = serde_json::json!({
                "function_name": work, "id": contender,
                "profiles": [{ "data": { "total": { "metrics": { "Ir": { "values": { "new": count } } } } } }]
            });
            results.hear_count(&line.to_string()).unwrap();
        }
    }
    results
}

/// What a change took that waits for one unit.
fn slow_units(threads: u64, ns: f64) -> String {
    format!(r#"{{"kind":"wait","units":1,"threads":{threads},"low":{ns},"median":{ns},"high":{ns}}}"#)
}

fn missed(others: &[(&str, &str, u64, f64)]) -> usize {
    sheets(&results(others)).unwrap().iter().map(Sheet::missed).sum()
}

#[test]
fn a_bar_holds_at_its_value_and_not_above() {
    // 64 GiB in 100 µs instead of 20.
    assert_eq!(missed(&[]), 1);
    let mapped = ("map_2m", OURS, 64 * GIB, 20e3);
    assert_eq!(missed(&[mapped]), 0);
    for other in [
        ("map_page", OURS, 256 * MIB, 3.6 * 65_536.0),
        ("map_4k", OURS, GIB, 0.61 * 262_144.0),
        ("map_4k", "stores", GIB, 0.6e5),
        ("unmap_4k", OURS, GIB, 0.41 * 262_144.0),
        ("unmap_sparse", OURS, 512 * GIB, 0.9e5),
        ("map_page", "cofferdam_unsnooped", 16 * MIB, 1.7 * 4_096.0),
    ] {
        assert_eq!(missed(&[mapped, other]), 1, "{other:?}");
    }
}

#[test]
fn slower_than_the_bar_is_fine_if_the_peer_is_slower_still() {
    let slow = ("map_page", OURS, 256 * MIB, 4.0 * 65_536.0);
    let slower = ("map_page", "x86_64", 256 * MIB, 4.1 * 65_536.0);
    assert_eq!(missed(&[slow, slower]), 1, "that of 64 GiB alone");
}

#[test]
fn threads_that_wait_one_after_the_other_miss_the_bar() {
    let judged = |ns| {
        let mut results = results(&[]);
        results.hear_time(&slow_units(4, ns)).unwrap();
        let sheet = waits(&results).unwrap();
        (sheet.held(), sheet.missed())
    };
    assert_eq!([judged(10.0), judged(10.1), judged(30.0)], [(1, 0), (0, 1), (0, 1)]);
}

#[test]
fn what_was_not_measured_is_named() {
    let error = sheets(&Results::default()).unwrap_err().to_string();
    assert!(error.ends_with("was not measured"), "{error}");
}

#[test]
fn the_record_has_the_machine_the_command_and_every_table() {
    let sheets = sheets(&results(&[])).unwrap();
    let place = Place {
        cpu: "A CPU".into(),
        cpus: 2,
        pinned: true,
        kernel: "6.1".into(),
        rustc: "rustc 1.95.0".into(),
        commit: "abc".into(),
        date: "2026-11-21".into(),
    };
    let text = record(&sheets, &place, "cargo xtask bench --record", 0.013);
    for part in [
        "Written by `cargo xtask bench --record`.",
        "| machine | A CPU, 2 CPUs; one thread runs on one of them |",
        "within 1.30 % of",
        "| map 64 GiB in 2 MiB leaves, one call | 100 µs | 20 µs | MISSES | 100 µs |",
        "| create the cell and destroy it: doorbells | 2 | 2 | holds | 12 |",
        "](scaling.svg)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(text.matches("\n## ").count(), sheets.len());
    // Every row has as many cells as its header.
    for sheet in &sheets {
        assert!(sheet.rows.iter().all(|row| row.len() == sheet.header.len()), "{}", sheet.title);
    }
}
