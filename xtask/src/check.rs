//! `cargo xtask check`: whether a configuration of cells fits a board, before that boots.

mod board;
mod config;
mod mistakes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cofferdam::topology::NoConfigSpace;

use crate::{
    Verdict,
    inspect::{Input, Machine, SYSFS},
    report::{self, Contents, printable},
    show,
};
use board::Board;
use config::Config;

#[derive(clap::Args)]
pub struct Options {
    /// The cells, as docs/check.md describes them.
    config: PathBuf,
    /// The board's DMAR or IVRS table, as `inspect` takes it. Without it: the report's, or that of this machine, and its devices.
    table: Option<PathBuf>,
    /// The board's report, as a saved serial log.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let name = options.config.display();
    let text = std::fs::read_to_string(&options.config).with_context(|| format!("cannot read {name}"))?;
    let config =
        Config::read(&text).with_context(|| format!("{name} is no configuration; docs/check.md has its form"))?;
    let report = options.report.as_deref().map(whole_report).transpose()?;
    let is_here = options.table.is_none() && report.is_none();
    let machine = is_here.then(|| Machine::at(SYSFS.into()));
    let input = match (&options.table, &machine, report.as_ref().zip(options.report.as_ref())) {
        (Some(table), ..) => Input::from_file(table)?,
        (None, Some(machine), _) => machine.input()?,
        (None, None, Some((report, file))) => {
            Input::of(format!("the board of {}", file.display()), report.table.clone())
        }
        (None, None, None) => return Ok(Verdict::Failed),
    };
    let mut memory = board::memory(&input);
    let mut mistakes = match &machine {
        Some(machine) => mistakes::of(&config, &Board::read(&input, &mut memory, machine)?),
        None => mistakes::of(&config, &Board::read(&input, &mut memory, &NoConfigSpace)?.with(report.as_ref())),
    };
    if report.is_some_and(|report| report.table != input.table) {
        mistakes.push(format!(
            "the report has another table than {}: is it of this board, as its firmware is now?",
            input.name
        ));
    }
    if options.table.is_some() && options.report.is_none() {
        println!(
            "Without the board's configuration space or its report: what is behind bridges, and what isolates devices, is not looked at."
        );
    }
    mistakes.iter().for_each(|mistake| println!("{} {}", show::mark(false), printable(mistake)));
    let (cells, count) = (config.cells.len(), mistakes.len());
    println!("{} {cells} cells on {}: {count} mistakes", show::mark(count == 0), printable(&input.name));
    Ok(if count == 0 { Verdict::Held } else { Verdict::Failed })
}

/// A report that lacks nothing.
fn whole_report(file: &Path) -> Result<Contents> {
    let report = report::read(file)?;
    match report.flaws.first() {
        Some(flaw) => bail!("{} is not whole: {flaw}; save it once more", file.display()),
        None if report.table.is_empty() => {
            bail!("the board of {} has no table, so no cell can have a device", file.display())
        }
        None => Ok(report),
    }
}
