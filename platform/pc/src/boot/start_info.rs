//! What a PVH loader tells (Xen, xen/include/public/arch-x86/hvm/start_info.h).
#![forbid(unsafe_code)]

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{Boot, MAX_ENTRIES, MapEntry, Rsdp};
use crate::error::BootError;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// The longest command line, as on Linux.
const MAX_COMMAND_LINE: usize = 2048;

/// `struct hvm_start_info`, version 1.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct StartInfo {
    magic: U32,
    version: U32,
    _flags: U32,
    _modules: U32,
    _module_list: U64,
    command_line: U64,
    rsdp: U64,
    memory_map: U64,
    memory_map_entries: U32,
    _reserved: U32,
}
const _: () = assert!(size_of::<StartInfo>() == 56);

/// Reads the start info at `at`, by a function that gives the bytes at a physical address if there are that many.
pub(super) fn read<'a>(at: u64, bytes: &impl Fn(u64, usize) -> Option<&'a [u8]>) -> Result<Boot<'a>, BootError> {
    let size = size_of::<StartInfo>();
    let info = bytes(at, size).and_then(|bytes| StartInfo::ref_from_bytes(bytes).ok());
    let info = info.filter(|info| info.magic.get() == MAGIC).ok_or(BootError::NoStartInfo { at })?;
    let (version, entries) = (info.version.get(), info.memory_map_entries.get());
    if version == 0 || entries == 0 || entries > MAX_ENTRIES {
        return Err(BootError::NoMemoryMap { version, entries });
    }
    let map_bytes = size_of::<MapEntry>() * entries as usize;
    let map = bytes(info.memory_map.get(), map_bytes).and_then(|map| <[MapEntry]>::ref_from_bytes(map).ok());
    let map = map.ok_or(BootError::NoMemoryMap { version, entries })?;

    let command_line = match info.command_line.get() {
        0 => &[],
        // The terminator may be the last byte that can be read, so what cannot be read is not asked for.
        at => (0..MAX_COMMAND_LINE)
            .take_while(|&offset| matches!(bytes(at.saturating_add(offset as u64), 1), Some([byte]) if *byte != 0))
            .last()
            .and_then(|last| bytes(at, last + 1))
            .unwrap_or_default(),
    };
    let span = |at: u64, bytes: usize| (at, at.saturating_add(bytes as u64));
    Ok(Boot {
        command_line: core::str::from_utf8(command_line).unwrap_or_default(),
        rsdp: match info.rsdp.get() {
            0 => Rsdp::Unknown,
            at => Rsdp::At(at),
        },
        picture: None,
        map,
        structures: [
            span(at, size),
            span(info.memory_map.get(), map_bytes),
            span(info.command_line.get(), command_line.len() + 1),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tests' memory starts.
    const START: u64 = 0x7000;

    /// A start info, then two entries of a map at 0x40, then a command line at 0x70.
    fn told(version: u32, entries: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        [MAGIC, version, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        [0, START + 0x70, 0xf_1234, START + 0x40].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        [entries, 0, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        for (start, size, kind) in [(0x1000u64, 0x2000u64, 1u64), (u64::MAX, 2, 3)] {
            [start, size, kind].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        bytes.extend(b"run fast");
        bytes
    }

    fn read(memory: &[u8], at: u64) -> Result<Boot<'_>, BootError> {
        super::read(at, &|at, len| {
            let first = usize::try_from(at.checked_sub(START)?).ok()?;
            memory.get(first..first.checked_add(len)?)
        })
    }

    #[test]
    fn everything_that_the_loader_says_comes_out() {
        let mut memory = told(1, 2);
        // The command line ends at a zero, or where memory ends.
        for end in [&b""[..], b"\0and more"] {
            memory.extend(end);
            let boot = read(&memory, START).unwrap();
            assert_eq!((boot.command_line, boot.rsdp, boot.map.len()), ("run fast", Rsdp::At(0xf_1234), 2));
            let [first, second] = [boot.map[0], boot.map[1]];
            assert!((first.start(), first.end()) == (0x1000, 0x3000) && first.is_ram() && first.is_memory());
            assert!((second.start(), second.end()) == (u64::MAX, u64::MAX) && !second.is_ram() && second.is_memory());
            let spans = [(START, START + 56), (START + 0x40, START + 0x70), (START + 0x70, START + 0x79)];
            assert_eq!(boot.structures, spans);
        }
        memory[0x70] = 0xff;
        assert_eq!(read(&memory, START).unwrap().command_line, "", "not UTF-8");
        memory[24..32].fill(0);
        assert_eq!(read(&memory, START).unwrap().command_line, "", "none given");
    }

    #[test]
    fn what_is_missing_is_named() {
        let memory = told(1, 2);
        for at in [0, START + 8, START + 0x70, u64::MAX] {
            assert_eq!(read(&memory, at).unwrap_err(), BootError::NoStartInfo { at });
        }
        for (version, entries) in [(0, 2), (1, 0), (1, 4), (1, MAX_ENTRIES + 1), (1, u32::MAX)] {
            let error = read(&told(version, entries), START).unwrap_err();
            assert_eq!(error, BootError::NoMemoryMap { version, entries });
        }
    }

    #[test]
    fn no_single_byte_and_no_cut_makes_it_panic() {
        let good = told(1, 2);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut memory = good.clone();
                memory[at] = value;
                let _ = read(&memory, START);
            }
            let _ = read(&good[..at], START);
        }
    }
}
