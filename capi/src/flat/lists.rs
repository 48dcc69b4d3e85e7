//! What is listed and counted, and found by an audit.

use cofferdam::addr;
use cofferdam::iommu::{self, UnitState};

use super::{Range, number};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub input: u64,
    pub output: u64,
    pub bytes: u64,
    pub rights: u32,
}

impl From<addr::Region> for Region {
    fn from(region: addr::Region) -> Self {
        Self {
            input: region.input.start().as_u64(),
            output: region.output.as_u64(),
            bytes: region.input.bytes(),
            rights: region.rights.bits().into(),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Assigned {
    pub cell: u64,
    pub device: u32,
    pub quarantined: u32,
}

impl From<iommu::AssignedDevice> for Assigned {
    fn from(it: iommu::AssignedDevice) -> Self {
        Self { cell: it.cell.to_bits(), device: number(it.device), quarantined: it.quarantined.into() }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Withheld {
    pub cell: u64,
    pub memory: Range,
    pub shared: u32,
}

impl From<iommu::WithheldMemory> for Withheld {
    fn from(it: iommu::WithheldMemory) -> Self {
        Self { cell: it.cell.to_bits(), memory: it.memory.into(), shared: it.shared.into() }
    }
}

pub const COFFERDAM_UNIT_OFF: u8 = 0;
pub const COFFERDAM_UNIT_ON: u8 = 1;
pub const COFFERDAM_UNIT_FAILED: u8 = 2;

pub const COFFERDAM_UNIT_IS_BLOCKING: u32 = 1;
pub const COFFERDAM_UNIT_NEEDS_FLUSH: u32 = 2;
pub const COFFERDAM_UNIT_WAS_ON: u32 = 4;
pub const COFFERDAM_UNIT_HAD_GAP: u32 = 8;
pub const COFFERDAM_UNIT_CAN_SNOOP: u32 = 16;
pub const COFFERDAM_UNIT_WALKS_COHERENTLY: u32 = 32;
pub const COFFERDAM_UNIT_CACHES_ABSENT: u32 = 64;
pub const COFFERDAM_UNIT_HAS_DEVICE_TLBS: u32 = 128;
pub const COFFERDAM_UNIT_REMAPS_INTERRUPTS: u32 = 256;
pub const COFFERDAM_UNIT_POSTS_INTERRUPTS: u32 = 512;
pub const COFFERDAM_UNIT_HAD_QUEUE: u32 = 1024;
pub const COFFERDAM_UNIT_HAD_FAULT_EVENT: u32 = 2048;
pub const COFFERDAM_UNIT_HAD_INTERRUPTS: u32 = 4096;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    pub base: u64,
    pub largest_page: u64,
    pub flags: u32,
    pub domain_ids: u32,
    pub segment: u16,
    pub state: u8,
    pub error: u8,
    pub input_bits: u8,
}

impl From<&iommu::RemappingUnit> for Unit {
    fn from(unit: &iommu::RemappingUnit) -> Self {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let (state, error, is_blocking) = match unit.state {
            UnitState::Off => (COFFERDAM_UNIT_OFF, 0, false),
            UnitState::On => (COFFERDAM_UNIT_ON, 0, true),
            UnitState::Failed { error, blocking } => (COFFERDAM_UNIT_FAILED, error.code(), blocking),
        };
        let features = &unit.features;
        Self {
            base: unit.window.base.as_u64(),
            largest_page: features.geometry.map_or(0, |geometry| geometry.largest_page_bytes()),
            flags: flag(is_blocking, COFFERDAM_UNIT_IS_BLOCKING)
                | flag(unit.needs_flush, COFFERDAM_UNIT_NEEDS_FLUSH)
                | flag(unit.found_on, COFFERDAM_UNIT_WAS_ON)
                | flag(unit.gap, COFFERDAM_UNIT_HAD_GAP)
                | flag(unit.found_queue, COFFERDAM_UNIT_HAD_QUEUE)
                | flag(unit.found_fault_event, COFFERDAM_UNIT_HAD_FAULT_EVENT)
                | flag(unit.found_interrupts.is_some(), COFFERDAM_UNIT_HAD_INTERRUPTS)
                | flag(features.snoop_control, COFFERDAM_UNIT_CAN_SNOOP)
                | flag(features.coherent_walks, COFFERDAM_UNIT_WALKS_COHERENTLY)
                | flag(features.caches_absent, COFFERDAM_UNIT_CACHES_ABSENT)
                | flag(features.device_tlbs.is_some(), COFFERDAM_UNIT_HAS_DEVICE_TLBS)
                | flag(features.interrupts.is_some(), COFFERDAM_UNIT_REMAPS_INTERRUPTS)
                | flag(features.interrupts.is_some_and(|it| it.posted), COFFERDAM_UNIT_POSTS_INTERRUPTS),
            domain_ids: features.domain_ids,
            segment: unit.segment,
            state,
            error,
            input_bits: features.geometry.map_or(0, |geometry| geometry.input_bits()),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    pub descriptors: u64,
    pub waits: u64,
    pub doorbells: u64,
    pub completion_errors: u64,
    pub flushes_avoided: u64,
    pub longest_wait_ns: u64,
    pub other_faults: u64,
    pub table_frames: u64,
}

impl From<iommu::Statistics> for Statistics {
    fn from(it: iommu::Statistics) -> Self {
        Self {
            descriptors: it.descriptors,
            waits: it.waits,
            doorbells: it.doorbells,
            completion_errors: it.completion_errors,
            flushes_avoided: it.flushes_avoided,
            longest_wait_ns: it.longest_wait_ns,
            other_faults: it.other_faults,
            table_frames: it.table_frames,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    pub differences: u64,
    pub functions: u64,
    pub device_tlbs: u64,
    pub ranges: u64,
    pub unremapped: u64,
    pub shared_groups: u64,
    pub interrupts: u64,
    pub tables: u64,
    pub withheld: u64,
    pub quarantined_frames: u64,
}

impl From<iommu::Audit> for Audit {
    fn from(it: iommu::Audit) -> Self {
        Self {
            differences: it.differences,
            functions: it.functions,
            device_tlbs: it.device_tlbs,
            ranges: it.ranges,
            unremapped: it.unremapped,
            shared_groups: it.shared_groups,
            interrupts: it.interrupts,
            tables: it.tables,
            withheld: it.withheld,
            quarantined_frames: it.quarantined_frames,
        }
    }
}
