//! The invalidation queue (S 6.5.2).
//!
//! A batch of descriptors ends with a wait descriptor that stores the batch's number into a word of its own (R17), in
//! memory that lives as long as the queue (R18). Submitting takes the queue's lock, waiting takes none, unless the unit
//! stopped at a bad descriptor: whoever sees it first takes that one out, and only its batch fails (R19).
#![forbid(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use heapless::{Deque, Vec};
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
/// A status word that nobody waits for.
const NO_ONE: usize = SLOTS as usize;
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
pub(crate) struct Ticket {
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
    /// Batches that failed and that nobody has finished yet.
    refused: Vec<Refused, BATCHES>,
    counts: Counts,
}

/// A batch of which the unit refused a descriptor.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// As in its ticket.
    end: u32,
    /// Where the descriptor was.
    slot: u32,
    /// IQEI (S 11.4.9.9).
    info: u64,
}

/// A unit's queue.
pub(super) struct Queue {
    ring: Frames,
    /// One word a slot, whose lower half the unit writes.
    status: Frames,
    state: Mutex<State>,
    /// How many batches [`State::refused`] has, so that a batch that went well need not look.
    refused: AtomicUsize,
}

impl Queue {
    /// An empty queue that no unit knows yet.
    pub(super) fn new(hal: &impl Hal) -> Result<Self, OutOfFrames> {
        let ring = Frames::allocate(hal, 0)?;
        match Frames::allocate(hal, 0) {
            Ok(status) => Ok(Self { ring, status, state: Mutex::new(State::default()), refused: AtomicUsize::new(0) }),
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

    /// Switches off the queue that is on, whoever made it: waits until it is empty first (R14, R69).
    pub(super) fn stop<H: Hal>(registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
        let empty = || registers.iqh().read(IQH::QH) == registers.iqt().read(IQT::QT);
        wait_until(registers, timeout_ns, "IQH_REG", "QH", empty)?;
        Command::QUEUE_OFF.run(registers, timeout_ns)
    }

    /// Its frames, which the unit may use until it has confirmed that the queue is off.
    pub(super) fn into_frames(self) -> [Frames; 2] {
        [self.ring, self.status]
    }

    /// Submits `batch`, waiting for room if need be.
    pub(super) fn begin<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        batch: impl Iterator<Item = Descriptor> + Clone,
        timeout_ns: u64,
    ) -> Result<Ticket, UnitError> {
        let mut ticket = self.submit(registers, batch.clone());
        wait_until(registers, timeout_ns, "IQH_REG", "QH", || {
            if ticket.is_none() {
                self.recover(registers);
                ticket = self.submit(registers, batch.clone());
            }
            ticket.is_some()
        })?;
        ticket.ok_or(UnitError::Failed { unit: registers.window })
    }

    /// Puts the batch and its wait into the ring and rings the doorbell once. `None` if there is no room now.
    fn submit<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        batch: impl Iterator<Item = Descriptor> + Clone,
    ) -> Option<Ticket> {
        let hal = registers.hal;
        let mut state = self.state.lock();
        self.reclaim(hal, &mut state);
        let needed = u32::try_from(batch.clone().count()).ok()?.checked_add(1)?;
        // One slot stays empty, or a full ring would look like an empty one (R15).
        let room = SLOTS - 1 - state.tail.wrapping_sub(state.done);
        if needed > room {
            return None;
        }
        let ticket = Ticket { end: state.tail.wrapping_add(needed) };
        state.under_way.push_back(ticket).ok()?;
        // Not done, whatever an earlier batch left in the word.
        self.status.store(hal, ticket.slot(), ticket.end.wrapping_sub(1).into());
        let wait = Descriptor::wait(self.status_address(ticket.slot()), ticket.end);
        for descriptor in batch.chain([wait]) {
            self.put(hal, state.tail % SLOTS, descriptor);
            state.tail = state.tail.wrapping_add(1);
        }
        state.counts.descriptors += u64::from(needed);
        state.counts.waits += 1;
        state.counts.doorbells += 1;
        hal.fence();
        registers.iqt().write(IQT::QT.val((state.tail % SLOTS).into()));
        Some(ticket)
    }

