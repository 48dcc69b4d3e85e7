//! The firmware's tables: from the RSDP to the bytes of one of them (ACPI 6.5, section 5.2).
//!
//! The `acpi` crate looks tables up. It takes lengths on trust, so it sees memory only through a [`Reader`], which
//! checks them first.

mod madt;
mod reader;
mod rsdp;
mod spcr;

use core::cell::Cell;
use core::fmt;

use ::acpi::sdt::SdtHeader;
use ::acpi::{AcpiTable, AcpiTables};

use crate::boot::Rsdp;

pub(crate) use self::madt::cpu_ids;
use self::reader::Reader;
pub use self::reader::{Dmar, Fadt, Hpet, Ivrs, Madt, Mcfg, Spcr};
pub(crate) use self::spcr::{Console, NamedFunction, NoConsole, UartPlace, console};

/// Bytes of the header that all tables start with (section 5.2.6): signature at 0, length at 4.
const HEADER: usize = size_of::<SdtHeader>();
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
    /// The table is shorter than its header or longer than the memory that it is in, or has a wrong checksum, or
    /// fields for its maker that are not UTF-8, which the `acpi` crate minds.
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
                write!(f, "table {} at {at:#x} has a wrong signature, length or checksum", signature.escape_ascii())
            }
        }
    }
}

impl core::error::Error for AcpiError {}

/// Physical memory that firmware's structures may be in: the bytes at an address, if there are that many.
pub(crate) trait Memory<'a>: Fn(u64, usize) -> Option<&'a [u8]> {}
impl<'a, F: Fn(u64, usize) -> Option<&'a [u8]>> Memory<'a> for F {}

/// Where the root table of all is, as the RSDP says; it was not looked at yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    at: u64,
    signature: [u8; 4],
}

impl Root {
    /// Reads the RSDP, which is searched first if the loader does not know it.
    pub(crate) fn read(rsdp: Rsdp<'_>, memory: &dyn Memory<'_>) -> Result<Self, AcpiError> {
        let at = match rsdp {
            Rsdp::Copy { at, bytes } => {
                return rsdp::named(&|count| bytes.get(..count)).ok_or(AcpiError::BadRsdp { at });
            }
            Rsdp::At(at) => at,
            Rsdp::Unknown => rsdp::search(memory).ok_or(AcpiError::NoRsdp)?,
        };
        rsdp::root(at, memory).ok_or(AcpiError::BadRsdp { at })
    }

    /// The first good table of this type, header included; `None` if there is none at all.
    pub(crate) fn table<'a, T: AcpiTable>(self, memory: &dyn Memory<'a>) -> Result<Option<&'a [u8]>, AcpiError> {
        let signature = T::SIGNATURE.as_str().as_bytes().first_chunk().copied().unwrap_or_default();
        let seen = Cell::new(None);
        let reader = Reader { memory, root: self, signature, seen: &seen };
        // The crate tells an XSDT by a revision that is not 0.
        let revision = u8::from(self.is_xsdt());
        // SAFETY: whatever is at that address, the reader hands out a header only with all the bytes that it tells of.
        let tables = unsafe { AcpiTables::from_rsdt(reader, revision, self.at as usize) };
        let tables = tables.map_err(|_| AcpiError::BadTable { at: self.at, signature: self.signature })?;
        let found = tables.find_table::<T>().ok().and_then(|table| whole(table.physical_start() as u64, memory));
        // A crate that checks less than it did lets no broken table in.
        match (found.filter(|table| table.starts_with(&signature) && is_sum_zero(table)), seen.get()) {
            (None, Some(at)) => Err(AcpiError::BadTable { at, signature }),
            (found, _) => Ok(found),
        }
    }

    fn is_xsdt(self) -> bool {
        self.signature == *b"XSDT"
    }

    fn entry_bytes(self) -> usize {
        if self.is_xsdt() { 8 } else { 4 }
    }
}

/// All bytes of the table at `at`, if its length is right.
fn whole<'a>(at: u64, memory: &dyn Memory<'a>) -> Option<&'a [u8]> {
    let length = little_endian(memory(at, HEADER)?.get(4..8)?) as usize;
    (HEADER..=MAX_TABLE).contains(&length).then(|| memory(at, length))?
}

