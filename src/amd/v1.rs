//! Host page-table entry, version 1, all levels.
//!
//! | bits | field |
//! |---|---|
//! | 63, 8:7, 4:1 | ignored |
//! | 62 | IW |
//! | 61 | IR |
//! | 60 | FC, in an entry that maps a page; reserved elsewhere |
//! | 51:12 | address, aligned to the page's size |
//! | 11:9 | next level: that of the table that the entry leads to; 0 in an entry that maps a page of its own level's size |
//! | 6:5 | D and A, which hardware sets only where it is configured to |
//! | 0 | PR, present |
//!
//! Every other bit is reserved, 58:52 among them, and written as zero. A page whose size is in its address (next level 7) and
//! a pointer that skips levels are never written, and read as absent. The rights are those of all levels together: those of
//! a page are in its own entry, and a pointer has both.
#![forbid(unsafe_code)]

use crate::addr::{PhysAddr, Rights};
use crate::paging::{Entry, Format, Hole};

const PR: u64 = 1;
const NEXT_LEVEL: u32 = 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const FC: u64 = 1 << 60;
const IR: u64 = 1 << 61;
const IW: u64 = 1 << 62;

/// The format of version 1 tables, and whether DMA through all their pages is made coherent: fixed for the life of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V1 {
    /// Every entry that maps a page has FC.
    pub force_coherent: bool,
}

impl V1 {
    /// Where nothing can be mapped: interrupts, and the range of HyperTransport, unless the unit ignores that
    /// (EFR2.HtRangeIgnore).
    pub const fn holes(hyper_transport_ignored: bool) -> &'static [Hole] {
        const HYPER_TRANSPORT: Hole =
            Hole::new((0xfd_0000_0000, 0xff_ffff_ffff), "HyperTransport has addresses of its own");
        if hyper_transport_ignored { &[Hole::INTERRUPTS] } else { &[Hole::INTERRUPTS, HYPER_TRANSPORT] }
    }
}

impl Format for V1 {
    const IGNORED: u64 = 0b1111 << 1 | 0b11 << 7 | 1 << 63;

    fn page(&self, output: u64, rights: Rights, _level: u8) -> u64 {
        output & ADDRESS
            | PR
            | if rights.contains(Rights::READ) { IR } else { 0 }
            | if rights.contains(Rights::WRITE) { IW } else { 0 }
            | if self.force_coherent { FC } else { 0 }
    }

    fn table(&self, next: PhysAddr, level: u8) -> u64 {
        next.as_u64() & ADDRESS | PR | u64::from(level & 7) << NEXT_LEVEL | IR | IW
    }

    fn decode(&self, word: u64, level: u8) -> Entry {
        let next_level = (word >> NEXT_LEVEL) as u8 & 7;
        if word & PR == 0 {
            return Entry::Absent;
        }
        if next_level == 0 {
            let mut rights = Rights::empty();
            rights.set(Rights::READ, word & IR != 0);
            rights.set(Rights::WRITE, word & IW != 0);
            return Entry::Page { output: word & ADDRESS, rights };
        }
        if next_level + 1 == level { Entry::Table(PhysAddr::new_truncate(word & ADDRESS)) } else { Entry::Absent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COHERENT: V1 = V1 { force_coherent: true };
    const PLAIN: V1 = V1 { force_coherent: false };

    #[test]
    fn a_page_has_its_rights_and_force_coherent() {
        assert_eq!(COHERENT.page(0x1234_5000, Rights::all(), 1), 0x7000_0000_1234_5001);
        assert_eq!(PLAIN.page(0x1234_5000, Rights::READ, 1), 0x2000_0000_1234_5001);
        assert_eq!(PLAIN.page(0x1000, Rights::WRITE, 1), 0x4000_0000_0000_1001);
    }

    #[test]
    fn a_page_looks_alike_at_each_level() {
        for (level, output) in [(1, 0x1000), (2, 0x20_0000), (3, 0x4000_0000)] {
            assert_eq!(COHERENT.page(output, Rights::all(), level), 0x7000_0000_0000_0001 | output);
        }
    }

    #[test]
    fn a_pointer_has_the_level_it_leads_to_and_no_force_coherent() {
        assert_eq!(COHERENT.table(PhysAddr::new(0x5000), 2), 0x6000_0000_0000_5401);
        assert_eq!([1, 3, 4, 5].map(|level| PLAIN.table(PhysAddr::new(0x5000), level) >> 9 & 7), [1, 3, 4, 5]);
    }

    #[test]
    fn what_is_never_written_is_absent() {
        // 64 KiB with the size in the address; a level skipped; pointers that lead no lower.
        for (word, level) in [
            (0x7000_0000_1234_7e01, 1),
            (0x6000_0000_0000_5201, 3),
            (0x6000_0000_0000_5401, 2),
            (0x6000_0000_0000_5201, 1),
            (0x6000_0000_0000_5e01, 4),
        ] {
            assert_eq!(PLAIN.decode(word, level), Entry::Absent, "{word:#x}");
        }
        assert_eq!(PLAIN.decode(0x6000_0000_0000_5400, 3), Entry::Absent, "not present");
    }

    #[test]
    fn hyper_transport_is_a_hole_unless_the_unit_ignores_it() {
        let words: Vec<_> = V1::holes(false).iter().map(ToString::to_string).collect();
        let hyper_transport = "0xfd00000000..=0xffffffffff, where HyperTransport has addresses of its own";
        assert_eq!(words, ["0xfee00000..=0xfeefffff, where requests are interrupts", hyper_transport]);
        assert_eq!(V1::holes(true), [Hole::INTERRUPTS]);
    }
}
