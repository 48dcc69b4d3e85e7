//! Requests that a unit blocked.

use cofferdam::fault::{self, Access, Cause};

use super::number;

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