fn is_sum_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// Up to 8 bytes as an integer.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tests' memory starts.
    const START: u64 = 0xe_0000;

    /// Sets the byte at `at` so that all bytes sum to zero.
    fn seal(bytes: &mut [u8], at: usize) {
        bytes[at] = 0;
        bytes[at] = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
    }

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = signature.to_vec();
        bytes.extend((HEADER as u32 + body.len() as u32).to_le_bytes());
        bytes.resize(HEADER, 0x20);
        bytes.extend(body);
        seal(&mut bytes, 9);
        bytes
    }

    fn rsdp(revision: u8, rsdt: u64, xsdt: u64) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0COFFER".to_vec();
        bytes.push(revision);
        bytes.extend((rsdt as u32).to_le_bytes());
        seal(&mut bytes, 8);
        bytes.extend(36u32.to_le_bytes());
        bytes.extend(xsdt.to_le_bytes());
        bytes.extend([0; 4]);
        seal(&mut bytes, 32);
        bytes
    }

    /// Memory with each part at its offset.
    fn memory(parts: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let mut memory = vec![0; 0x300];
        for (at, part) in parts {
            memory[*at..at + part.len()].copy_from_slice(part);
        }
        memory
    }

    /// Reads `DMAR` from memory that starts at [`START`].
    fn find(memory: &[u8], rsdp: u64) -> Result<Option<&[u8]>, AcpiError> {
        find_by(memory, if rsdp == 0 { Rsdp::Unknown } else { Rsdp::At(rsdp) })
    }

    fn find_by<'a>(memory: &'a [u8], rsdp: Rsdp<'_>) -> Result<Option<&'a [u8]>, AcpiError> {
        let bytes = |at: u64, len: usize| {
            let first = usize::try_from(at.checked_sub(START)?).ok()?;
            memory.get(first..first.checked_add(len)?)
        };
        Root::read(rsdp, &bytes)?.table::<Dmar>(&bytes)
    }

    fn pointers(addresses: &[u64], bytes: usize) -> Vec<u8> {
        addresses.iter().flat_map(|address| address.to_le_bytes()[..bytes].to_vec()).collect()
    }

    /// An RSDP, an XSDT with four entries of which one leads nowhere, an RSDT, an APIC table and two DMAR tables.
    fn machine(revision: u8) -> Vec<u8> {
        let tables = [u64::MAX - 5, START + 0x180, START + 0x1c0, START + 0x200];
        memory(&[
            (0, rsdp(revision, START + 0x100, START + 0x40)),
            (0x40, table(b"XSDT", &pointers(&tables, 8))),
            (0x100, table(b"RSDT", &pointers(&tables[..3], 4))),
            (0x180, table(b"APIC", &[])),
            (0x1c0, table(b"DMAR", b"first")),
            (0x200, table(b"DMAR", b"second")),
        ])
    }

    #[test]
    fn a_table_is_found_by_either_root_with_or_without_the_loader() {
        for revision in [0, 1, 2, 9] {
            for rsdp in [START, 0] {
                assert_eq!(find(&machine(revision), rsdp), Ok(Some(&table(b"DMAR", b"first")[..])));
            }
        }
        let mut without = machine(2);
        without[0x1c0..0x1c4].copy_from_slice(b"SSDT");
        without[0x200..0x204].copy_from_slice(b"SSDT");
        assert_eq!(find(&without, START), Ok(None));
    }

    #[test]
    fn a_copy_of_the_rsdp_is_read_where_the_loader_has_it() {
        for revision in [0, 2] {
            let mut memory = machine(revision);
            let (bytes, at) = (memory[..36].to_vec(), 0x9_1234);
            memory[..36].fill(0);
            let found = find_by(&memory, Rsdp::Copy { at, bytes: &bytes });
            assert_eq!(found, Ok(Some(&table(b"DMAR", b"first")[..])));
            let needed = if revision == 0 { 20 } else { 36 };
            for bytes in [&bytes[..needed - 1], &[]] {
                assert_eq!(find_by(&memory, Rsdp::Copy { at, bytes }), Err(AcpiError::BadRsdp { at }));
            }
        }
    }

    #[test]
    fn a_good_table_is_preferred_and_a_broken_one_named_if_alone() {
        let mut one = machine(2);
        one[0x1c0 + HEADER] ^= 1;
        assert_eq!(find(&one, START), Ok(Some(&table(b"DMAR", b"second")[..])));
        one[0x200 + HEADER] ^= 1;
        let error = AcpiError::BadTable { at: START + 0x1c0, signature: *b"DMAR" };
        assert_eq!(find(&one, START), Err(error));
        assert_eq!(error.to_string(), "table DMAR at 0xe01c0 has a wrong signature, length or checksum");
    }

    #[test]
    fn lengths_are_checked_before_they_are_used() {
        // All-zero sums do not help a table that is shorter than its header or longer than memory.
        for length in [0, 35, 0x2000, u32::MAX] {
            for (at, signature) in [(0x40, *b"XSDT"), (0x1c0, *b"DMAR")] {
                let mut bytes = machine(2);
                bytes[0x200..0x204].fill(0);
                bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
                seal(&mut bytes[at..at + 0x30], 9);
                assert_eq!(find(&bytes, START), Err(AcpiError::BadTable { at: START + at as u64, signature }));
            }
        }
        // Half a pointer at the end of the root is none.
        let half = &pointers(&[START + 0x1c0], 8)[..7];
        let bytes =
            memory(&[(0, rsdp(2, 0, START + 0x40)), (0x40, table(b"XSDT", half)), (0x1c0, table(b"DMAR", &[]))]);
        assert_eq!(find(&bytes, START), Ok(None));
        let half = &pointers(&[START + 0x180, START + 0x1c0], 4)[..7];
        let bytes =
            memory(&[(0, rsdp(0, START + 0x40, 0)), (0x40, table(b"RSDT", half)), (0x1c0, table(b"DMAR", &[]))]);
        assert_eq!(find(&bytes, START), Ok(None));
    }

    #[test]
    fn a_table_has_an_end_even_where_memory_has_none() {
        let mut bytes = machine(2);
        bytes[0x200..0x204].fill(0);
        bytes.resize(0x1c0 + MAX_TABLE + 1, 0);
        bytes[0x1c4..0x1c8].copy_from_slice(&(MAX_TABLE as u32 + 1).to_le_bytes());
        seal(&mut bytes[0x1c0..], 9);
        let error = AcpiError::BadTable { at: START + 0x1c0, signature: *b"DMAR" };
        assert_eq!(find(&bytes, START), Err(error));
    }

    #[test]
    fn a_broken_root_is_reported() {
        for (revision, at, signature) in [(0, 0x100, *b"RSDT"), (2, 0x40, *b"XSDT")] {
            let mut bytes = machine(revision);
            bytes[at + HEADER] ^= 1;
            assert_eq!(find(&bytes, START), Err(AcpiError::BadTable { at: START + at as u64, signature }));
        }
    }

    #[test]
    fn oem_fields_that_are_not_utf8_make_a_table_bad() {
        let mut bytes = machine(2);
        bytes[0x200..0x204].fill(0);
        bytes[0x1c0 + 10] = 0xff;
        seal(&mut bytes[0x1c0..0x1c0 + 41], 9);
        assert_eq!(find(&bytes, START), Err(AcpiError::BadTable { at: START + 0x1c0, signature: *b"DMAR" }));
    }

    #[test]
    fn what_is_no_rsdp_is_named() {
        assert_eq!(find(&[0; 0x300], 0), Err(AcpiError::NoRsdp));
        assert_eq!(find(&machine(2), START + 16), Err(AcpiError::BadRsdp { at: START + 16 }));
        assert_eq!(find(&machine(2), 7), Err(AcpiError::BadRsdp { at: 7 }));
        assert_eq!(find(&machine(2), u64::MAX), Err(AcpiError::BadRsdp { at: u64::MAX }));
        let mut bytes = machine(2);
        bytes[35] = 1;
        assert_eq!(find(&bytes, START), Err(AcpiError::BadRsdp { at: START }), "the second checksum counts too");
        let mut bytes = machine(1);
        bytes[9] ^= 1;
        assert_eq!(find(&bytes, START), Err(AcpiError::BadRsdp { at: START }), "so does the first where it is alone");
        let mut bytes = machine(1);
        bytes[20..36].fill(0xff);
        assert!(find(&bytes, START).is_ok(), "there is no second half before revision 2");
    }

    #[test]
    fn a_root_of_another_signature_is_none() {
        for (revision, signature) in [(0, *b"RSDT"), (2, *b"XSDT")] {
            let bytes = memory(&[(0, rsdp(revision, START + 0x40, START + 0x40)), (0x40, table(b"DMAR", &[]))]);
            assert_eq!(find(&bytes, START), Err(AcpiError::BadTable { at: START + 0x40, signature }));
        }
    }

    #[test]
    fn no_byte_and_no_cut_makes_it_panic_or_accept_a_bad_table() {
        for revision in [0, 2] {
            let good = machine(revision);
            for at in 0..good.len() {
                for value in [0, 1, 3, 0x23, 0x24, 0x25, 0x7f, 0x80, 0xfe, 0xff] {
                    let mut bytes = good.clone();
                    bytes[at] = value;
                    check(&bytes);
                    // And as a firmware would do that made the mistake itself.
                    seal(&mut bytes[..20], 8);
                    seal(&mut bytes[..36], 32);
                    for (at, len) in [(0x40, 68), (0x100, 48), (0x1c0, 41), (0x200, 42)] {
                        seal(&mut bytes[at..at + len], 9);
                    }
                    check(&bytes);
                }
                check(&good[..at]);
            }
        }
    }

    fn check(bytes: &[u8]) {
        for rsdp in [START, 0] {
            if let Ok(Some(table)) = find(bytes, rsdp) {
                assert!(table.len() >= HEADER && table.starts_with(b"DMAR") && is_sum_zero(table));
            }
        }
    }
}
