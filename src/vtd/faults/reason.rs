//! Fault reasons: for requests, S 7.1.3, table 30; for interrupts, S 5.1.4.1, table 15.
#![forbid(unsafe_code)]

use core::fmt;

use crate::fault::Cause;

/// Why a unit blocked a request, by the specification's code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultReason(u8);

impl FaultReason {
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
    pub(in crate::vtd) const fn lacks_index(self) -> bool {
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
            0x34 => "request to execute",
            0x38 => "scalable-mode root table unreachable",
            0x39 => "scalable-mode root entry not present",
            0x3a => "reserved field set in scalable-mode root entry",
            0x40 => "scalable-mode context table unreachable",
            0x41 => "scalable-mode context entry not present",
            0x42 => "reserved field set in scalable-mode context entry",
            0x43 => "scalable-mode context entry invalid",
            0x44 => "device-TLB not enabled for this device",
            0x45 => "request with PASID, which is not enabled for this device",
            0x46 => "PASID beyond the device's PASID directory",
            0x47 => "page requests not enabled for this device",
            0x48 => "PASID that stands for requests without one",
            0x49 => "translated request with PASID, which is not enabled for this device",
            0x50 => "PASID directory unreachable",
            0x51 => "PASID directory entry not present",
            0x52 => "reserved field set in PASID directory entry",
            0x58 => "PASID table unreachable",
            0x59 => "PASID entry not present",
            0x5a => "reserved field set in PASID entry",
            0x5b => "PASID entry invalid",
            0x5c => "request to execute, which the unit does not support",
            0x5d => "privileged request, which is not enabled for this PASID",
            0x60 => "address beyond the host permission table",
            0x70 => "first-stage entry unreachable",
            0x71 => "first-stage entry not present",
            0x72 => "reserved field set in first-stage entry",
            0x73 => "first-stage table unreachable",
            0x74 => "first-stage entry leads beyond what the second stage translates",
            0x75 => "first-stage table not readable in the second stage",
            0x76 => "first-stage entry not readable in the second stage",
            0x77 => "first-stage entry not writable in the second stage",
            0x78 => "scalable-mode second-stage entry unreachable",
            0x79 => "scalable-mode second-stage entry not present",
            0x7a => "reserved field set in scalable-mode second-stage entry",
            0x7b => "scalable-mode second-stage table unreachable",
            0x7c => "accessed or dirty flag due in a second-stage entry that is not snooped",
            0x7d => "second-stage entry not updated",
            0x80 => "address not canonical",
            0x81 => "user request to a supervisor page",
            0x83 => "address above the host's addresses",
            0x84 => "address above what the second stage translates",
            0x85 => "no write permission in scalable mode",
            0x86 => "no read permission in scalable mode",
            0x87 => "scalable-mode page leads into the interrupt range",
            0x89 => "PASID larger than the unit supports",
            0x90 => "accessed or dirty flag due in a first-stage entry that is not snooped",
            0x91 => "first-stage entry not updated",
            0xa0 => "host permission entry unreachable",
            0xa1 => "reserved field set in host permission entry",
            0xa2 => "host permission table unreachable",
            0xa3 => "zero-length read without host permission",
            0xa4 => "no host permission to write",
            0xa5 => "no host permission to read",
            _ => "unknown reason",
        }
    }

    /// The same, as far as every unit distinguishes it.
    pub const fn cause(self) -> Cause {
        match self.0 {
            0x01 | 0x02 | 0x33 | 0x39 | 0x41 | 0x51 | 0x59 => Cause::Blocked,
            0x05 | 0x06 | 0x71 | 0x79 | 0x85 | 0x86 => Cause::NotMapped,
            0x04 | 0x80 | 0x83 | 0x84 => Cause::AddressTooHigh,
            0x0d | 0x31 | 0x32 | 0x34 | 0x44..=0x49 | 0x5c | 0x5d | 0x81 | 0x89 => Cause::NotAllowed,
            0x03 | 0x07..=0x0c | 0x0e | 0x30 | 0x38 | 0x3a | 0x40 | 0x42 | 0x43 => Cause::Table,
            0x50 | 0x52 | 0x58 | 0x5a | 0x5b | 0x70 | 0x72..=0x78 | 0x7a..=0x7d | 0x87 => Cause::Table,
            0x90 | 0x91 => Cause::Table,
            0x20..=0x2b => Cause::Interrupt,
            _ => Cause::Other,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All codes of tables 15 (20h to 2Bh) and 30 (all others), first and last of each run.
    const CODES: [(u8, u8); 14] = [
        (0x01, 0x0e),
        (0x20, 0x2b),
        (0x30, 0x34),
        (0x38, 0x3a),
        (0x40, 0x49),
        (0x50, 0x52),
        (0x58, 0x5d),
        (0x60, 0x60),
        (0x70, 0x7d),
        (0x80, 0x81),
        (0x83, 0x87),
        (0x89, 0x89),
        (0x90, 0x91),
        (0xa0, 0xa5),
    ];

    #[test]
    fn each_specified_code_and_no_other_has_its_own_words() {
        let codes: BTreeSet<u8> = CODES.iter().flat_map(|&(first, last)| first..=last).collect();
        let words: BTreeSet<&str> = codes.iter().map(|&code| FaultReason::new(code).words()).collect();
        assert_eq!((codes.len(), words.len()), (84, 84));
        for code in 0..=u8::MAX {
            let reason = FaultReason::new(code);
            assert_eq!(reason.code(), code);
            assert_eq!(reason.words() == "unknown reason", !codes.contains(&code), "{code:#x}");
            assert_eq!(reason.is_interrupt(), (0x20..0x30).contains(&code) && codes.contains(&code), "{code:#x}");
        }
    }

    #[test]
    fn a_reason_is_shown_with_its_code() {
        let reason = FaultReason::new(0x02);
        assert_eq!(format!("{reason}"), format!("{} (0x2)", reason.words()));
        assert_eq!(format!("{reason:?}"), format!("FaultReason({reason})"));
    }
}
