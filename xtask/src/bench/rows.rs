//! The tables: what was measured, the bar for it, and whether it holds.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::{
    figures::{number, thousands, time},
    results::{Cost, Results, Time},
    sheet::Sheet,
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
    let (cell, carve, route) = (cost("cell")?, cost("carve")?, cost("route")?);
    let instructions = |work| results.instructions(work, OURS);
    let Cost { doorbells, waits, .. } = cell;
    let counts: [Count; 11] = [
        ("submit and complete 16 descriptors: instructions", instructions("batch"), 250, ""),
        ("register accesses, the doorbell among them", results.registers_of_batch, 1, ""),
        ("create the cell and destroy it: doorbells", Some(doorbells), 2, "12"),
        ("waits", Some(waits), 2, "12"),
        ("instructions", instructions("cell"), 30_000, "455,000"),
        ("carve it out of 16 GiB in 1 GiB leaves, give back: frames while it exists", Some(carve.frames), 10, "1,032"),
        ("frames left over", Some(carve.frames_left), 0, ""),
        ("instructions", instructions("carve"), 100_000, "88,600,000"),
        ("have a routed interrupt go to another CPU: doorbells", Some(route.doorbells), 1, "1"),
        ("waits", Some(route.waits), 1, "1"),
        ("instructions", instructions("route"), 10_000, "241 to 2,281"),
    ];
    for (title, ours, most, jailhouse) in counts {
        let ours = ours.with_context(|| format!("{title}: not measured"))?;
        let verdict = sheet.judge(Some(ours <= most));
        sheet.rows.push(vec![title.into(), thousands(ours), thousands(most), verdict, jailhouse.into()]);
    }
    let batch = time(measured(results, ("batch", OURS, 0), None)?);
    let row = ["submit and complete 16 descriptors: time".to_owned(), batch];
    sheet.rows.push(row.into_iter().chain([const { String::new() }; 3]).collect());
    for (title, work, cost) in [
        ("create and destroy", "cell", cell),
        ("carve and give back", "carve", carve),
        ("to another CPU", "route", route),
    ] {
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
