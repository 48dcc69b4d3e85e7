//! The bytes of a table: a binary file, or one of the texts that tools print of it.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context, Result, bail};

use super::dump::{self, Dump};

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
    /// Reads a file of any form.
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
        // The length behind the signature is no text.
        let is_text = bytes
            .get(4..8)
            .is_some_and(|length| length.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')));
        if (bytes.starts_with(b"DMAR") || bytes.starts_with(b"IVRS")) && !is_text {
            return Ok(Self { name, table: bytes, ioapics: None });
        }
        let Dump { tables, gap } = dump::read(&dump::text(&bytes));
        Self::from_tables(name, tables, gap, bytes.get(..bytes.len().min(4)).unwrap_or_default())
    }

    fn from_tables(
        name: String,
        mut tables: BTreeMap<String, Vec<u8>>,
        gap: Option<(String, usize)>,
        start: &[u8],
    ) -> Result<Self> {
        if let Some(table) = tables.remove("DMAR").or_else(|| tables.remove("IVRS")) {
            let ioapics = tables.get("APIC").map(|madt| ioapics(madt));
            return Ok(Self { name, table, ioapics });
        }
        if let Some((table, offset)) = gap {
            bail!("{name} is a dump of {table} that lacks the bytes from {offset:#x} on; {HOW}");
        }
        if !tables.is_empty() {
            let names: Vec<&str> = tables.keys().map(String::as_str).collect();
            bail!("{name} is a dump of {}, without DMAR or IVRS; {OFF}", names.join(", "));
        }
        match start {
            b"DMAR" | b"IVRS" => bail!("{name} names a {}, but has no bytes of it; {HOW}", start.escape_ascii()),
            [_, _, _, _] if start.iter().all(u8::is_ascii_uppercase) => {
                bail!("{name} is the ACPI table {}, not DMAR or IVRS; {HOW}", start.escape_ascii())
            }
            _ => bail!(
                "{name} is neither a DMAR or IVRS table nor what acpidump, iasl, hexdump or xxd print of one (it starts with \
                 \"{}\"); {HOW}",
                start.escape_ascii()
            ),
        }
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

    /// F13: what is no table, or less than one, is called what it is.
    #[test]
    fn what_is_no_table_gets_an_answer_that_helps() {
        let refusal = |bytes: &[u8]| Input::from_bytes("x".into(), bytes.into()).err().unwrap().to_string();
        assert!(refusal(b"").starts_with("x is empty; get one with"));
        assert!(refusal(b"\xff\xd8\xff\xe0\0\x10JFIF").contains(r#"it starts with "\xff\xd8\xff\xe0""#));
        assert!(refusal(b"FACP\0").starts_with("x is the ACPI table FACP, not DMAR or IVRS"));
        assert!(refusal(b"DMAR @ 0x7A5E8000\n").starts_with("x names a DMAR, but has no bytes of it"));
        let dump = DUMP.replace("DMAR @", "SSDT @").replace("44 4D 41 52", "53 53 44 54");
        let text = refusal(dump.as_bytes());
        assert!(
            text.starts_with("x is a dump of APIC, FACP, SSDT, without DMAR or IVRS; the machine has no IOMMU"),
            "{text}"
        );
        let lacking = refusal(DUMP.replace("0010: AB", "0020: AB").as_bytes());
        assert!(lacking.starts_with("x is a dump of DMAR that lacks the bytes from 0x10 on"), "{lacking}");
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
