//! A request that did not reach memory, and why.
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

/// Why a request was blocked. Codes are those of tables 15 and 30 (sections 5.1.4.1 and 7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// 1h: the root entry is not present.
    RootNotPresent,
    /// 2h: the context entry is not present.
    ContextNotPresent,
    /// 3h: the context entry has an address width or a translation type that the unit does not have.
    ContextInvalid,
    /// 4h: the address is beyond what the page table or the unit can translate.
    BeyondWidth,
    /// 5h: no permission to write.
    NotWritable,
    /// 6h: no permission to read.
    NotReadable,
    /// Ah: reserved bits in the root entry.
    RootReserved,
    /// Bh: reserved bits in the context entry.
    ContextReserved,
    /// Ch: reserved bits in a paging entry.
    PageReserved,
    /// Dh: the context entry blocks requests of a device-TLB.
    TranslatedBlocked,
    /// Eh: the output address is in the interrupt range.
    OutputIsInterrupt,
    /// 20h: reserved bits in an interrupt request.
    InterruptReserved,
    /// 21h: the interrupt index is beyond the table.
    InterruptIndex,
    /// 22h: the interrupt entry is not present.
    InterruptNotPresent,
    /// 24h: reserved bits in the interrupt entry.
    InterruptEntryReserved,
    /// 25h: an interrupt in compatibility format.
    CompatibilityFormat,
    /// 26h: the interrupt entry is not for this source.
    InterruptSource,
    /// 27h: the descriptor of a posted interrupt is in no memory.
    DescriptorUnreachable,
    /// 28h: reserved bits in the descriptor of a posted interrupt.
    DescriptorReserved,
    /// 29h: a request to the interrupt range that is no interrupt.
    NoInterrupt,
    /// 30h: a translation mode that the unit does not have.
    ModeInvalid,
    /// 33h: the unit aborts all DMA.
    AbortMode,
    /// A protected memory region: blocked, but never recorded (section 11.4.8.1).
    Protected,
    /// No unit serves this source. Never recorded.
    NoTarget,
}

impl Reason {
    /// The fault reason of a fault record; 0 if none is made.
    pub fn code(self) -> u8 {
        match self {
            Self::RootNotPresent => 1,
            Self::ContextNotPresent => 2,
            Self::ContextInvalid => 3,
            Self::BeyondWidth => 4,
            Self::NotWritable => 5,
            Self::NotReadable => 6,
            Self::RootReserved => 0xa,
            Self::ContextReserved => 0xb,
            Self::PageReserved => 0xc,
            Self::TranslatedBlocked => 0xd,
            Self::OutputIsInterrupt => 0xe,
            Self::InterruptReserved => 0x20,
            Self::InterruptIndex => 0x21,
            Self::InterruptNotPresent => 0x22,
            Self::InterruptEntryReserved => 0x24,
            Self::CompatibilityFormat => 0x25,
            Self::InterruptSource => 0x26,
            Self::DescriptorUnreachable => 0x27,
            Self::DescriptorReserved => 0x28,
            Self::NoInterrupt => 0x29,
            Self::ModeInvalid => 0x30,
            Self::AbortMode => 0x33,
            Self::Protected | Self::NoTarget => 0,
        }
    }
}

/// A request that did not reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who sent it.
    pub source: SourceId,
    /// The address in the request, at which it was stopped.
    pub address: Iova,
    /// True for a write.
    pub write: bool,
    /// Why it was stopped.
    pub reason: Reason,
}
