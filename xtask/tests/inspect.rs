//! `cargo xtask inspect` as a user meets it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn real(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/firmware-tables").join(file)
}

fn inspect(file: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let Output { status, stdout, stderr } = command.arg("inspect").arg(file).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&inspect(file, &["--json"]).1).unwrap()
}

#[test]
fn a_person_sees_which_unit_serves_which_device() {
    let (code, out, _) = inspect(&real("dmar-50d22a0a0cce.bin"), &[]);
    assert_eq!(code, Some(0));
    for line in [
        "DMAR of _ASUS_ Notebook, 152 bytes, revision 1",
        "Unit 0 at 0xfc800000, 4 KiB, segment 0, serves\n  0000:00:02.0\n",
        "  IOAPIC 2, interrupts as 0000:00:1e.7\n",
        "  all else of segment 0\n",
        "  0000:00:0b.0  no forced snooping, ATS recommended, ATS required\n",
        "2 units: nothing is wrong\n",
    ] {
        assert!(out.contains(line), "{line}\nis not in\n{out}");
    }
    let (code, out, _) = inspect(&real("ivrs-2a874809fdc6.bin"), &[]);
    assert_eq!(code, Some(0));
    for line in [
        "  0000:ff:00.0 to 0000:ff:1f.7, requests as 0000:00:14.5\n",
        "  AMDI0020 \\_SB.FUR0, as 0000:00:14.5\n",
        "  0x7132f000..=0x71354fff          152 KiB  read write  0000:03:00.0\n",
        "  note    at 0x01c4  structure of unknown type 0x51\n",
    ] {
        assert!(out.contains(line), "{line}\nis not in\n{out}");
    }
}

#[test]
fn a_unit_that_is_lost_is_shown_and_sets_the_exit_status() {
    let file = real("dmar-90513e675e02.bin");
    let (code, out, _) = inspect(&file, &[]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("Unit that cannot be used at 0x0, 4 KiB, segment 0, serves\n  all else of segment 0\n"),
        "{out}"
    );
    assert!(out.ends_with("3 units, 1 of them unusable: 1 error\n"), "{out}");
    let report = json(&file);
    assert_eq!(report["units"][2]["index"], Value::Null);
    assert_eq!(report["findings"][0]["severity"], "error");
    assert_eq!(report["findings"][0]["name"], "NoBase");
    assert_eq!(report["findings"][0]["offset"], 0x60);
}

#[test]
fn every_real_table_prints_as_text_and_as_json() {
    let (mut tables, mut lost) = (0, 0);
    for entry in fs::read_dir(real("")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "bin") {
            continue;
        }
        tables += 1;
        let (code, out, error) = inspect(&file, &[]);
        assert!(error.is_empty() && out.lines().count() > 8, "{}: {error}", file.display());
        let report = json(&file);
        let errors = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "error");
        assert_eq!(code, Some(i32::from(errors.count() != 0)));
        lost += code.unwrap();
    }
    assert_eq!((tables, lost), (207, 1));
}

/// The fields are those that docs/inspect-json.md promises.
#[test]
fn the_json_has_the_fields_that_are_documented() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/inspect-json.md")).unwrap();
    let report = json(&real("dmar-4f435a08d74c.bin"));
    assert_eq!(report["schema"], 1);
    let mut seen = Vec::new();
    keys(&report, &mut seen);
    for key in seen {
        assert!(document.contains(&format!("`{key}`")), "{key}");
    }
    for field in ["ats_root_ports", "functions", "unusable", "properties"] {
        assert!(report.get(field).is_some());
    }
    assert_eq!(report["reserved_memory"][0]["first"], "0xb6e06000");
    assert_eq!(report["units"][1]["proximity"], 0);
}

fn keys(value: &Value, seen: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                seen.push(key.clone());
                keys(value, seen);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, seen)),
        _ => {}
    }
}

#[test]
fn a_dump_of_acpidump_prints_as_the_table_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acpi.txt");
    let table = fs::read(real("dmar-50d22a0a0cce.bin")).unwrap();
    let mut text = "DMAR @ 0x000000007A5E8000\n".to_owned();
    for (row, bytes) in table.chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        text += &format!("    {:04X}: {:<47}  some text\n", row * 16, hex.join(" "));
    }
    // A MADT with IOAPIC 9: the one of the table under another id.
    text += "\nAPIC @ 0x0\n    0000: 41 50 49 43\n";
    let madt: Vec<String> = [0_u8; 40].iter().chain(&[1, 12, 9, 0]).map(|byte| format!("{byte:02X}")).collect();
    for (row, bytes) in madt.chunks(16).enumerate() {
        text += &format!("    {:04X}: {}  x\n", row * 16 + 4, bytes.join(" "));
    }
    fs::write(&file, text).unwrap();
    let (code, out, _) = inspect(&file, &[]);
    assert_eq!(code, Some(0));
    assert!(out.contains("Unit 1 at 0xfc801000"), "{out}");
    assert!(out.contains("IOAPIC 2 is not in the MADT, and IOAPIC 9 of the MADT in no scope"), "{out}");
}

#[test]
fn what_cannot_be_read_gets_a_message_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    for (file, message) in [
        (file("empty", b""), "empty is empty; get one with `sudo cat /sys/firmware/acpi/tables/DMAR > dmar.bin`"),
        (
            file("photo.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
            "photo.jpg is neither a DMAR or IVRS table nor the text of acpidump",
        ),
        (
            file("short", b"DMAR\x30\0\0\0"),
            "short cannot be read as a table; get it once more and try again: 8 bytes are no table",
        ),
        (file("fadt", b"FACP\x30\0\0\0"), "fadt is the ACPI table FACP, not DMAR or IVRS"),
        (folder.path().to_owned(), " is a directory, not a table; get one with"),
        (folder.path().join("nothing"), "nothing; get one with"),
    ] {
        let (code, out, error) = inspect(&file, &["--json"]);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(error.contains(message), "{error}");
    }
}
