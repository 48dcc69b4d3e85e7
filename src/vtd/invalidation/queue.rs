//! The invalidation queue (S 6.5.2).
//!
//! Every descriptor has a number: how many were submitted before it. A batch ends with a wait descriptor that stores the
//! number behind it into the status word of its own slot (R17), in memory that lives as long as the queue (R18).
//! Submitting takes the queue's lock; waiting takes none, unless the unit stopped: whoever sees that first puts it right for
//! all (R19 to R22).
//!
//! What belongs to a batch is kept beside its slots, so there is no limit but their number, and a ticket that nobody waits
//! for costs nothing: the slots of a batch are free again when it is done, whoever looks.
#![forbid(unsafe_code)]

#[path = "queue/failures.rs"]
mod failures;
#[path = "queue/recovery.rs"]
mod recovery;

use core::{fmt, iter};

use tock_registers::interfaces::{Readable, Writeable};

use super::sync::{AtomicU64, Ordering, UnitMutex, fence};
use crate::addr::PhysAddr;
use crate::error::UnitError;
use crate::hal::{Frames, Hal, NoFrame, Pairs};
use crate::vtd::command::{Command, wait_until};
use crate::vtd::invalidation::descriptor::Descriptor;
use crate::vtd::registers::{FSTS, IQA, IQH, IQT, Registers};
use failures::Failures;

/// Slots of a queue of one page, QS = 0: descriptors of 128 bits (R15).
const SLOTS_A_PAGE: u16 = 256;
/// The largest QS (S 11.4.9.3).
const LARGEST: u32 = 7;
/// Looks at the status word before the unit's registers are read, which is far slower.
const QUICK_LOOKS: u32 = 64;

/// What was submitted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::vtd) struct Counts {
    pub(in crate::vtd) descriptors: u64,
    pub(in crate::vtd) waits: u64,
    pub(in crate::vtd) doorbells: u64,
    pub(in crate::vtd) completion_errors: u64,
}

/// A batch that was submitted.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "nothing is known to be invalidated before the batch is done"]
pub(crate) struct Ticket {
    /// The number behind its wait descriptor.
    pub(in crate::vtd) end: u64,
    /// It is done only when devices have answered: what it asks of them, or what a batch before it does.
    pub(in crate::vtd) for_devices: bool,
}

#[derive(Debug)]
struct QueueState {
    /// The number of the next descriptor.
    tail: u64,
    /// What to add to a number to find its slot, modulo their number. It changes when descriptors are laid out again (R20).
    skew: u64,
    waits: u64,
    doorbells: u64,
    /// The end of the last batch that asks devices.
    devices_end: u64,
    failures: Failures,
}

/// A unit's queue.
pub(in crate::vtd) struct Queue {
    ring: Frames,
    /// A pair of words for each descriptor, whose place follows from its number alone: one whose lower half the unit writes,
    /// and a note for ourselves.
    status: Frames,
    state: UnitMutex<QueueState>,
    /// The number of the oldest descriptor that is not known to be done. Written under the lock.
    done: AtomicU64,
    /// The end of the last batch that failed, so that those behind it need not look why. Written under the lock.
    failed: AtomicU64,
    /// How often a device answered without a request (R22).
    completion_errors: AtomicU64,
    /// The number of slots, a power of two, less one.
    mask: u64,
    /// Descriptors have 256 bits, of which the upper 128 stay zero (S 6.5.2, table 26).
    wide: bool,
}

/// What a queue lies in.
#[derive(Debug)]
pub(in crate::vtd) struct QueueFrames {
    ring: Frames,
    status: Frames,
    wide: bool,
}

impl QueueFrames {
    /// Those of a queue with this many slots, rounded up to a power of two from 256 to 2^15, that take `host_bits` bits to address. A
    /// `wide` one also serves a unit in abort mode, takes twice the frames, and has 2^14 slots at most (R15).
    #[inline(never)]
    pub(in crate::vtd) fn allocate(hal: &impl Hal, slots: u16, host_bits: u8, wide: bool) -> Result<Self, NoFrame> {
        let pages = u32::from(slots).div_ceil(SLOTS_A_PAGE.into()).next_power_of_two();
        let order = pages.trailing_zeros().min(LARGEST - u32::from(wide)) as u8;
        let ring = Frames::allocate(hal, order + u8::from(wide), host_bits)?;
        match Frames::allocate(hal, order, host_bits) {
            Ok(status) => Ok(Self { ring, status, wide }),
            Err(error) => {
                ring.give_back(hal);
                Err(error)
            }
        }
    }
}

