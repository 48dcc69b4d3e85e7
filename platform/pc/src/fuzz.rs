//! What fuzzers call: readers of what a loader tells, over memory that holds anything. No part of the API.
//!
//! The tests run a bounded piece of it.
#![forbid(unsafe_code)]

use core::ops::Range;

use crate::acpi::{Mcfg, Root};
use crate::boot::{Boot, Loader, MAX_ENTRIES, Picture, Rsdp};
use crate::error::BootError;
use crate::memory::{PAGE, carve, first_in_use};

/// Where the memory starts that the bytes are.
const START: u64 = 0x10_0000;

/// Reads what a multiboot2 loader tells.
///
/// # Panics
///
/// What comes out cannot be.
pub fn multiboot2(memory: &[u8]) {
    match read(Loader::Multiboot2, memory) {
        Ok(boot) => {
            assert!(matches!(boot.rsdp, Rsdp::Unknown | Rsdp::Copy { .. }), "a loader tells of no address");
            assert!(boot.structures.iter().skip(1).all(|structure| *structure == (0, 0)), "all is in one piece");
        }
        Err(BootError::TornInformation { at } | BootError::NoMapTag { at } | BootError::BadMapTag { at }) => {
            // Where the next tag would be, if there were one.
            let end = START + memory.len().next_multiple_of(8) as u64;
            assert!((START..=end).contains(&at), "{at:#x} is outside");
        }
        other => assert!(other.is_ok(), "not an error of a reader: {other:?}"),
    }
}

/// Reads what a PVH loader tells.
///
/// # Panics
///
/// What comes out cannot be.
pub fn pvh(memory: &[u8]) {
    match read(Loader::Pvh, memory) {
        Ok(boot) => {
            assert!(matches!(boot.rsdp, Rsdp::Unknown | Rsdp::At(_)), "a loader has no copy");
            assert!(boot.picture.is_none(), "a loader tells of no screen");
        }
        Err(BootError::NoStartInfo { at }) => assert_eq!(at, START),
        Err(BootError::NoMemoryMap { .. }) => {}
        other => assert!(other.is_ok(), "not an error of a reader: {other:?}"),
    }
}

