//! `inspect --report`, `report` and `check --report` as a user meets them, on the reports of the documentation.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn reports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reports")
}

/// The logs of the documentation.
fn logs() -> Vec<PathBuf> {
    let files = fs::read_dir(reports()).unwrap().map(|file| file.unwrap().path());
    let mut logs = Vec::from_iter(files.filter(|file| file.extension().is_some_and(|ending| ending == "log")));
    logs.sort();
    logs
}

fn xtask(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let Output { status, stdout, stderr } = command.args(arguments).env("NO_COLOR", "1").output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn each_page_of_the_documentation_is_what_its_log_makes_today() {
    let (folder, logs) = (TempDir::new().unwrap(), logs());
    assert_eq!(logs.len(), 2, "{logs:?}");
    for log in logs {
        let made = folder.path().join("page.html");
        let (code, out, error) = xtask(&["inspect", "--report", text(&log), "-o", text(&made)]);
        assert_eq!(code, Some(0), "{out}{error}");
        let page = log.with_extension("html");
        assert!(
            fs::read_to_string(&made).unwrap() == fs::read_to_string(&page).unwrap(),
            "it is another page now; if that is meant: cargo xtask inspect --report {} -o {}",
            log.display(),
            page.display()
        );
    }
}

#[test]
fn a_report_is_read_as_a_terminal_saves_it() {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("saved.log");
    let log = fs::read_to_string(&logs()[0]).unwrap();
    fs::write(&saved, format!("\x1b[2J{}garbage \x07", log.replace('\n', "\x1b[0m\r\n")).repeat(2)).unwrap();
    let (code, out, _) = xtask(&["inspect", "--report", text(&saved)]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("2 reports are in the file; this is the last one"), "{out}");
    // Three bytes are lost in the midst of a record.
    let at = log.find("\"Function\"").unwrap();
    fs::write(&saved, log[..at].to_owned() + &log[at + 3..]).unwrap();
    let (code, out, _) = xtask(&["inspect", "--report", text(&saved)]);
    let line = log[..at].lines().count();
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains(&format!("FAILED the report: line {line}: a record that cannot be read")), "{out}");
}

#[test]
fn what_is_no_report_ends_with_2_and_says_what_to_do() {
    for (arguments, says) in [
        (&["inspect", "--report", "Cargo.toml"][..], "no board report is in it"),
        (&["inspect", "--report", "/nowhere"], "cannot read /nowhere"),
        (&["inspect", "-o", "x"], "--report <FILE>"),
        (&["inspect", "--report", "x", "--json"], "cannot be used with"),
        (&["report", "--from", "/nowhere"], "cannot read /nowhere"),
        (&["report", "--scenario", "main_job"], "the scenario main_job makes no board report"),
    ] {
        let (code, _, error) = xtask(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_saved_report_is_made_a_page_and_found_again() {
    let log = &logs()[0];
    let (code, out, error) = xtask(&["report", "--from", text(log), "--no-open"]);
    assert_eq!(code, Some(0), "{out}{error}");
    let page = out.lines().find_map(|line| line.strip_prefix("Page: ")).unwrap();
    assert_eq!(fs::read(page).unwrap(), fs::read(log.with_extension("html")).unwrap());
}

#[test]
fn a_page_is_not_written_over_its_log() {
    let (folder, log) = (TempDir::new().unwrap(), fs::read(&logs()[0]).unwrap());
    let saved = folder.path().join("same.log");
    fs::write(&saved, &log).unwrap();
    let other_way = folder.path().join(".").join("same.log");
    let (code, _, error) = xtask(&["inspect", "--report", text(&saved), "-o", text(&other_way)]);
    assert_eq!((code, fs::read(&saved).unwrap() == log), (Some(2), true), "{error}");
    assert!(error.contains("is the log itself; name another page"), "{error}");
}

#[test]
fn a_boot_that_failed_is_no_success_though_its_report_is_whole() {
    let fake = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("tests-qemu")).unwrap();
    let matrix = fs::read_to_string(fake("fake-matrix.toml")).unwrap();
    let board = "\n[[scenario]]\nname = \"board\"\nmachines = [\"aw48-256M\"]\n";
    fs::write(root.path().join("tests-qemu/matrix.toml"), matrix + board).unwrap();
    fs::write(root.path().join("libcore-0123.rlib"), []).unwrap();
    for (status, code) in [("33", 0), ("35", 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["report", "--no-open", "--qemu"]).arg(fake("fake-qemu.sh"));
        command.env("CARGO", fake("fake-cargo.sh")).env("RUSTC", fake("fake-cargo.sh")).env("NO_COLOR", "1");
        command.env("FAKE_CARGO", "good").env("FAKE_LIBDIR", root.path()).env("FAKE_BENCH", root.path());
        command.env("FAKE_LOG", &logs()[0]).env("FAKE_STATUS", status);
        let output = command.env("CARGO_MANIFEST_DIR", root.path().join("xtask")).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{out}");
        assert_eq!(out.contains("FAILED the boot"), code == 1, "{out}");
    }
}

#[test]
fn the_name_of_a_cell_makes_no_line_of_its_own() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("cells.toml");
    fs::write(&config, "[[cell]]\nname = \"a\\nok     1 cells\\u001b[31m\"\ndevices = [\"0000:00:17.3\"]\n").unwrap();
    let (code, out, error) = xtask(&["check", text(&config), "--report", text(&logs()[0])]);
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(out.lines().all(|line| line.starts_with("FAILED")) && !out.contains('\x1b'), "{out}");
}

#[test]
fn a_configuration_is_held_against_a_report_alone() {
    let (folder, log) = (TempDir::new().unwrap(), &logs()[0]);
    let config = folder.path().join("cells.toml");
    let cell = "[[cell]]\nname = \"a\"\nallow_unsafe_interrupts = true\n";
    let check = |devices: &str| {
        fs::write(&config, format!("{cell}devices = [{devices}]\n")).unwrap();
        xtask(&["check", text(&config), "--report", text(log)])
    };
    let (code, out, error) = check("\"0000:00:01.0\"");
    assert_eq!(code, Some(0), "{out}{error}");
    let (code, out, _) = check("\"0000:00:17.3\"");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("cell a: the board has no device 0000:00:17.3"), "{out}");
    // A table of another board.
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/firmware-tables/dmar-50d22a0a0cce.bin");
    let (code, out, _) = xtask(&["check", text(&config), text(&table), "--report", text(log)]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("the report has another table than"), "{out}");
    // One that was given up says why.
    let given_up = folder.path().join("given-up.log");
    let refused = r#"{"Refused":{"error":"no memory"}}"#;
    fs::write(&given_up, fs::read_to_string(log).unwrap().replace("\"Finished\"", refused)).unwrap();
    let (code, out, _) = xtask(&["check", text(&config), "--report", text(&given_up)]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("the board's report was given up: no memory"), "{out}");
    // A report that is cut is of no use.
    let (all, cut) = (fs::read_to_string(log).unwrap(), folder.path().join("cut.log"));
    fs::write(&cut, &all[..all.len() / 2]).unwrap();
    let (code, _, error) = xtask(&["check", text(&config), "--report", text(&cut)]);
    assert_eq!(code, Some(2));
    assert!(error.contains("is not whole"), "{error}");
}
