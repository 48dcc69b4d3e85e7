//! What other tables of a machine say of its IOAPICs and its HPET, to be compared with the scopes.

use cofferdam::firmware::Header;
use serde::Serialize;
use zerocopy::{
    FromBytes, Immutable, KnownLayout, Unaligned,
    little_endian::{U16, U32},
};

/// Each is `None` where the table is not at hand, or cannot be read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Beside {
    /// Ids of the IOAPICs, as the MADT has them.
    pub(super) ioapics: Option<Vec<u8>>,
    /// The number of the HPET, as its table has it; none if the machine has no such table.
    pub(super) hpets: Option<Vec<u8>>,
}

/// Fixed fields of a MADT (ACPI 6.5, section 5.2.12).
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Madt {
    header: Header,
    local_apic: U32,
    flags: U32,
}

/// What each of its structures starts with.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Structure {
    kind: u8,
    length: u8,
}

/// Type 1 (section 5.2.12.3).
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IoApic {
    structure: Structure,
    id: u8,
    reserved: u8,
    address: U32,
    first_interrupt: U32,
}

/// The HPET table (IA-PC HPET 1.0a, section 3.2.4).
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HpetTable {
    header: Header,
    block: U32,
    address: [u8; 12],
    number: u8,
    least_tick: U16,
    attributes: u8,
}

const _: () = assert!(size_of::<Madt>() == 44 && size_of::<IoApic>() == 12 && size_of::<HpetTable>() == 56);

/// Ids of the IOAPICs of a MADT.
pub(super) fn ioapics(madt: &[u8]) -> Option<Vec<u8>> {
    let (_, mut rest) = Madt::ref_from_prefix(whole(madt, *b"APIC")?).ok()?;
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let (&Structure { kind, length }, _) = Structure::ref_from_prefix(rest).ok()?;
        let (structure, behind) = rest.split_at_checked(length.into())?;
        match kind {
            _ if usize::from(length) < size_of::<Structure>() => return None,
            1 => ids.push(IoApic::ref_from_prefix(structure).ok()?.0.id),
            _ => {}
        }
        rest = behind;
    }
    Some(ids)
}

/// The number of the HPET of an HPET table.
pub(super) fn hpet(table: &[u8]) -> Option<u8> {
    let (table, _) = HpetTable::ref_from_prefix(whole(table, *b"HPET")?).ok()?;
    Some(table.number)
}

/// A table up to its length.
fn whole(table: &[u8], signature: [u8; 4]) -> Option<&[u8]> {
    let (header, _) = Header::ref_from_prefix(table).ok()?;
    let length = usize::try_from(header.length()).ok()?;
    table.get(..length).filter(|_| header.signature == signature)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]
    use super::*;

    /// Two CPUs, each with its NMI, and IOAPICs 2 and 9, the second behind an override.
    fn madt() -> Vec<u8> {
        let mut table = b"APIC".to_vec();
        table.resize(44, 0);
        for cpu in [0, 1] {
            table.extend([0, 8, cpu, cpu, 1, 0, 0, 0, 4, 6, cpu, 5, 0, 1]);
        }
        table.extend([1, 12, 2, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        table.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        table.extend([1, 12, 9, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0]);
        with_length(table)
    }

    fn hpet_table() -> Vec<u8> {
        let mut table = b"HPET".to_vec();
        table.resize(56, 0);
        table[52] = 3;
        with_length(table)
    }

    fn with_length(mut table: Vec<u8>) -> Vec<u8> {
        table[4] = table.len() as u8;
        table
    }

    #[test]
    fn ids_and_number_are_read() {
        assert_eq!(ioapics(&madt()), Some(vec![2, 9]));
        assert_eq!(hpet(&hpet_table()), Some(3));
        // Of a whole page the table's length counts.
        let page = [madt(), vec![1, 12, 7]].concat();
        assert_eq!(ioapics(&page), Some(vec![2, 9]));
        assert_eq!(ioapics(&hpet_table()), None, "another table");
        assert_eq!(hpet(&madt()), None);
    }

    /// Part of the ids would make findings of what is right.
    #[test]
    fn a_table_that_is_cut_is_not_read_in_part() {
        for bytes in 0..madt().len() {
            let cut = &madt()[..bytes];
            assert_eq!(ioapics(cut), None, "{bytes}");
            // Where its length is made to fit, all that may be left are whole structures.
            if bytes >= 44 {
                let ids = ioapics(&with_length(cut.to_vec()));
                let is_whole = [44, 52, 58, 66, 72, 84, 94].contains(&bytes);
                assert_eq!(ids, is_whole.then(|| if bytes < 84 { vec![] } else { vec![2] }), "{bytes}");
            }
        }
        for bytes in 0..56 {
            assert_eq!(hpet(&hpet_table()[..bytes]), None, "{bytes}");
            assert_eq!(hpet(&with_length([&hpet_table()[..bytes], &[0; 8]].concat())[..bytes]), None, "{bytes}");
        }
    }

    /// Each length of a structure of 0, 1 or 255 leads nowhere, and any other byte is as good as another.
    #[test]
    fn no_byte_makes_it_stumble() {
        for lengths in [45, 53, 59, 67, 73, 85, 95] {
            for length in [0, 1, 255] {
                let mut table = madt();
                table[lengths] = length;
                assert_eq!(ioapics(&table), None, "{lengths}: {length}");
            }
        }
        for (read, table) in
            [(ioapics as fn(&[u8]) -> Option<Vec<u8>>, madt()), (|it| hpet(it).map(|id| vec![id]), hpet_table())]
        {
            for place in 0..table.len() {
                for byte in 0..=255 {
                    let mut table = table.clone();
                    table[place] = byte;
                    assert!(read(&table).is_none_or(|ids| ids.len() <= 4), "{place}: {byte}");
                }
            }
        }
    }
}
