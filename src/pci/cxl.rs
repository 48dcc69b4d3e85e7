//! The designated vendor-specific extended capability of CXL devices (PCIe 6.0, section 7.9.6; CXL 3.1, section 8.1.3).
#![forbid(unsafe_code)]

use super::ConfigSpace;
use super::capability::extended_capabilities;
use crate::addr::SourceId;

const ID: u16 = 0x23;
const BYTES: u16 = 0x3c;
/// Vendor in bits 15:0.
const VENDOR: u16 = 0x04;
const CXL: u16 = 0x1e98;
/// What the vendor has it for, in bits 15:0: 0 for a CXL device. Then CXL Capability, in bits 31:16.
const KIND: u16 = 0x08;
/// Cache_Capable, bit 0 of CXL Capability.
const CACHE: u32 = 1 << 16;

/// True if a device can cache memory of the host by CXL.cache: by physical addresses, which nothing checks, so it has to
/// have them from a device-TLB (R51).
pub(crate) fn caches_memory(config: &impl ConfigSpace, function: SourceId) -> bool {
    extended_capabilities(config, function, ID, BYTES).any(|at| {
        let kind = config.read(function, at + KIND);
        config.read(function, at + VENDOR) as u16 == CXL && kind as u16 == 0 && kind & CACHE != 0
    })
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
