//! Context entry (S 9.3): what happens to the requests of one function. 128 bits.
//!
//! | bits | field |
//! |---|---|
//! | 87:72 | DID, domain-id |
//! | 66:64 | AW, address width: 1, 2, 3 for 3, 4, 5 levels |
//! | 63:12 | SSPTPTR, second-stage page-table pointer |
//! | 3:2 | TT, translation type: 0 translates untranslated requests and blocks all others, 1 lets those of a device-TLB through |
//! | 1 | FPD, fault processing disable |
//! | 0 | P, present |
#![forbid(unsafe_code)]

use crate::addr::PhysAddr;
use crate::hal::{Frames, Hal};

const P: u64 = 1;
/// Faults are not recorded, also while P is 0.
const FPD: u64 = 1 << 1;
const TT_DEVICE_TLB: u64 = 0b01 << 2;
const SSPTPTR: u64 = !0xfff;

/// The two halves of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vtd::tables) struct ContextEntry {
    /// Bits 63:0, with P.
    pub lower: u64,
    /// Bits 127:64.
    pub upper: u64,
}

impl ContextEntry {
    /// Untranslated requests go through the page table at `root`. Translation requests and translated ones are let through
    /// for a `device_tlb`, and blocked without.
    pub(in crate::vtd::tables) fn second_stage(root: PhysAddr, levels: u8, domain_id: u16, device_tlb: bool) -> Self {
        Self {
            lower: root.as_u64() & SSPTPTR | if device_tlb { TT_DEVICE_TLB } else { 0 } | P,
            upper: u64::from(domain_id) << 8 | u64::from(levels.saturating_sub(2) & 0b111),
        }
    }

    /// Its domain-id, if it is present.
    pub(in crate::vtd::tables) fn domain_id(self) -> Option<u16> {
        (self.lower & P != 0).then_some((self.upper >> 8) as u16)
    }

    /// The entry whose lower half is at `word` of a context table.
    fn load(hal: &impl Hal, table: &Frames, word: usize) -> Self {
        Self { lower: table.load(hal, word), upper: table.load(hal, word + 1) }
    }

    /// Writes the entry where one is blocked, the half with P last. FPD stays as it is there.
    pub(in crate::vtd::tables) fn write(self, hal: &impl Hal, table: &Frames, word: usize) {
        table.store(hal, word + 1, self.upper);
        hal.fence();
        table.store(hal, word, self.lower | table.load(hal, word) & FPD);
    }
}

/// Makes an entry not present, with all else but FPD of that half gone.
pub(in crate::vtd::tables) fn block(hal: &impl Hal, table: &Frames, word: usize) {
    table.store(hal, word, table.load(hal, word) & FPD);
}

/// Clears what [`block`] has left.
pub(in crate::vtd::tables) fn erase(hal: &impl Hal, table: &Frames, word: usize) {
    table.store(hal, word + 1, 0);
}

/// Sets FPD of an entry, or clears it. If that changes anything, returns the entry as it was.
pub(in crate::vtd::tables) fn set_fpd(hal: &impl Hal, table: &Frames, word: usize, fpd: bool) -> Option<ContextEntry> {
    let entry = ContextEntry::load(hal, table, word);
    let lower = with_fpd(entry.lower, fpd);
    if lower == entry.lower {
        return None;
    }
    table.store(hal, word, lower);
    Some(entry)
}

/// The lower half with FPD or without.
fn with_fpd(lower: u64, fpd: bool) -> u64 {
    lower & !FPD | if fpd { FPD } else { 0 }
}

/// Index of the lower half of a function's entry, in words of the table.
pub(in crate::vtd::tables) fn word(devfn: u8) -> usize {
    usize::from(devfn) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_specification_has_them() {
        let entry = |device_tlb| ContextEntry::second_stage(PhysAddr::new(0x1234_5000), 4, 0xabcd, device_tlb);
        assert_eq!(entry(false), ContextEntry { lower: 0x1234_5001, upper: 0xab_cd02 });
        assert_eq!(entry(true), ContextEntry { lower: 0x1234_5005, upper: 0xab_cd02 });
        let absent = ContextEntry { lower: FPD, ..entry(true) };
        assert_eq!((entry(true).domain_id(), absent.domain_id()), (Some(0xabcd), None));
        let widths = [3, 4, 5].map(|levels| ContextEntry::second_stage(PhysAddr::new(0), levels, 0, false).upper);
        assert_eq!(widths, [1, 2, 3]);
        assert_eq!(word(0xff), 510);
        assert_eq!((with_fpd(entry(false).lower, true), with_fpd(0x1234_5003, false)), (0x1234_5003, 0x1234_5001));
    }
}
