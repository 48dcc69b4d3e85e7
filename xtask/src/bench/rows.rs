//! The tables: what was measured, the bar for it, and whether it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use super::{
    Place,
    figures::{number, thousands, time},
    results::{Cost, Results, Time},
};
use crate::show;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SMALL: u64 = 4 << 10;
const LARGE: u64 = 2 << 20;

pub const OURS: &str = "cofferdam";
const OURS_AMD: &str = "cofferdam_v1";
/// The peers, as the benchmarks call them and as their crates are called.
pub const PEERS: [(&str, &str); 4] = [
    ("x86_64", "x86_64"),
    ("page_table_multiarch", "page_table_multiarch"),
    ("page_table_generic", "page-table-generic"),
    ("aarch64_paging", "aarch64-paging"),
];

/// One table, and how many bars in it hold and do not.
#[derive(Debug)]
pub struct Sheet {
    title: &'static str,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    held: usize,
    missed: usize,
}

impl Sheet {
    fn new(title: &'static str, header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Self { title, header, rows: Vec::new(), held: 0, missed: 0 }
    }

    pub fn held(&self) -> usize {
        self.held
    }

    pub fn missed(&self) -> usize {
        self.missed
    }

    /// Whether a bar holds, in a word; nothing where there is no bar.
    fn judge(&mut self, holds: Option<bool>) -> String {
        self.held += usize::from(holds == Some(true));
        self.missed += usize::from(holds == Some(false));
        holds.map_or("", |holds| if holds { "holds" } else { "MISSES" }).to_owned()
    }

    fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let ruler: Vec<_> =
            (0..self.header.len()).map(|column| if column == 0 { "---" } else { "---:" }.into()).collect();
        let rows: String = self.rows.iter().map(|cells| row(cells)).collect();
        format!("## {}\n\n{}{}{rows}", self.title, row(&self.header), row(&ruler))
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.header.clone());
        self.rows.iter().for_each(|row| {
            table.add_row(row.clone());
        });
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        writeln!(f, "{}", console::style(self.title).bold())?;
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// All tables.
///
/// # Errors
///
/// Something was not measured.
pub fn sheets(results: &Results) -> Result<Vec<Sheet>> {
    Ok(vec![
        tables(results)?,
        unsnooped(results)?,
        cells(results)?,
        instructions(results)?,
        memory(results)?,
        edits(results)?,
        waits(results)?,
    ])
}

/// How long an entry of a work took, or the whole of it.
fn measured(results: &Results, (work, contender, bytes): (&str, &str, u64), page: Option<u64>) -> Result<f64> {
    let time = results.time(work, contender, bytes);
    let time = time.with_context(|| format!("{work} by {contender} on {bytes} bytes was not measured"))?;
    Ok(time.median / page.map_or(1.0, |page| (bytes / page) as f64))
}

/// A work on page tables, its memory and the size of the pages that a figure is for, all if `None`.
struct Work {
    title: &'static str,
    name: &'static str,
    bytes: u64,
    page: Option<u64>,
    bar: &'static str,
    holds: fn(&Measured) -> Option<bool>,
}

/// Nanoseconds.
struct Measured {
    ours: f64,
    stores: f64,
    x86_64: f64,
    /// Of unmapping as many tables with one page in each.
    sparse: f64,
}

const WORKS: [Work; 7] = [
    Work {
        title: "map one 4 KiB page a call",
        name: "map_page",
        bytes: 256 * MIB,
        page: Some(SMALL),
        bar: "3.5 ns, or less than x86_64",
        holds: |it| Some(it.ours <= 3.5 || it.ours < it.x86_64),
    },
    Work {
        title: "the same, each 512 of which make a 2 MiB leaf",
        name: "map_page_alike",
        bytes: 256 * MIB,
        page: Some(SMALL),
        bar: "",
        holds: |_| None,
    },
    Work {
        title: "unmap one 4 KiB page a call",
        name: "unmap_page",
        bytes: 256 * MIB,
        page: Some(SMALL),
        bar: "",
        holds: |_| None,
    },
    Work {
        title: "map 1 GiB of 4 KiB pages, one call: a page",
        name: "map_4k",
        bytes: GIB,
        page: Some(SMALL),
        bar: "0.6 ns, and 1.5 times frames and stores",
        holds: |it| Some(it.ours <= 0.6 && it.ours <= 1.5 * it.stores),
    },
    Work {
        title: "unmap it, one call: a page",
        name: "unmap_4k",
        bytes: GIB,
        page: Some(SMALL),
        bar: "0.4 ns",
        holds: |it| Some(it.ours <= 0.4),
    },
    Work {
        title: "map 64 GiB in 2 MiB leaves, one call",
        name: "map_2m",
        bytes: 64 * GIB,
        page: None,
        bar: "20 µs",
        holds: |it| Some(it.ours <= 20e3),
    },
    Work {
        title: "let go of 512 GiB in 2 MiB leaves, one call",
        name: "unmap_2m",
        bytes: 512 * GIB,
        page: None,
        bar: "as with one leaf a table, +10 %",
        holds: |it| Some(it.ours <= 1.1 * it.sparse),
    },
];

