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
    assert!(out.contains("\n3 units, 1 of which cannot be used: 1 error\n"), "{out}");
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

/// A table as acpidump prints it.
fn dumped(table: &[u8]) -> String {
    let mut text = format!("{} @ 0x000000007A5E8000\n", table[..4].escape_ascii());
    for (row, bytes) in table.chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        text += &format!("    {:04X}: {:<47}  some text\n", row * 16, hex.join(" "));
    }
    text + "\n"
}

fn madt(ioapics: &[u8]) -> Vec<u8> {
    let mut table = b"APIC".to_vec();
    table.resize(44, 0);
    table.extend(ioapics.iter().flat_map(|id| [1, 12, *id, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    table[4] = table.len() as u8;
    table
}

fn hpet(number: u8) -> Vec<u8> {
    let mut table = b"HPET\x38".to_vec();
    table.resize(56, 0);
    table[52] = number;
    table
}

#[test]
fn a_dump_of_acpidump_prints_as_the_table_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acpi.txt");
    let table = fs::read(real("dmar-50d22a0a0cce.bin")).unwrap();
    // A MADT with IOAPIC 9: the one of the table under another id.
    fs::write(&file, dumped(&table) + &dumped(&madt(&[9]))).unwrap();
    let (code, out, _) = inspect(&file, &[]);
    assert_eq!(code, Some(0));
    assert!(out.contains("Unit 1 at 0xfc801000"), "{out}");
    assert!(out.contains("IOAPIC 2 is not in the MADT, and IOAPIC 9 of the MADT in no scope"), "{out}");
}

/// IOAPICs and HPETs against the other tables of a dump, which has all of them if it has a FACP.
#[test]
fn a_dump_is_compared_with_its_other_tables() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acpi.txt");
    let table = fs::read(real("dmar-50d22a0a0cce.bin")).unwrap();
    let facp = || b"FACP".to_vec();
    let no_table = "no other table";
    for (others, compared, findings) in [
        (vec![madt(&[2]), hpet(0), facp()], "the MADT (IOAPIC 2), the HPET table (HPET 0)", vec![]),
        (
            vec![madt(&[2, 7]), facp()],
            "the MADT (IOAPIC 2, IOAPIC 7), the lack of an HPET table",
            vec![("error", 0, "IoApicOfNoUnit"), ("note", 0x60, "HpetNotInTable")],
        ),
        (vec![madt(&[])], "the MADT (no IOAPIC)", vec![("note", 0x58, "IoApicNotInMadt")]),
        (vec![hpet(3)], "the HPET table (HPET 3)", vec![("warning", 0x60, "OtherHpetNumber")]),
        (vec![madt(&[2, 7])[..60].to_vec(), hpet(3)[..50].to_vec()], no_table, vec![]),
    ] {
        fs::write(&file, dumped(&table) + &others.iter().map(|it| dumped(it)).collect::<String>()).unwrap();
        let is_lost = findings.iter().any(|(severity, ..)| *severity == "error");
        let (code, out, _) = inspect(&file, &[]);
        assert_eq!(code, Some(is_lost.into()), "{out}");
        assert!(out.contains(&format!("\n  compared with    {compared}\n")), "{compared}\nis not in\n{out}");
        let report = json(&file);
        let found: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
        assert_eq!(found.len(), findings.len(), "{out}");
        for (found, (severity, offset, name)) in found.iter().zip(findings) {
            assert_eq!(
                (found["severity"].as_str(), found["offset"].as_u64()),
                (Some(severity), Some(offset)),
                "{found}"
            );
            assert_eq!(found["name"], name);
        }
    }
    assert_eq!(json(&file)["compared"]["ioapics"], Value::Null);
    assert_eq!(json(&real("dmar-50d22a0a0cce.bin"))["compared"]["hpets"], Value::Null);
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
            "photo.jpg is neither a DMAR or IVRS table nor what acpidump, iasl, hexdump or xxd print of one",
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

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/firmware-cases/{name}.hex"))
}

fn assert_prints(name: &str, expected: Option<i32>, lines: &[&str]) -> String {
    let (code, out, error) = inspect(&case(name), &[]);
    assert_eq!((code, error.as_str()), (expected, ""), "{name}: {out}");
    for line in lines {
        assert!(out.contains(line), "{name}: {line}\nis not in\n{out}");
    }
    out
}

const MAPPED: &str = "Reserved memory, mapped one to one for its devices\n";
const NOT_MAPPED: &str = "Reserved memory that is not mapped; the findings say why\n";

/// F1, F13: reserved memory is under "mapped" only if it is mapped, and as it is.
#[test]
fn reserved_memory_is_shown_as_it_is_mapped() {
    let page = "  0x80000000..=0x80000fff            4 KiB  read write  0000:00:02.0\n";
    let out = assert_prints("rmrr-of-one-byte", Some(0), &[MAPPED, page]);
    assert!(!out.contains(NOT_MAPPED));
    for (name, code, line) in [
        ("rmrr-reversed", 1, "  0x80000000..=0x7fffffff                   read write  0000:00:02.0\n"),
        ("rmrr-over-unit", 1, "  0xfed90000..=0xfed9ffff           64 KiB  read write  0000:00:02.0\n"),
        ("rmrr-of-unserved", 0, "  0x80000000..=0x800fffff            1 MiB  read write  0000:00:14.0\n"),
        ("ivrs-without-unit", 1, "  0x60000000..=0x60002fff           12 KiB  read write  0000:03:00.0\n"),
    ] {
        let out = assert_prints(name, Some(code), &[NOT_MAPPED, line]);
        assert!(!out.contains(MAPPED), "{out}");
        assert_eq!(json(&case(name))["reserved_memory"][0]["mapped"], false);
    }
}

/// I3: devices that share reserved memory are named, and that they belong together.
#[test]
fn devices_that_share_reserved_memory_are_named() {
    let together = "  Devices that share some of it belong to one cell: each can write there what another reads.\n";
    let devices = "read write  0000:00:1a.0, 0000:00:1d.0, 0000:00:14.0\n";
    assert_prints("rmrr-of-three-devices", Some(0), &[devices, together]);
    assert!(!assert_prints("rmrr-of-one-byte", Some(0), &[]).contains(together));
    // Two ranges that overlap in a page.
    let mut table =
        table_of(&[(0x8000_0000, 0x8000_1fff, 2), (0x8000_1000, 0x8000_2fff, 3), (0x9000_0000, 0x9000_0fff, 4)]);
    table[4] = table.len() as u8;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("overlapping");
    fs::write(&file, &table).unwrap();
    let out = inspect(&file, &[]).1;
    assert!(out.contains("0000:00:02.0\n    overlaps reserved memory of 0000:00:03.0\n"), "{out}");
    assert!(out.contains("0000:00:03.0\n    overlaps reserved memory of 0000:00:02.0\n") && out.contains(together));
    let report = json(&file);
    assert_eq!(report["reserved_memory"][0]["co_owners"][0]["device"], "0000:00:03.0");
    assert_eq!(report["reserved_memory"][2]["co_owners"], Value::Array(Vec::new()));
}

/// A DMAR of one unit with reserved memory for devices of bus 0.
fn table_of(reserved: &[(u64, u64, u8)]) -> Vec<u8> {
    let mut table = b"DMAR".to_vec();
    table.extend([0; 44]);
    table[36] = 38;
    table.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0]);
    for (first, last, device) in reserved {
        table.extend([1, 0, 32, 0, 0, 0, 0, 0]);
        table.extend([first.to_le_bytes(), last.to_le_bytes()].concat());
        table.extend([1, 8, 0, 0, 0, 0, *device, 0]);
    }
    table
}

