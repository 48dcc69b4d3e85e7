//! The root system description pointer: where it is, and which root table it names (ACPI 6.5, section 5.2.5).
//!
//! The `acpi` crate sums as many bytes as the RSDP says that it has, so it is not asked (5.2.0).
#![forbid(unsafe_code)]

use super::{Memory, Root, is_sum_zero, little_endian};

/// The root table that the RSDP at `at` names.
pub(super) fn root(at: u64, memory: &dyn Memory<'_>) -> Option<Root> {
    named(&|bytes| memory(at, bytes))
}

/// The root table that an RSDP names, of which `rsdp` gives so many bytes (section 5.2.5.3): the XSDT from revision 2 on.
pub(super) fn named<'a>(rsdp: &dyn Fn(usize) -> Option<&'a [u8]>) -> Option<Root> {
    let first = rsdp(20).filter(|rsdp| rsdp.starts_with(b"RSD PTR ") && is_sum_zero(rsdp))?;
    let rsdt = Root { at: little_endian(first.get(16..20)?), signature: *b"RSDT" };
    if *first.get(15)? < 2 {
        return Some(rsdt);
    }
    let whole = rsdp(36).filter(|rsdp| is_sum_zero(rsdp))?;
    match little_endian(whole.get(24..32)?) {
        0 => Some(rsdt),
        at => Some(Root { at, signature: *b"XSDT" }),
    }
}

/// Searches the RSDP where a PC's firmware has it (section 5.2.5.1): on a 16-byte boundary in the first KiB of the
/// extended BIOS data area, or in the BIOS's own area.
pub(super) fn search(memory: &dyn Memory<'_>) -> Option<u64> {
    // The BIOS data area holds the segment of the extended one at 40:0e.
    let extended = memory(0x40e, 2).map_or(0, |segment| little_endian(segment) << 4);
    let extended = if (0x8_0000..0xa_0000).contains(&extended) { extended..extended + 1024 } else { 0..0 };
    extended.step_by(16).chain((0xe_0000..0x10_0000).step_by(16)).find(|&at| root(at, memory).is_some())
}
