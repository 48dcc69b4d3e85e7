//! The firmware's tables: from the RSDP to the bytes of one of them (ACPI 6.5, section 5.2).
//!
//! Every length is checked against the memory that there is before it is used. The `acpi` crate does not do that: it
//! takes the lengths of the RSDP, of the root table and of each table on trust (5.2.0).
#![forbid(unsafe_code)]

use core::fmt;

/// Bytes of the header that all tables start with (section 5.2.6): signature at 0, length at 4.
const HEADER: usize = 36;
/// No table is longer; the largest are some 100 KiB.
const MAX_TABLE: usize = 16 << 20;

/// Why no table could be looked for, or what is wrong with the one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcpiError {
    /// Neither the loader nor a search found the root system description pointer.
    NoRsdp,
    /// The root system description pointer is not one, or its checksum is wrong.
    BadRsdp {
        /// Its physical address.
        at: u64,
    },
    /// The table is shorter than its header or longer than the memory that it is in, or has a wrong checksum.
    BadTable {
        /// Its physical address.
        at: u64,
        /// Its signature.
        signature: [u8; 4],
    },
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoRsdp => f.write_str("no RSDP found"),
            Self::BadRsdp { at } => write!(f, "the RSDP at {at:#x} has a wrong signature, length or checksum"),
            Self::BadTable { at, signature } => {
                write!(f, "table {} at {at:#x} has a wrong length or checksum", signature.escape_ascii())
            }
        }
    }
}

impl core::error::Error for AcpiError {}

/// Physical memory that firmware's structures may be in: the bytes at an address, if there are that many.
pub(crate) trait Memory<'a>: Fn(u64, usize) -> Option<&'a [u8]> {}
impl<'a, F: Fn(u64, usize) -> Option<&'a [u8]>> Memory<'a> for F {}

/// The root table of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root<'a> {
    entries: &'a [u8],
    entry_bytes: usize,
}

impl<'a> Root<'a> {
    /// Reads the root table that the RSDP at `rsdp` names; where `rsdp` is 0, the RSDP is searched first.
    pub(crate) fn read(rsdp: u64, memory: &impl Memory<'a>) -> Result<Self, AcpiError> {
        let rsdp = if rsdp == 0 { search(memory).ok_or(AcpiError::NoRsdp)? } else { rsdp };
        let (root, signature) = root_address(rsdp, memory).ok_or(AcpiError::BadRsdp { at: rsdp })?;
        let table = table_at(root, memory).filter(|table| table.starts_with(&signature));
        let table = table.ok_or(AcpiError::BadTable { at: root, signature })?;
        Ok(Self {
            entries: table.get(HEADER..).unwrap_or_default(),
            entry_bytes: if signature == *b"XSDT" { 8 } else { 4 },
        })
    }

    /// The first good table with this signature, header included; `None` if there is none at all.
    pub(crate) fn table(&self, signature: [u8; 4], memory: &impl Memory<'a>) -> Result<Option<&'a [u8]>, AcpiError> {
        let mut bad = None;
        for entry in self.entries.chunks_exact(self.entry_bytes) {
            let at = little_endian(entry);
            if memory(at, 4) != Some(&signature) {
                continue;
            }
            match table_at(at, memory) {
                Some(table) => return Ok(Some(table)),
                None => bad = bad.or(Some(AcpiError::BadTable { at, signature })),
            }
        }
        bad.map_or(Ok(None), Err)
    }
}

/// The whole table at `at`, if its length and its checksum are right.
fn table_at<'a>(at: u64, memory: &impl Memory<'a>) -> Option<&'a [u8]> {
    let length = little_endian(memory(at, HEADER)?.get(4..8)?) as usize;
    let table = (HEADER..=MAX_TABLE).contains(&length).then(|| memory(at, length))??;
    is_sum_zero(table).then_some(table)
}

/// Address and signature of the root table that the RSDP at `at` names (section 5.2.5.3): the XSDT from revision 2 on.
fn root_address<'a>(at: u64, memory: &impl Memory<'a>) -> Option<(u64, [u8; 4])> {
    let first = memory(at, 20).filter(|rsdp| rsdp.starts_with(b"RSD PTR ") && is_sum_zero(rsdp))?;
    if *first.get(15)? < 2 {
        return Some((little_endian(first.get(16..20)?), *b"RSDT"));
    }
    let whole = memory(at, 36).filter(|rsdp| is_sum_zero(rsdp))?;
    match little_endian(whole.get(24..32)?) {
        0 => Some((little_endian(whole.get(16..20)?), *b"RSDT")),
        xsdt => Some((xsdt, *b"XSDT")),
    }
}

/// Searches the RSDP where a PC's firmware has it (section 5.2.5.1): on a 16-byte boundary in the first KiB of the
/// extended BIOS data area, or in the BIOS's own area.
fn search<'a>(memory: &impl Memory<'a>) -> Option<u64> {
    // The BIOS data area holds the segment of the extended one at 40:0e.
    let extended = memory(0x40e, 2).map_or(0, |segment| little_endian(segment) << 4);
    let extended = if (0x8_0000..0xa_0000).contains(&extended) { extended..extended + 1024 } else { 0..0 };
    extended.step_by(16).chain((0xe_0000..0x10_0000).step_by(16)).find(|&at| root_address(at, memory).is_some())
}

fn is_sum_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// Up to 8 bytes as an integer.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
