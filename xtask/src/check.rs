//! `cargo xtask check`: whether a configuration of cells fits a board, before that boots.

mod board;
mod config;
mod mistakes;

use std::path::PathBuf;

use anyhow::{Context, Result};
use cofferdam::topology::NoConfigSpace;

use crate::{
    Verdict,
    inspect::{Input, Machine, SYSFS},
    show,
};
use board::Board;
use config::Config;

#[derive(clap::Args)]
pub struct Options {
    /// The cells, as docs/check.md describes them.
    config: PathBuf,
    /// The board's DMAR or IVRS table, as `inspect` takes it. Without it: the table of this machine, and its devices.
    table: Option<PathBuf>,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let name = options.config.display();
    let text = std::fs::read_to_string(&options.config).with_context(|| format!("cannot read {name}"))?;
    let config =
        Config::read(&text).with_context(|| format!("{name} is no configuration; docs/check.md has its form"))?;
    let machine = options.table.is_none().then(|| Machine::at(SYSFS.into()));
    let input = match (&options.table, &machine) {
        (Some(table), _) => Input::from_file(table)?,
        (None, Some(machine)) => machine.input()?,
        (None, None) => return Ok(Verdict::Failed),
    };
    let mut memory = board::memory(&input);
    let mistakes = match &machine {
        Some(machine) => mistakes::of(&config, &Board::read(&input, &mut memory, machine)?),
        None => mistakes::of(&config, &Board::read(&input, &mut memory, &NoConfigSpace)?),
    };
    if machine.is_none() {
        println!(
            "Without the board's configuration space: what is behind bridges, and what isolates devices, is not looked at."
        );
    }
    mistakes.iter().for_each(|mistake| println!("{} {mistake}", show::mark(false)));
    let (cells, count) = (config.cells.len(), mistakes.len());
    println!("{} {cells} cells on {}: {count} mistakes", show::mark(count == 0), input.name);
    Ok(if count == 0 { Verdict::Held } else { Verdict::Failed })
}
