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
