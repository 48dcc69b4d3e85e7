//! The invalidation queue: where it is, and what of it is under way (sections 6.5.2 and 11.4.9).
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::judge::journal::Journal;
use crate::vtd::formats::capability::Capability;
use crate::vtd::formats::descriptor::Descriptor;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// IQA as written.
    pub(crate) address: u64,
    /// IQH and IQT, in bytes.
    pub(crate) head: u64,
    pub(crate) tail: u64,
    /// Fetched, not done yet, with the time at which each is done.
    pub(crate) in_flight: VecDeque<(u64, Descriptor)>,
    /// When the next descriptor is fetched.
    pub(crate) fetch_at: Option<u64>,
    /// How many have been fetched since the machine was made.
    pub(crate) fetched: u64,
    pub(crate) last_was_wait: bool,
}

impl Queue {
    pub(crate) fn base(&self) -> u64 {
        self.address & !0xfff
    }

    /// DW: 256-bit descriptors.
    pub(crate) fn wide(&self) -> bool {
        self.address & 1 << 11 != 0
    }

    pub(crate) fn bytes(&self) -> u64 {
        4096 << (self.address & 7)
    }

    pub(crate) fn descriptor_bytes(&self) -> u64 {
        if self.wide() { 32 } else { 16 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Moves the head on, which happens at the fetch already.
    pub(crate) fn advance(&mut self) {
        self.head = (self.head + self.descriptor_bytes()) % self.bytes();
        self.fetched += 1;
    }

    /// True if the byte at a physical address is in a descriptor that hardware has not fetched yet.
    pub(crate) fn owns(&self, address: u64) -> bool {
        let Some(offset) = address.checked_sub(self.base()).filter(|offset| *offset < self.bytes()) else {
            return false;
        };
        let from_head = (offset + self.bytes() - self.head) % self.bytes();
        from_head < (self.tail + self.bytes() - self.head) % self.bytes()
    }

    pub(crate) fn check_enable(&self, unit: &Capability, journal: &mut Journal) {
        if self.tail != 0 {
            journal.violation("R14", format_args!("the queue is switched on with IQT = {:#x}", self.tail));
        }
        if self.base() == 0 {
            journal.violation("R14", "the queue is switched on with no address in IQA");
        }
        if self.wide() && !unit.scalable() && !unit.aborts() {
            journal.violation("R15", "256-bit descriptors on a unit that has none");
        }
    }

    pub(crate) fn check_disable(&self, journal: &mut Journal) {
        if !self.is_empty() || !self.in_flight.is_empty() {
            journal.violation("R14", "the queue is switched off while commands are pending");
        } else if self.fetched != 0 && !self.last_was_wait {
            journal.violation("R14", "the queue is switched off, and its last command was no wait");
        }
    }
}

/// An invalidation that a device has not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outstanding {
    pub(crate) source: u16,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) due: u64,
    pub(crate) answered: bool,
}