/// F13: a special device is called what it is, and a path keeps all of its hops.
#[test]
fn devices_are_named_in_full() {
    let out = assert_prints("special-of-unknown-variety", Some(0), &["  0000:00:14.1, of unknown kind 7\n"]);
    assert!(!out.contains("HPET"));
    assert_prints("satc-over-bridge", Some(0), &["  0000:00:01.0 > 00.0  ATS recommended, ATS required\n"]);
    assert_eq!(json(&case("satc-over-bridge"))["properties"][0]["path"][0], "00.0");
}

/// F13: a unit that is defined twice is one unit with the devices of both.
#[test]
fn a_unit_that_is_defined_twice_is_shown_once() {
    let both = "Unit 0 at 0xfed90000, 4 KiB, segment 0, serves\n  0000:00:02.0\n  0000:00:03.0\n\nUnit 1";
    assert_prints("unit-twice", Some(0), &[both, "\n2 units: 1 warning\n"]);
}

/// F13, L7, L8: a table of many units and scopes is shown whole, with the capacities that it takes.
#[test]
fn large_tables_are_shown_whole() {
    let out = assert_prints("units-65", Some(0), &["\nUnit 64 at ", "\n65 units: nothing is wrong\n"]);
    assert!(out.ends_with("capacities that a driver needs: units 65, scopes 66, reserved 0\n"), "{out}");
    let run = "read write  0000:02:00.0 to 0000:02:00.7, 0000:03:00.0 to 0000:03:00.7, ";
    assert_prints("rmrrs-of-many-devices", Some(0), &[run, "units 1, scopes 1027, reserved 16\n"]);
    assert_eq!(json(&case("units-65"))["capacities"]["scopes"], 66);
}

