//! What a unit does for its invalidation queue: it fetches, executes and stops (sections 6.5.2 and 11.4.9).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::judge::journal::Event;
use crate::vtd::caches::{buffer, invalidate};
use crate::vtd::commands::device_tlb;
use crate::vtd::formats::descriptor::{Descriptor, Refused};
use crate::vtd::interrupts::cache;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::faults::status;
use crate::vtd::state::global;
use crate::vtd::state::progress::InterruptState;

/// How long the fetch of a descriptor takes after the doorbell or the fetch before.
const FETCH_NS: u64 = 50;
/// How long a descriptor takes from its fetch to its effect.
const EFFECT_NS: u64 = 400;

/// IQERCD.IQEI (section 11.4.9.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueError {
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

/// A write of IQT.
pub(crate) fn ring(unit: &mut VtdUnit, tail: u64, board: &mut Board) {
    if !unit.capability.has_queue() {
        return board.journal.violation("REG", "a queue register of a unit that has no queue is written");
    }
    let mask = unit.queue.descriptor_bytes() - 1;
    unit.queue.tail = tail & 0x7fff0;
    if !unit.global.on(global::QIE) {
        return;
    }
    if tail >= unit.queue.bytes() || tail & 0xf != 0 {
        board.journal.violation("R15", format_args!("IQT := {tail:#x} is outside of the ring"));
        stop(unit, QueueError::Tail, board);
    } else if tail & mask != 0 {
        board.journal.violation("R15", format_args!("IQT := {tail:#x} is not aligned to a descriptor"));
        stop(unit, QueueError::TailAlignment, board);
    }
    schedule_fetch(unit, board);
}

pub(crate) fn schedule_fetch(unit: &mut VtdUnit, board: &mut Board) {
    let runs = unit.global.on(global::QIE) && !unit.queue.is_empty();
    if runs && unit.queue.fetch_at.is_none() {
        unit.queue.fetch_at = Some(board.journal.now + FETCH_NS + unit.defects.slower_ns);
    }
}

fn stop(unit: &mut VtdUnit, error: QueueError, board: &mut Board) {
    unit.faults.queue_error = unit.faults.queue_error & !0xf | error as u64;
    unit.faults.error(status::QUEUE_ERROR, &mut board.journal);
}

/// Fetches one descriptor.
pub(crate) fn fetch(unit: &mut VtdUnit, now: u64, board: &mut Board) {
    unit.queue.fetch_at = None;
    if unit.defects.queue_dead || unit.faults.stops_queue() || unit.queue.is_empty() {
        return;
    }
    if unit.defects.queue_error_at == Some(unit.queue.fetched) {
        unit.defects.queue_error_at = None;
        return stop(unit, QueueError::Reserved, board);
    }
    let place = unit.queue.base() + unit.queue.head;
    let wide = unit.queue.wide();
    if !wide && unit.root >> 10 & 3 != 0 && unit.global.on(global::SRTP) {
        return stop(unit, QueueError::Width, board);
    }
    if wide && !unit.capability.scalable() && !unit.capability.aborts() {
        return stop(unit, QueueError::Width, board);
    }
    if !board.memory.index(place).is_some_and(|index| board.memory.is_allocated(index)) {
        board.journal.violation("R14", format_args!("the queue is at {place:#x}, which is no frame of the driver"));
        return stop(unit, QueueError::Fetch, board);
    }
    // Hardware always snoops the queue (section 11.4.3, ECAP.C).
    let mut words = [0; 4];
    for (offset, word) in (0..unit.queue.descriptor_bytes()).step_by(8).zip(&mut words) {
        *word = board.memory.index(place + offset).map_or(0, |index| board.memory.stored(index));
    }
    let slot = (unit.queue.head / unit.queue.descriptor_bytes()) as u32;
    board.journal.push(Event::Descriptor { unit: unit.number, slot, words: [words[0], words[1]] });
    match Descriptor::parse(words, &unit.capability, &mut board.journal) {
        Ok(descriptor) => {
            if let Descriptor::DeviceTlb { source, .. } = descriptor {
                device_tlb::check_depth(unit, source, board);
            }
            unit.queue.advance();
            unit.queue.last_was_wait = matches!(descriptor, Descriptor::Wait { .. });
            unit.queue.in_flight.push_back((now + EFFECT_NS, descriptor));
            if !unit.queue.is_empty() {
                unit.queue.fetch_at = Some(now + FETCH_NS);
            }
        }
        Err(refused) => stop(unit, refused.into(), board),
    }
}

/// When the oldest descriptor takes effect. A wait is done only when all devices have answered.
pub(crate) fn next_effect(unit: &VtdUnit) -> Option<u64> {
    let (at, descriptor) = unit.queue.in_flight.front()?;
    let waits = matches!(descriptor, Descriptor::Wait { .. }) && !unit.outstanding.is_empty();
    (!waits).then_some(*at)
}

pub(crate) fn execute(unit: &mut VtdUnit, descriptor: Descriptor, now: u64, board: &mut Board) {
    match descriptor {
        Descriptor::Context(scope) => invalidate::context(unit, scope, board),
        Descriptor::Iotlb(scope) => invalidate::iotlb(unit, scope, board),
        Descriptor::DeviceTlb { source, first, last } => device_tlb::send(unit, source, first, last, now, board),
        Descriptor::Interrupts(scope) => {
            buffer::flush(unit, board);
            cache::invalidate(unit, scope);
            if scope.is_none() && unit.interrupt_state == InterruptState::Set {
                unit.interrupt_state = InterruptState::Ready;
            }
        }
        Descriptor::Wait { status, interrupt, .. } => {
            if let Some((address, value)) = status {
                write_status(address, value, board);
            }
            if interrupt && unit.completion == 0 {
                unit.completion = 1;
                unit.completion_event.raise(&mut board.journal);
            }
        }
    }
}

/// A coherent write of 32 bits (section 6.5.2.9).
fn write_status(address: u64, value: u32, board: &mut Board) {
    board.journal.push(Event::Status { address, value });
    match board.memory.index(address).filter(|index| board.memory.is_allocated(*index)) {
        Some(index) => {
            let shift = 8 * (address & 4);
            let old = board.memory.stored(index);
            board.memory.set(index, old & !(0xffff_ffff << shift) | u64::from(value) << shift);
        }
        None => {
            board.journal.violation("R18", format_args!("a status write to {address:#x}, no live frame of the driver"));
        }
    }
}
