//! What is listed, counted, read from units and found by an audit.

use cofferdam::addr;
use cofferdam::fault::{self, Access, Cause};
use cofferdam::iommu::{self, UnitState};

use super::{Range, number};

pub const COFFERDAM_ACCESS_READ: u8 = 1;
pub const COFFERDAM_ACCESS_WRITE: u8 = 2;
pub const COFFERDAM_ACCESS_ATOMIC: u8 = 3;
pub const COFFERDAM_ACCESS_PAGE_REQUEST: u8 = 4;
pub const COFFERDAM_ACCESS_INTERRUPT: u8 = 5;

pub const COFFERDAM_CAUSE_BLOCKED: u8 = 1;
pub const COFFERDAM_CAUSE_NOT_MAPPED: u8 = 2;
pub const COFFERDAM_CAUSE_ADDRESS_TOO_HIGH: u8 = 3;
pub const COFFERDAM_CAUSE_NOT_ALLOWED: u8 = 4;
pub const COFFERDAM_CAUSE_TABLE: u8 = 5;
pub const COFFERDAM_CAUSE_INTERRUPT: u8 = 6;
pub const COFFERDAM_CAUSE_OTHER: u8 = 7;

pub const COFFERDAM_FAULT_HAS_ADDRESS: u8 = 1;
pub const COFFERDAM_FAULT_HAS_INDEX: u8 = 2;
pub const COFFERDAM_FAULT_HAS_PASID: u8 = 4;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub unit: u64,
    pub address: u64,
    pub device: u32,
    pub pasid: u32,
    pub interrupt_index: u16,
    pub code: u16,
    pub access: u8,
    pub cause: u8,
    pub has: u8,
}

impl From<&fault::Fault> for Fault {
    fn from(fault: &fault::Fault) -> Self {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        Self {
            unit: fault.unit.base.as_u64(),
            address: fault.address.map_or(0, |address| address.as_u64()),
            device: number(fault.source),
            pasid: fault.pasid.unwrap_or(0),
            interrupt_index: fault.interrupt_index.unwrap_or(0),
            code: fault.code,
            access: match fault.access {
                Access::Read => COFFERDAM_ACCESS_READ,
                Access::Write => COFFERDAM_ACCESS_WRITE,
                Access::Atomic => COFFERDAM_ACCESS_ATOMIC,
                Access::PageRequest => COFFERDAM_ACCESS_PAGE_REQUEST,
                Access::Interrupt => COFFERDAM_ACCESS_INTERRUPT,
            },
            cause: match fault.cause {
                Cause::Blocked => COFFERDAM_CAUSE_BLOCKED,
                Cause::NotMapped => COFFERDAM_CAUSE_NOT_MAPPED,
                Cause::AddressTooHigh => COFFERDAM_CAUSE_ADDRESS_TOO_HIGH,
                Cause::NotAllowed => COFFERDAM_CAUSE_NOT_ALLOWED,
                Cause::Table => COFFERDAM_CAUSE_TABLE,
                Cause::Interrupt => COFFERDAM_CAUSE_INTERRUPT,
                _ => COFFERDAM_CAUSE_OTHER,
            },
            has: flag(fault.address.is_some(), COFFERDAM_FAULT_HAS_ADDRESS)
                | flag(fault.interrupt_index.is_some(), COFFERDAM_FAULT_HAS_INDEX)
                | flag(fault.pasid.is_some(), COFFERDAM_FAULT_HAS_PASID),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FaultLog {
    pub records: u32,
    pub overflowed: u8,
    pub busy: u8,
    pub pending: u8,
    pub unresponsive: u8,
}

impl FaultLog {
    /// Nothing was read, since a call has the front for itself.
    pub(crate) const BUSY: Self = Self { records: 0, overflowed: 0, busy: 1, pending: 0, unresponsive: 0 };
}

impl From<fault::FaultLog> for FaultLog {
    fn from(log: fault::FaultLog) -> Self {
        Self {
            records: log.records,
            overflowed: log.overflowed.into(),
            busy: log.busy.into(),
            pending: log.pending.into(),
            unresponsive: log.unresponsive.into(),
        }
    }
}

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
            interrupts: it.interrupts,
            tables: it.tables,
            withheld: it.withheld,
            quarantined_frames: it.quarantined_frames,
        }
    }
}
