//! Context entry (S 9.3).
//!
//! | bits | field |
//! |---|---|
//! | 0 | P |
//! | 1 | FPD: concerns faults alone |
//! | 3:2 | TT: 00 tables, 01 tables and device-TLBs, 10 pass-through, 11 reserved |
//! | 11:4, 63:HAW | reserved |
//! | 63:12 | SSPTPTR |
//! | 66:64 | AW: levels less two |
//! | 70:67 | ignored |
//! | 71, 127:88 | reserved |
//! | 87:72 | DID; bits that the unit does not have are reserved |
#![forbid(unsafe_code)]

use super::{LiveRegisters, above};
use crate::addr::PhysAddr;

/// Where the requests of a function go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveTarget {
    /// The top of the page table and its levels. `None` if requests pass through.
    pub table: Option<(PhysAddr, u8)>,
    /// Requests with an address that the device says was translated before are let through as they are, wherever they go.
    pub device_tlb: bool,
    pub domain_id: u16,
}

/// Its two halves.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveContextEntry(pub(super) [u64; 2]);

impl LiveContextEntry {
    pub(super) fn is_present(self) -> bool {
        let Self([lower, _]) = self;
        lower & 1 != 0
    }

    fn levels(self) -> u8 {
        let Self([_, upper]) = self;
        (upper & 0b111) as u8 + 2
    }

    /// Where requests go by an entry that is present and has no [reserved](Self::reserved) bit.
    pub(super) fn target(self) -> Option<LiveTarget> {
        let Self([lower, upper]) = self;
        let root = PhysAddr::try_new(lower & !0xfff).ok()?;
        let translation_type = lower >> 2 & 0b11;
        let table = (translation_type != 0b10).then_some((root, self.levels()));
        Some(LiveTarget { table, device_tlb: translation_type == 0b01, domain_id: (upper >> 8) as u16 })
    }

    /// What makes hardware refuse a present entry: reserved bits that are set, and fields whose value the unit does not
    /// support.
    pub(super) fn reserved(self, unit: &LiveRegisters, host_bits: u8) -> [u64; 2] {
        let Self([lower, upper]) = self;
        let translation_type = lower >> 2 & 0b11;
        let supported = match translation_type {
            0b00 => true,
            0b01 => unit.device_tlb(),
            0b10 => unit.pass_through(),
            _ => false,
        };
        // Passed through, the pointer is ignored.
        let pointer = if translation_type == 0b10 { 0 } else { above(host_bits) };
        let domain_id = 0xffff & above(unit.domain_bits());
        let unused = upper & (0x80 | domain_id << 8 | u64::MAX << 24);
        let width = if unit.supports_levels(self.levels()) { 0 } else { 0b111 };
        [lower & (0xff0 | pointer) | if supported { 0 } else { 0b1100 }, unused | width]
    }

    /// What is set of the bits that hardware ignores.
    pub(super) fn ignored(self) -> [u64; 2] {
        let Self([lower, upper]) = self;
        if self.is_present() { [0, upper & 0x78] } else { [lower & !0b10, upper] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of 4 levels, 8 bits of domain-id, 40 bits of address, and the features of `ecap`.
    fn reserved(words: [u64; 2], ecap: u64) -> [u64; 2] {
        let unit = LiveRegisters { cap: 1 << 10 | 2, ecap, gsts: 0, rtaddr: 0 };
        LiveContextEntry(words).reserved(&unit, 40)
    }

    #[test]
    fn what_the_unit_does_not_support_is_refused() {
        let entry = |translation_type: u64| [0x1234_5000 | translation_type << 2 | 1, 0x7f << 8 | 2];
        for (translation_type, ecap) in [(0b00, !0), (0b00, 0), (0b01, 1 << 2), (0b10, 1 << 6)] {
            assert_eq!(reserved(entry(translation_type), ecap), [0, 0], "{translation_type:#b}");
        }
        for (translation_type, ecap) in [(0b01, !(1 << 2)), (0b10, !(1 << 6)), (0b11, !0)] {
            assert_eq!(reserved(entry(translation_type), ecap), [0b1100, 0], "{translation_type:#b}");
        }
        for width in [0, 1, 3, 4, 7] {
            assert_eq!(reserved([1, width], 0), [0, 7], "{width}");
        }
    }

    #[test]
    fn each_reserved_bit_is_refused_and_no_other() {
        let (lower, upper) = (0xff0 | !0 << 40, 1 << 7 | 0xff << 16 | !0 << 24);
        assert_eq!(reserved([!0b1100, !0b101], 0), [lower, upper]);
        // The pointer of what passes through is ignored.
        assert_eq!(reserved([!0b0100, !0b101], 1 << 6), [0xff0, upper]);
    }
}
