//! The bytes of a table, from a binary file or from what acpidump prints.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context, Result, bail};

/// How to get a table.
const HOW: &str = "get one with `sudo cat /sys/firmware/acpi/tables/DMAR > dmar.bin` (AMD: IVRS), or with \
                   `sudo acpidump > acpi.txt`";
/// No table is larger, and no dump of all of them.
const MAX_BYTES: u64 = 64 << 20;

/// A table to inspect, and what came with it.
pub(super) struct Input {
    /// Where it is from, in words.
    pub(super) name: String,
    /// The DMAR or IVRS.
    pub(super) table: Vec<u8>,
    /// Ids of the IOAPICs of the MADT, where that is known.
    pub(super) ioapics: Option<Vec<u8>>,
}

impl Input {
    /// Reads a file of either form.
    ///
    /// # Errors
    ///
    /// It cannot be read, or holds no such table; the error says what to do.
    pub(super) fn from_file(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let about = fs::metadata(file).map_err(|error| unreadable(&name, &error))?;
        if about.is_dir() {
            bail!("{name} is a directory, not a table; {HOW}");
        }
        if about.len() > MAX_BYTES {
            bail!("{name} has {} MiB, which no table has; {HOW}", about.len() >> 20);
        }
        let bytes = fs::read(file).map_err(|error| unreadable(&name, &error))?;
        Self::from_bytes(name, bytes)
    }

    fn from_bytes(name: String, bytes: Vec<u8>) -> Result<Self> {
        if bytes.is_empty() {
            bail!("{name} is empty; {HOW}");
        }
        if bytes.starts_with(b"DMAR") && !bytes.starts_with(b"DMAR @")
            || bytes.starts_with(b"IVRS") && !bytes.starts_with(b"IVRS @")
        {
            return Ok(Self { name, table: bytes, ioapics: None });
        }
        let mut tables = std::str::from_utf8(&bytes).map(dumped).unwrap_or_default();
        let table = tables.remove("DMAR").or_else(|| tables.remove("IVRS"));
        if let Some(table) = table {
            let ioapics = tables.get("APIC").map(|madt| ioapics(madt));
            return Ok(Self { name, table, ioapics });
        }
        if !tables.is_empty() {
            let names: Vec<&str> = tables.keys().map(String::as_str).collect();
            bail!("{name} is a dump of {}, without DMAR or IVRS; {OFF}", names.join(", "));
        }
        let start = bytes.get(..bytes.len().min(4)).unwrap_or_default();
        if start.len() == 4 && start.iter().all(u8::is_ascii_uppercase) {
            bail!("{name} is the ACPI table {}, not DMAR or IVRS; {HOW}", start.escape_ascii());
        }
        bail!(
            "{name} is neither a DMAR or IVRS table nor the text of acpidump (it starts with \"{}\"); {HOW}",
            start.escape_ascii()
        );
    }
}

/// What it means that there is no such table.
pub(super) const OFF: &str =
    "the machine has no IOMMU, or it is switched off in the firmware's setup (VT-d, AMD-Vi or IOMMU)";

pub(super) fn unreadable(name: &str, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!(
                "{name} may be read by root alone; copy it with `sudo cat {name} > table.bin` and give that"
            )
        }
        io::ErrorKind::NotFound => anyhow::anyhow!("there is no {name}; {HOW}"),
        _ => anyhow::anyhow!("{name} cannot be read: {error}"),
    }
}

/// The tables in the text of acpidump, the first of each name: `NAME @ address`, then lines as `0000: 44 4D  DM`.
fn dumped(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut tables = BTreeMap::new();
    let mut current: Option<(String, Vec<u8>)> = None;
    for line in text.lines() {
        if let Some((name, _)) = line.split_once(" @ 0x") {
            close(&mut tables, current.take());
            current = Some((name.trim().to_owned(), Vec::new()));
        } else if let Some((_, bytes)) = &mut current
            && let Some(row) = row(line)
        {
            bytes.extend(row);
        }
    }
    close(&mut tables, current);
    tables
}

fn close(tables: &mut BTreeMap<String, Vec<u8>>, table: Option<(String, Vec<u8>)>) {
    if let Some((name, bytes)) = table.filter(|(_, bytes)| !bytes.is_empty()) {
        tables.entry(name).or_insert(bytes);
    }
}

/// The bytes of one line. Two spaces stand before its text column, where letters could look like bytes.
fn row(line: &str) -> Option<Vec<u8>> {
    let (offset, rest) = line.trim_start().split_once(": ")?;
    u32::from_str_radix(offset, 16).ok()?;
    let bytes = rest.trim_start().split("  ").next()?;
    bytes.split(' ').take(16).map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// Ids of the IOAPICs of a MADT (ACPI 6.5, section 5.2.12): structures of type 1 with the id at offset 2.
pub(super) fn ioapics(madt: &[u8]) -> Vec<u8> {
    let mut rest = madt.get(44..).unwrap_or_default();
    let mut ids = Vec::new();
    while let &[kind, length, id, ..] = rest {
        if kind == 1 {
            ids.push(id);
        }
        // A length that leads nowhere ends it.
        rest = if length < 2 { &[] } else { rest.get(usize::from(length)..).unwrap_or_default() };
    }
    ids
}

/// Reads a file of the kernel's whole.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
    use super::*;

    const DUMP: &str = "\
FACP @ 0x0000000000000000
    0000: 46 41 43 50                                      FACP

DMAR @ 0x000000007A5E8000
    0000: 44 4D 41 52 B0 00 00 00 01 55 49 4E 54 45 4C 20  DMAR.....UINTEL 
    0010: AB CD                                            AB CD

APIC @ 0x1
  0000: 41 50 49 43 00 00 00 00 00 00 00 00 00 00 00 00  APIC............
  0010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  0020: 00 00 00 00 00 00 00 00 00 00 00 00 00 08 00 00  ................
  0030: 00 00 00 00 01 0c 02 00 00 00 00 00 00 00 00 00  ................
";

    #[test]
    fn a_dump_gives_its_table_and_the_ioapics() {
        let input = Input::from_bytes("x".into(), DUMP.into()).unwrap();
        assert_eq!(input.table, [&b"DMAR\xb0\0\0\0\x01UINTEL "[..], b"\xab\xcd"].concat());
        assert_eq!(input.ioapics, Some(vec![2]));
    }

    #[test]
    fn what_is_no_table_gets_an_answer_that_helps() {
        let refusal = |bytes: &[u8]| Input::from_bytes("x".into(), bytes.into()).err().unwrap().to_string();
        assert!(refusal(b"").starts_with("x is empty; get one with"));
        assert!(refusal(b"\xff\xd8\xff\xe0\0\x10JFIF").contains(r#"it starts with "\xff\xd8\xff\xe0""#));
        assert!(refusal(b"FACP\0").starts_with("x is the ACPI table FACP, not DMAR or IVRS"));
        let dump = DUMP.replace("DMAR @", "SSDT @");
        let text = refusal(dump.as_bytes());
        assert!(
            text.starts_with("x is a dump of APIC, FACP, SSDT, without DMAR or IVRS; the machine has no IOMMU"),
            "{text}"
        );
    }

    #[test]
    fn a_madt_that_leads_nowhere_ends() {
        let mut madt = vec![0; 44];
        madt.extend([1, 0, 9, 0]);
        assert_eq!(ioapics(&madt), [9]);
        madt.truncate(45);
        assert!(ioapics(&madt).is_empty());
    }
}
