//! From the state in which firmware left a unit to translation by the driver's tables, and back.
//!
//! What firmware left on stays on as long as it can: a unit that was translating goes on with firmware's tables until all
//! is ready for the driver's own. Then translation has to be off for a moment, unless the unit has abort mode.

use tock_registers::interfaces::{Readable, Writeable};

use super::command::Command;
use super::counters::Counters;
use super::faults::event;
use super::former::{self, Former};
use super::interrupts::{self, InterruptTable};
use super::invalidation::queue::{Queue, QueueFrames};
use super::invalidation::register_based;
use super::protected;
use super::registers::{FSTS, GSTS, RTADDR, Status};
use super::tables::Tables;
use super::unit::{Invalidator, VtdUnit};
use crate::contract::{Found, MainMemory};
use crate::error::UnitError;
use crate::hal::Hal;

impl VtdUnit {
    /// Fails if the unit cannot do what the driver needs. Touches nothing.
    fn check_supported(&self) -> Result<(), UnitError> {
        let unit = self.window;
        if !self.capabilities.queued_invalidation && !self.capabilities.has_invalidation_registers() {
            let (bit, missing) = ("QI", "invalidation queue, and no invalidation registers either");
            return Err(UnitError::Unsupported { unit, register: "ECAP_REG", bit, missing });
        }
        if self.capabilities.geometry(u8::MAX).is_none() {
            let (bit, missing) = ("SAGAW", "address width, so DMA cannot be remapped");
            return Err(UnitError::Unsupported { unit, register: "CAP_REG", bit, missing });
        }
        Ok(())
    }

    /// Gets the tables in which every device is blocked, so that devices can be given entries before the unit is switched on.
    /// Touches no register. Does nothing to a unit that has tables.
    ///
    /// # Errors
    ///
    /// The unit cannot be used, failed before, or found no frame. Or it has no tables although it was to be switched on before:
    /// that has to be repeated.
    pub(crate) fn prepare(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        if self.invalidator.is_some() && self.tables.is_none() {
            return Err(UnitError::Failed { unit: self.window });
        }
        self.forgive_lack_of_frames()?;
        let result = self.check_supported().and_then(|()| self.make_interrupt_table(hal));
        let result = result.and_then(|()| self.root_table(hal).map(drop));
        self.guard(result)
    }

    /// Gets ready to invalidate: switches the queue on, if there is one, after what firmware may have left was switched off
    /// and cleared (R14, R16, R69). Leaves translation as it is.
    ///
    /// A unit goes through this before it goes through [`start_translation`](Self::start_translation) (R11). Does nothing
    /// to a unit that is on, as its registers show.
    ///
    /// Interrupt remapping that somebody left on stays on by their table if the driver's can follow it, and is switched off before
    /// its queue is otherwise (R61, R69). Events are masked, so that nobody gets those of a former owner (R64b).
    ///
    /// # Errors
    ///
    /// The unit cannot be used, failed before, fails now, or found no frames. Devices reach what they reached before.
    #[inline(never)]
    pub(crate) fn start_invalidation(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.notice_reset(hal);
        self.forgive_lack_of_frames()?;
        if self.on {
            return Ok(());
        }
        let result = self.prepare_invalidation(hal);
        self.guard_present(hal, result)
    }

    /// [`guard`](Self::guard), but a unit that is gone says only that.
    pub(super) fn guard_present(&mut self, hal: &impl Hal, result: Result<(), UnitError>) -> Result<(), UnitError> {
        if let Err(gone) = self.registers(hal).status() {
            *self.failure.get_mut() = None;
            return self.guard(Err(gone));
        }
        self.guard(result)
    }

    /// A unit that found no frames may try again; one that failed otherwise may not.
    pub(super) fn forgive_lack_of_frames(&mut self) -> Result<(), UnitError> {
        self.check_usable()?;
        if matches!(self.failure.get_mut(), Some(UnitError::NoFrame { .. })) {
            self.forgive();
        }
        self.check_alive()
    }

    /// Makes its queue, if it has one: of wide descriptors where it may abort DMA meanwhile, or was left in another mode than
    /// legacy, in which no others are valid (S 6.5.2, table 26).
    #[inline(never)]
    fn make_invalidator(&mut self, hal: &impl Hal, status: Status) -> Result<(), UnitError> {
        if !self.capabilities.queued_invalidation {
            self.invalidator = Some(Invalidator::Registers);
            return Ok(());
        }
        let other_mode = self.registers(hal).rtaddr().read(RTADDR::TTM) != RTADDR::TTM::Legacy.value;
        let wide = self.capabilities.can_abort_meanwhile() || status.is_set(GSTS::RTPS) && other_mode;
        let frames = QueueFrames::allocate(hal, self.config.queue_slots, self.config.host_bits, wide);
        self.invalidator = Some(Invalidator::Queue(Queue::of(frames.map_err(UnitError::no_frame(self.window))?)));
        Ok(())
    }

