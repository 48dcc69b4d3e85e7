//! The bytes of a table: a binary file, or one of the texts that tools print of it.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Result, bail};

use super::{
    beside::{self, Beside},
    dump::{self, Dump},
};

/// How to get a table.
const HOW: &str = "get one with `sudo cat /sys/firmware/acpi/tables/DMAR > dmar.bin` (AMD: IVRS), or with \
                   `sudo acpidump > acpi.txt`";
/// No table is larger, and no dump of all of them.
const MAX_BYTES: u64 = 64 << 20;

/// A table to inspect, and what came with it.
pub struct Input {
    /// Where it is from, in words.
    pub name: String,
    /// The DMAR or IVRS.
    pub table: Vec<u8>,
    pub(super) beside: Beside,
}

impl Input {
    /// A table with nothing beside it.
    pub fn of(name: String, table: Vec<u8>) -> Self {
        Self { name, table, beside: Beside::default() }
    }

    /// Reads a file of any form.
    ///
    /// # Errors
    ///
    /// It cannot be read, or holds no such table; the error says what to do.
    pub fn from_file(file: &Path) -> Result<Self> {
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
            return Ok(Self::of(name, bytes));
        }
        let Dump { tables, gaps } = dump::read(&dump::text(&bytes));
        Self::from_tables(name, tables, &gaps, bytes.get(..bytes.len().min(4)).unwrap_or_default())
    }

    fn from_tables(
        name: String,
        mut tables: BTreeMap<String, Vec<u8>>,
        gaps: &BTreeMap<String, usize>,
        start: &[u8],
    ) -> Result<Self> {
        if let Some(table) = tables.remove("DMAR").or_else(|| tables.remove("IVRS")) {
            let ioapics = tables.get("APIC").and_then(|madt| beside::ioapics(madt));
            // A dump of all tables has the FADT, as each machine does.
            let is_all = tables.contains_key("FACP") && !gaps.contains_key("HPET");
            let hpets = match tables.get("HPET") {
                Some(table) => beside::hpet(table).map(|number| vec![number]),
                None => is_all.then(Vec::new),
            };
            return Ok(Self { name, table, beside: Beside { ioapics, hpets } });
        }
        if let Some((table, offset)) = gaps.iter().find(|(table, _)| matches!(table.as_str(), "DMAR" | "IVRS")) {
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
  0000: 41 50 49 43 38 00 00 00 00 00 00 00 00 00 00 00  APIC............
  0010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  0020: 00 00 00 00 00 00 00 00 00 00 00 00 01 0C 02 00  ................
  0030: 00 00 00 00 00 00 00 00                          ........
";
    const HPET: &str = "
HPET @ 0x2
  0000: 48 50 45 54 38 00 00 00 00 00 00 00 00 00 00 00  HPET............
  0010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  0020: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  0030: 00 00 00 00 01 00 00 00                          ........
";

    #[test]
    fn a_dump_gives_its_table_the_ioapics_and_the_hpet() {
        let read = |dump: String| Input::from_bytes("x".into(), dump.into()).unwrap();
        let input = read(DUMP.to_owned() + HPET);
        assert_eq!(input.table, [&b"DMAR\xb0\0\0\0\x01UINTEL "[..], b"\xab\xcd"].concat());
        assert_eq!(input.beside, Beside { ioapics: Some(vec![2]), hpets: Some(vec![1]) });
        // All tables are there but this one; or one is there that cannot be read; or nobody knows.
        assert_eq!(read(DUMP.into()).beside.hpets, Some(vec![]));
        assert_eq!(read(DUMP.to_owned() + &HPET.replace("  0020:", "  0028:")).beside.hpets, None);
        assert_eq!(read(DUMP.to_owned() + &HPET.replace("54 38", "54 39")).beside.hpets, None);
        assert_eq!(read(DUMP.replace("FACP", "SSDT").replace("46 41 43 50", "53 53 44 54")).beside.hpets, None);
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
}