/// Reads, and looks at what both loaders have in common.
fn read(loader: Loader, memory: &[u8]) -> Result<Boot<'_>, BootError> {
    let bytes = |at: u64, len: usize| {
        let first = usize::try_from(at.checked_sub(START)?).ok()?;
        memory.get(first..first.checked_add(len)?)
    };
    let boot = Boot::read(loader, START, &bytes)?;
    assert!((1..=MAX_ENTRIES as usize).contains(&boot.map.len()), "{} entries", boot.map.len());
    assert!(boot.map.iter().all(|entry| entry.start() <= entry.end()));
    assert!(!boot.command_line.contains('\0'));
    if let Rsdp::Copy { at, bytes: copy } = boot.rsdp {
        assert_eq!(bytes(at, copy.len()), Some(copy), "the copy is elsewhere");
    }
    if let Some(Picture { pitch, width, bytes_a_pixel, colours, .. }) = boot.picture {
        assert!((2..=4).contains(&bytes_a_pixel) && u64::from(width) * u64::from(bytes_a_pixel) <= u64::from(pitch));
        assert!(colours.is_some() || bytes_a_pixel == 2, "text has a byte and its colours");
        let _ = colours.map(|colours| colours.grey(0xff));
    }
    let _ = Root::read(boot.rsdp, &bytes).and_then(|root| root.table::<Mcfg>(&bytes).map(drop));

    let taken = boot.structures.map(|(start, end)| start..end);
    let mut last = None::<Range<u64>>;
    carve(boot.map, &taken, |free| {
        let is_whole = [free.start, free.end].iter().all(|at| at.is_multiple_of(PAGE as u64)) && free.start < free.end;
        let is_apart = taken.iter().chain(&last).all(|range| range.end <= free.start || free.end <= range.start);
        assert!(is_whole && is_apart, "{free:x?} is no memory to give away");
        assert_eq!(first_in_use(boot.map, &free), None, "{free:x?} is not free");
        last = Some(free);
    });
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag of a multiboot2 loader.
    fn tag(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut tag = [kind, content.len() as u32 + 8].map(u32::to_le_bytes).concat();
        tag.extend(content);
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    }

    fn map() -> Vec<u8> {
        let entries: [[u64; 3]; 4] =
            [[0, 0x9_fc00, 1], [0x10_0000, 0x7ee_0000, 1], [0x7fe_0000, 0x2_0000, 2], [1 << 32, 1 << 30, 1]];
        entries.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What GRUB tells, with a screen and both copies of the RSDP.
    fn grub() -> Vec<u8> {
        let screen = [0, 0, 0, 0xfd, 0, 0, 0, 0, 0, 16, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 32, 1, 0, 0, 16, 8, 8, 8, 0, 8];
        let mut rsdp = *b"RSD PTR \0BOCHS \x02\0\x10\x10\0\x24\0\0\0\0\x10\x10\0\0\0\0\0\0\0\0\0";
        for (end, at) in [(20, 8), (36, 32)] {
            rsdp[at] = rsdp[..end].iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        }
        let tags = [
            tag(1, b"fit\0"),
            tag(6, &[vec![24, 0, 0, 0, 0, 0, 0, 0], map()].concat()),
            tag(8, &screen),
            tag(14, &rsdp[..20]),
            tag(15, &rsdp),
            tag(0, &[]),
        ];
        let mut all = vec![0; 8];
        all.extend(tags.concat());
        let size = (all.len() as u32).to_le_bytes();
        all[..4].copy_from_slice(&size);
        all
    }

    /// What QEMU tells, with the map at 0x40 and the command line behind it.
    fn qemu() -> Vec<u8> {
        let mut all = [0x336e_c578, 1, 0, 0].map(u32::to_le_bytes).concat();
        all.extend([0, START + 0xa0, START, START + 0x40].map(u64::to_le_bytes).concat());
        all.extend([4_u32, 0, 0, 0].map(u32::to_le_bytes).concat());
        all.extend(map());
        all.extend(b"fit\0");
        all
    }

    /// As good as chance, and the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % end.max(1)
        }
    }

    /// Changes some bytes, cuts the end off, or puts a piece to another place.
    fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
        for _ in 0..=chance.below(6) {
            let (at, other) = (chance.below(bytes.len()), chance.below(bytes.len()));
            let piece = bytes[at..(at + 8 * chance.below(4)).min(bytes.len())].to_vec();
            match chance.below(8) {
                0 => bytes.truncate(at.max(8)),
                1 => _ = bytes.splice(other..(other + piece.len()).min(bytes.len()), piece),
                2 => bytes.extend(&piece),
                3 => bytes[at] = chance.below(256) as u8,
                4 => bytes[at / 8 * 8] = chance.below(24) as u8,
                _ => bytes[at] = [0, 1, 7, 8, 0x18, 0x7f, 0x80, 0xff][chance.below(8)],
            }
        }
    }

    #[test]
    fn whatever_a_loader_tells_is_read_or_refused() {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for round in 0..20_000 {
            let mut list = grub();
            mutate(&mut list, &mut chance);
            if round % 2 == 0 {
                // As long as it says, so that the tags are what is wrong.
                let size = (list.len() as u32).to_le_bytes();
                list[..4].copy_from_slice(&size);
            }
            multiboot2(&list);
            let mut list = qemu();
            mutate(&mut list, &mut chance);
            pvh(&list);
        }
    }

    #[test]
    fn what_loaders_tell_is_read() {
        assert!(read(Loader::Multiboot2, &grub()).unwrap().picture.is_some());
        assert_eq!(read(Loader::Pvh, &qemu()).unwrap().command_line, "fit");
    }
}