/// F13: what no driver can use is not called right, and its units are counted.
#[test]
fn a_table_without_a_unit_is_not_called_right() {
    let end = "\n1 unit, which cannot be used: 1 error, 1 warning\nNo driver can use this table: it has no unit that can be used\n";
    assert_prints("ivrs-without-unit", Some(1), &[end]);
}

/// F14: each case's findings are printed, the worst first.
#[test]
fn findings_are_printed_with_what_is_done() {
    for (name, code, lines) in [
        ("opt-out-without-remapping", 0, "  note    at 0x0025  X2APIC_OPT_OUT is set without INTR_REMAP\n"),
        ("unit-of-nobody", 0, "  warning at 0x0030  unit 0xfed90000 is said to serve no device\n"),
        ("segment-without-all", 0, "  warning at 0x0030  no unit takes all other devices of segment 0\n"),
        ("scope-of-unknown-kind", 1, "  error   at 0x0040  unit with a scope of unknown kind 6\n"),
        ("ivhd-entry-of-unknown-type", 1, "  error   at 0x005c  device entry of unknown type 0x49\n"),
        ("zeros-at-the-end", 0, "  warning at 0x0068  64 bytes of zeros up to the end\n"),
        ("atsr-of-endpoints", 0, "  warning at 0x0058  ATSR with a scope for the wrong kind of device: endpoint\n"),
    ] {
        assert_prints(name, Some(code), &["Findings\n", lines]);
    }
    assert_prints("ivhd-with-counters", Some(0), &["Unit 0 at 0xfe100000, 512 KiB, "]);
}

/// F13: what hexdump, xxd, od and iasl print of a real table reads as the table itself does, where there are such tools.
#[test]
fn what_tools_print_of_a_real_table_prints_as_the_table_does() {
    let table = real("dmar-50d22a0a0cce.bin");
    let without_source =
        |out: String| out.lines().filter(|it| !it.contains("read from")).collect::<Vec<_>>().join("\n");
    let expected = without_source(inspect(&table, &[]).1);
    let folder = tempfile::tempdir().unwrap();
    for command in ["hexdump -C", "hexdump", "xxd", "xxd -p", "xxd -a -g 1", "od -t x1", "od -x"] {
        let mut words = command.split(' ');
        let Ok(output) = Command::new(words.next().unwrap()).args(words).arg(&table).output() else {
            println!("skipped: {command} is not here");
            continue;
        };
        let file = folder.path().join("printed");
        fs::write(&file, output.stdout).unwrap();
        let (code, out, error) = inspect(&file, &[]);
        assert_eq!((code, without_source(out)), (Some(0), expected.clone()), "{command}: {error}");
    }
    let copy = folder.path().join("dmar.dat");
    fs::copy(&table, &copy).unwrap();
    match Command::new("iasl").arg("-d").arg(&copy).output() {
        Ok(_) => {
            let (code, out, error) = inspect(&copy.with_extension("dsl"), &[]);
            assert_eq!((code, without_source(out)), (Some(0), expected), "iasl: {error}");
        }
        Err(_) => println!("skipped: iasl is not here"),
    }
}
