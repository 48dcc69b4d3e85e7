//! Why a machine cannot be used.
#![forbid(unsafe_code)]

use core::fmt;

/// The PC under the image lacks something. If that is found before `main`, the run ends as refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BootError {
    /// There is no PVH start info where the loader says.
    NoStartInfo {
        /// Physical address.
        at: u64,
    },
    /// The loader gives no memory map that can be read.
    NoMemoryMap {
        /// Version of the start info; maps came with 1.
        version: u32,
        /// Entries that the map is said to have.
        entries: u32,
    },
    /// What a multiboot2 loader tells ends in the midst of it, or is longer than such a loader tells.
    TornInformation {
        /// Physical address of what cannot be read: all of it, or one of its tags.
        at: u64,
    },
    /// A multiboot2 loader tells no memory map.
    NoMapTag {
        /// Physical address of what it tells.
        at: u64,
    },
    /// The memory map of a multiboot2 loader is empty or too long, or has entries of another size than those of version 2.0.
    BadMapTag {
        /// Physical address of the tag.
        at: u64,
    },
    /// The loader has put the image over memory that is not free, such as the firmware's.
    ImageInUse {
        /// The first address of that memory.
        at: u64,
    },
    /// There is too little memory to work with.
    ShortOfMemory {
        /// What there is, in bytes, after the image and the loader's structures.
        bytes: u64,
        /// What there has to be.
        needed: u64,
    },
    /// Memory could not be mapped.
    Unmappable {
        /// Physical address.
        at: u64,
    },
    /// No table lists the CPUs, or their local APICs are out of reach.
    NoCpus,
    /// The page in which other CPUs start is no free memory.
    NoCpuPage {
        /// Physical address.
        at: u64,
    },
    /// A CPU does not start.
    CpuSilent {
        /// Its APIC id.
        id: u32,
    },
    /// Neither CPUID nor a timer tells how fast the time-stamp counter counts.
    NoClock,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoStartInfo { at } => write!(f, "no PVH start info at {at:#x}"),
            Self::NoMemoryMap { version, entries } => {
                write!(f, "no usable memory map in the start info: version {version}, {entries} entries")
            }
            Self::TornInformation { at } => write!(f, "what the multiboot2 loader tells is torn at {at:#x}"),
            Self::NoMapTag { at } => write!(f, "no memory map in what the multiboot2 loader tells at {at:#x}"),
            Self::BadMapTag { at } => write!(f, "no usable memory map in the multiboot2 tag at {at:#x}"),
            Self::ImageInUse { at } => {
                write!(
                    f,
                    "the image is loaded over memory at {at:#x} that is not free; boot the one for another address"
                )
            }
            Self::ShortOfMemory { bytes, needed } => {
                write!(f, "{} KiB of free memory, {} KiB needed", bytes / 1024, needed / 1024)
            }
            Self::Unmappable { at } => write!(f, "memory at {at:#x} cannot be mapped"),
            Self::NoCpus => f.write_str("no table lists the CPUs"),
            Self::NoCpuPage { at } => write!(f, "CPUs cannot start in the page at {at:#x}, which is no free memory"),
            Self::CpuSilent { id } => write!(f, "the CPU with the APIC id {id} does not start"),
            Self::NoClock => f.write_str("the frequency of the time-stamp counter cannot be found out"),
        }
    }
}

impl core::error::Error for BootError {}
