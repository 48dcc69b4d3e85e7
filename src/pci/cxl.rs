//! The designated vendor-specific extended capabilities of CXL devices (PCIe 6.0, section 7.9.6; CXL 3.1, sections 8.1.3 and
//! 8.1.4).
#![forbid(unsafe_code)]

use super::capability::extended_capabilities;
use super::{Above, ConfigSpace, physical_function};
use crate::addr::SourceId;

const ID: u16 = 0x23;
/// Vendor in bits 15:0.
const VENDOR: u16 = 0x04;
const CXL: u16 = 0x1e98;
/// What the vendor has it for, in bits 15:0: a CXL device, or the map of its functions that are none.
const KIND: u16 = 0x08;
const DEVICE: u16 = 0;
const DEVICE_BYTES: u16 = 0x3c;
const MAP: u16 = 2;
const MAP_BYTES: u16 = 0x2c;
/// CXL Capability of a device is in bits 31:16 of the same word: bit 0 is Cache_Capable.
const CACHE: u32 = 1 << 16;
/// The first of eight registers of the map.
const MAP_REGISTERS: u16 = 0x0c;

/// The capabilities of this kind that a function has: where they are, and the word with the kind.
fn capabilities(
    config: &impl ConfigSpace,
    function: SourceId,
    kind: u16,
    bytes: u16,
) -> impl Iterator<Item = (u16, u32)> {
    let all = extended_capabilities(config, function, ID, bytes).map(move |at| (at, config.read(function, at + KIND)));
    all.filter(move |(at, word)| config.read(function, at + VENDOR) as u16 == CXL && *word as u16 == kind)
}

/// True if a device can cache memory of the host by CXL.cache: by physical addresses, which nothing checks, so it has to
/// have them from a device-TLB (R51).
///
/// Function 0 says it for all functions of its device, except those that its map excludes (CXL 3.1, section 8.1.4).
pub(crate) fn caches_memory(config: &impl ConfigSpace, function: SourceId) -> bool {
    // A virtual function is as its physical one.
    caches_as_physical(config, physical_function(config, function).unwrap_or(function))
}

#[inline(never)]
fn caches_as_physical(config: &impl ConfigSpace, function: SourceId) -> bool {
    let says =
        |function| capabilities(config, function, DEVICE, DEVICE_BYTES).any(|(_, capability)| capability & CACHE != 0);
    if says(function) {
        return true;
    }
    let says_first = |extended| {
        let mask = if extended { 0xff } else { 7 };
        let first = SourceId::from_requester(function.segment(), function.requester() & !mask);
        first != function && says(first) && !is_excluded(config, first, function, extended)
    };
    let (mut above, bus) = (Above::of(function), function.bus());
    above.find(config).is_err()
        || above.has_eight_functions(config, bus) && says_first(false)
        || above.has_extended_functions(config, bus) && says_first(true)
}

/// True if function 0 has a map that excludes a function of its device. Its registers are for 32 functions each where function
/// numbers have 8 bits, and otherwise for a function each, with a bit for a device.
fn is_excluded(config: &impl ConfigSpace, first: SourceId, function: SourceId, extended: bool) -> bool {
    let (register, bit) = match function.devfn() {
        number if extended => (number >> 5, number & 0x1f),
        _ => (function.function(), function.device()),
    };
    let mut maps = capabilities(config, first, MAP, MAP_BYTES);
    maps.any(|(at, _)| config.read(first, at + MAP_REGISTERS + 4 * u16::from(register)) >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    #[test]
    fn only_a_device_that_says_cxl_cache_caches_memory() {
        let device = |vendor: u32, kind: u32| {
            // Another vendor's first.
            let other = [
                (function(1), 0x100, 0x2000_0023 | 1 << 16),
                (function(1), 0x104, 0x1234),
                (function(1), 0x108, CACHE),
            ];
            let own = [(function(1), 0x200, 0x0001_0023), (function(1), 0x204, vendor), (function(1), 0x208, kind)];
            caches_memory(&FewRegisters(&[other, own].concat()), function(1))
        };
        assert!(device(0x1e98, CACHE | 2 << 16));
        assert!(!device(0x1e98, 2 << 16), "CXL.io alone");
        assert!(!device(0x1e98, CACHE | 3), "another kind");
        assert!(!device(0x1e99, CACHE));
    }
}
