//! The cargo in use.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// It, at the root of the repository.
pub fn command() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root()).env("CARGO_TERM_COLOR", "never");
    cargo
}

/// The folder that it builds in.
///
/// # Errors
///
/// It does not say.
pub fn target() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let mut cargo = command();
    let told = process::answer(cargo.args(["metadata", "--no-deps", "--format-version", "1"]));
    let told = told.context("cargo metadata says nothing")?;
    Ok(serde_json::from_str::<Metadata>(&told)?.target_directory)
}
