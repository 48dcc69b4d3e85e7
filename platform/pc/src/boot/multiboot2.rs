//! What a multiboot2 loader tells: a list of tags (Multiboot2 specification, version 2.0, 3.4 and 3.6).
#![forbid(unsafe_code)]

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{Boot, Colours, MAX_ENTRIES, MapEntry, Picture, Rsdp};
use crate::error::BootError;

/// Bytes before the first tag: how many there are in all, and a reserved word.
const FIRST: usize = 8;
/// No loader tells more: a machine's map takes some KiB, the section headers of the image as many.
const MAX_BYTES: usize = 1 << 20;
/// A tag begins at a multiple of it.
const ALIGN: usize = 8;

const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const MEMORY_MAP: u32 = 6;
const FRAMEBUFFER: u32 = 8;
/// Copies of the RSDP: of ACPI 1.0, and of later versions.
const OLD_RSDP: u32 = 14;
const NEW_RSDP: u32 = 15;

#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    kind: U32,
    /// With this header.
    bytes: U32,
}

/// What comes before the entries of a memory map (3.6.8).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MapHeader {
    entry_bytes: U32,
    _entry_version: U32,
}

/// A framebuffer (3.6.12), and the colours of one of type `RGB`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Framebuffer {
    at: U64,
    pitch: U32,
    width: U32,
    height: U32,
    bits: u8,
    kind: u8,
    _reserved: U16,
    /// Of red, green and blue: the first bit, and how many there are.
    colours: [[u8; 2]; 3],
}
const RGB: u8 = 1;
const TEXT: u8 = 2;

/// Reads the information at `at`, by a function that gives the bytes at a physical address if there are that many.
pub(super) fn read<'a>(at: u64, bytes: &impl Fn(u64, usize) -> Option<&'a [u8]>) -> Result<Boot<'a>, BootError> {
    let first = bytes(at, FIRST).and_then(|bytes| Header::ref_from_bytes(bytes).ok());
    // The first word is the number of all bytes here.
    let all = first.map(|first| first.kind.get() as usize).filter(|all| (FIRST..=MAX_BYTES).contains(all));
    let whole = all.and_then(|all| bytes(at, all)).ok_or(BootError::TornInformation { at })?;

    let (mut map, mut rsdp, mut picture, mut command_line) = (None, Rsdp::Unknown, None, &b""[..]);
    let mut offset = FIRST;
    loop {
        let place = at.saturating_add(offset as u64);
        let (kind, content) = tag(whole, offset).ok_or(BootError::TornInformation { at: place })?;
        let copy_at = place.saturating_add(size_of::<Header>() as u64);
        match kind {
            END => break,
            COMMAND_LINE => command_line = content.split(|byte| *byte == 0).next().unwrap_or_default(),
            MEMORY_MAP => map = Some(entries(content).ok_or(BootError::BadMapTag { at: place })?),
            FRAMEBUFFER => picture = framebuffer(content),
            NEW_RSDP => rsdp = Rsdp::Copy { at: copy_at, bytes: content },
            OLD_RSDP if rsdp == Rsdp::Unknown => rsdp = Rsdp::Copy { at: copy_at, bytes: content },
            _ => {}
        }
        offset += (size_of::<Header>() + content.len()).next_multiple_of(ALIGN);
    }
    Ok(Boot {
        command_line: core::str::from_utf8(command_line).unwrap_or_default(),
        rsdp,
        picture,
        map: map.ok_or(BootError::NoMapTag { at })?,
        structures: [(at, at.saturating_add(whole.len() as u64)), (0, 0), (0, 0)],
    })
}

/// The tag at an offset: its type, and what it holds.
fn tag(whole: &[u8], offset: usize) -> Option<(u32, &[u8])> {
    let (header, rest) = Header::ref_from_prefix(whole.get(offset..)?).ok()?;
    let content = (header.bytes.get() as usize).checked_sub(size_of::<Header>())?;
    Some((header.kind.get(), rest.get(..content)?))
}

