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

/// rustup at the root of the repository, with nothing of the cargo in use that would choose a toolchain.
pub fn rustup(arguments: &[&str]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(arguments).current_dir(crate::root());
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        rustup.env_remove(name);
    }
    rustup
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
    let metadata = process::answer(cargo.args(["metadata", "--no-deps", "--format-version", "1"]));
    let metadata = metadata.context("cargo metadata says nothing")?;
    Ok(serde_json::from_str::<Metadata>(&metadata)?.target_directory)
}