    fn put(&self, hal: &impl Hal, slot: u32, descriptor: Descriptor) {
        self.ring.store(hal, slot as usize * 2, descriptor.lower);
        self.ring.store(hal, slot as usize * 2 + 1, descriptor.upper);
    }

    fn status_address(&self, slot: usize) -> PhysAddr {
        PhysAddr::new_truncate(self.status.base().as_u64() + slot as u64 * 8)
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

    /// Waits until a batch is done.
    ///
    /// # Errors
    ///
    /// One of its descriptors was refused, so that nothing is known to be invalidated. Or the unit does not answer in time.
    pub(super) fn finish<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        ticket: Ticket,
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        let hal = registers.hal;
        let soon = (0..QUICK_LOOKS).any(|_| {
            let done = self.is_done(hal, ticket);
            if !done {
                hal.pause();
            }
            done
        });
        if !soon {
            let mut stopped = None;
            wait_until(registers, timeout_ns, "IQ status word", "invalidation wait", || {
                stopped = self.recover(registers);
                stopped.is_some() || self.is_done(hal, ticket)
            })?;
            if let Some(error) = stopped {
                return Err(error);
            }
        }
        if self.refused.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        let Some(&Refused { slot, info, .. }) = state.refused.iter().find(|refused| refused.end == ticket.end) else {
            return Ok(());
        };
        state.refused.retain(|refused| refused.end != ticket.end);
        self.refused.store(state.refused.len(), Ordering::Release);
        let (unit, register, bit) = (registers.window, "FSTS_REG", "IQE");
        Err(UnitError::Queue { unit, register, bit, slot, cause: cause(info) })
    }

    /// Lets a queue go on that stopped at a descriptor (S 6.5.2.11); tells why if it cannot.
    fn recover<H: Hal>(&self, registers: &Registers<'_, H>) -> Option<UnitError> {
        let status = registers.fsts().extract();
        if status.is_set(FSTS::ICE) {
            // A device answered what nobody had asked; the queue goes on (R22).
            registers.fsts().write(FSTS::ICE::SET);
        }
        if status.is_set(FSTS::ITE) {
            let (unit, slot) = (registers.window, registers.iqh().read(IQH::QH) as u32);
            let cause = "a device did not answer";
            return Some(UnitError::Queue { unit, register: "FSTS_REG", bit: "ITE", slot, cause });
        }
        if status.is_set(FSTS::IQE) {
            let mut state = self.state.lock();
            // Another waiter may have seen to it meanwhile.
            if registers.fsts().is_set(FSTS::IQE) && self.take_out(registers, &mut state) {
                registers.fsts().write(FSTS::IQE::SET);
                registers.iqt().write(IQT::QT.val((state.tail % SLOTS).into()));
            }
        }
        None
    }

    /// Replaces the descriptor at which the unit stopped by one that does nothing, and notes that its batch failed. False
    /// if there is no room to note it: the queue has to stay stopped then.
    fn take_out<H: Hal>(&self, registers: &Registers<'_, H>, state: &mut State) -> bool {
        let (hal, info) = (registers.hal, registers.iqercd().read(IQERCD::IQEI));
        let slot = registers.iqh().read(IQH::QH) as u32 % SLOTS;
        // Counted from the oldest slot in use, the batch is the first that ends behind the slot.
        let offset = slot.wrapping_sub(state.done) % SLOTS;
        let behind = |ticket: &&Ticket| ticket.end.wrapping_sub(state.done) > offset;
        if let Some(&ticket) = state.under_way.iter().find(behind) {
            if state.refused.push(Refused { end: ticket.end, slot, info }).is_err() {
                return false;
            }
            self.refused.store(state.refused.len(), Ordering::Release);
            if ticket.slot() == slot as usize {
                // It is the batch's wait that is taken out, so the unit will not store the number.
                self.status.store(hal, ticket.slot(), ticket.end.into());
            }
        }
        self.put(hal, slot, Descriptor::wait(self.status_address(NO_ONE), 0));
        hal.fence();
        true
    }

    /// What was submitted so far.
    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts
    }
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
