//! What a front is made with, and what it says of the machine.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use cofferdam::addr::PhysAddr;
use cofferdam::firmware::{self, Severity};
use cofferdam::iommu::{self, MainMemory};
use cofferdam::limits;

use super::number;
use crate::failure::Wrong;
use crate::platform::Platform;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub units: usize,
    pub scopes: usize,
    pub reserved: usize,
    pub cells: usize,
    pub regions: usize,
    pub root_regions: usize,
    pub domains: usize,
    pub devices: usize,
    pub device_tlbs: usize,
    pub windows: usize,
    pub interrupts: usize,
    pub lines: usize,
    pub changes: usize,
    pub edits: usize,
}

impl Limits {
    /// Edits of one change by default: a cell with its memory, its devices and their interrupts.
    const EDITS: usize = 64;

    pub(crate) const DEFAULT: Self = {
        let limits::Limits {
            units,
            scopes,
            reserved,
            cells,
            regions,
            root_regions,
            domains,
            devices,
            device_tlbs,
            windows,
            interrupts,
            lines,
            changes,
        } = limits::Limits::DEFAULT;
        Self {
            units,
            scopes,
            reserved,
            cells,
            regions,
            root_regions,
            domains,
            devices,
            device_tlbs,
            windows,
            interrupts,
            lines,
            changes,
            edits: Self::EDITS,
        }
    };

    pub(crate) fn read(&self) -> limits::Limits {
        let Self { units, scopes, reserved, cells, regions, root_regions, domains, .. } = *self;
        let Self { devices, device_tlbs, windows, interrupts, lines, changes, .. } = *self;
        limits::Limits {
            units,
            scopes,
            reserved,
            cells,
            regions,
            root_regions,
            domains,
            devices,
            device_tlbs,
            windows,
            interrupts,
            lines,
            changes,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub timeout_ns: u64,
    pub device_timeout_ns: u64,
    pub low_memory_end: u64,
    pub high_memory_end: u64,
    pub found_memory: Option<unsafe extern "C" fn(first: u64, last: u64) -> *mut c_void>,
    pub queue_slots: u16,
    pub max_leaf_level: u8,
    pub require_all_units: u8,
    pub take_over: u8,
    pub accept_unblocked: u8,
}

impl Options {
    pub(crate) const DEFAULT: Self = {
        let iommu::Options { timeout_ns, device_timeout_ns, queue_slots, max_leaf_level, .. } = iommu::Options::DEFAULT;
        Self {
            timeout_ns,
            device_timeout_ns,
            low_memory_end: 0,
            high_memory_end: 0,
            found_memory: None,
            queue_slots,
            max_leaf_level,
            require_all_units: 0,
            take_over: 0,
            accept_unblocked: 0,
        }
    };

    /// What of the platform is chosen with them.
    pub(crate) fn platform(&self) -> Platform {
        Platform { found_memory: self.found_memory }
    }

    pub(crate) fn read(&self) -> Result<iommu::Options, Wrong> {
        let wrong = Wrong::value;
        let address = |value, name| PhysAddr::try_new(value).map_err(|_| wrong(name));
        let flag = |value, name| match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(wrong(name)),
        };
        if !(1..=3).contains(&self.max_leaf_level) {
            return Err(wrong("max_leaf_level"));
        }
        let memory = if self.low_memory_end == 0 {
            None
        } else {
            let low_end = address(self.low_memory_end, "low_memory_end")?;
            Some(MainMemory { low_end, high_end: address(self.high_memory_end, "high_memory_end")? })
        };
        Ok(iommu::Options {
            timeout_ns: self.timeout_ns,
            device_timeout_ns: self.device_timeout_ns,
            memory,
            queue_slots: self.queue_slots,
            max_leaf_level: self.max_leaf_level,
            require_all_units: flag(self.require_all_units, "require_all_units")?,
            take_over: flag(self.take_over, "take_over")?,
            accept_unblocked: flag(self.accept_unblocked, "accept_unblocked")?,
        })
    }
}

/// What is handed over to probe.
#[repr(C)]
pub struct Probe {
    pub table: *const u8,
    pub table_bytes: usize,
    pub memory: *mut MaybeUninit<u64>,
    pub memory_words: usize,
    pub limits: *const Limits,
    pub options: *const Options,
    pub finding: Option<unsafe extern "C" fn(context: *mut c_void, finding: *const Finding)>,
    pub context: *mut c_void,
}

pub const COFFERDAM_SEVERITY_NOTE: u32 = 1;
pub const COFFERDAM_SEVERITY_WARNING: u32 = 2;
pub const COFFERDAM_SEVERITY_ERROR: u32 = 3;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    pub offset: u32,
    pub severity: u32,
    pub finding: *const firmware::Finding,
}

impl Finding {
    pub(crate) fn of(finding: &firmware::Finding) -> Self {
        let severity = match finding.severity() {
            Severity::Note => COFFERDAM_SEVERITY_NOTE,
            Severity::Warning => COFFERDAM_SEVERITY_WARNING,
            Severity::Error => COFFERDAM_SEVERITY_ERROR,
        };
        Self { offset: finding.offset, severity, finding }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Unblocked {
    pub functions: u32,
    pub first: [u32; 4],
    pub units: u16,
    pub is_segment_open: u8,
    pub is_table_incomplete: u8,
    pub open_segment: u16,
}

impl From<&iommu::Unblocked> for Unblocked {
    fn from(unblocked: &iommu::Unblocked) -> Self {
        let mut first = [0; 4];
        first.iter_mut().zip(unblocked.functions.first()).for_each(|(to, from)| *to = number(from));
        Self {
            functions: unblocked.functions.count().into(),
            first,
            units: unblocked.units,
            is_segment_open: unblocked.open_segment.is_some().into(),
            is_table_incomplete: unblocked.table_incomplete.into(),
            open_segment: unblocked.open_segment.unwrap_or(0),
        }
    }
}
