//! Units are switched off, or given back as they were found, with what devices do going on.

use core::ptr::NonNull;

use tock_registers::interfaces::{Readable, Writeable};

use super::command::Command;
use super::former::Former;
use super::interrupts;
use super::invalidation::queue::Queue;
use super::protected;
use super::registers::{GSTS, Status};
use super::unit::{Invalidator, VtdUnit};
use crate::error::UnitError;
use crate::hal::Hal;

/// What a unit does by a former owner's tables by now.
#[derive(Clone, Copy, Debug, Default)]
struct GivenBack {
    translation: bool,
    interrupts: bool,
}

impl VtdUnit {
    /// Switches translation off and gives all frames back: devices reach all memory again, except the regions that
    /// firmware had protected, which are protected again. No function may be admitted any more.
    ///
    /// Firmware's tables and its queue, if they were on, stay off: what became of their memory is not known. A table of interrupts
    /// that the driver's followed is taken back. The fault event stays masked. Does nothing to a unit that is off.
    ///
    /// # Errors
    ///
    /// The unit failed before, or at being given back: it is left as it is, blocking if it was. Or it did not confirm a step: its frames are
    /// never given back, and it is out of service.
    pub(crate) fn stop(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        if self.former.is_some_and(|former| former.returning) {
            return Err(UnitError::Failed { unit: self.window });
        }
        self.prepare_to_stop(hal)?;
        let result = self.switch_off(hal, GivenBack::default());
        if result.is_ok() {
            self.former = None;
        }
        self.guard_present(hal, result)
    }

    fn prepare_to_stop(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.check_usable()?;
        let uses_nothing = self.uses_nothing(hal);
        if self.guard(uses_nothing)? {
            self.notice_reset(hal);
        }
        self.forgive_lack_of_frames()
    }

    /// Switches off what is not a former owner's by now.
    fn switch_off(&mut self, hal: &impl Hal, kept: GivenBack) -> Result<(), UnitError> {
        // What is on is switched off, whoever did that since, and whatever else the registers have lost.
        let status = self.registers(hal).status()?;
        let was_started = self.invalidator.is_some();
        if !kept.translation && (self.blocking || was_started && status.is_set(GSTS::TES)) {
            self.stop_translation(hal)?;
        }
        if was_started && !kept.interrupts && status.is_set(GSTS::IRES) {
            self.stop_remapping(hal)?;
        }
        self.remapping = false;
        if was_started {
            self.protect_again(hal)?;
        }
        if status.is_set(GSTS::QIES) {
            self.stop_queue(hal)?;
        }
        self.queue_on = false;
        (self.met, self.followed) = (false, false);
        *self.event.get_mut() = None;
        self.give_frames_back(hal);
        *self.repeated.get_mut() = *self.failed_flushes.get_mut();
        Ok(())
    }

    #[inline(never)]
    fn stop_translation(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.set_fault_event(hal, None)?;
        self.protect_again(hal)?;
        self.command(hal, Command::TRANSLATION_OFF)?;
        (self.blocking, self.on) = (false, false);
        Ok(())
    }

