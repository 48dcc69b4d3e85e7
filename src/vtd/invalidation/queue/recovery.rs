//! How a queue goes on that stopped (S 6.5.2.11).
//!
//! At IQE the unit stands at a descriptor that it refuses: that one is replaced by a wait, and its batch fails (R19).
//!
//! At ITE a device did not answer. Waits are lost then, and perhaps what was fetched since the oldest invalidation that a
//! device has still to answer. The unit goes on at its head, which software cannot set, so all that is not known to be
//! done moves: it is laid out again from the head on, in order, for every waiter (R20). A device that is unresponsive too
//! often is left out of that, and the batches that named it fail (R21).
#![forbid(unsafe_code)]

use core::ops::Range;

use tock_registers::interfaces::{Readable, Writeable};

use super::failures::Failure;
use super::{Hal, Ordering, Queue, QueueState, Registers, UnitError};
use crate::vtd::registers::{FSTS, IQERCD, IQH};

/// How often a device may be unresponsive. A unit waits long before it reports that, and all others wait as long.
const SECOND_CHANCES: u64 = 1;
/// ITESID of a unit that does not name the device (S 11.4.9.9).
const UNNAMED: u16 = 0;
/// How many times the device of this descriptor was unresponsive, in the upper half of a descriptor's note. The lower half
/// is the length of the batch that begins with it.
const STRIKE: u64 = 1 << 32;

impl Queue {
    /// Lets a queue go on that stopped.
    ///
    /// # Errors
    ///
    /// The unit is gone.
    pub(in crate::vtd) fn recover<H: Hal>(&self, registers: &Registers<'_, H>) -> Result<(), UnitError> {
        let errors = (FSTS::IQE::SET + FSTS::ICE::SET + FSTS::ITE::SET).mask();
        if registers.fault_status()?.get() & errors == 0 {
            return Ok(());
        }
        let state = &mut *self.state.lock();
        // Another waiter may have seen to it meanwhile.
        let status = registers.fault_status()?.get() & errors;
        let has = |bit: u32| status & bit != 0;
        let (refused, timed_out) = (has(FSTS::IQE::SET.mask()), has(FSTS::ITE::SET.mask()));
        if refused || timed_out {
            let (hal, record) = (registers.hal, registers.iqercd().extract());
            let head = self.head(registers);
            if refused {
                self.replace_refused(hal, state, head, record.read(IQERCD::IQEI) as u8);
            }
            if timed_out {
                // The unit's status writes that are on their way arrive before this (S 6.5.2.10): what is not confirmed
                // then never will be by itself.
                registers.ics().get();
                if !self.issue_again(hal, state, head, record.read(IQERCD::ITESID) as u16) {
                    return Ok(());
                }
            }
            hal.fence();
        }
        if status != 0 {
            registers.fsts().set(status);
        }
        if has(FSTS::ICE::SET.mask()) {
            self.completion_errors.fetch_add(1, Ordering::Relaxed);
        }
        if refused || timed_out {
            self.ring(registers, state);
        }
        Ok(())
    }

    /// Fails if the unit stands at a descriptor that it refuses, of a queue of whomever.
    pub(in crate::vtd) fn check_refused<H: Hal>(registers: &Registers<'_, H>, wide: bool) -> Result<(), UnitError> {
        if !registers.fault_status()?.is_set(FSTS::IQE) {
            return Ok(());
        }
        let slot = registers.iqh().read(IQH::QH) >> u8::from(wide);
        let info = registers.iqercd().read(IQERCD::IQEI);
        Err(Failure::Refused { slot: slot as u16, info: info as u8 }.error(registers.window))
    }

