//! `cargo xtask inspect`: what a machine's firmware says about its remapping units, and what is wrong with it.

mod beside;
mod dmar;
mod dump;
mod input;
mod ivrs;
mod machine;
mod print;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use self::report::Report;
pub use self::{
    input::Input,
    machine::{Machine, parse},
    print::class,
    report::limits,
};
use crate::Verdict;

/// Where Linux shows its firmware, memory map and devices.
pub const SYSFS: &str = "/sys";

#[derive(Args)]
pub struct Options {
    /// A DMAR or IVRS table, or what acpidump, iasl, hexdump, od or xxd print of it. Without it: the table of this machine.
    file: Option<PathBuf>,
    /// Prints JSON for programs, as docs/inspect-json.md describes it.
    #[arg(long)]
    json: bool,
    /// A saved serial log of a board report, instead of a table.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "json"])]
    report: Option<PathBuf>,
    /// Writes the board report as one page of HTML.
    #[arg(short, long, value_name = "PAGE", requires = "report")]
    output: Option<PathBuf>,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    if let Some(log) = &options.report {
        return crate::report::inspect(log, options.output.as_deref());
    }
    let machine = options.file.is_none().then(|| Machine::at(SYSFS.into()));
    let input = match (&options.file, &machine) {
        (Some(file), _) => Input::from_file(file)?,
        (None, Some(machine)) => machine.input()?,
        (None, None) => return Ok(Verdict::Failed),
    };
    let report = Report::new(&input, machine.as_ref())
        .with_context(|| format!("{} cannot be read as a table; get it once more and try again", input.name))?;
    let text = if options.json { serde_json::to_string_pretty(&report)? + "\n" } else { print::text(&report) };
    print!("{text}");
    Ok(if report.is_sound { Verdict::Held } else { Verdict::Failed })
}
