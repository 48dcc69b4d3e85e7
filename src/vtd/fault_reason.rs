//! Fault reasons: for requests, S 7.1.3, table 30; for interrupts, S 5.1.4.1, table 15.
#![forbid(unsafe_code)]

use core::fmt;

/// Why a unit blocked a request, by the specification's code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultReason(u8);

impl FaultReason {
    /// Bus without a context table: no function of it is assigned.
    pub const ROOT_ENTRY_ABSENT: Self = Self(0x1);
    /// Function that is not assigned.
    pub const CONTEXT_ENTRY_ABSENT: Self = Self(0x2);
    /// Address above what the table translates.
    pub const ADDRESS_TOO_HIGH: Self = Self(0x4);
    /// Write where the page table grants none.
    pub const NO_WRITE: Self = Self(0x5);
    /// Read where the page table grants none.
    pub const NO_READ: Self = Self(0x6);

    /// The reason with this code.
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// The specification's code.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// True if an interrupt was blocked, not a memory request.
    pub const fn is_interrupt(self) -> bool {
        matches!(self.0, 0x20..=0x2b)
    }

    /// True if the fault record of this interrupt fault holds no interrupt index (S 11.4.7.6).
    pub(super) const fn lacks_index(self) -> bool {
        matches!(self.0, 0x20 | 0x25 | 0x29..=0x2b)
    }

    /// The reason in words.
    pub const fn words(self) -> &'static str {
        match self.0 {
            0x01 => "root entry not present",
            0x02 => "context entry not present",
            0x03 => "context entry invalid",
            0x04 => "address above what is translated",
            0x05 => "no write permission",
            0x06 => "no read permission",
            0x07 => "page-table entry unreachable",
            0x08 => "root table unreachable",
            0x09 => "context table unreachable",
            0x0a => "reserved field set in root entry",
            0x0b => "reserved field set in context entry",
            0x0c => "reserved field set in page-table entry",
            0x0d => "translation requests are blocked for this device",
            0x0e => "page leads into the interrupt range",
            0x20 => "reserved field set in interrupt request",
            0x21 => "interrupt index beyond the table",
            0x22 => "interrupt entry not present",
            0x23 => "interrupt table unreachable",
            0x24 => "reserved field set in interrupt entry",
            0x25 => "interrupt in compatibility format",
            0x26 => "interrupt entry belongs to another device",
            0x27 => "posted-interrupt descriptor unreachable",
            0x28 => "reserved field set in posted-interrupt descriptor",
            0x29 => "request to the interrupt range that is no interrupt",
            0x2a => "extended interrupt mode required and off",
            0x2b => "interrupt remapping required and off",
            0x30 => "root table address register invalid",
            0x31 => "request with PASID in legacy mode",
            0x32 => "page request in legacy mode",
            0x33 => "abort-DMA mode",
            0x34 => "execute requested",
            0x38..=0x3a => "scalable-mode root entry",
            0x40..=0x49 => "scalable-mode context entry",
            0x50..=0x52 => "PASID directory entry",
            0x58..=0x60 => "PASID table entry",
            0x70..=0x77 | 0x90 | 0x91 => "first-stage page table",
            0x78..=0x7d => "second-stage page table, scalable mode",
            0x80..=0x89 => "request, scalable mode",
            0xa0..=0xa5 => "host permission table",
            _ => "unknown reason",
        }
    }
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.words(), self.0)
    }
}

impl fmt::Debug for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultReason({self})")
    }
}
