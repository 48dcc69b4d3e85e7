//! Bugs planted in the driver, such as other drivers really had, or as a tired author of this one writes: the driver's tests
//! have to find every one, and the hardware model to call those of other drivers by the rule that they break.
//!
//! They build the driver once for each (half a minute each), so they run on request:
//! `cargo test --test planted -- --ignored --nocapture`, with a part of a bug's text in `PLANTED` for that one alone. A bug
//! is an exact piece of the code and what stands in its place, so code may move; where the piece is not there, once, the
//! test says so, and the bug has to be planted again.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[path = "planted/bugs.rs"]
mod bugs;

use bugs::{BUGS, Bug};
use cofferdam_model::rules::RULES;

/// How long a run of the driver's tests may take.
const LIMIT_SECONDS: u32 = 180;
/// Steps of each kind of histories: few, as they run once for each bug.
const STEPS: &str = "2000";

/// What the tests say of a bug.
struct Outcome {
    failed: BTreeSet<String>,
    rules: BTreeSet<String>,
}

#[test]
#[ignore = "builds the driver once for each bug"]
fn every_planted_bug_is_found_and_called_by_its_rule() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    copy_tree(&copy);
    // All that the driver and its tests are built on, which takes long and only once.
    assert!(test(&mut Command::new("env"), &copy).arg("--no-run").status().unwrap().success(), "it does not compile");
    // A tree whose tests fail by themselves would find anything.
    assert!(run(&copy).failed.is_empty(), "the tests fail without a bug");
    let chosen = env::var("PLANTED").unwrap_or_default();
    let mut missed = Vec::new();
    for bug in BUGS.iter().filter(|bug| bug.what.contains(&chosen)) {
        let path = copy.join(bug.file);
        let text = fs::read_to_string(&path).unwrap();
        let planted = bug.planted_in(&text);
        let line = match planted {
            None => "CANNOT BE PLANTED".to_owned(),
            Some(planted) => {
                fs::write(&path, planted).unwrap();
                let outcome = run(&copy);
                fs::write(&path, text).unwrap();
                outcome.judge(bug)
            }
        };
        println!("{:<80} {:<5} {line}", bug.what, bug.rule);
        if !line.starts_with("found") {
            missed.push(bug.what);
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_bug_can_be_planted() {
    let is_lost = |bug: &&Bug| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(bug.file)).unwrap();
        bug.planted_in(&text).is_none_or(|planted| planted == text)
    };
    let lost = Vec::from_iter(BUGS.iter().filter(is_lost).map(|bug| bug.what));
    assert!(lost.is_empty(), "plant them again: {lost:#?}");
}

impl Outcome {
    fn judge(&self, bug: &Bug) -> String {
        let rules = Vec::from_iter(self.rules.iter().map(String::as_str)).join(" ");
        let tests = self.failed.len();
        match (tests, self.rules.contains(bug.rule)) {
            (0, _) => "NOT FOUND".to_owned(),
            (_, true) => format!("found by {tests} tests as {rules}"),
            (..) if bug.by_assertion => format!("found by {tests} tests, by what they assert; {rules}"),
            (..) => format!("MISNAMED by {tests} tests as {rules}"),
        }
    }
}

/// The repository as it is in the working tree, without what git does not know.
fn copy_tree(to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().unwrap();
    let _ = fs::remove_dir_all(to);
    for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let (from, to) = (root.join(name), to.join(name));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if from.is_file() {
            fs::copy(from, to).unwrap();
        }
    }
}

/// Runs the driver's tests and short histories, for as long as they take many times over without a bug: one may keep them
/// from ending.
fn run(tree: &Path) -> Outcome {
    let built = test(&mut Command::new("env"), tree).arg("--no-run").output().unwrap();
    assert!(built.status.success(), "it does not compile:\n{}", String::from_utf8_lossy(&built.stderr));
    let mut command = Command::new("timeout");
    command.arg(LIMIT_SECONDS.to_string());
    test(&mut command, tree).args(["--", "--nocapture"]).env("COFFERDAM_STEPS", STEPS);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let listed = text.lines().skip_while(|line| *line != "failures:").filter_map(|line| line.strip_prefix("    "));
    let mut failed: BTreeSet<String> = listed.filter(|line| !line.contains(' ')).map(str::to_owned).collect();
    if !output.status.success() && failed.is_empty() {
        failed.insert("one that does not end".into());
    }
    let rules = text.lines().filter_map(|line| line.trim_start().split_once(": ")).map(|(rule, _)| rule);
    let rules = rules.filter(|rule| RULES.iter().any(|(number, ..)| number == rule)).map(str::to_owned).collect();
    Outcome { failed, rules }
}

/// Has a command that runs another run cargo with the driver's tests and the histories.
fn test<'c>(command: &'c mut Command, tree: &Path) -> &'c mut Command {
    command.arg(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--package", "cofferdam", "--no-fail-fast", "--test", "driver", "--test", "histories"]);
    command.env("CARGO_TARGET_DIR", tree.with_file_name("planted-target")).current_dir(tree)
}
