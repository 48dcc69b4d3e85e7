//! What a PVH loader tells (Xen, xen/include/public/arch-x86/hvm/start_info.h).
#![forbid(unsafe_code)]

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::BootError;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// The most entries of a memory map that are read; a PC has a dozen.
const MAX_ENTRIES: u32 = 1024;
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

/// `struct hvm_memmap_table_entry`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapEntry {
    start: U64,
    bytes: U64,
    kind: U32,
    _reserved: U32,
}
const _: () = assert!(size_of::<MapEntry>() == 24);

impl MapEntry {
    /// `XEN_HVM_MEMMAP_TYPE_RAM`.
    const RAM: u32 = 1;
    /// `XEN_HVM_MEMMAP_TYPE_ACPI` and `XEN_HVM_MEMMAP_TYPE_NVS`.
    const ACPI: u32 = 3;
    const NVS: u32 = 4;

    /// Its first address.
    pub(crate) fn start(&self) -> u64 {
        self.start.get()
    }

    /// The address after its last one; what passes 2^64 is cut off.
    pub(crate) fn end(&self) -> u64 {
        self.start.get().saturating_add(self.bytes.get())
    }

    /// True if it is memory for everybody.
    pub(crate) fn is_ram(&self) -> bool {
        self.kind.get() == Self::RAM
    }

    /// True if there is memory behind it, whoever it is for.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.kind.get(), Self::RAM | Self::ACPI | Self::NVS)
    }
}

/// What the loader told, and where that lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot<'a> {
    /// What was given to the image, without the terminating zero; empty if it is not UTF-8.
    pub(crate) command_line: &'a str,
    /// Physical address of the RSDP; 0 if the loader does not know.
    pub(crate) rsdp: u64,
    /// The memory map, as the loader gave it: maybe unsorted, with overlaps.
    pub(crate) map: &'a [MapEntry],
    /// Start, and end, of each of the loader's structures in memory.
    pub(crate) structures: [(u64, u64); 3],
}

impl<'a> Boot<'a> {
    /// Reads the start info at `at`, by a function that gives the bytes at a physical address if there are that many.
    pub(crate) fn read(at: u64, bytes: &impl Fn(u64, usize) -> Option<&'a [u8]>) -> Result<Self, BootError> {
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
        Ok(Self {
            command_line: core::str::from_utf8(command_line).unwrap_or_default(),
            rsdp: info.rsdp.get(),
            map,
            structures: [
                span(at, size),
                span(info.memory_map.get(), map_bytes),
                span(info.command_line.get(), command_line.len() + 1),
            ],
        })
    }
}

#[cfg(test)]
impl MapEntry {
    /// An entry from `start` to `end`; one that runs backwards has a size that passes 2^64.
    pub(crate) fn new(start: u64, end: u64, kind: u32) -> Self {
        let bytes = end.wrapping_sub(start);
        Self { start: U64::new(start), bytes: U64::new(bytes), kind: U32::new(kind), _reserved: U32::new(0) }
    }
}
