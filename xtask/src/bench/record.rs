//! The tables as a file that is kept.

use std::fmt::Write as _;

use super::{Place, figures::number, sheet::Sheet};

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
units that confirm at once; what these do is not counted. Jailhouse's numbers were measured elsewhere, once. For an interrupt they
depend on where its entry is in a table of 256; Jailhouse has no change that is undone as a whole there, and no deadline. Where
units take 10 µs, whoever waits for one yields the CPU to another thread, so that threads need not have a CPU each to wait at the
same time; what they do besides still has to fit on the CPUs.
";
