//! The invalidation queue (S 6.5.2).
//!
//! A batch of descriptors ends with a wait descriptor that stores the batch's number into a word of its own (R17), in
//! memory that lives as long as the queue (R18). Submitting takes the queue's lock, waiting takes none.
#![forbid(unsafe_code)]

use core::fmt;

use heapless::Deque;
use spin::Mutex;
use tock_registers::interfaces::{Readable, Writeable};

use super::command::{Command, wait_until};
use super::descriptor::Descriptor;
use super::registers::{FSTS, IQA, IQERCD, IQH, IQT, Registers};
use crate::addr::PhysAddr;
use crate::error::UnitError;
use crate::hal::{Frames, Hal, OutOfFrames};

/// Descriptors of 128 bits in a queue of one page, QS = 0 (R15).
const SLOTS: u32 = 256;
/// Batches under way at a time.
const BATCHES: usize = 32;
/// Looks at the status word before the unit's registers are asked what is wrong: a read of those is far slower.
const QUICK_LOOKS: u32 = 64;

/// What was submitted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) descriptors: u64,
    pub(super) waits: u64,
    pub(super) doorbells: u64,
}

/// A batch that was submitted. It is done when its status word has its number, or a later one.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is known to be invalidated before the batch is done"]
struct Ticket {
    /// Number of descriptors ever submitted, up to the end of the batch, modulo 2^32.
    end: u32,
}

impl Ticket {
    /// Where the batch's wait descriptor is.
    fn slot(self) -> usize {
        (self.end.wrapping_sub(1) % SLOTS) as usize
    }
}

#[derive(Debug, Default)]
struct State {
    /// Number of descriptors ever submitted, modulo 2^32.
    tail: u32,
    /// Number of those whose slots are free again.
    done: u32,
    under_way: Deque<Ticket, BATCHES>,
    counts: Counts,
}

/// A unit's queue.
pub(super) struct Queue {
    ring: Frames,
    /// One word a slot.
    status: Frames,
    state: Mutex<State>,
}

impl Queue {
    /// An empty queue that no unit knows yet.
    pub(super) fn new(hal: &impl Hal) -> Result<Self, OutOfFrames> {
        let ring = Frames::allocate(hal, 0)?;
        match Frames::allocate(hal, 0) {
            Ok(status) => Ok(Self { ring, status, state: Mutex::new(State::default()) }),
            Err(error) => {
                ring.give_back(hal);
                Err(error)
            }
        }
    }

    /// Frames that it takes.
    pub(super) const FRAMES: u32 = 2;

    /// Tells the unit of it and switches it on (R14). The unit's queue is off.
    pub(super) fn start<H: Hal>(&self, registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
        registers.iqt().set(0);
        registers.iqa().write(IQA::IQA.val(self.ring.base().as_u64() >> 12) + IQA::DW::CLEAR + IQA::QS.val(0));
        registers.hal.fence();
        Command::QUEUE_ON.run(registers, timeout_ns)
    }

    /// Switches off the queue that firmware left on (R69): waits until it is empty first.
    pub(super) fn stop_foreign<H: Hal>(registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
        let empty = || registers.iqh().read(IQH::QH) == registers.iqt().read(IQT::QT);
        wait_until(registers, timeout_ns, "IQH_REG", "QH", empty)?;
        Command::QUEUE_OFF.run(registers, timeout_ns)
    }

