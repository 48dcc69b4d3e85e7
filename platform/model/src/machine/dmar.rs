//! The firmware's table that describes the machine (sections 8.1 to 8.3).
#![forbid(unsafe_code)]

use crate::unit::UnitConfig;

/// The DMAR table of a machine with these units: a DRHD structure each, those for buses or functions of their own first.
pub(crate) fn table(units: &[&UnitConfig], host_address_width: u8, interrupts: bool) -> Vec<u8> {
    let mut structures = Vec::new();
    let (mut explicit, rest): (Vec<&UnitConfig>, Vec<&UnitConfig>) =
        units.iter().copied().partition(|unit| !unit.takes_rest());
    explicit.extend(rest);
    for unit in explicit {
        // Every function of every bus: PCI endpoint, 8 bytes, no flags, no enumeration id, bus, device, function.
        let functions = unit.buses.iter().flat_map(|bus| (0..=255_u8).map(move |devfn| (*bus, devfn)));
        let functions = functions.chain(unit.functions.iter().copied());
        let scopes: Vec<u8> = functions.flat_map(|(bus, devfn)| [1, 8, 0, 0, 0, bus, devfn >> 3, devfn & 7]).collect();
        // The IOAPIC with id 0, where interrupts can be remapped.
        let ioapic = if unit.takes_rest() && interrupts { &[3, 8, 0, 0, 0, 0xff, 0, 0][..] } else { &[] };
        let scopes = [&scopes, ioapic].concat();
        let length = 16 + scopes.len() as u16;
        let pages = (unit.bytes / 4096).ilog2() as u8;
        structures.extend([0, 0]);
        structures.extend(length.to_le_bytes());
        // INCLUDE_PCI_ALL where nothing is listed, then the size as a power of two.
        structures.extend([u8::from(unit.takes_rest()), pages]);
        structures.extend(unit.segment.to_le_bytes());
        structures.extend(unit.base.to_le_bytes());
        structures.extend(scopes);
    }
    let mut table = b"DMAR".to_vec();
    table.extend((48 + structures.len() as u32).to_le_bytes());
    // Revision, checksum, and 26 bytes of names.
    table.extend([1, 0]);
    table.extend(b"MODEL COFFDAM \0\0\0\0MODL\0\0\0\0");
    table.extend([host_address_width - 1, u8::from(interrupts)]);
    table.extend([0; 10]);
    table.extend(structures);
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = table.get_mut(9) {
        *checksum = sum.wrapping_neg();
    }
    table
}