    /// Replaces the descriptor at which the unit stands, and notes that its batch failed (R19).
    fn replace_refused(&self, hal: &impl Hal, state: &mut QueueState, head: u64, info: u8) {
        let done = self.done.load(Ordering::Relaxed);
        let number = done + (head.wrapping_sub(done).wrapping_sub(state.skew) & self.mask);
        let mut first = done;
        while let Some(end) = self.end_of(hal, first, state.tail) {
            if number < end {
                self.fail(state, end, Failure::Refused { slot: (head & self.mask) as u16, info });
                // If it was the batch's own wait, this is that wait.
                return self.slots_from(state.skew).put(hal, number, self.wait_at(number).fence());
            }
            first = end;
        }
    }

    /// Lays all that is not done out again behind `head`. False if the unit shows a head that it cannot have: it is left
    /// as it is then.
    fn issue_again(&self, hal: &impl Hal, state: &mut QueueState, head: u64, named: u16) -> bool {
        let done = self.reclaim(hal, state.tail);
        // One more than were fetched, for a wait before all, or 0 if the unit has not come to that wait since the last time.
        let steps = head.wrapping_add(1).wrapping_sub(done).wrapping_sub(state.skew) & self.mask;
        if steps > state.tail - done + 1 {
            return false;
        }
        self.strike(hal, state, done..(done + steps).saturating_sub(1), named);
        // Ends first, since they move towards the end. No slot is in use twice: see `capacity`.
        let from = self.slots_from(state.skew);
        state.skew = state.skew.wrapping_add(steps);
        let to = self.slots_from(state.skew);
        for number in (done..state.tail).rev() {
            to.put(hal, number, from.get(hal, number));
        }
        // Other devices may still have to answer earlier descriptors (R23). What this stores is there already.
        let before = done.wrapping_sub(1);
        to.put(hal, before, self.wait_at(before).fence());
        true
    }

    /// Counts that a device did not answer what was fetched, and leaves it out if that happened too often.
    ///
    /// If no descriptor names the device, the report is late, and the device is left out already. An old unit does not name
    /// the device: that of the oldest descriptor is taken. If that was the wrong one, its batch fails all the same, and what
    /// names the right one fails after it.
    fn strike(&self, hal: &impl Hal, state: &mut QueueState, fetched: Range<u64>, named: u16) {
        let slots = self.slots_from(state.skew);
        let device = |number| slots.get(hal, number).device_tlb().map(|(requester, _)| requester);
        let unresponsive = if named == UNNAMED { fetched.clone().find_map(device).unwrap_or(UNNAMED) } else { named };
        let mut most = 0;
        for number in fetched.filter(|&number| device(number) == Some(unresponsive)) {
            let note = self.note(hal, number) + STRIKE;
            self.status.pairs().store_second(hal, number as usize, note);
            most = most.max(note / STRIKE);
        }
        if most > SECOND_CHANCES {
            self.leave_out(hal, state, unresponsive);
        }
    }

    /// Leaves a device out of all that is not done; the batches that named it fail (R21).
    fn leave_out(&self, hal: &impl Hal, state: &mut QueueState, unresponsive: u16) {
        let slots = self.slots_from(state.skew);
        let mut first = self.done.load(Ordering::Relaxed);
        while let Some(end) = self.end_of(hal, first, state.tail) {
            for number in first..end {
                if slots.get(hal, number).device_tlb().is_some_and(|(requester, _)| requester == unresponsive) {
                    slots.put(hal, number, self.wait_at(number).fence());
                    self.fail(state, end, Failure::Unresponsive { requester: unresponsive });
                }
            }
            first = end;
        }
    }

    fn fail(&self, state: &mut QueueState, end: u64, failure: Failure) {
        state.failures.note(end, failure);
        let last = self.failed.load(Ordering::Relaxed).max(end);
        self.failed.store(last, Ordering::Release);
    }

    /// The number behind the batch that begins at `first`, if there is one before `tail`.
    pub(in crate::vtd) fn end_of(&self, hal: &impl Hal, first: u64, tail: u64) -> Option<u64> {
        let end = first + self.note(hal, first) % STRIKE;
        (first < end && end <= tail).then_some(end)
    }

    fn note(&self, hal: &impl Hal, number: u64) -> u64 {
        self.status.pairs().load_second(hal, number as usize)
    }
}
