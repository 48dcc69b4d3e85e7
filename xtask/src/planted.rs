//! `cargo xtask planted`: bugs planted in a copy of the driver, each of which a scenario in QEMU has to find.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{
    Booting, Verdict,
    bare_metal::Toolchain,
    build, cargo,
    matrix::{Machine, Matrix, Scenario},
    process,
    qemu::{Boot, Qemu},
    setup, show,
};

#[path = "../../tests/planted/bugs.rs"]
#[allow(dead_code, reason = "the driver's tests look at all of a bug")]
mod bugs;

use bugs::{BUGS, Bug};

/// What is planted, from the root of the repository.
const LIST: &str = "tests-qemu/planted.toml";

#[derive(clap::Args)]
pub struct Options {
    /// Only bugs whose name holds this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    bug: String,
    #[command(flatten)]
    booting: Booting,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    planted: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bug: String,
    scenario: String,
    machine: String,
    fails: String,
}

/// A bug, and where it has to be found.
struct Planted<'a> {
    bug: &'static Bug,
    scenario: &'a Scenario,
    machine: &'a Machine,
    fails: String,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let text = fs::read_to_string(crate::root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let mut list = read(&text, &matrix).with_context(|| format!("{LIST} is wrong"))?;
    list.retain(|planted| planted.bug.what.contains(&options.bug));
    ensure!(!list.is_empty(), "no bug's name holds `{}`; see {LIST}", options.bug);
    let setup::Tools { rust, qemu } = setup::ensure(options.booting.qemu.clone())?;
    let qemu = Qemu::new(qemu, options.booting.accel)?;
    println!("{}", qemu.version);
    let limit = options.booting.timeout.map_or(matrix.timeout, Duration::from_secs);

    // A scenario that fails by itself would find anything.
    let images = build::images(&rust, list.iter().map(|planted| planted.scenario))?;
    let mut sound = true;
    let mut boots = BTreeSet::new();
    for Planted { scenario, machine, .. } in &list {
        if boots.insert((&scenario.name, &machine.name)) {
            let image = images.get(scenario.bin()).context("cargo built no image")?;
            let boot = qemu.boot(scenario, machine, image, limit);
            sound &= boot.wrong.is_empty();
            println!("  {} {} on {machine}, without a bug", show::mark(boot.wrong.is_empty()), scenario.name);
        }
    }
    let copy = Copy::new()?;
    let mut found = 0;
    for planted in &list {
        let began = Instant::now();
        let image = copy.with(planted.bug, |copy| copy.image(&rust, planted.scenario.bin()))?;
        let built = began.elapsed();
        let boot = qemu.boot(planted.scenario, planted.machine, &image, limit);
        let is_found = planted.is_found(&boot);
        found += usize::from(is_found);
        let (mark, bug, seconds) = (show::mark(is_found), planted.bug.what, built.as_secs_f32());
        println!("  {mark} {bug}: {} on {}, built in {seconds:.1} s", planted.scenario.name, planted.machine);
        boot.wrong.iter().take(3).for_each(|wrong| println!("    {wrong}"));
        if !is_found {
            println!("    `{}` is not among what failed", planted.fails);
        }
    }
    println!("{found} of {} bugs are found", list.len());
    Ok(if sound && found == list.len() { Verdict::Held } else { Verdict::Failed })
}

/// # Errors
///
/// It holds something unknown, or names a bug, a scenario or a machine that does not exist, or one that is to fail anyway.
fn read<'a>(text: &str, matrix: &'a Matrix) -> Result<Vec<Planted<'a>>> {
    let planted = |Entry { bug, scenario, machine, fails }| {
        let known = BUGS.iter().find(|known| known.what == bug).with_context(|| format!("there is no bug `{bug}`"))?;
        let (scenario, machine) = (matrix.scenario(&scenario)?, matrix.machine(&machine)?);
        let runs = matrix.machines_of(scenario)?.contains(&machine) && scenario.is_to_succeed();
        ensure!(runs, "{} does not succeed on {machine} without a bug", scenario.name);
        ensure!(!fails.is_empty(), "nothing has to fail with the bug `{bug}`");
        Ok(Planted { bug: known, scenario, machine, fails })
    };
    toml::from_str::<List>(text)?.planted.into_iter().map(planted).collect()
}