fn tables(results: &Results) -> Result<Sheet> {
    let header = ["page tables, units that snoop", OURS, "at most", "", "frames and stores alone"];
    let header = header.into_iter().chain(PEERS.map(|(_, crate_name)| crate_name)).chain(["fastest peer / ours"]);
    let mut sheet = Sheet::new("Time, where the units snoop page walks", header);
    for work in &WORKS {
        let of = |contender| measured(results, (work.name, contender, work.bytes), work.page);
        let sparse = measured(results, ("unmap_sparse", OURS, 512 * GIB), None)?;
        let it = Measured { ours: of(OURS)?, stores: of("stores")?, x86_64: of("x86_64")?, sparse };
        let peers = PEERS.map(|(name, _)| of(name)).into_iter().collect::<Result<Vec<_>>>()?;
        let fastest = peers.iter().copied().fold(f64::INFINITY, f64::min);
        let verdict = sheet.judge((work.holds)(&it));
        let mut row = vec![work.title.to_owned(), time(it.ours), work.bar.to_owned(), verdict, time(it.stores)];
        row.extend(peers.into_iter().map(time));
        row.push(number(fastest / it.ours));
        sheet.rows.push(row);
    }
    let sparse = |contender| measured(results, ("unmap_sparse", contender, 512 * GIB), None);
    let mut row = vec!["as many tables with one leaf in each".to_owned(), time(sparse(OURS)?)];
    row.resize(5, String::new());
    row.extend(PEERS.map(|(name, _)| sparse(name).map_or_else(|_| String::new(), time)));
    row.push(String::new());
    sheet.rows.push(row);
    Ok(sheet)
}

fn unsnooped(results: &Results) -> Result<Sheet> {
    let header =
        ["page tables, units that do not snoop: an entry", OURS, "at most", "", "frames, stores and write-backs alone"];
    let mut sheet = Sheet::new("Time, where they do not", header);
    for (title, work, bytes) in [
        ("map one 4 KiB page a call", "map_page", 16 * MIB),
        ("map 1 GiB of 4 KiB pages, one call", "map_4k", GIB),
        ("unmap it, one call", "unmap_4k", GIB),
    ] {
        let of = |contender| measured(results, (work, contender, bytes), Some(SMALL));
        let (ours, alone) = (of("cofferdam_unsnooped")?, of("stores_unsnooped")?);
        let verdict = sheet.judge(Some(ours <= 1.6));
        sheet.rows.push(vec![title.into(), time(ours), "1.6 ns".into(), verdict, time(alone)]);
    }
    Ok(sheet)
}

/// A number that the driver has to keep within a bar, and what Jailhouse takes.
type Count = (&'static str, Option<u64>, u64, &'static str);

fn cells(results: &Results) -> Result<Sheet> {
    let mut sheet = Sheet::new("Cells, on one unit", ["", OURS, "at most", "", "Jailhouse"]);
    let cost = |work| results.cost(work).with_context(|| format!("what {work} costs was not measured"));
    let (cell, carve) = (cost("cell")?, cost("carve")?);
    let instructions = |work| results.instructions(work, OURS);
    let Cost { doorbells, waits, .. } = cell;
    let counts: [Count; 8] = [
        ("submit and complete 16 descriptors: instructions", instructions("batch"), 250, ""),
        ("register accesses, the doorbell among them", results.registers_of_batch, 1, ""),
        ("create the cell and destroy it: doorbells", Some(doorbells), 2, "12"),
        ("waits", Some(waits), 2, "12"),
        ("instructions", instructions("cell"), 30_000, "455,000"),
        ("carve it out of 16 GiB in 1 GiB leaves, give back: frames while it exists", Some(carve.frames), 10, "1,032"),
        ("frames left over", Some(carve.frames_left), 0, ""),
        ("instructions", instructions("carve"), 100_000, "88,600,000"),
    ];
    for (title, ours, most, jailhouse) in counts {
        let ours = ours.with_context(|| format!("{title}: not measured"))?;
        let verdict = sheet.judge(Some(ours <= most));
        sheet.rows.push(vec![title.into(), thousands(ours), thousands(most), verdict, jailhouse.into()]);
    }
    let batch = time(measured(results, ("batch", OURS, 0), None)?);
    let row = ["submit and complete 16 descriptors: time".to_owned(), batch];
    sheet.rows.push(row.into_iter().chain([const { String::new() }; 3]).collect());
    for (title, work, cost) in [("create and destroy", "cell", cell), ("carve and give back", "carve", carve)] {
        let (took, Cost { doorbells, waits, frames_at_most, .. }) = (measured(results, (work, OURS, 0), None)?, cost);
        let mut row = |what: &str, told| {
            sheet.rows.push(vec![format!("{title}: {what}"), told, String::new(), String::new(), String::new()]);
        };
        row("time", time(took));
        row("doorbells and waits", format!("{doorbells} and {waits}"));
        row("frames at any time", frames_at_most.to_string());
    }
    Ok(sheet)
}

