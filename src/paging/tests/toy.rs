//! A format that no hardware has, so that the walker cannot lean on one.

use super::*;

/// | bits | |
/// |---|---|
/// | 63:59, 57, 55:54, 11, 7 | ignored |
/// | 51:12 | address |
/// | 10:8 | the level of the page, or of the table that the entry leads to |
/// | 6:5 | rights, of a page |
/// | 4 | a page |
/// | 0 | present |
///
/// Six levels. A word that no edit may store is a failure to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Toy;

const PRESENT: u64 = 1;
const PAGE: u64 = 1 << 4;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Format for Toy {
    const IGNORED: u64 = 0xfac0_0000_0000_0880;

    fn page(&self, output: u64, rights: Rights, level: u8) -> u64 {
        assert!(output.is_multiple_of(page_bytes(level)));
        output | PRESENT | PAGE | u64::from(rights.bits()) << 5 | u64::from(level) << 8
    }
    fn table(&self, next: PhysAddr, level: u8) -> u64 {
        next.as_u64() | PRESENT | u64::from(level) << 8
    }
    fn decode(&self, word: u64, level: u8) -> Entry {
        let (rights, own_level) = ((word >> 5) as u8 & 3, (word >> 8) as u8 & 7);
        if word & 0xfff == 0 {
            return Entry::Absent;
        }
        match word & !ADDRESS & !Self::IGNORED & !(0b11 << 5) & !(7 << 8) {
            PRESENT if rights == 0 && own_level == level - 1 && level > 1 => {
                Entry::Table(PhysAddr::new(word & ADDRESS))
            }
            kind if kind == PRESENT | PAGE && own_level == level => {
                Entry::Page { output: word & ADDRESS, rights: Rights::from_bits_truncate(rights) }
            }
            _ => unreachable!("{word:#x} at level {level}"),
        }
    }
}

impl Sample for Toy {
    const FORMAT: Self = Self;
    const GEOMETRY: Geometry = Geometry::new(6, 3, 63, 46, &[Hole::INTERRUPTS, HOLE]).unwrap();
    const READ_BY_HARDWARE: u64 = !Self::IGNORED;
}

const HOLE: Hole = Hole::new((0x20_0000_0000, 0x20_0000_0fff), "a toy has a hole");
