//! The memory map, as whoever prints it or holds something against it needs it.
#![forbid(unsafe_code)]

use core::fmt;

use super::MapEntry;

/// Some memory, and what it is for, as the loader says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// Its first address.
    pub first: u64,
    /// How much it is; what passes 2^64 is cut off.
    pub bytes: u64,
    /// What it is for.
    pub kind: MemoryKind,
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Whoever wants it.
    Free,
    /// Firmware, devices, or nobody.
    Reserved,
    /// Firmware's tables, until they were read.
    Tables,
    /// Firmware, which wants it back as it was after a sleep.
    Nvs,
    /// Nobody: it is broken.
    Broken,
    /// It is persistent.
    Persistent,
    /// The loader has a number for it that is not known here.
    Unknown(u32),
}

impl MemoryKind {
    /// `XEN_HVM_MEMMAP_TYPE_*` of PVH (xen/include/public/arch-x86/hvm/start_info.h). Multiboot2 (3.6.8) has 1 and 3 to 5 of them, and
    /// all others are reserved.
    fn of(kind: u32) -> Self {
        match kind {
            1 => Self::Free,
            // 6 is memory that is switched off.
            2 | 6 => Self::Reserved,
            3 => Self::Tables,
            4 => Self::Nvs,
            5 => Self::Broken,
            7 => Self::Persistent,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Reserved => f.write_str("reserved"),
            Self::Tables => f.write_str("ACPI tables"),
            Self::Nvs => f.write_str("ACPI NVS"),
            Self::Broken => f.write_str("broken"),
            Self::Persistent => f.write_str("persistent"),
            Self::Unknown(kind) => write!(f, "of unknown kind {kind}"),
        }
    }
}

impl MappedRange {
    pub(crate) fn of(entry: &MapEntry) -> Self {
        let (first, end) = (entry.start(), entry.end());
        Self { first, bytes: end.saturating_sub(first), kind: MemoryKind::of(entry.kind()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_its_number_says_and_ends_at_the_last_address() {
        let kinds = [1, 2, 3, 4, 5, 6, 7, 12].map(|kind| MappedRange::of(&MapEntry::new(0x1000, 0x3000, kind)));
        assert!(kinds.iter().all(|range| (range.first, range.bytes) == (0x1000, 0x2000)));
        let words = kinds.map(|range| range.kind.to_string());
        let wanted = "free, reserved, ACPI tables, ACPI NVS, broken, reserved, persistent, of unknown kind 12";
        assert_eq!(words.join(", "), wanted);
        let beyond = MappedRange::of(&MapEntry::new(0x1000, 0, 1));
        assert_eq!((beyond.first, beyond.bytes), (0x1000, u64::MAX - 0x1000));
    }
}
