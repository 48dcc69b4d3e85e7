//! What a cell is made with.

use cofferdam::interrupt::{CpuSet, InterruptTargets, VectorSet};
use cofferdam::{CoherencyPolicy, ResetPolicy, Sharing};

use crate::failure::Wrong;

pub const COFFERDAM_COHERENCY_PER_DEVICE: u8 = 0;
pub const COFFERDAM_COHERENCY_ENFORCED: u8 = 1;
pub const COFFERDAM_COHERENCY_NOT_ENFORCED: u8 = 2;

pub const COFFERDAM_SHARING_BY_ATTRIBUTES: u8 = 0;
pub const COFFERDAM_SHARING_FEWEST_TABLES: u8 = 1;

pub const COFFERDAM_RESET_IF_POSSIBLE: u8 = 0;
pub const COFFERDAM_RESET_REQUIRED: u8 = 1;
pub const COFFERDAM_RESET_NEVER: u8 = 2;

pub const COFFERDAM_ALLOW_UNSAFE_INTERRUPTS: u32 = 1;
pub const COFFERDAM_ALLOW_UNKNOWN_ISOLATION: u32 = 2;
pub const COFFERDAM_ALLOW_IDENTICAL_RESERVED: u32 = 4;
pub const COFFERDAM_ALLOW_SHARED_RESERVED: u32 = 8;
pub const COFFERDAM_LEAVE_OUT_RELAXABLE: u32 = 16;
pub const COFFERDAM_ALLOW_SHARED_GROUP: u32 = 32;
const FLAGS: u32 = 63;

/// CPUs by their APIC ids.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    pub first: u32,
    pub last: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CellConfig {
    pub flags: u32,
    pub coherency: u8,
    pub sharing: u8,
    pub reset: u8,
    pub flat_ids: u8,
    pub cpu_ranges: u32,
    pub cpus: [Cpus; 8],
    pub first_vector: u8,
    pub last_vector: u8,
    pub tag: u16,
}

impl CellConfig {
    /// The driver's, if each field is something that the header names.
    pub(crate) fn read(&self) -> Result<cofferdam::CellConfig, Wrong> {
        let wrong = Wrong::value;
        if self.flags & !FLAGS != 0 {
            return Err(wrong("flags"));
        }
        let has = |flag| self.flags & flag != 0;
        let coherency = match self.coherency {
            COFFERDAM_COHERENCY_PER_DEVICE => CoherencyPolicy::PerDevice,
            COFFERDAM_COHERENCY_ENFORCED => CoherencyPolicy::Enforced,
            COFFERDAM_COHERENCY_NOT_ENFORCED => CoherencyPolicy::NotEnforced,
            _ => return Err(wrong("coherency")),
        };
        let sharing = match self.sharing {
            COFFERDAM_SHARING_BY_ATTRIBUTES => Sharing::ByAttributes,
            COFFERDAM_SHARING_FEWEST_TABLES => Sharing::FewestTables,
            _ => return Err(wrong("sharing")),
        };
        let reset = match self.reset {
            COFFERDAM_RESET_IF_POSSIBLE => ResetPolicy::IfPossible,
            COFFERDAM_RESET_REQUIRED => ResetPolicy::Required,
            COFFERDAM_RESET_NEVER => ResetPolicy::Never,
            _ => return Err(wrong("reset")),
        };
        Ok(cofferdam::CellConfig {
            tag: self.tag,
            allow_unsafe_interrupts: has(COFFERDAM_ALLOW_UNSAFE_INTERRUPTS),
            allow_unknown_isolation: has(COFFERDAM_ALLOW_UNKNOWN_ISOLATION),
            allow_shared_group: has(COFFERDAM_ALLOW_SHARED_GROUP),
            allow_identical_reserved: has(COFFERDAM_ALLOW_IDENTICAL_RESERVED),
            allow_shared_reserved: has(COFFERDAM_ALLOW_SHARED_RESERVED),
            leave_out_relaxable: has(COFFERDAM_LEAVE_OUT_RELAXABLE),
            coherency,
            sharing,
            reset,
            interrupts: self.interrupts()?,
        })
    }

    fn interrupts(&self) -> Result<InterruptTargets, Wrong> {
        let used = usize::try_from(self.cpu_ranges).ok().and_then(|count| self.cpus.get(..count));
        let mut cpus = CpuSet::NONE;
        for Cpus { first, last } in used.ok_or(Wrong::value("cpu_ranges"))? {
            if first > last {
                return Err(Wrong::value("cpus"));
            }
            cpus = cpus.with(*first, *last);
        }
        let vectors = match (self.first_vector, self.last_vector) {
            (0, 0) => VectorSet::NONE,
            (first, last) => VectorSet::NONE.with(first, last),
        };
        Ok(InterruptTargets { cpus, vectors, flat_ids: self.flat_ids })
    }
}
