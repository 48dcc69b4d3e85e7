//! Fault recording and fault events (sections 7.2, 7.3 and 11.4.7).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

use crate::judge::journal::{Event, Journal};

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

/// FSTS bits (section 11.4.7.1).
pub(crate) mod status {
    pub(crate) const OVERFLOW: u32 = 1 << 0;
    pub(crate) const PENDING: u32 = 1 << 1;
    pub(crate) const QUEUE_ERROR: u32 = 1 << 4;
    pub(crate) const COMPLETION_ERROR: u32 = 1 << 5;
    pub(crate) const TIME_OUT: u32 = 1 << 6;
    /// Deprecated: PRO once.
    pub(crate) const DEPRECATED: u32 = 1 << 7;
}

const RECORDED: u64 = 1 << 63;
const MASKED: u32 = 1 << 31;
const WAITING: u32 = 1 << 30;

/// The registers of an event that is sent as a message: control, data, address, upper address.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) control: u32,
    pub(crate) data: u32,
    pub(crate) address: u32,
    pub(crate) upper: u32,
}

impl Default for Message {
    fn default() -> Self {
        Self { control: MASKED, data: 0, address: 0, upper: 0 }
    }
}

impl Message {
    /// Sends, or keeps pending if masked.
    pub(crate) fn raise(&mut self, journal: &mut Journal) {
        self.control |= WAITING;
        self.deliver(journal);
    }

    fn deliver(&mut self, journal: &mut Journal) {
        if self.control & (MASKED | WAITING) == WAITING {
            self.control &= !WAITING;
            let address = u64::from(self.upper) << 32 | u64::from(self.address);
            journal.push(Event::Message { address, data: self.data });
            journal.messages.push((address, self.data));
        }
    }

    /// The condition has been served.
    pub(crate) fn settle(&mut self) {
        self.control &= !WAITING;
    }

    pub(crate) fn read(&self, index: u32) -> u32 {
        match index {
            0 => self.control,
            1 => self.data,
            2 => self.address,
            _ => self.upper,
        }
    }

    pub(crate) fn write(&mut self, index: u32, value: u32, journal: &mut Journal) {
        match index {
            0 => {
                if value & MASKED == 0 && self.address == 0 {
                    journal.violation("R64b", "an event is unmasked while its message has no address");
                }
                self.control = self.control & WAITING | value & MASKED;
                self.deliver(journal);
            }
            1 => self.data = value & 0xffff,
            2 => self.address = value & !3,
            _ => self.upper = value,
        }
    }
}

/// Fault records, fault status and the fault event.
#[derive(Debug)]
pub(crate) struct Faults {
    records: Vec<[u64; 2]>,
    next: usize,
    /// FRI.
    first: u8,
    /// The record that software clears next if it goes through them in order.
    expected: usize,
    /// PFO, IQE, ICE and ITE.
    status: u32,
    pub(crate) event: Message,
    /// IQERCD (section 11.4.9.9).
    pub(crate) queue_error: u64,
}

impl Faults {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            records: vec![[0; 2]; count],
            next: 0,
            first: 0,
            expected: 0,
            status: 0,
            event: Message::default(),
            queue_error: 0,
        }
    }

    pub(crate) fn pending(&self) -> bool {
        self.records.iter().any(|record| record[1] & RECORDED != 0)
    }

    pub(crate) fn status(&self) -> u32 {
        let pending = if self.pending() { status::PENDING } else { 0 };
        self.status | pending | u32::from(self.first) << 8
    }

    /// True if the queue fetches nothing because of an error.
    pub(crate) fn stops_queue(&self) -> bool {
        self.status & (status::QUEUE_ERROR | status::TIME_OUT) != 0
    }

    /// Section 7.2.1. `info` is the address, or the index of an interrupt, as it goes to FI.
    pub(crate) fn record(&mut self, fault: &Fault, info: u64, journal: &mut Journal) {
        if self.status & status::OVERFLOW != 0 {
            return;
        }
        let (had_pending, silent) = (self.pending(), self.status() & 0x73 != 0);
        let index = self.next;
        let count = self.records.len();
        let Some(record) = self.records.get_mut(index) else { return };
        if record[1] & RECORDED != 0 {
            self.status |= status::OVERFLOW;
            return;
        }
        let high = RECORDED
            | u64::from(!fault.write) << 62
            | u64::from(fault.reason.code()) << 32
            | u64::from(fault.source.requester());
        *record = [info & !0xfff, high];
        self.next = (index + 1) % count;
        if !had_pending {
            self.first = index as u8;
            self.expected = index;
        }
        if !silent {
            self.event.raise(journal);
        }
    }

    /// IQE, ICE or ITE.
    pub(crate) fn error(&mut self, bit: u32, journal: &mut Journal) {
        let silent = self.status() & 0x73 != 0;
        self.status |= bit;
        if !silent {
            self.event.raise(journal);
        }
    }

    /// Section 7.2.1: the index is reset when all translation is off.
    pub(crate) fn reset_index(&mut self) {
        self.next = 0;
    }

    pub(crate) fn read_record(&self, offset: u32) -> Option<u32> {
        let record = self.records.get(offset as usize / 16)?;
        let word = if offset & 8 == 0 { record[0] } else { record[1] };
        Some((word >> (8 * (offset & 4))) as u32)
    }

    pub(crate) fn write_record(&mut self, offset: u32, value: u32, journal: &mut Journal) {
        let index = offset as usize / 16;
        let pending = self.pending();
        let Some(record) = self.records.get_mut(index) else { return };
        // Only F can be written, and only to clear it.
        if offset & 0xc != 0xc || value & MASKED == 0 {
            journal.violation("R62", format_args!("fault record {index}: a write that does not clear F"));
            return;
        }
        if record[1] & RECORDED != 0 && pending && index != self.expected {
            journal.violation("R62", format_args!("fault record {index} is cleared before record {}", self.expected));
        }
        record[1] &= !RECORDED;
        self.expected = (index + 1) % self.records.len();
        self.settle();
    }

    pub(crate) fn write_status(&mut self, value: u32, journal: &mut Journal) {
        if value & (status::PENDING | status::DEPRECATED) != 0 {
            journal.violation("R63", format_args!("FSTS := {value:#x} writes PPF or bit 7"));
        }
        let clears = status::OVERFLOW | status::QUEUE_ERROR | status::COMPLETION_ERROR | status::TIME_OUT;
        self.status &= !(value & clears);
        self.settle();
    }

    fn settle(&mut self) {
        if self.status() & 0x73 == 0 {
            self.event.settle();
        }
    }
}
