//! What counts instructions: valgrind, and the runner of gungraun, whose version is that of the library.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{apt, cargo, process};

const RUNNER: &str = "gungraun-runner";
/// It is built from source: two minutes on a slow machine.
const LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub struct Tools {
    pub runner: PathBuf,
}

/// Installs what is missing: valgrind for the system, the runner in the target folder.
///
/// # Errors
///
/// Something is missing and cannot be installed; the error holds the command to run.
pub fn ensure() -> Result<Tools> {
    if which::which("valgrind").is_err() {
        apt::install(apt::Missing { valgrind: true, ..apt::Missing::default() })?;
    }
    if let Some(runner) = std::env::var_os("GUNGRAUN_RUNNER") {
        return Ok(Tools { runner: runner.into() });
    }
    let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).context("no Cargo.lock")?;
    let version = runner_version(&lock)?;
    let home = cargo::target()?.join(format!("{RUNNER}-{version}"));
    let runner = home.join("bin").join(RUNNER);
    if !runner.exists() {
        let mut install = cargo::command();
        install.args(["install", RUNNER, "--locked", "--version", &format!("={version}"), "--root"]).arg(&home);
        // Otherwise cargo would build it with the flags and in the folder of the workspace.
        install.env_remove("RUSTFLAGS");
        process::quietly(&format!("Installing {RUNNER} {version}"), &mut install, LIMIT)?;
    }
    Ok(Tools { runner })
}

/// The version of the runner that the library asks for.
fn runner_version(lock: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(lock)?;
    let runner = lock.package.into_iter().find(|package| package.name == RUNNER);
    Ok(runner.with_context(|| format!("Cargo.lock names no {RUNNER}"))?.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_of_the_version_that_is_locked() {
        let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).unwrap();
        assert!(runner_version(&lock).unwrap().starts_with("0."));
        let other = "[[package]]\nname = \"gungraun\"\nversion = \"1.2.3\"\n";
        assert!(runner_version(other).unwrap_err().to_string().contains("names no gungraun-runner"));
    }
}
