//! Second-stage paging entry (S 9.8, tables 41 to 47), as legacy mode reads it.
//!
//! | bits | field |
//! |---|---|
//! | 0, 1 | R, W; neither: not present (S 3.7) |
//! | 6:2, 9:8, 10 | ignored: EMT, IPAT, A and D count in scalable mode alone |
//! | 7 | PS at levels 2 and 3, ignored at level 1, else reserved |
//! | 11 | SNP in a page if the unit has it, else reserved |
//! | 51:12 | address; reserved from the host address width on, and below the size of a page |
//! | 60:52, 61, 63 | ignored |
//! | 62 | reserved, unless read and write are bits 61 and 62 (RTADDR.SSIRWE) |
#![forbid(unsafe_code)]

use super::{LiveRegisters, above};
use crate::addr::{PhysAddr, Rights};

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PS: u64 = 1 << 7;
const SNP: u64 = 1 << 11;

/// Where an entry leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    Page { output: PhysAddr, snoop: bool },
    Table(u64),
}

/// An entry of a table at `level`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageEntry {
    pub(super) word: u64,
    pub(super) level: u8,
}

impl PageEntry {
    /// Empty: not present.
    pub(super) fn rights(self) -> Rights {
        Rights::from_bits_truncate((self.word & 0b11) as u8)
    }

    fn is_page(self) -> bool {
        self.level == 1 || matches!(self.level, 2 | 3) && self.word & PS != 0
    }

    /// Where a present entry leads that has no [reserved](Self::reserved) bit.
    pub(super) fn leads(self) -> Leads {
        if self.is_page() {
            Leads::Page { output: PhysAddr::new_truncate(self.word & ADDRESS), snoop: self.word & SNP != 0 }
        } else {
            Leads::Table(self.word & ADDRESS)
        }
    }

    /// What is set of the bits that are reserved in a present entry.
    pub(super) fn reserved(self, unit: &LiveRegisters, host_bits: u8) -> u64 {
        let offset = bytes(self.level) - 1;
        let of_its_kind = match (self.is_page(), self.level) {
            (false, _) => PS | SNP,
            (true, 1) => 0,
            (true, level) => offset & ADDRESS | if unit.supports_page(level) { 0 } else { PS },
        };
        let snoop = if unit.snoop_control() { 0 } else { SNP };
        self.word & (1 << 62 | above(host_bits) & ADDRESS | of_its_kind | snoop)
    }

    /// What is set of the bits that hardware ignores.
    pub(super) fn ignored(self) -> u64 {
        let always = 0x7c | 0b111 << 8 | 0x1ff << 52 | 1 << 61 | 1 << 63;
        match self.level {
            _ if self.rights().is_empty() => self.word,
            1 => self.word & (always | PS),
            _ => self.word & always,
        }
    }
}

/// Bytes that one entry at this level covers; 4 KiB at level 1.
pub(super) fn bytes(level: u8) -> u64 {
    1 << (3 + 9 * u32::from(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of `word` is refused at `level`, with 40 bits of address.
    fn reserved(word: u64, level: u8, cap: u64, ecap: u64) -> u64 {
        PageEntry { word, level }.reserved(&LiveRegisters { cap, ecap, gsts: 0, rtaddr: 0 }, 40)
    }

    #[test]
    fn each_reserved_bit_is_refused_and_no_other() {
        const SC: u64 = 1 << 7;
        // Addresses from 2^40 on, and bit 62.
        let always = 0x000f_ff00_0000_0000 | 1 << 62;
        assert_eq!(reserved(!0, 1, 0, SC), always);
        assert_eq!(reserved(!0, 1, 0, !SC), always | SNP);
        for level in 2..=5 {
            assert_eq!(reserved(!PS, level, !0, SC), always | SNP, "a table, level {level}");
        }
        for level in 4..=5 {
            assert_eq!(reserved(!0, level, !0, SC), always | PS | SNP, "no page of level {level}");
        }
        for (level, bit, below) in [(2, 34, 0x1f_f000), (3, 35, 0x3fff_f000)] {
            assert_eq!(reserved(!0, level, 1 << bit, SC), always | below, "level {level}");
            assert_eq!(reserved(!0, level, !(1 << bit), SC), always | below | PS, "level {level}, not supported");
            assert_eq!(reserved(!0, level, 1 << bit, 0), always | below | SNP, "level {level}, no snoop control");
        }
    }

    #[test]
    fn each_ignored_bit_is_reported() {
        let ignored = |word, level| PageEntry { word, level }.ignored();
        let bits = 0x77c | 0xbff << 52;
        assert_eq!([1, 2, 3, 4].map(|level| ignored(!0, level)), [bits | PS, bits, bits, bits]);
        assert_eq!(ignored(!0b11, 1), !0b11, "all of an absent one");
    }
}
