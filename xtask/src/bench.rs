//! `cargo xtask bench`: how fast the driver is, beside its peers and what stores alone cost.

mod figures;
mod plot;
mod record;
mod results;
mod rows;
mod sheet;
mod tools;

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    Verdict, cargo,
    process::{self, Stream, Streams},
    show,
};
use results::Results;
use sheet::Sheet;

const PACKAGE: &str = "cofferdam-benches";
const RECORD: &str = "benches/RESULTS.md";
const PLOT: &str = "benches/scaling.svg";
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);
const RUN_LIMIT: Duration = Duration::from_secs(10 * 60);

#[derive(Args)]
pub struct Options {
    /// Takes fewer samples: a minute less, and less to rely on.
    #[arg(long)]
    quick: bool,
    /// Writes the tables to benches/RESULTS.md and the plot to benches/scaling.svg.
    #[arg(long)]
    record: bool,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let tools = tools::ensure()?;
    let mut build = cargo::command();
    build.args(["bench", "--package", PACKAGE, "--bench", "times", "--bench", "counts", "--no-run"]);
    process::quietly("Building the benchmarks", &mut build, BUILD_LIMIT)?;

    let mut results = Results::default();
    let quick: &[&str] = if options.quick { &["--quick"] } else { &[] };
    lines("Measuring times", bench("times").args(quick), |line| results.hear_time(line))?;
    let mut counts = bench("counts");
    counts.arg("--output-format=json").env("GUNGRAUN_RUNNER", &tools.runner);
    lines("Counting instructions", &mut counts, |line| results.hear_count(line))?;

    let sheets = rows::sheets(&results)?;
    for sheet in &sheets {
        println!("{sheet}\n");
    }
    let noise = results.noise();
    println!("Each quartile of the times is within {:.1} % of their median.", noise * 100.0);
    let missed: usize = sheets.iter().map(Sheet::missed).sum();
    let held: usize = sheets.iter().map(Sheet::held).sum();
    if options.record {
        let command = format!("cargo xtask bench{} --record", if options.quick { " --quick" } else { "" });
        fs::write(crate::root().join(RECORD), record::record(&sheets, &Place::here(&results), &command, noise))?;
        fs::write(crate::root().join(PLOT), plot::svg(&results)?)?;
        println!("Written to {RECORD} and {PLOT}.");
    }
    println!("{} {held} bars hold, {missed} do not", show::mark(missed == 0));
    Ok(if missed == 0 { Verdict::Held } else { Verdict::Failed })
}

fn bench(name: &str) -> Command {
    let mut bench = cargo::command();
    bench.args(["bench", "--package", PACKAGE, "--bench", name, "--"]);
    bench
}

/// Runs a benchmark, and hands on each line that it prints on stdout.
fn lines(what: &str, command: &mut Command, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let (spinner, mut errors, mut heard) = (process::spinner(what), String::new(), Ok(()));
    let ending = process::watch(command, Streams::Apart, RUN_LIMIT, |line| match line.stream {
        Stream::Err => errors += &format!("{}\n", line.text),
        Stream::Out if heard.is_ok() => {
            heard = each(&line.text).with_context(|| format!("a line that says nothing: {}", line.text));
        }
        Stream::Out => {}
    });
    spinner.finish_and_clear();
    if !ending?.success() {
        bail!("{errors}this failed: {}", process::words(command));
    }
    heard
}

/// Where and when it was measured.
#[derive(Debug)]
struct Place {
    cpu: String,
    cpus: usize,
    pinned: bool,
    kernel: String,
    rustc: String,
    commit: String,
    date: String,
}

impl Place {
    fn here(results: &Results) -> Self {
        let answer = |program: &str, args: &[&str]| {
            let told = process::answer(Command::new(program).args(args).current_dir(crate::root()));
            told.map_or_else(|| "unknown".into(), |told| told.trim().to_owned())
        };
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = |line: &str| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned());
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self {
            cpu: cpu.lines().find_map(model).unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            pinned: results.pinned,
            kernel: kernel.split('-').next().unwrap_or_default().to_owned(),
            rustc: answer("rustc", &["--version"]),
            commit: answer("git", &["describe", "--always", "--dirty", "--exclude", "*"]),
            date: answer("date", &["-u", "+%Y-%m-%d"]),
        }
    }
}