    /// Fails if somebody else has the unit on, in a way that the driver would end, and was not to be taken over. Touches nothing.
    pub(crate) fn check_free(&self, hal: &impl Hal) -> Result<(), UnitError> {
        if self.invalidator.is_some() || self.check_usable().is_err() {
            return Ok(());
        }
        // One that is gone says so when it is to be switched on.
        let Ok(status) = self.registers(hal).status() else { return Ok(()) };
        let on = [(GSTS::TES::SET, "TES"), (GSTS::QIES::SET, "QIES"), (GSTS::IRES::SET, "IRES")];
        let on = on.into_iter().find(|(bit, _)| status.any_matching_bits_set(*bit));
        on.map_or(Ok(()), |(_, bit)| Err(UnitError::FoundOn { unit: self.window, register: "GSTS_REG", bit }))
    }

    /// What a reset has left is not what a former owner had, so it is read once.
    #[inline(never)]
    fn note_former(&mut self, hal: &impl Hal, status: Status) {
        if self.former.is_none() {
            self.former = Some(Former::read(&self.registers(hal), &self.capabilities, status));
        }
    }

    /// True if interrupts are remapped by the driver's table, as far as registers say.
    fn remaps_by_own_table(&self, hal: &impl Hal, status: Status) -> bool {
        status.is_set(GSTS::IRES) && self.interrupt_table() == Some(self.registers(hal).irta().get())
    }

    pub(super) fn prepare_invalidation(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.check_supported()?;
        self.released = false;
        let registers = self.registers(hal);
        let status = registers.status()?;
        if !self.met {
            let found = former::found(&registers, status);
            // It may have lost translation alone since, and go on by the driver's table.
            let is_own = self.remaps_by_own_table(hal, status);
            let interrupts = if is_own { self.found.interrupts } else { found.interrupts };
            self.found = Found { interrupts, ..found };
            self.followed &= is_own;
            self.met = true;
        }
        self.note_former(hal, status);
        event::mask_all(&registers, &self.capabilities);
        self.make_interrupt_table(hal)?;
        if status.is_set(GSTS::IRES) && !self.remaps_by_own_table(hal, status) {
            let theirs = interrupts::at(registers.irta().get());
            self.followed = self.interrupts.as_ref().is_some_and(|table| table.may_follow(theirs));
            self.found.interrupts = Some(theirs);
            self.passed_compatibility = status.is_set(GSTS::CFIS);
            if !self.followed {
                self.command(hal, Command::INTERRUPTS_OFF)?;
            }
        }
        self.queue_on = false;
        if status.is_set(GSTS::QIES) {
            Queue::stop(&registers, self.config.timeout_ns)?;
            if let Some(former) = &mut self.former {
                former.note_end_of_queue(&registers);
            }
        }
        // Only what is set: the other bits may be reserved on this unit (S 11.4.7.1).
        let errors = (FSTS::IQE::SET + FSTS::ICE::SET + FSTS::ITE::SET).mask();
        registers.fsts().set(registers.fault_status()?.get() & errors);
        self.drop_faults(hal);
        self.counters = Counters::new();
        if self.capabilities.has_invalidation_registers() {
            register_based::wait_idle(&registers, &self.capabilities, self.config.timeout_ns)?;
        }
        if self.invalidator.is_none() {
            self.make_invalidator(hal, status)?;
        }
        if let Some(Invalidator::Queue(queue)) = &self.invalidator {
            queue.start(&registers, self.config.timeout_ns)?;
            self.queue_on = true;
            queue.wait_for_all(&registers, self.config.timeout_ns)?;
        }
        if let Some(former) = &mut self.former {
            former.returning = false;
        }
        Ok(())
    }

    /// Gives the unit its root table and switches translation on: from then on every request is blocked, except those of devices
    /// that were given entries before (R7, R8, R10, R12). Does nothing to a unit that is on.
    ///
    /// A unit that firmware left translating changes over without a gap if it has abort mode, or if it can protect all of
    /// `memory` meanwhile (S 3.4.4, 11.4.8).
    ///
    /// # Errors
    ///
    /// As for [`start_invalidation`](Self::start_invalidation), but a unit that was translating may not be any more: see
    /// [`VtdUnit::state`].
    pub(crate) fn start_translation(&mut self, hal: &impl Hal, memory: Option<MainMemory>) -> Result<(), UnitError> {
        self.check_alive()?;
        if self.on {
            return Ok(());
        }
        let result = self.switch_on(hal, memory);
        self.guard_present(hal, result)
    }

