//! `cargo xtask rules`, on this repository.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

fn rules(numbers: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command.arg("rules").args(numbers).env("NO_COLOR", "1").output().unwrap();
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    (output, out)
}

#[test]
fn a_rule_is_shown_with_every_place() {
    let (_, out) = rules(&["r33b"]);
    assert!(out.starts_with("R33b in caching mode a new context entry"), "{out}");
    for kind in ["model      platform/model/src/", "broken by  platform/model/tests/", "kept by    ", "driver     src/"]
    {
        assert!(out.lines().any(|line| line.trim_start().starts_with(kind)), "{kind}: {out}");
    }
}

#[test]
fn without_a_number_each_rule_has_a_line() {
    let (_, out) = rules(&[]);
    for number in ["R1 ", "R69 ", "C5 ", "HAL "] {
        assert_eq!(out.lines().filter(|line| line.trim_start().starts_with(number)).count(), 1, "{number}: {out}");
    }
}

#[test]
fn a_number_that_no_rule_has_is_refused() {
    let (output, _) = rules(&["R50"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no rule R50"));
}

#[test]
fn the_document_holds_once_it_is_written() {
    let root = TempDir::new().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    for folder in ["src", "platform", "tests"] {
        symlink(here.join(folder), root.path().join(folder)).unwrap();
    }
    let rules = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let command = command.arg("rules").args(args).env("NO_COLOR", "1");
        let Output { status, stdout, stderr } =
            command.env("CARGO_MANIFEST_DIR", root.path().join("xtask")).output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    let (code, out) = rules(&[]);
    assert_eq!(code, Some(2));
    assert!(out.contains("cannot read docs/rules.md"), "{out}");

    let file = root.path().join("docs/rules.md");
    fs::create_dir(root.path().join("docs")).unwrap();
    let document = fs::read_to_string(here.join("docs/rules.md")).unwrap();
    fs::write(&file, document.replace("- Checked: by", "- Checked: nowhere, by")).unwrap();
    let (code, out) = rules(&["r1"]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains(" does not say where R1 is checked as it is: `cargo xtask rules --write` mends that"),
        "{out}"
    );
    assert_eq!(rules(&["--write"]).0, Some(0));
    let (code, out) = rules(&["r1"]);
    assert_eq!(code, Some(0), "{out}");
    fs::write(&file, document.replace("### R1\n", "### R50\n")).unwrap();
    let (code, out) = rules(&["r1"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("docs/rules.md lacks R1\n") && out.contains(" has R50, and there is no such rule\n"), "{out}");
}

#[test]
fn public_documentation_that_cites_a_number_alone_is_wrong() {
    let root = TempDir::new().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    for folder in ["docs", "platform", "tests"] {
        symlink(here.join(folder), root.path().join(folder)).unwrap();
    }
    fs::create_dir(root.path().join("src")).unwrap();
    fs::write(root.path().join("src/lib.rs"), "//! So (R12).\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let command = command.args(["rules", "r12"]).env("CARGO_MANIFEST_DIR", root.path().join("xtask"));
    let Output { status, stdout, .. } = command.env("NO_COLOR", "1").output().unwrap();
    let out = String::from_utf8(stdout).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(out.contains("src/lib.rs:1 cites R12 without a link\n"), "{out}");
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_has_enough_is_none() {
    for args in [&["rules"][..], &["inspect", "../tests/firmware-tables/dmar-015e7044f49a.bin"]] {
        let xtask = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
            let output =
                command.args(args).env("NO_COLOR", "1").stdout(stdout).stderr(Stdio::piped()).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let full = File::options().write(true).open("/dev/full").unwrap();
        let told = "error: not all could be printed: No space left on device (os error 28)\n";
        assert_eq!(xtask(full.into()), (Some(2), told.to_owned()), "{args:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(xtask(writer.into()), (Some(0), String::new()), "{args:?}");
    }
}
