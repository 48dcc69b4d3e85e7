//! Second-stage paging entry (S 9.8, tables 41 to 47), all levels.
//!
//! | bits | field |
//! |---|---|
//! | 58:52 | ignored |
//! | 51:12 | address, aligned to the page's size; bits from the host address width on are reserved |
//! | 11 | SNP, in an entry that maps a page; reserved elsewhere, and where the unit has no snoop control |
//! | 7 | PS, a page at level 2 or 3 |
//! | 1 | W |
//! | 0 | R |
//!
//! Neither R nor W: not present. Every other bit is written as zero (R41).
#![forbid(unsafe_code)]

use crate::addr::{PhysAddr, Rights};
use crate::paging::{Entry, Format};

const R: u64 = 1;
const W: u64 = 1 << 1;
const PS: u64 = 1 << 7;
const SNP: u64 = 1 << 11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The format of second-stage tables, and whether all their pages are snooped: fixed for the life of a table.
// C1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// Every entry that maps a page has SNP.
    pub snoop: bool,
}

impl Format for SecondStage {
    /// Seven bits that are ignored at each level, in an entry of either kind.
    const IGNORED: u64 = 0x7f << 52;

    fn page(&self, output: u64, rights: Rights, level: u8) -> u64 {
        output & ADDRESS
            | if rights.contains(Rights::READ) { R } else { 0 }
            | if rights.contains(Rights::WRITE) { W } else { 0 }
            | if level > 1 { PS } else { 0 }
            | if self.snoop { SNP } else { 0 }
    }

    fn table(&self, next: PhysAddr, _level: u8) -> u64 {
        next.as_u64() & ADDRESS | R | W
    }

    fn decode(&self, word: u64, level: u8) -> Entry {
        if word & (R | W) == 0 {
            return Entry::Absent;
        }
        if level > 1 && word & PS == 0 {
            return Entry::Table(PhysAddr::new_truncate(word & ADDRESS));
        }
        let mut rights = Rights::empty();
        rights.set(Rights::READ, word & R != 0);
        rights.set(Rights::WRITE, word & W != 0);
        Entry::Page { output: word & ADDRESS, rights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNOOPED: SecondStage = SecondStage { snoop: true };
    const PLAIN: SecondStage = SecondStage { snoop: false };

    #[test]
    fn a_page_has_its_rights_its_size_and_snoop() {
        assert_eq!(PLAIN.page(0x1000, Rights::READ, 1), 0x1001);
        assert_eq!(PLAIN.page(0x1000, Rights::WRITE, 1), 0x1002);
        assert_eq!(PLAIN.page(0x20_0000, Rights::all(), 2), 0x20_0083);
        assert_eq!(SNOOPED.page(0x4000_0000, Rights::all(), 3), 0x4000_0883);
    }

    #[test]
    fn an_entry_that_leads_to_a_table_is_never_snooped() {
        assert_eq!(SNOOPED.table(PhysAddr::new(0x5000), 2), 0x5003);
    }

    #[test]
    fn an_entry_says_what_was_put_into_it() {
        let page = |output, rights| Entry::Page { output, rights };
        for format in [SNOOPED, PLAIN] {
            for rights in [Rights::READ, Rights::WRITE, Rights::all()] {
                for (output, level) in [(0x1000, 1), (0x20_0000, 2), (0x4000_0000, 3)] {
                    assert_eq!(format.decode(format.page(output, rights, level), level), page(output, rights));
                }
            }
            assert_eq!(format.decode(format.table(PhysAddr::new(0x5000), 1), 2), Entry::Table(PhysAddr::new(0x5000)));
            assert_eq!(format.decode(0, 4), Entry::Absent);
            assert_eq!(format.decode(0x0123_4567_89ab_c000, 4), Entry::Absent);
        }
    }
}
