//! Requests that a unit blocked and recorded, whoever made the unit.
#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{Iova, SourceId};
use crate::hal::RegisterWindow;

/// What a blocked request wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read memory.
    Read,
    /// Write memory.
    Write,
    /// Read and write memory in one go.
    Atomic,
    /// Have a page made present.
    PageRequest,
    /// Send an interrupt.
    Interrupt,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic",
            Self::PageRequest => "page request",
            Self::Interrupt => "interrupt",
        })
    }
}

/// Why a request was blocked, as far as every unit distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The device belongs to no cell, or is blocked in its cell: its entry lets nothing through.
    Blocked,
    /// Nothing is mapped there, or not with this right.
    NotMapped,
    /// The address is above what the device's page table translates.
    AddressTooHigh,
    /// The request is of a kind that its device's entry does not allow: translated, with a PASID, privileged.
    NotAllowed,
    /// The unit cannot read one of its tables, or finds an entry there that is none. It is the driver that is wrong, or
    /// memory.
    Table,
    /// The interrupt is not remapped: there is no entry for it, or that is another device's.
    Interrupt,
    /// The unit has a reason of its own: the code says which.
    Other,
}

/// A request that a unit blocked and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The unit's registers.
    pub unit: RegisterWindow,
    /// Who sent the request.
    pub source: SourceId,
    /// What it wanted.
    pub access: Access,
    /// Where: bits 63:12 of the address. `None` for an interrupt.
    pub address: Option<Iova>,
    /// Index of the interrupt entry, for an interrupt that has one.
    pub interrupt_index: Option<u16>,
    /// Process address space, if the request had one.
    pub pasid: Option<u32>,
    /// Why it was blocked.
    pub cause: Cause,
    /// The same as the unit's specification codes it.
    pub code: u16,
    /// And in the words of that specification.
    pub words: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.access)?;
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        if let Some(index) = self.interrupt_index {
            write!(f, " {index}")?;
        }
        if let Some(pasid) = self.pasid {
            write!(f, " in PASID {pasid:#x}")?;
        }
        write!(f, " blocked: {} ({:#x})", self.words, self.code)
    }
}

/// What one reading of faults found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultLog {
    /// Records that were read.
    pub records: u32,
    /// Faults were lost because no record was free.
    pub overflowed: bool,
    /// Another CPU was reading, so part was left to it.
    pub busy: bool,
    /// Faults came in while others were read and are left for the next call. Until it is made, their unit sends no fault
    /// event, so nobody learns of them.
    pub pending: bool,
    /// A unit is gone: its registers read all ones, so nothing of it was read, and what it does to the requests of its devices
    /// is not known. [`units`](crate::Iommu::units) says which unit it is.
    pub unresponsive: bool,
}
