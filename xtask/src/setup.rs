//! `cargo xtask setup`: what the other verbs need, installed where it is missing.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::{
    Verdict, apt, backports,
    bare_metal::{self, TARGET, Toolchain},
    matrix::{Machine, Scenario},
    medium, process,
    qemu::{self, Accel, Qemu},
};

/// The target's libraries are a few megabytes; a server that takes longer is taken as out of reach.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// What builds an image and what boots it.
#[derive(Debug)]
pub struct Tools {
    pub rust: Toolchain,
    pub qemu: PathBuf,
}

pub fn verb() -> Result<Verdict> {
    let more = apt::Missing { iasl: lacks_iasl(), cc: lacks_cc(), ..medium::lacking() };
    let tools = ensure_with(None, more, more.iasl || more.cc || more.grub || more.ovmf)?;
    println!("Rust for bare metal: {}", tools.rust);
    let qemu = Qemu::new(tools.qemu, Accel::Tcg)?;
    println!("QEMU: {}", qemu.version);
    let matrix = crate::matrix()?;
    match newer(&qemu, matrix.boots()?.into_iter(), Accel::Tcg) {
        Ok(newer) => newer.iter().for_each(|newer| println!("QEMU: {}, unpacked", newer.version)),
        Err(error) => println!("No QEMU for the scenarios that need a newer one: {error:#}"),
    }
    println!("Everything is there.");
    Ok(Verdict::Held)
}

/// Installs what is missing; `qemu` is used instead of one in PATH.
///
/// # Errors
///
/// Something is missing and cannot be installed; what was installed until then stays.
pub fn ensure(qemu: Option<PathBuf>) -> Result<Tools> {
    ensure_with(qemu, apt::Missing { iasl: lacks_iasl(), cc: lacks_cc(), ..apt::Missing::default() }, false)
}

/// The same with more, which alone is a reason to install something if it is `needed`.
fn ensure_with(qemu: Option<PathBuf>, more: apt::Missing, needed: bool) -> Result<Tools> {
    let qemu = qemu.or_else(qemu::in_path);
    let rust = bare_metal::find().or_else(by_rustup);
    let missing = apt::Missing { qemu: qemu.is_none(), rust: rust.is_none(), ..more };
    if missing.qemu || missing.rust || needed {
        apt::install(missing)?;
    }
    let rust = or_installed(rust)?;
    let qemu = qemu.or_else(qemu::in_path).context("still no qemu-system-x86_64 in PATH, though it was installed")?;
    Ok(Tools { rust, qemu })
}

/// Installs a Rust that builds for bare metal, if it is missing: for what is built and not booted.
///
/// # Errors
///
/// It is missing and cannot be installed.
pub fn ensure_rust() -> Result<Toolchain> {
    let rust = bare_metal::find().or_else(by_rustup);
    if rust.is_none() {
        apt::install(apt::Missing { rust: true, ..apt::Missing::default() })?;
    }
    or_installed(rust)
}

fn or_installed(rust: Option<Toolchain>) -> Result<Toolchain> {
    let rust = rust.or_else(bare_metal::find);
    rust.with_context(|| format!("still no Rust that builds for {TARGET}, though it was installed"))
}

/// Installs a C compiler with its linker and archiver, if they are missing.
///
/// # Errors
///
/// They are missing and cannot be installed.
pub fn ensure_cc() -> Result<()> {
    if lacks_cc() { apt::install(apt::Missing { cc: true, ..apt::Missing::default() }) } else { Ok(()) }
}

fn lacks_cc() -> bool {
    ["cc", "ar"].iter().any(|name| which::which(name).is_err())
}

/// A QEMU for those of the boots for which `qemu` is too old; `None` if there are none.
///
/// # Errors
///
/// There is none to be had, or it is too old as well.
pub fn newer<'a>(
    qemu: &Qemu,
    mut boots: impl Iterator<Item = (&'a Scenario, &'a Machine)>,
    accel: Accel,
) -> Result<Option<Qemu>> {
    if boots.all(|(scenario, machine)| qemu.suits(scenario, machine)) {
        return Ok(None);
    }
    Qemu::unpacked(backports::qemu()?, accel).map(Some)
}

/// Without it one host test is left out, so the other verbs do without.
pub fn lacks_iasl() -> bool {
    which::which("iasl").is_err()
}

/// Adds the target to the toolchain in use, if that is one of rustup.
fn by_rustup() -> Option<Toolchain> {
    which::which("rustup").ok()?;
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]).env("RUSTUP_MAX_RETRIES", "1");
    let fetched = process::quietly(&format!("Fetching {TARGET} with rustup"), &mut rustup, RUSTUP_LIMIT);
    let found = bare_metal::find(); // rustup has been seen to succeed without a result
    if found.is_none() {
        let why = fetched.err().map_or_else(|| "it fetched nothing".to_owned(), |error| reason(&error.to_string()));
        println!("rustup could not fetch {TARGET} ({why}), so the Rust of the distribution builds for bare metal.");
    }
    found
}

/// The first line that says error, as the whole is long.
fn reason(output: &str) -> String {
    let line = output.lines().find(|line| line.starts_with("error")).or(output.lines().last());
    line.unwrap_or_default().to_owned()
}
