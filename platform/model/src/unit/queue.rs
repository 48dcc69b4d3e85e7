//! The invalidation queue: where it is, what is fetched, and how it stops (sections 6.5.2 and 11.4.9).
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::capability::Capability;
use super::command::InterruptState;
use super::descriptor::{Descriptor, Refused};
use super::faults::status;
use super::{Board, Unit, global};
use crate::judge::journal::{Event, Journal};

/// How long the fetch of a descriptor takes after the doorbell or the fetch before.
const FETCH_NS: u64 = 50;
/// How long a descriptor takes from its fetch to its effect.
const EFFECT_NS: u64 = 400;

/// IQERCD.IQEI (section 11.4.9.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueError {
    Tail = 1,
    Fetch = 2,
    Type = 3,
    Reserved = 4,
    Width = 5,
    TailAlignment = 6,
}

impl From<Refused> for QueueError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Type => Self::Type,
            Refused::Reserved => Self::Reserved,
        }
    }
}

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

impl Unit {
    /// A write of IQT.
    pub(super) fn ring(&mut self, tail: u64, board: &mut Board) {
        if !self.capability.has_queue() {
            return board.journal.violation("REG", "a queue register of a unit that has no queue is written");
        }
        let mask = self.queue.descriptor_bytes() - 1;
        self.queue.tail = tail & 0x7fff0;
        if !self.global.on(global::QIE) {
            return;
        }
        if tail >= self.queue.bytes() || tail & 0xf != 0 {
            board.journal.violation("R15", format_args!("IQT := {tail:#x} is outside of the ring"));
            self.queue_error(QueueError::Tail, board);
        } else if tail & mask != 0 {
            board.journal.violation("R15", format_args!("IQT := {tail:#x} is not aligned to a descriptor"));
            self.queue_error(QueueError::TailAlignment, board);
        }
        self.schedule_fetch(board);
    }

    pub(super) fn schedule_fetch(&mut self, board: &mut Board) {
        let runs = self.global.on(global::QIE) && !self.queue.is_empty();
        if runs && self.queue.fetch_at.is_none() {
            self.queue.fetch_at = Some(board.journal.now + FETCH_NS + self.defects.slower_ns);
        }
    }

    fn queue_error(&mut self, error: QueueError, board: &mut Board) {
        self.faults.queue_error = self.faults.queue_error & !0xf | error as u64;
        self.faults.error(status::QUEUE_ERROR, &mut board.journal);
    }

    /// Fetches one descriptor.
    pub(super) fn fetch(&mut self, now: u64, board: &mut Board) {
        self.queue.fetch_at = None;
        if self.defects.queue_dead || self.faults.stops_queue() || self.queue.is_empty() {
            return;
        }
        if self.defects.queue_error_at == Some(self.queue.fetched) {
            self.defects.queue_error_at = None;
            return self.queue_error(QueueError::Reserved, board);
        }
        let place = self.queue.base() + self.queue.head;
        let wide = self.queue.wide();
        if !wide && self.root >> 10 & 3 != 0 && self.global.on(global::SRTP) {
            return self.queue_error(QueueError::Width, board);
        }
        if wide && !self.capability.scalable() && !self.capability.aborts() {
            return self.queue_error(QueueError::Width, board);
        }
        if !board.memory.index(place).is_some_and(|index| board.memory.is_allocated(index)) {
            board.journal.violation("R14", format_args!("the queue is at {place:#x}, which is no frame of the driver"));
            return self.queue_error(QueueError::Fetch, board);
        }
        // Hardware always snoops the queue (section 11.4.3, ECAP.C).
        let mut words = [0; 4];
        for (offset, word) in (0..self.queue.descriptor_bytes()).step_by(8).zip(&mut words) {
            *word = board.memory.index(place + offset).map_or(0, |index| board.memory.stored(index));
        }
        let slot = (self.queue.head / self.queue.descriptor_bytes()) as u32;
        board.journal.push(Event::Descriptor { unit: self.number, slot, words: [words[0], words[1]] });
        match Descriptor::parse(words, &self.capability, &mut board.journal) {
            Ok(descriptor) => {
                if let Descriptor::DeviceTlb { source, .. } = descriptor {
                    self.check_depth(source, board);
                }
                self.queue.advance();
                self.queue.last_was_wait = matches!(descriptor, Descriptor::Wait { .. });
                self.queue.in_flight.push_back((now + EFFECT_NS, descriptor));
                if !self.queue.is_empty() {
                    self.queue.fetch_at = Some(now + FETCH_NS);
                }
            }
            Err(refused) => self.queue_error(refused.into(), board),
        }
    }

    /// When the oldest descriptor takes effect. A wait is done only when all devices have answered.
    pub(super) fn next_effect(&self) -> Option<u64> {
        let (at, descriptor) = self.queue.in_flight.front()?;
        let waits = matches!(descriptor, Descriptor::Wait { .. }) && !self.outstanding.is_empty();
        (!waits).then_some(*at)
    }

    pub(super) fn execute(&mut self, descriptor: Descriptor, now: u64, board: &mut Board) {
        match descriptor {
            Descriptor::Context(scope) => self.invalidate_context(scope, board),
            Descriptor::Iotlb(scope) => self.invalidate_iotlb(scope, board),
            Descriptor::DeviceTlb { source, first, last } => self.send(source, first, last, now, board),
            Descriptor::Interrupts(scope) => {
                self.flush_buffer(board);
                self.invalidate_interrupts(scope);
                if scope.is_none() && self.interrupt_state == InterruptState::Set {
                    self.interrupt_state = InterruptState::Ready;
                }
            }
            Descriptor::Wait { status, interrupt, .. } => {
                if let Some((address, value)) = status {
                    self.write_status(address, value, board);
                }
                if interrupt && self.completion == 0 {
                    self.completion = 1;
                    self.completion_event.raise(&mut board.journal);
                }
            }
        }
    }

    /// A coherent write of 32 bits (section 6.5.2.9).
    fn write_status(&mut self, address: u64, value: u32, board: &mut Board) {
        board.journal.push(Event::Status { address, value });
        match board.memory.index(address).filter(|index| board.memory.is_allocated(*index)) {
            Some(index) => {
                let shift = 8 * (address & 4);
                let old = board.memory.stored(index);
                board.memory.set(index, old & !(0xffff_ffff << shift) | u64::from(value) << shift);
            }
            None => {
                board
                    .journal
                    .violation("R18", format_args!("a status write to {address:#x}, no live frame of the driver"));
            }
        }
    }
}