    /// Has the unit do `batch`, and waits until all of it is done.
    pub(super) fn run<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        batch: &[Descriptor],
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        let mut ticket = None;
        wait_until(registers, timeout_ns, "IQH_REG", "QH", || {
            ticket = self.submit(registers, batch);
            ticket.is_some()
        })?;
        ticket.map_or(Ok(()), |ticket| self.wait(registers, ticket, timeout_ns))
    }

    /// Puts the batch and its wait into the ring and rings the doorbell once. `None` if there is no room now.
    fn submit<H: Hal>(&self, registers: &Registers<'_, H>, batch: &[Descriptor]) -> Option<Ticket> {
        let hal = registers.hal;
        let mut state = self.state.lock();
        self.reclaim(hal, &mut state);
        let needed = u32::try_from(batch.len()).ok()?.checked_add(1)?;
        // One slot stays empty, or a full ring would look like an empty one (R15).
        let room = SLOTS - 1 - state.tail.wrapping_sub(state.done);
        if needed > room {
            return None;
        }
        let ticket = Ticket { end: state.tail.wrapping_add(needed) };
        state.under_way.push_back(ticket).ok()?;
        // Not done, whatever an earlier batch left in the word.
        self.status.store(hal, ticket.slot(), ticket.end.wrapping_sub(1).into());
        let wait = Descriptor::wait(self.status_address(ticket), ticket.end);
        let mut slot = state.tail % SLOTS;
        for descriptor in batch.iter().chain([&wait]) {
            self.ring.store(hal, slot as usize * 2, descriptor.lower);
            self.ring.store(hal, slot as usize * 2 + 1, descriptor.upper);
            slot = (slot + 1) % SLOTS;
        }
        state.tail = ticket.end;
        state.counts.descriptors += u64::from(needed);
        state.counts.waits += 1;
        state.counts.doorbells += 1;
        hal.fence();
        registers.iqt().write(IQT::QT.val(slot.into()));
        Some(ticket)
    }

    fn status_address(&self, ticket: Ticket) -> PhysAddr {
        PhysAddr::new_truncate(self.status.base().as_u64() + ticket.slot() as u64 * 8)
    }

    /// Frees the slots of batches that are done, oldest first.
    fn reclaim(&self, hal: &impl Hal, state: &mut State) {
        while let Some(&oldest) = state.under_way.front()
            && self.is_done(hal, oldest)
        {
            state.done = oldest.end;
            state.under_way.pop_front();
        }
    }

    fn is_done(&self, hal: &impl Hal, ticket: Ticket) -> bool {
        let status = self.status.load(hal, ticket.slot()) as u32;
        // A later batch takes the slot only when this one is done, so a later number is as good.
        status.wrapping_sub(ticket.end) as i32 >= 0
    }

    fn wait<H: Hal>(&self, registers: &Registers<'_, H>, ticket: Ticket, timeout_ns: u64) -> Result<(), UnitError> {
        for _ in 0..QUICK_LOOKS {
            if self.is_done(registers.hal, ticket) {
                return Ok(());
            }
            registers.hal.pause();
        }
        let mut error = None;
        wait_until(registers, timeout_ns, "IQ status word", "invalidation wait", || {
            error = stopped(registers);
            error.is_some() || self.is_done(registers.hal, ticket)
        })?;
        error.map_or(Ok(()), Err)
    }

    /// What was submitted so far.
    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts
    }
}

/// Why the unit fetches no more descriptors, if it does not (S 6.5.2.11).
fn stopped<H: Hal>(registers: &Registers<'_, H>) -> Option<UnitError> {
    let status = registers.fsts().extract();
    if status.is_set(FSTS::ICE) {
        // A device answered what nobody had asked; the queue goes on (R22).
        registers.fsts().write(FSTS::ICE::SET);
    }
    let queue_error = status.is_set(FSTS::IQE);
    let bit = if queue_error {
        "IQE"
    } else if status.is_set(FSTS::ITE) {
        "ITE"
    } else {
        return None;
    };
    let slot = registers.iqh().read(IQH::QH) as u32;
    let cause = if queue_error { cause(registers.iqercd().read(IQERCD::IQEI)) } else { "a device did not answer" };
    Some(UnitError::Queue { unit: registers.window, register: "FSTS_REG", bit, slot, cause })
}

/// IQEI in words (S 11.4.9.9).
fn cause(info: u64) -> &'static str {
    match info {
        1 => "invalid tail pointer",
        2 => "the descriptor could not be fetched",
        3 => "invalid descriptor type",
        4 => "reserved field of the descriptor is not zero",
        5 => "descriptor width does not fit the unit or its mode",
        6 => "tail pointer is not aligned to the descriptor width",
        7 => "invalid translation table mode",
        _ => "the unit does not tell why",
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("ring", &self.ring).field("state", &self.state).finish_non_exhaustive()
    }
}