impl Planted<'_> {
    /// True if the expectation did not hold. A crash or a timeout alone is not what the bug does.
    fn is_found(&self, boot: &Boot) -> bool {
        boot.wrong.iter().any(|wrong| wrong.starts_with("expected: ") && wrong.contains(&self.fails))
    }
}

/// The repository as it is in the working tree, without what git ignores; built apart from it.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new() -> Result<Copy> {
        let (root, folder) = (crate::root(), cargo::target()?.join("planted"));
        let copy = Copy { tree: folder.join("tree"), target: folder.join("target") };
        let mut git = Command::new("git");
        let listed = process::answer(git.arg("-C").arg(&root).args([
            "-c",
            "core.quotePath=off",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]));
        let listed = listed.context("git does not list the repository's files")?;
        if copy.tree.exists() {
            fs::remove_dir_all(&copy.tree)?;
        }
        for name in listed.lines().filter(|name| root.join(name).is_file()) {
            let to = copy.tree.join(name);
            fs::create_dir_all(to.parent().unwrap_or(&copy.tree))?;
            fs::copy(root.join(name), to).with_context(|| format!("cannot copy {name}"))?;
        }
        Ok(copy)
    }

    /// What `build` makes of it while it has the bug.
    fn with<T>(&self, bug: &Bug, build: impl FnOnce(&Copy) -> Result<T>) -> Result<T> {
        let path = self.tree.join(bug.file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", bug.file))?;
        let planted =
            bug.planted_in(&text).with_context(|| format!("`{}` cannot be planted in {}", bug.what, bug.file))?;
        fs::write(&path, planted)?;
        let built = build(self).with_context(|| format!("with the bug `{}`", bug.what));
        fs::write(&path, text)?;
        built
    }

    fn image(&self, rust: &Toolchain, bin: &str) -> Result<PathBuf> {
        rust.image_of(&self.tree, &self.target, bin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = include_str!("../../tests-qemu/planted.toml");

    #[test]
    fn every_bug_can_be_planted() {
        let matrix = crate::matrix().unwrap();
        let list = read(REAL, &matrix).unwrap();
        assert!(list.len() >= 3);
        for Planted { bug, .. } in list {
            let path = crate::root().join(bug.file);
            let text = fs::read_to_string(path).unwrap();
            assert!(bug.planted_in(&text).is_some_and(|planted| planted != text), "plant it again: {}", bug.what);
        }
    }

    #[test]
    fn a_mistake_in_the_list_is_named() {
        let matrix = crate::matrix().unwrap();
        for (from, to, says) in [
            ("bug = \"unmap", "bug = \"map", "there is no bug `map without"),
            ("scenario = \"main_job\"", "scenario = \"other\"", "no scenario other"),
            ("scenario = \"main_job\"", "scenario = \"crash_panic\"", "does not succeed on aw48-256M"),
            ("machine = \"aw48-256M\"", "machine = \"one-bridge\"", "main_job does not succeed on one-bridge"),
            (
                "fails = \"device A: a page that was in use is blocked as soon as it is unmapped\"",
                "fails = \"\"",
                "nothing",
            ),
        ] {
            let error = read(&REAL.replacen(from, to, 1), &matrix).map(|list| list.len()).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
    }

    #[test]
    fn a_bug_is_found_by_what_it_does_and_by_nothing_else() {
        let matrix = crate::matrix().unwrap();
        let list = read(REAL, &matrix).unwrap();
        let found = |wrong: &str| list[0].is_found(&Boot { wrong: vec![wrong.into()], ..Boot::default() });
        assert!(found(&format!("expected: {}; seen: read", list[0].fails)));
        assert!(!found(&format!("hung: {}", list[0].fails)) && !found("expected: another; seen: read"));
        assert!(!list[0].is_found(&Boot::default()));
    }
}
