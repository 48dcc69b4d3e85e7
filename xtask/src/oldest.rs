//! `cargo xtask oldest`: whether the driver builds with the oldest Rust that its manifest promises.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use crate::{Verdict, cargo, process, show};

const LIMIT: Duration = Duration::from_secs(10 * 60);
/// A toolchain is a hundred megabytes; a server that takes longer is taken as out of reach.
const FETCH_LIMIT: Duration = Duration::from_secs(3 * 60);

pub fn verb() -> Result<Verdict> {
    let manifest = fs::read_to_string(crate::root().join("Cargo.toml")).context("no manifest")?;
    let promised = promised(&manifest).context("the driver's manifest promises no rust-version")?;
    let toolchain = format!("{promised}.0");
    if let Err(why) = fetch(&toolchain) {
        let left_out = show::left_out();
        println!("{left_out} a build with Rust {promised}: {why:#}; rustup toolchain install {toolchain}");
        return Ok(Verdict::Held);
    }
    let mut build =
        cargo::rustup(&["run", &toolchain, "cargo", "check", "--locked", "--package", "cofferdam", "--lib"]);
    // Others of the workspace are built with a newer one, and read the same artifacts.
    build.env("CARGO_TARGET_DIR", cargo::target()?.join("oldest")).env("RUSTFLAGS", "-D warnings");
    let built = process::quietly(&format!("Building with Rust {promised}"), &mut build, LIMIT);
    println!(
        "{} the driver builds with Rust {promised}, the oldest that its manifest promises",
        show::mark(built.is_ok())
    );
    match built {
        Ok(()) => Ok(Verdict::Held),
        Err(error) => {
            println!("{error:#}");
            Ok(Verdict::Failed)
        }
    }
}

/// The version in the section of the package; that of the workspace is for all else that is in it.
fn promised(manifest: &str) -> Option<&str> {
    let package = manifest.lines().skip_while(|line| *line != "[package]").skip(1);
    let mut lines = package.take_while(|line| !line.starts_with('['));
    lines.find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
}

/// Has rustup install a toolchain that is not there.
fn fetch(toolchain: &str) -> Result<()> {
    which::which("rustup").context("there is no rustup")?;
    if process::answer(&mut cargo::rustup(&["run", toolchain, "rustc", "--version"])).is_some() {
        return Ok(());
    }
    let mut install = cargo::rustup(&["toolchain", "install", toolchain, "--profile", "minimal"]);
    process::quietly(
        &format!("Fetching Rust {toolchain} with rustup"),
        install.env("RUSTUP_MAX_RETRIES", "1"),
        FETCH_LIMIT,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_promises_and_not_the_workspace() {
        let manifest =
            "[workspace.package]\nrust-version = \"1.95\"\n[package]\nname = \"it\"\nrust-version = \"1.88\"\n";
        assert_eq!(promised(manifest), Some("1.88"));
        assert_eq!(promised("[package]\nname = \"it\"\n[lib]\nrust-version = \"1.1\"\n"), None);
        assert!(promised(include_str!("../../Cargo.toml")).is_some());
    }
}
