//! What a loader hands over, whichever it is.
#![forbid(unsafe_code)]

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{multiboot2, start_info};
use crate::error::BootError;

/// The most entries of a memory map that are read; a PC has some dozens.
pub(crate) const MAX_ENTRIES: u32 = 1024;

/// Who has loaded the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loader {
    /// By PVH, as QEMU does with `-kernel`.
    Pvh,
    /// By multiboot2, as GRUB does.
    Multiboot2,
}

/// The root system description pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rsdp<'a> {
    /// The loader does not know it.
    Unknown,
    /// Its physical address.
    At(u64),
    /// A copy of it, and the physical address of that.
    Copy { at: u64, bytes: &'a [u8] },
}

/// A picture that is on the screen, or a page of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Physical address of its first byte.
    pub(crate) at: u64,
    /// Bytes from line to line.
    pub(crate) pitch: u32,
    /// Pixels or characters of a line, and how many lines there are.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 2, 3 or 4.
    pub(crate) bytes_a_pixel: u8,
    /// Where colours are in a pixel; `None` in text mode, where each character has two bytes.
    pub(crate) colours: Option<Colours>,
}

/// The first bit, and the number of bits, of each colour in a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colours {
    pub(crate) red: (u8, u8),
    pub(crate) green: (u8, u8),
    pub(crate) blue: (u8, u8),
}

impl Picture {
    /// How large it is, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.pitch) * u64::from(self.height)
    }
}

impl Colours {
    /// The pixel of a grey: 0 is black.
    pub(crate) fn grey(self, grey: u8) -> u32 {
        let colour = |(first, bits): (u8, u8)| {
            let value = u32::from(grey).checked_shr(8_u32.saturating_sub(bits.into())).unwrap_or_default();
            value.checked_shl(first.into()).unwrap_or_default()
        };
        colour(self.red) | colour(self.green) | colour(self.blue)
    }
}

/// An entry of the memory map: `struct hvm_memmap_table_entry` of PVH, and that of multiboot2 (3.6.8), which is alike.
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
    /// `XEN_HVM_MEMMAP_TYPE_RAM`, as in multiboot2.
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

    /// What it is for, as a number of the loader's.
    pub(crate) fn kind(&self) -> u32 {
        self.kind.get()
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
    pub(crate) rsdp: Rsdp<'a>,
    /// What is on the screen, if the loader tells.
    pub(crate) picture: Option<Picture>,
    /// The memory map, as the loader gave it: maybe unsorted, with overlaps.
    pub(crate) map: &'a [MapEntry],
    /// Start, and end, of each of the loader's structures in memory.
    pub(crate) structures: [(u64, u64); 3],
}

impl<'a> Boot<'a> {
    /// Reads what a loader tells at `at`, by a function that gives the bytes at a physical address if there are that many.
    pub(crate) fn read(
        loader: Loader,
        at: u64,
        bytes: &impl Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Result<Self, BootError> {
        match loader {
            Loader::Pvh => start_info::read(at, bytes),
            Loader::Multiboot2 => multiboot2::read(at, bytes),
        }
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
