//! `cargo xtask layers` as a user meets it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use tempfile::TempDir;

/// Status, stdout and stderr in a repository with these files, beside a model that is in order.
fn layers(files: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let root = TempDir::new().unwrap();
    for (path, text) in
        [("platform/model/src/lib.rs", "mod unit;"), ("platform/model/src/unit.rs", "")].iter().chain(files)
    {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("layers").env("CARGO_MANIFEST_DIR", root.path().join("xtask")).env("NO_COLOR", "1");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const GOOD: [(&str, &str); 3] =
    [("src/lib.rs", "mod hal; mod pci;"), ("src/hal.rs", "pub struct Own;"), ("src/pci.rs", "use crate::hal::Own;")];

#[test]
fn what_is_in_order_holds() {
    let (code, out, error) = layers(&GOOD);
    assert_eq!(code, Some(0), "{out}{error}");
    assert_eq!(out.matches("ok     ").count(), 5, "{out}");
}

#[test]
fn what_breaks_a_rule_fails_with_its_line() {
    for ((path, text), wrong) in [
        (("src/pci.rs", "\n// vtd\n"), "src/pci.rs:2: // vtd\n"),
        (("src/hal.rs", "pub struct Own;\nuse crate::pci;"), "src/hal.rs:2 uses src/pci.rs: hal is below pci\n"),
        (
            ("src/hal.rs", "mod a;\npub struct Own(a::A);"),
            "2 files in a circle:\n         src/hal/a.rs:1 uses src/hal.rs\n",
        ),
        (("src/pci.rs", "use crate::hal;\npub struct Own;"), "Own: src/hal.rs, src/pci.rs\n"),
        (("platform/model/src/unit.rs", "mod a;\npub struct Own(a::A);"), "platform/model/src/unit/a.rs:1 uses"),
    ] {
        let children =
            ["src/hal/a.rs", "platform/model/src/unit/a.rs"].map(|path| (path, "use super::Own; pub struct A;"));
        let files = [&GOOD[..], &children, &[(path, text)]].concat();
        let (code, out, error) = layers(&files);
        assert_eq!(code, Some(1), "{out}{error}");
        assert!(out.contains(wrong), "{wrong} is not in {out}");
    }
}

#[test]
fn what_cannot_be_read_ends_with_2() {
    let (code, _, error) = layers(&[("src/lib.rs", "mod gone;")]);
    assert_eq!(code, Some(2));
    assert!(error.contains("src/lib.rs declares the module gone, whose file is missing"), "{error}");
}
