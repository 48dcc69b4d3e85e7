//! Where the registers of a function are (PCI Local Bus Specification 3.0, section 6.2.5.1).

use cofferdam::addr::PhysAddr;

use super::{COMMAND, HEADER_TYPE};

/// Memory that a function answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Physical address of the first byte.
    pub base: PhysAddr,
    /// Size: a power of two.
    pub bytes: u64,
}

/// The base address register `index` of a function whose configuration registers are read and written so. `None` if
/// there is none of that number, if it is for ports or the upper half of another, or if the firmware gave it no address.
///
/// The function answers to no address while its size is asked for; everything is as before at the end.
pub(crate) fn bar(read: impl Fn(u16) -> u32, write: impl Fn(u16, u32), index: u8) -> Option<Bar> {
    let count = match read(HEADER_TYPE) >> 16 & 0x7f {
        0 => 6,
        1 => 2,
        _ => 0,
    };
    let mut at = 0;
    while at < index && at < count {
        at += if is_64_bit(read(register(at))) { 2 } else { 1 };
    }
    let low = read(register(index));
    let is_64_bit = is_64_bit(low);
    if at != index || index + u8::from(is_64_bit) >= count || low & 1 != 0 {
        return None;
    }
    let (first, second) = (register(index), register(index + 1));
    let high = if is_64_bit { read(second) } else { 0 };

    let command = read(COMMAND) & 0xffff;
    write(COMMAND, command & !3);
    write(first, u32::MAX);
    let mask_low = read(first);
    write(first, low);
    let mask_high = if is_64_bit {
        write(second, u32::MAX);
        let mask = read(second);
        write(second, high);
        mask
    } else {
        0
    };
    write(COMMAND, command);

    // The bits that cannot be set are those below the size.
    let mask = wide(mask_low, mask_high);
    let bytes = mask & mask.wrapping_neg();
    let base = PhysAddr::try_new(wide(low, high)).ok()?;
    (!base.is_null() && bytes != 0).then_some(Bar { base, bytes })
}

fn register(index: u8) -> u16 {
    0x10 + 4 * u16::from(index)
}

/// Bit 0: for ports; bits 2:1: 10b for 64 bits.
fn is_64_bit(low: u32) -> bool {
    low & 7 == 4
}

fn wide(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low & !0xf)
}