impl Queue {
    /// An empty queue in fresh frames.
    #[cfg(any(test, feature = "internals"))]
    pub(in crate::vtd) fn new(hal: &impl Hal, slots: u16, host_bits: u8, wide: bool) -> Result<Self, NoFrame> {
        QueueFrames::allocate(hal, slots, host_bits, wide).map(Self::of)
    }

    /// An empty queue that no unit knows yet. It is too large to be moved about.
    #[inline(always)]
    pub(in crate::vtd) fn of(QueueFrames { ring, status, wide }: QueueFrames) -> Self {
        let mask = u64::from(SLOTS_A_PAGE) * u64::from(ring.count() >> u8::from(wide)) - 1;
        let state =
            QueueState { tail: 0, skew: 0, waits: 0, doorbells: 0, devices_end: 0, failures: Failures::default() };
        let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let (state, completion_errors) = (UnitMutex::new(state), AtomicU64::new(0));
        Self { ring, status, state, done, failed, completion_errors, mask, wide }
    }

    /// Frames that it takes.
    pub(in crate::vtd) fn frames(&self) -> u32 {
        [&self.ring, &self.status].iter().map(|frames| frames.count()).sum()
    }

    /// True if it serves a unit in abort mode as well.
    pub(in crate::vtd) fn is_wide(&self) -> bool {
        self.wide
    }

    /// The slot that IQH shows.
    fn head<H: Hal>(&self, registers: &Registers<'_, H>) -> u64 {
        registers.iqh().read(IQH::QH) >> u8::from(self.wide)
    }

    /// A batch of this length fits into any queue that is empty. What is for a device counts twice: a wait may come between.
    pub(in crate::vtd) const BATCH: usize = SLOTS_A_PAGE as usize / 2 - 2;

    /// How many slots may be in use. One stays empty, or a full ring would look like an empty one (R15), and as many again
    /// as are in use, to issue those once more from wherever the unit stopped (R20).
    fn capacity(&self) -> u64 {
        self.mask / 2
    }

    /// Gives the queue to the unit and switches it on (R14). The unit's queue is off; what was under way is dropped.
    pub(in crate::vtd) fn start<H: Hal>(&self, registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
        {
            let mut state = self.state.lock();
            self.done.store(state.tail, Ordering::Release);
            // A queue that is switched on begins at slot 0.
            state.skew = state.tail.wrapping_neg();
        }
        registers.iqt().set(0);
        let (base, size) = (self.ring.base().as_u64() >> 12, self.ring.count().trailing_zeros());
        registers.iqa().write(IQA::IQA.val(base) + IQA::DW.val(self.wide.into()) + IQA::QS.val(size.into()));
        registers.hal.fence();
        Command::QUEUE_ON.run(registers, timeout_ns)
    }

    /// Switches off the queue that is on, whoever made it: waits until it is empty first (R14, R69). What was
    /// not fetched from one that an error stopped is dropped: all caches are invalidated before a table is used.
    pub(in crate::vtd) fn stop<H: Hal>(registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
        let empty = || {
            let stopped = registers.fault_status()?.get() & (FSTS::IQE::SET + FSTS::ITE::SET).mask();
            if stopped != 0 {
                // In this order: as long as the error stands, nothing is fetched (S 6.5.2.11).
                registers.iqt().write(IQT::QT.val(registers.iqh().read(IQH::QH)));
                registers.fsts().set(stopped);
            }
            Ok(registers.iqh().read(IQH::QH) == registers.iqt().read(IQT::QT))
        };
        wait_until(registers, timeout_ns, "IQH_REG", "QH", empty)?;
        Command::QUEUE_OFF.run(registers, timeout_ns)
    }

    /// Its frames, which the unit may use until it has confirmed that the queue is off.
    pub(in crate::vtd) fn into_frames(self) -> [Frames; 2] {
        [self.ring, self.status]
    }

