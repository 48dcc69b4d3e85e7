//! What a unit's registers showed before the driver changed them, and how they show it again.

use core::ptr::NonNull;

use tock_registers::interfaces::{Readable, Writeable};

use super::Capabilities;
use super::command::{Command, wait_until};
use super::faults::event;
use super::interrupts;
use super::invalidation::queue::Queue;
use super::protected;
use super::registers::{GSTS, IQA, IQH, IQT, RTADDR, Registers, Status};
use crate::addr::{PhysAddr, PhysRange};
use crate::contract::Found;
use crate::error::UnitError;
use crate::hal::Hal;

/// The first word of a descriptor that harms nothing: a wait that writes 0 where its second word says (S 6.5.2.8). The others are zero.
/// Nobody can switch a queue off whose last descriptor is no wait (R14).
const WAIT: u64 = 0x25;

/// What registers showed before the driver changed them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    pub(super) status: Status,
    pub(super) root: u64,
    pub(super) interrupts: u64,
    queue: u64,
    /// Where the queue was empty, once it was.
    tail: u64,
    /// It was to have its registers back, and that failed: what they show is not what it had.
    pub(super) returning: bool,
    pub(super) events: event::FormerEvents,
    /// The regions that were protected, if any were.
    pub(super) protected: Option<protected::FormerRegions>,
}

/// What a unit does at this moment, before the driver changes something.
pub(super) fn found<H: Hal>(registers: &Registers<'_, H>, status: Status) -> Found {
    Found {
        translating: status.is_set(GSTS::TES),
        queue: status.is_set(GSTS::QIES),
        interrupts: status.is_set(GSTS::IRES).then(|| interrupts::at(registers.irta().get())),
        fault_event: event::is_sent(registers),
        gap: false,
    }
}

impl Former {
    /// Reads them.
    pub(super) fn read<H: Hal>(registers: &Registers<'_, H>, unit: &Capabilities, status: Status) -> Self {
        let (queue, tail) =
            if unit.queued_invalidation { (registers.iqa().get(), registers.iqt().get()) } else { (0, 0) };
        Self {
            status,
            root: registers.rtaddr().get(),
            interrupts: if unit.interrupt_remapping { registers.irta().get() } else { 0 },
            queue,
            tail,
            returning: false,
            events: event::FormerEvents::read(registers, unit),
            protected: protected::FormerRegions::read(registers, unit),
        }
    }

    /// Notes where the former owner's queue ends, which has nothing left to do; another is none of its.
    pub(super) fn note_end_of_queue<H: Hal>(&mut self, registers: &Registers<'_, H>) {
        if registers.iqa().get() == self.queue && !self.returning {
            self.tail = registers.iqt().get();
        }
    }

    /// True if it translated in legacy mode, which the driver can leave to it without a gap.
    pub(super) fn translates(&self) -> bool {
        self.status.is_set(GSTS::TES) && self.root >> 10 & 0b11 == RTADDR::TTM::Legacy.value
    }

    /// True if a root table was set, used or not, or abort mode, which has no address.
    pub(super) fn had_root_set(&self) -> bool {
        self.status.is_set(GSTS::RTPS) && self.root != 0
    }

    /// True if a table of interrupts was set, used or not.
    pub(super) fn had_interrupts_set(&self) -> bool {
        self.status.is_set(GSTS::IRTPS) && self.interrupts & !0xfff != 0
    }

    /// Fails if the unit has lost in a reset what goes on by the former owner's tables, or which tables those are.
    pub(super) fn check_goes_on<H: Hal>(&self, registers: &Registers<'_, H>) -> Result<(), UnitError> {
        let now = registers.status()?;
        let has = [
            (self.translates(), GSTS::TES::SET, "TES"),
            (self.had_root_set(), GSTS::RTPS::SET, "RTPS"),
            (self.had_interrupts_set(), GSTS::IRTPS::SET, "IRTPS"),
        ];
        let lost = has.into_iter().find(|(had, bit, _)| *had && !now.any_matching_bits_set(*bit));
        lost.map_or(Ok(()), |(.., bit)| Err(registers.was_reset("GSTS_REG", bit)))
    }

    fn has_wide_queue(&self) -> bool {
        self.queue & IQA::DW::SET.value != 0
    }

    /// Fails if the unit refuses a descriptor of its queue, which it does after a reset, too.
    pub(super) fn check_taken<H: Hal>(&self, registers: &Registers<'_, H>) -> Result<(), UnitError> {
        let taken = Queue::check_refused(registers, self.has_wide_queue());
        if taken.is_err() {
            self.check_goes_on(registers)?;
            if registers.iqa().get() != self.queue {
                return Err(registers.was_reset("IQA_REG", "IQA"));
            }
        }
        taken
    }

    /// Where the descriptors of its queue were up to its tail, if it was on.
    pub(super) fn used_queue(&self) -> Option<PhysRange> {
        let base = PhysAddr::try_new(self.queue & !0xfff).ok()?;
        let used = PhysRange::new(base, self.tail & 0x7_fff0);
        used.filter(|_| self.status.is_set(GSTS::QIES))
    }

    /// Switches the queue on again, if it was on, with head and tail where they were: a queue that is switched on begins at its first slot
    /// (S 6.5.2), so it is given something to do for each slot up to there: a wait that writes to its own slot.
    pub(super) fn give_queue_back<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        used: Option<NonNull<u64>>,
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        registers.iqt().set(0);
        registers.iqa().set(self.queue);
        if !self.status.is_set(GSTS::QIES) {
            registers.iqt().set(self.tail);
            return Ok(());
        }
        if let Some(first) = used {
            let wide = self.has_wide_queue();
            for word in 0..(self.tail & 0x7_fff0) as usize / size_of::<u64>() {
                let value = match word % if wide { 4 } else { 2 } {
                    0 => WAIT,
                    1 => (self.queue & !0xfff) + (word * size_of::<u64>()) as u64,
                    _ => 0,
                };
                // SAFETY: the platform says that all of the queue up to its tail may be written there, and that nobody else does.
                let entry = unsafe { first.add(word) };
                // SAFETY: as above.
                unsafe { registers.hal.store(entry, value) };
            }
            registers.hal.fence();
        }
        Command::QUEUE_ON.run(registers, timeout_ns)?;
        registers.iqt().set(self.tail);
        let is_done = || {
            self.check_taken(registers)?;
            Ok(registers.iqh().read(IQH::QH) == registers.iqt().read(IQT::QT))
        };
        wait_until(registers, timeout_ns, "IQH_REG", "QH", is_done)
    }
}