    /// Protects the regions that were, or none: a take-over that failed may have left some.
    #[inline(never)]
    fn protect_again(&self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(former) = &self.former else { return Ok(()) };
        let (registers, timeout_ns) = (self.registers(hal), self.config.timeout_ns);
        match &former.protected {
            Some(regions) => regions.protect(&registers, &self.capabilities, timeout_ns),
            None if protected::is_on(&registers) => protected::switch(&registers, false, timeout_ns),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn stop_queue(&self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(queue) = self.queue() else { return Ok(()) };
        let registers = self.registers(hal);
        if self.queue_on {
            // R14: the last that was done is a wait.
            queue.wait_for_all(&registers, self.config.timeout_ns)?;
        }
        Queue::stop(&registers, self.config.timeout_ns)
    }

    /// Gives back the frames of a unit that uses none of them any more.
    #[inline(never)]
    fn give_frames_back(&mut self, hal: &impl Hal) {
        self.released = true;
        if let Some(Invalidator::Queue(queue)) = self.invalidator.take() {
            for frame in queue.into_frames() {
                // SAFETY: the unit shows that its queue is off, so it reads and writes none of its frames any more.
                unsafe { frame.free(hal) };
            }
        }
        if let Some(tables) = self.tables.take() {
            // SAFETY: the unit shows that it does not translate, or never learned of them.
            unsafe { tables.free(hal) };
        }
        if let Some(table) = self.interrupts.take() {
            // SAFETY: the unit has confirmed that it remaps interrupts by another table or not at all, or never learned of this one.
            unsafe { table.into_frames().free(hal) };
        }
    }

    /// Gives interrupts back, before its queue is switched off: to the table that was found, or to no remapping.
    fn stop_remapping(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(found) = self.found.interrupts.filter(|_| self.followed && self.queue_on) else {
            // Before its queue (R61).
            return self.command(hal, Command::INTERRUPTS_OFF);
        };
        self.set_interrupt_table(hal, interrupts::pointer(found))?;
        if self.passed_compatibility { self.command(hal, Command::COMPATIBILITY_ON) } else { Ok(()) }
    }

    /// The former owner's queue as far as it was used, in words; `Ok(None)` if there is nothing to be written there.
    ///
    /// # Errors
    ///
    /// The platform does not give that memory.
    fn former_queue(&self, hal: &impl Hal) -> Result<Option<NonNull<u64>>, UnitError> {
        let Some(used) = self.former.as_ref().and_then(Former::used_queue) else { return Ok(None) };
        hal.found_memory(used).map(Some).ok_or(UnitError::FoundQueue { unit: self.window })
    }

    /// Fails if [`hand_back`](Self::hand_back) could not give all back. Touches nothing.
    pub(crate) fn check_hand_back(&self, hal: &impl Hal) -> Result<(), UnitError> {
        self.former_queue(hal).map(drop)
    }

    /// Gives the unit back as it was found: what it translated by, its table of interrupts, its queue with head and tail, its fault
    /// event and its protected memory; or switches it off. Gives all frames back. What both tables let through goes on without a gap.
    ///
    /// # Errors
    ///
    /// As for [`stop`](Self::stop).
    pub(crate) fn hand_back(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        self.prepare_to_stop(hal)?;
        // One that was reset meanwhile has to invalidate what it caches of the former owner's tables.
        let mut result = Ok(());
        if self.invalidator.is_some() && !self.queue_on {
            result = self.prepare_invalidation(hal);
        }
        let result = result.and_then(|()| self.give_back(hal));
        self.guard_present(hal, result)?;
        self.former = None;
        Ok(())
    }

    fn give_back(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        let translation = self.give_translation_back(hal)?;
        let interrupts = self.give_interrupts_back(hal)?;
        self.switch_off(hal, GivenBack { translation, interrupts })?;
        self.give_registers_back(hal)
    }

    /// Has the unit translate by the former owner's table again, if it did. True if it does. If it had one set and did not use it, it
    /// has that again, too: whoever switches translation on need not set it, and the driver's is somebody else's memory by then.
    #[inline(never)]
    fn give_translation_back(&mut self, hal: &impl Hal) -> Result<bool, UnitError> {
        let former = self.former.as_ref().filter(|_| self.invalidator.is_some());
        let former = former.map(|former| (former.translates(), former.root, former.had_root_set()));
        let Some((translates, root, was_set)) = former else { return Ok(false) };
        self.set_fault_event(hal, None)?;
        // Nobody is sent an event for faults by the driver's tables.
        self.drop_faults(hal);
        if translates {
            // What blocks from here on is not the driver's, whether the unit confirms it or not.
            (self.blocking, self.on) = (false, false);
            self.set_root(hal, root)?;
            if !self.registers(hal).status()?.is_set(GSTS::TES) {
                self.command(hal, Command::TRANSLATION_ON)?;
            }
        } else {
            // Before interrupts are given back, at which a unit may fail that is said to be off then.
            let registers = self.registers(hal);
            if registers.status()?.is_set(GSTS::TES) {
                self.stop_translation(hal)?;
            }
            (self.blocking, self.on) = (false, false);
            if was_set && registers.rtaddr().get() != root {
                self.set_root(hal, root)?;
            }
        }
        Ok(translates)
    }

    /// Has the unit remap interrupts by the former owner's table again, if it did. True if it does. As for translation, one that was
    /// set and not used is set again.
    #[inline(never)]
    fn give_interrupts_back(&mut self, hal: &impl Hal) -> Result<bool, UnitError> {
        let former = self.former.as_ref().filter(|_| self.invalidator.is_some());
        let former = former.map(|former| (former.status, former.interrupts, former.had_interrupts_set()));
        let Some((status, pointer, was_set)) = former else { return Ok(false) };
        if !status.is_set(GSTS::IRES) {
            let registers = self.registers(hal);
            if registers.status()?.is_set(GSTS::IRES) {
                self.command(hal, Command::INTERRUPTS_OFF)?;
            }
            self.remapping = false;
            if was_set && registers.irta().get() != pointer {
                self.set_interrupt_table(hal, pointer)?;
            }
            return Ok(false);
        }
        let found = interrupts::at(pointer);
        let is_on = self.registers(hal).status()?.is_set(GSTS::IRES);
        let follows = self.interrupts.as_ref().is_none_or(|table| table.may_follow(found));
        if is_on && !follows {
            self.command(hal, Command::INTERRUPTS_OFF)?;
        }
        (self.on, self.remapping) = (false, false);
        self.set_interrupt_table(hal, pointer)?;
        self.remap_again(hal, status)?;
        Ok(true)
    }

    /// Has registers show again what they showed, and switches the former owner's queue on if it was.
    #[inline(never)]
    fn give_registers_back(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        let Some(former) = &mut self.former else { return Ok(()) };
        let again = core::mem::replace(&mut former.returning, true);
        let Some(former) = &self.former else { return Ok(()) };
        let registers = self.registers(hal);
        former.check_goes_on(&registers)?;
        registers.rtaddr().set(former.root);
        // One that is on was never stopped, or was given back before.
        let queue = match registers.status()?.is_set(GSTS::QIES) {
            true if again => former.check_taken(&registers),
            false if self.capabilities.queued_invalidation => {
                former.give_queue_back(&registers, self.former_queue(hal)?, self.config.timeout_ns)
            }
            _ => Ok(()),
        };
        if !matches!(queue, Ok(()) | Err(UnitError::Queue { .. })) {
            return queue;
        }
        if self.capabilities.interrupt_remapping {
            registers.irta().set(former.interrupts);
        }
        // Take-over may have ended before the driver had a table of its own.
        self.remap_again(hal, former.status)?;
        self.protect_again(hal)?;
        former.events.give_back(&registers, &self.capabilities);
        // All else is given back where its queue is refused.
        queue?;
        // A reset after that is not seen.
        former.check_goes_on(&registers)
    }

    /// Has the unit remap interrupts if it did, and let those in compatibility format through if it did.
    fn remap_again(&self, hal: &impl Hal, former: Status) -> Result<(), UnitError> {
        let now = self.registers(hal).status()?;
        if former.is_set(GSTS::CFIS) && !now.is_set(GSTS::CFIS) {
            self.command(hal, Command::COMPATIBILITY_ON)?;
        }
        if !former.is_set(GSTS::IRES) || now.is_set(GSTS::IRES) {
            return Ok(());
        }
        if !now.is_set(GSTS::IRTPS) {
            return Err(self.registers(hal).was_reset("GSTS_REG", "IRTPS"));
        }
        self.command(hal, Command::INTERRUPTS_ON)
    }
}