    /// [Submits](Self::submit) a batch, waiting for room if need be.
    ///
    /// # Errors
    ///
    /// There is none in time: nothing was submitted.
    pub(in crate::vtd) fn begin<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        unit: impl ExactSizeIterator<Item = Descriptor> + Clone,
        devices: impl ExactSizeIterator<Item = Descriptor> + Clone,
        timeout_ns: u64,
    ) -> Result<Ticket, UnitError> {
        loop {
            if let Some(ticket) = self.submit(registers, unit.clone(), devices.clone()) {
                return Ok(ticket);
            }
            self.wait_for_room(registers, unit.len() + devices.len() * 2, timeout_ns)?;
        }
    }

    /// Waits until all that was submitted is done: nothing, of a queue that was just switched on, whose unit is proven to serve
    /// it then.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub(in crate::vtd) fn wait_for_all<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        let last = self.begin(registers, iter::empty(), iter::empty(), timeout_ns)?;
        self.wait(registers, last, timeout_ns)
    }

    /// Waits until a batch of this length would fit, of which what is for devices counts twice.
    pub(in crate::vtd) fn wait_for_room<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        length: usize,
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        registers.check_queue()?;
        wait_until(registers, timeout_ns, "IQH_REG", "QH", || {
            self.recover(registers)?;
            Ok(self.has_room(registers.hal, &self.state.lock(), length))
        })
    }

    fn has_room(&self, hal: &impl Hal, state: &QueueState, length: usize) -> bool {
        let used = state.tail - self.reclaim(hal, state.tail);
        (length as u64) < self.capacity() - used
    }

    /// Puts a batch and its wait into the ring and rings the doorbell once: first what the unit has cached, then what devices
    /// have (R24).
    ///
    /// A device gets no more invalidations at a time than it takes (R23), for which waits are put in between: each holds
    /// back what follows until the devices have answered, and so does the wait at the end of a batch for devices.
    ///
    /// `None` if there is no room: nothing was submitted.
    #[inline]
    pub(in crate::vtd) fn submit<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        unit: impl ExactSizeIterator<Item = Descriptor> + Clone,
        devices: impl ExactSizeIterator<Item = Descriptor> + Clone,
    ) -> Option<Ticket> {
        let hal = registers.hal;
        let state = &mut *self.state.lock();
        // As if each of a device's were followed by a wait.
        if !self.has_room(hal, state, unit.len() + devices.len() * 2) {
            return None;
        }
        let (first, slots, status) = (state.tail, self.slots_from(state.skew), self.status.pairs());
        let mut number = first;
        for descriptor in unit {
            debug_assert_eq!(descriptor.device_tlb(), None, "it belongs to the devices");
            slots.put(hal, number, descriptor);
            number += 1;
        }
        let (mut unanswered, mut fences) = (0, 0);
        for descriptor in devices {
            if descriptor.device_tlb().is_some_and(|(_, depth)| unanswered >= depth) {
                slots.put(hal, number, self.wait_at(number).fence());
                (number, unanswered, fences) = (number + 1, 0, fences + 1);
            }
            unanswered += 1;
            status.store_second(hal, number as usize, 0);
            slots.put(hal, number, descriptor);
            number += 1;
        }
        let (wait, end) = (self.wait_at(number), number + 1);
        slots.put(hal, number, if unanswered == 0 { wait } else { wait.fence() });
        // Not done, whatever an earlier batch left in the word.
        status.store_first(hal, number as usize, u64::from(!(end as u32)));
        status.store_second(hal, first as usize, end - first);
        state.tail = end;
        state.waits += 1 + fences;
        self.ring(registers, state);
        if unanswered != 0 {
            state.devices_end = end;
        }
        Some(Ticket { end, for_devices: self.waits_for_devices(state) })
    }

    fn waits_for_devices(&self, state: &QueueState) -> bool {
        state.devices_end > self.done.load(Ordering::Relaxed)
    }

    /// True if a device may still have to answer.
    pub(in crate::vtd) fn asks_devices(&self) -> bool {
        self.waits_for_devices(&self.state.lock())
    }

    /// Rings the doorbell.
    fn ring<H: Hal>(&self, registers: &Registers<'_, H>, state: &mut QueueState) {
        state.doorbells += 1;
        registers.hal.fence();
        let slot = state.tail.wrapping_add(state.skew) & self.mask;
        registers.iqt().set(IQT::QT.val(slot << u8::from(self.wide)).value);
    }

    fn slots_from(&self, skew: u64) -> Slots<'_> {
        Slots { ring: self.ring.pairs(), skew, wide: self.wide }
    }

    /// The wait descriptor of this number: what it stores says that all before it are done, and no other number's does.
    fn wait_at(&self, number: u64) -> Descriptor {
        let offset = (number & self.mask) * 16;
        Descriptor::wait(PhysAddr::new_truncate(self.status.base().as_u64() + offset), number.wrapping_add(1) as u32)
    }

    /// True if the wait descriptor of the batch that ends there has stored its number.
    fn is_confirmed(&self, hal: &impl Hal, end: u64) -> bool {
        let confirmed = self.status.pairs().load_first(hal, end.wrapping_sub(1) as usize) as u32 == end as u32;
        // Whatever is looked at next is not older than that.
        fence(Ordering::Acquire);
        confirmed
    }

    /// Frees the slots of batches that are done, oldest first. Returns the number of the first that is not.
    fn reclaim(&self, hal: &impl Hal, tail: u64) -> u64 {
        let before = self.done.load(Ordering::Relaxed);
        let mut done = before;
        while let Some(end) = self.end_of(hal, done, tail)
            && self.is_confirmed(hal, end)
        {
            done = end;
        }
        if done != before {
            self.done.store(done, Ordering::Release);
        }
        done
    }

    fn is_done(&self, hal: &impl Hal, ticket: &Ticket) -> bool {
        // A later batch takes the slot, and with it the word, only when this one is known to be done.
        self.is_confirmed(hal, ticket.end) || self.done.load(Ordering::Acquire) >= ticket.end
    }

    /// Whether a batch is done, and how that went.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait) except a timeout.
    pub(in crate::vtd) fn poll<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        ticket: &Ticket,
    ) -> Option<Result<(), UnitError>> {
        if !self.is_done(registers.hal, ticket) {
            if let Err(gone) = self.recover(registers) {
                return Some(Err(gone));
            }
            if !self.is_done(registers.hal, ticket) {
                return None;
            }
        }
        Some(self.outcome(registers, ticket))
    }

    /// Waits until a batch is done.
    ///
    /// # Errors
    ///
    /// One of its descriptors was refused, or a device did not answer one, so that nothing of it is known to be
    /// invalidated. Or the unit is gone, was reset, or does not confirm in time.
    #[inline]
    pub(in crate::vtd) fn wait<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        ticket: Ticket,
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        let hal = registers.hal;
        let soon = (0..QUICK_LOOKS).any(|_| {
            let done = self.is_done(hal, &ticket);
            if !done {
                hal.pause();
            }
            done
        });
        if soon {
            return self.outcome(registers, &ticket);
        }
        registers.check_queue()?;
        let mut result = Ok(());
        wait_until(registers, timeout_ns, "IQ status word", "invalidation wait", || {
            let outcome = self.poll(registers, &ticket);
            result = outcome.unwrap_or(result);
            Ok(outcome.is_some())
        })?;
        result
    }

    /// How it went with a batch that is done. A failure is noted before the unit may go on, so it is known by now.
    fn outcome<H: Hal>(&self, registers: &Registers<'_, H>, ticket: &Ticket) -> Result<(), UnitError> {
        if ticket.end > self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let cause = self.state.lock().failures.of(ticket.end);
        cause.map_or(Ok(()), |cause| Err(cause.error(registers.window)))
    }

    /// Counts and clears a completion error: a device answered without a request, and the queue runs (R22). Nobody may be
    /// waiting, and as long as it stands, no fault event comes (S 7.3). Takes no lock.
    ///
    /// # Errors
    ///
    /// The unit is gone.
    pub(in crate::vtd) fn clear_completion_error<H: Hal>(&self, registers: &Registers<'_, H>) -> Result<(), UnitError> {
        if registers.fault_status()?.is_set(FSTS::ICE) {
            registers.fsts().write(FSTS::ICE::SET);
            self.completion_errors.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets go of a queue whose unit is out of service: what was not fetched is dropped, and no error is left standing, since as
    /// long as one does, no fault event comes (S 7.3). Takes no lock, and may be repeated.
    ///
    /// # Errors
    ///
    /// The unit is gone.
    pub(in crate::vtd) fn abandon<H: Hal>(registers: &Registers<'_, H>) -> Result<(), UnitError> {
        let errors = registers.fault_status()?.get() & (FSTS::IQE::SET + FSTS::ICE::SET + FSTS::ITE::SET).mask();
        if errors != 0 {
            // In this order: as long as the error stands, nothing is fetched (S 6.5.2.11).
            registers.iqt_lower().set(registers.iqh_lower().get());
            registers.fsts().set(errors);
        }
        Ok(())
    }

    /// What was submitted so far.
    pub(in crate::vtd) fn counts(&self) -> Counts {
        let QueueState { tail, waits, doorbells, .. } = *self.state.lock();
        let completion_errors = self.completion_errors.load(Ordering::Relaxed);
        Counts { descriptors: tail, waits, doorbells, completion_errors }
    }
}

/// The ring's slots, by the numbers of descriptors.
#[derive(Clone, Copy)]
struct Slots<'q> {
    ring: Pairs<'q>,
    skew: u64,
    wide: bool,
}

impl Slots<'_> {
    /// The index of a descriptor's pair of words.
    fn slot(self, number: u64) -> usize {
        (number.wrapping_add(self.skew) << u8::from(self.wide)) as usize
    }

    fn put(self, hal: &impl Hal, number: u64, descriptor: Descriptor) {
        let slot = self.slot(number);
        self.ring.store_first(hal, slot, descriptor.lower);
        self.ring.store_second(hal, slot, descriptor.upper);
    }

    fn get(self, hal: &impl Hal, number: u64) -> Descriptor {
        let slot = self.slot(number);
        Descriptor { lower: self.ring.load_first(hal, slot), upper: self.ring.load_second(hal, slot) }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("ring", &self.ring).field("state", &self.state).finish_non_exhaustive()
    }
}