    fn switch_on(&mut self, hal: &impl Hal, memory: Option<MainMemory>) -> Result<(), UnitError> {
        self.start_remapping(hal)?;
        let registers = self.registers(hal);
        let translates = || registers.status().map(|status| status.is_set(GSTS::TES));
        // Devices that have entries in its tables wait for them no longer than they have to. Only wide descriptors are valid in
        // abort mode.
        if (self.tables.is_none() || translates()?)
            && self.capabilities.can_abort_meanwhile()
            && self.queue().is_some_and(Queue::is_wide)
        {
            self.set_root(hal, RTADDR::TTM::Abort.value)?;
            if !translates()? {
                self.command(hal, Command::TRANSLATION_ON)?;
            }
            self.blocking = true;
        }
        // What follows does not fail for lack of frames, so translation is not off for long.
        let root = self.root_table(hal)?;
        if translates()? && !self.blocking {
            let covered = match memory {
                Some(memory) => protected::cover(&registers, &self.capabilities, memory, self.config.timeout_ns)?,
                None => false,
            };
            self.found.gap = !covered;
            self.command(hal, Command::TRANSLATION_OFF)?;
        }
        self.set_root(hal, root)?;
        if !translates()? {
            self.command(hal, Command::TRANSLATION_ON)?;
        }
        (self.blocking, self.on) = (true, true);
        if protected::is_on(&registers) {
            protected::switch(&registers, false, self.config.timeout_ns)?;
        }
        let wanted = *self.event.get_mut();
        if wanted.is_some() { event::set(&registers, &self.capabilities, wanted) } else { Ok(()) }
    }

    /// Makes its table of interrupts, if it is to have one.
    fn make_interrupt_table(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(config) = self.config.interrupts.filter(|_| self.interrupts.is_none()) else { return Ok(()) };
        let table = InterruptTable::new(hal, config, self.config.host_bits, self.capabilities.coherent);
        self.interrupts = Some(table.map_err(UnitError::no_frame(self.window))?);
        Ok(())
    }

    /// Has the unit remap interrupts by its table, if it has one, and let none through in compatibility format (R52, R53). One that
    /// still does by the table that was found changes over: what both have goes on without a gap, and what only that one had is
    /// blocked (S 6.7).
    fn start_remapping(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(table) = &self.interrupts else { return Ok(()) };
        self.set_interrupt_table(hal, table.pointer())?;
        let status = self.registers(hal).status()?;
        if status.is_set(GSTS::CFIS) {
            self.command(hal, Command::COMPATIBILITY_OFF)?;
        }
        if !status.is_set(GSTS::IRES) {
            self.command(hal, Command::INTERRUPTS_ON)?;
        }
        self.remapping = true;
        Ok(())
    }

    /// Has the unit take over a table of interrupts, and drop what it cached from the last one.
    pub(super) fn set_interrupt_table(&mut self, hal: &impl Hal, pointer: u64) -> Result<(), UnitError> {
        if self.capabilities.write_buffer_flush {
            self.command(hal, Command::FLUSH_WRITE_BUFFER)?;
        }
        self.registers(hal).irta().set(pointer);
        self.interrupts_set = pointer;
        self.command(hal, Command::SET_INTERRUPT_TABLE)?;
        if self.capabilities.interrupt_pointer_invalidates { Ok(()) } else { self.invalidate_everything(hal) }
    }

    /// Where the driver's root table is, which is made if there is none.
    fn root_table(&mut self, hal: &impl Hal) -> Result<u64, UnitError> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => Tables::new(hal, self.config.host_bits, self.capabilities.coherent)
                .map_err(UnitError::no_frame(self.window))?,
        };
        let root = tables.root().as_u64();
        self.tables = Some(tables);
        Ok(root)
    }

    /// Has the unit take over a root table, or none in abort mode, and drop what it cached from the last one.
    pub(super) fn set_root(&mut self, hal: &impl Hal, value: u64) -> Result<(), UnitError> {
        if self.capabilities.write_buffer_flush {
            self.command(hal, Command::FLUSH_WRITE_BUFFER)?;
        }
        self.registers(hal).rtaddr().set(value);
        self.root_set = value;
        self.command(hal, Command::SET_ROOT_TABLE)?;
        if self.capabilities.root_pointer_invalidates { Ok(()) } else { self.invalidate_everything(hal) }
    }
}