/// The entries of a memory map; `None` if they are not as version 2.0 has them, or there are none, or too many.
fn entries(content: &[u8]) -> Option<&[MapEntry]> {
    let (header, entries) = MapHeader::ref_from_prefix(content).ok()?;
    let entries = <[MapEntry]>::ref_from_bytes(entries).ok()?;
    let is_known = header.entry_bytes.get() as usize == size_of::<MapEntry>();
    (is_known && (1..=MAX_ENTRIES as usize).contains(&entries.len())).then_some(entries)
}

/// What is on the screen; `None` if it is of a kind that nothing is written to.
fn framebuffer(content: &[u8]) -> Option<Picture> {
    // Text has no colours behind it.
    let mut all = [0; size_of::<Framebuffer>()];
    let present = content.get(..content.len().min(all.len()))?;
    all.get_mut(..present.len())?.copy_from_slice(present);
    let tag = Framebuffer::ref_from_bytes(&all).ok()?;
    let [red, green, blue] = tag.colours.map(|[first, bits]| (first, bits));
    let (bytes_a_pixel, colours) = match (tag.kind, tag.bits) {
        (RGB, 15..=32) => (tag.bits.div_ceil(8), Some(Colours { red, green, blue })),
        (TEXT, _) => (2, None),
        _ => return None,
    };
    let (width, height) = (tag.width.get(), tag.height.get());
    let picture = Picture { at: tag.at.get(), pitch: tag.pitch.get(), width, height, bytes_a_pixel, colours };
    (width.checked_mul(bytes_a_pixel.into())? <= picture.pitch).then_some(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tests' memory starts.
    const START: u64 = 0x10_0680;

    fn put(bytes: &mut Vec<u8>, kind: u32, content: &[u8]) {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((content.len() as u32 + 8).to_le_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0xee);
    }

    fn map(entry_bytes: u32) -> Vec<u8> {
        let mut map = Vec::new();
        [entry_bytes, 0].iter().for_each(|word| map.extend(word.to_le_bytes()));
        for (start, size, kind) in [(0x1000u64, 0x2000u64, 1u64), (0x8_0000, 0x1000, 4)] {
            [start, size, kind].iter().for_each(|word| map.extend(word.to_le_bytes()));
        }
        map
    }

    /// Information with these tags, and the last one.
    fn told(tags: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; FIRST];
        tags.iter().for_each(|(kind, content)| put(&mut bytes, *kind, content));
        put(&mut bytes, END, &[]);
        let all = bytes.len() as u32;
        bytes[..4].copy_from_slice(&all.to_le_bytes());
        bytes
    }

    fn read(memory: &[u8]) -> Result<Boot<'_>, BootError> {
        super::read(START, &|at, len| {
            let first = usize::try_from(at.checked_sub(START)?).ok()?;
            memory.get(first..first.checked_add(len)?)
        })
    }

    #[test]
    fn everything_that_the_loader_says_comes_out() {
        let map = map(24);
        let memory = told(&[(21, &[0; 4]), (COMMAND_LINE, b"run fast\0"), (OLD_RSDP, b"old"), (MEMORY_MAP, &map)]);
        let boot = read(&memory).unwrap();
        assert_eq!((boot.command_line, boot.map.len()), ("run fast", 2));
        assert!(boot.map[0].is_ram() && boot.map[0].start() == 0x1000 && boot.map[0].end() == 0x3000);
        assert!(!boot.map[1].is_ram() && boot.map[1].is_memory());
        // After the first word, the tag before, the line in 24 bytes, and the header of the tag.
        assert_eq!(boot.rsdp, Rsdp::Copy { at: START + 8 + 16 + 24 + 8, bytes: b"old" });
        assert_eq!(boot.structures, [(START, START + memory.len() as u64), (0, 0), (0, 0)]);

        for tags in [[(OLD_RSDP, &b"old"[..]), (NEW_RSDP, b"new")], [(NEW_RSDP, b"new"), (OLD_RSDP, b"old")]] {
            let memory = told(&[tags[0], tags[1], (MEMORY_MAP, &map), (COMMAND_LINE, b"\xff\0")]);
            let boot = read(&memory).unwrap();
            assert!(matches!(boot.rsdp, Rsdp::Copy { bytes: b"new", .. }));
            assert_eq!(boot.command_line, "", "not UTF-8");
        }
        assert_eq!(read(&told(&[(MEMORY_MAP, &map)])).unwrap().rsdp, Rsdp::Unknown);
    }

    fn picture(kind: u8, bits: u8, pitch: u32, colours: &[u8]) -> Vec<u8> {
        let mut tag = Vec::from(0x1_8000_0000_u64.to_le_bytes());
        [pitch, 1024, 768].iter().for_each(|word| tag.extend(word.to_le_bytes()));
        tag.extend([bits, kind, 0, 0]);
        tag.extend(colours);
        tag
    }

    #[test]
    fn a_picture_is_read_if_it_can_be_written_to() {
        let seen = |tag: &[u8]| read(&told(&[(MEMORY_MAP, &map(24)), (FRAMEBUFFER, tag)])).unwrap().picture;
        let colours = [16, 8, 8, 8, 0, 8];
        let rgb = seen(&picture(RGB, 32, 4096, &colours)).unwrap();
        let at = 0x1_8000_0000;
        let expected = Colours { red: (16, 8), green: (8, 8), blue: (0, 8) };
        assert_eq!(
            rgb,
            Picture { at, pitch: 4096, width: 1024, height: 768, bytes_a_pixel: 4, colours: Some(expected) }
        );
        assert_eq!((rgb.bytes(), expected.grey(0x81)), (4096 * 768, 0x81_8181));
        assert_eq!(seen(&picture(RGB, 24, 3072, &colours)).unwrap().bytes_a_pixel, 3);
        let text = seen(&picture(TEXT, 16, 2048, &[])).unwrap();
        assert_eq!((text.bytes_a_pixel, text.colours), (2, None));
        // Of a palette, of few colours, with lines that are longer than a line, and torn.
        for tag in [picture(0, 8, 1024, &[0; 6]), picture(RGB, 8, 4096, &colours), picture(RGB, 32, 4092, &colours)] {
            assert_eq!(seen(&tag), None);
        }
        assert_eq!(seen(&picture(RGB, 32, 4096, &colours)[..20]), None);
    }

    #[test]
    fn what_is_missing_or_torn_is_named() {
        assert_eq!(read(&[]).unwrap_err(), BootError::TornInformation { at: START });
        assert_eq!(read(&told(&[])).unwrap_err(), BootError::NoMapTag { at: START });
        for map in [map(32), map(24)[..8].to_vec(), map(24)[..40].to_vec(), vec![24, 0, 0, 0]] {
            let error = read(&told(&[(9, &[]), (MEMORY_MAP, &map)])).unwrap_err();
            assert_eq!(error, BootError::BadMapTag { at: START + 16 });
        }
        let long = [vec![24, 0, 0, 0, 0, 0, 0, 0], vec![0; 24 * (MAX_ENTRIES as usize + 1)]].concat();
        assert!(matches!(read(&told(&[(MEMORY_MAP, &long)])), Err(BootError::BadMapTag { .. })));
        // No end, a tag that is shorter than its header, and one that is longer than all.
        let good = told(&[(MEMORY_MAP, &map(24))]);
        for (offset, bytes) in [(0, good.len() - 8), (12, 7), (12, good.len())] {
            let mut memory = good.clone();
            memory[offset..offset + 4].copy_from_slice(&(bytes as u32).to_le_bytes());
            assert!(matches!(read(&memory), Err(BootError::TornInformation { .. })), "{offset}: {bytes}");
        }
        let mut memory = good.clone();
        memory[..4].copy_from_slice(&(MAX_BYTES as u32 + 1).to_le_bytes());
        memory.resize(2 << 20, 0);
        assert_eq!(read(&memory).unwrap_err(), BootError::TornInformation { at: START });
    }

    #[test]
    fn no_single_byte_and_no_cut_makes_it_panic_or_go_on_without_end() {
        let good = told(&[(COMMAND_LINE, b"run\0"), (NEW_RSDP, &[7; 36]), (MEMORY_MAP, &map(24))]);
        for at in 0..good.len() {
            for value in [0, 1, 7, 8, 0x7f, 0x80, 0xff] {
                let mut memory = good.clone();
                memory[at] = value;
                let _ = read(&memory);
            }
            let _ = read(&good[..at]);
        }
    }
}