fn instructions(results: &Results) -> Result<Sheet> {
    let header = ["instructions", OURS, "the same, AMD's entries", "frames and stores alone"];
    let header = header.into_iter().chain(PEERS.map(|(_, crate_name)| crate_name));
    let mut sheet = Sheet::new("Instructions for a page", header);
    for (title, work, bytes, page) in [
        ("map one 4 KiB page a call", "map_page", 64 * MIB, SMALL),
        ("the same, each 512 of which make a 2 MiB leaf", "map_page_alike", 64 * MIB, SMALL),
        ("unmap one 4 KiB page a call", "unmap_page", 64 * MIB, SMALL),
        ("map 64 MiB of 4 KiB pages, one call", "map_4k", 64 * MIB, SMALL),
        ("unmap it, one call", "unmap_4k", 64 * MIB, SMALL),
        ("map 64 GiB in 2 MiB leaves, one call", "map_2m", 64 * GIB, LARGE),
        ("let go of 512 GiB in 2 MiB leaves, one call", "unmap_2m", 512 * GIB, LARGE),
    ] {
        let count = |contender| {
            let count = results.instructions(work, contender);
            let count = count.with_context(|| format!("the instructions of {work} by {contender} were not counted"))?;
            anyhow::Ok(number(count as f64 / (bytes / page) as f64))
        };
        let mut row = vec![title.to_owned(), count(OURS)?, count(OURS_AMD)?, count("stores")?];
        for (name, _) in PEERS {
            row.push(count(name)?);
        }
        sheet.rows.push(row);
    }
    Ok(sheet)
}

/// What is measured as memory grows, in pages of 2 MiB where they fit.
pub const SIZES: [u64; 3] = [MIB, GIB, 1024 * GIB];

fn memory(results: &Results) -> Result<Sheet> {
    let header = ["one call", OURS].into_iter().chain(PEERS.map(|(_, crate_name)| crate_name));
    let mut sheet = Sheet::new("As memory grows, in pages of up to 2 MiB", header);
    for (verb, work) in [("map", "map_2m"), ("unmap", "unmap_2m")] {
        for bytes in SIZES {
            let size = if bytes == 1024 * GIB { "1 TiB".to_owned() } else { show::bytes(bytes) };
            let mut row = vec![format!("{verb} {size}"), time(measured(results, (work, OURS, bytes), None)?)];
            for (name, _) in PEERS {
                row.push(time(measured(results, (work, name, bytes), None)?));
            }
            sheet.rows.push(row);
        }
    }
    Ok(sheet)
}

fn edits(results: &Results) -> Result<Sheet> {
    let title = "As units and threads grow: map and unmap 2 MiB in a cell behind all units, a cell a thread";
    let threads = threads(&results.edits);
    let mut sheet = Sheet::new(title, threads_header(&threads));
    for units in units(&results.edits) {
        sheet.rows.push(by_threads(&results.edits, units, &threads)?);
    }
    Ok(sheet)
}

/// Four threads that wait for units do so many times the work of one at least, where there is one unit: with more of them it
/// is the CPUs that have enough to do.
const OVERLAP: f64 = 3.0;

fn waits(results: &Results) -> Result<Sheet> {
    let title = "Where units take 10 µs to confirm: unmap a page in a cell behind all units, a cell a thread";
    let all = &results.waits;
    let threads = threads(all);
    let header = threads_header(&threads).chain(["work of 4 threads / of one", "at least", ""].map(String::from));
    let mut sheet = Sheet::new(title, header);
    for units in units(all) {
        let mut row = by_threads(all, units, &threads)?;
        let of = |threads| {
            let time = all.get(&(units, threads)).map(|time| time.median);
            time.with_context(|| format!("{threads} threads on {units} slow units: not measured"))
        };
        let times = of(1)? / of(4)?;
        let bar = (units == 1).then_some(OVERLAP);
        let verdict = sheet.judge(bar.map(|bar| times >= bar));
        row.extend([number(times), bar.map_or_else(String::new, number), verdict]);
        sheet.rows.push(row);
    }
    if sheet.rows.is_empty() {
        bail!("slow units: not measured");
    }
    Ok(sheet)
}

