//! Fault records, fault status and the fault event (sections 7.2, 7.3 and 11.4.7).
#![forbid(unsafe_code)]

use crate::fault::Fault;
use crate::judge::journal::Journal;
use crate::vtd::state::event::{MASKED, Message};

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