/// Times by units and threads.
type ByThreads = BTreeMap<(u64, u64), Time>;

fn units(all: &ByThreads) -> BTreeSet<u64> {
    all.keys().map(|(units, _)| *units).collect()
}

fn threads(all: &ByThreads) -> BTreeSet<u64> {
    all.keys().map(|(_, threads)| *threads).collect()
}

fn threads_header(threads: &BTreeSet<u64>) -> impl Iterator<Item = String> {
    let name = |count: &u64| if *count == 1 { "1 thread".to_owned() } else { format!("{count} threads") };
    std::iter::once("time for one, all threads together".to_owned()).chain(threads.iter().map(name))
}

/// A row for so many units, a column for each number of threads.
fn by_threads(all: &ByThreads, units: u64, threads: &BTreeSet<u64>) -> Result<Vec<String>> {
    let mut row = vec![if units == 1 { "1 unit".to_owned() } else { format!("{units} units") }];
    for threads in threads {
        let edit = all.get(&(units, *threads));
        row.push(time(edit.with_context(|| format!("{threads} threads on {units} units: not measured"))?.median));
    }
    Ok(row)
}

/// `benches/RESULTS.md`.
pub fn record(sheets: &[Sheet], place: &Place, command: &str, noise: f64) -> String {
    let Place { cpu, cpus, pinned, kernel, rustc, commit, date } = place;
    let noise = number(noise * 100.0);
    let pinned = if *pinned { "on one of them" } else { "on none in particular" };
    let mut text = format!(
        "# How fast it is\n\n\
         Written by `{command}`.\n\n\
         | | |\n|---|---|\n\
         | machine | {cpu}, {cpus} CPUs; one thread runs {pinned} |\n\
         | kernel | Linux {kernel} |\n\
         | compiler | {rustc}; release, fat LTO, one codegen unit |\n\
         | commit | {commit} |\n\
         | date | {date} |\n\
         | spread | the quartiles are within {noise} % of their median |\n\n\
         {NOTES}\n"
    );
    for sheet in sheets {
        let _ = writeln!(text, "{}", sheet.markdown());
    }
    text += "![The tables of what grows as a plot](scaling.svg)\n";
    text
}

/// What a reader has to know to trust the tables.
const NOTES: &str = "\
Times are medians; the contenders take turns, so that whatever else the machine does meets all of them. Instructions are
counted by Callgrind, driven by gungraun, with memory filled and copied by vector stores: of an instruction with `rep` it
would count each round. Times are measured by a loop of our own, as divan prints them for people only.

All contenders take 4 KiB frames from one pool, and a test compares what they leave in memory. Each frame is zeroed once,
while the clock runs: by the pool, or by the peers that do it themselves. *Frames and stores alone* checks nothing. To map
a range it takes as many zeroed frames and stores one entry after the other; to unmap it, it stores zeros into tables that
stay, so that row tells what stores alone take, without frames. For a page by itself it walks tables that are there.

page_table_multiarch and page-table-generic write VT-d's entries; x86_64 and aarch64-paging those of their own
architecture. x86_64 has no call for a range, so it gets one call for each page; page_table_multiarch keeps its tables when
it unmaps. cofferdam alone makes large leaves of small pages.

The cell has 1 MiB by 4 KiB, 64 MiB and 2 GiB of memory and 4 devices. It is made by the driver's public calls over stub
units that confirm at once; what these do is not counted. Jailhouse's numbers were measured elsewhere, once. Where units
take 10 µs, whoever waits for one yields the CPU to another thread, so that threads need not have a CPU each to wait at the
same time; what they do besides still has to fit on the CPUs.
";

#[cfg(test)]
mod tests {
    use super::*;

    /// Results in which everything takes as long, but for what is given.
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
        others.iter().for_each(|(work, contender, bytes, ns)| hear(work, contender, *bytes, *ns));
        for work in ["cell", "carve"] {
            let (kind, name) = ("cost", work);
            let line = serde_json::json!({
                "kind": kind, "work": name, "doorbells": 2, "waits": 2, "registers": 2, "frames": 10,
                "frames_at_most": 11, "frames_left": 0
            });
            results.hear_time(&line.to_string()).unwrap();
        }
        results.hear_time(r#"{"kind":"edit","units":1,"threads":1,"low":1.0,"median":1.0,"high":1.0}"#).unwrap();
        for (threads, ns) in [(1, 30.0), (4, 10.0)] {
            results.hear_time(&slow_units(threads, ns)).unwrap();
        }
        results.hear_time(r#"{"kind":"batch","registers":1}"#).unwrap();
        let works =
            WORKS.iter().map(|work| (work.name, 30_000)).chain([("batch", 250), ("cell", 30_000), ("carve", 100_000)]);
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
}
