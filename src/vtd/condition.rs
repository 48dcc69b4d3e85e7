//! Whether a unit can be used: what its registers show, what failed, and what a reset ended.
#![forbid(unsafe_code)]

use tock_registers::interfaces::Readable;

use super::registers::{GSTS, Status};
use super::sync::Ordering;
use super::unit::VtdUnit;
use crate::contract::UnitState;
use crate::error::UnitError;
use crate::hal::Hal;

impl VtdUnit {
    /// What the unit does to requests, by its registers as they are now.
    pub(crate) fn state(&self, hal: &impl Hal) -> UnitState {
        let blocking = if self.blocking { self.check_translating(hal) } else { Ok(()) };
        let lost = blocking.and_then(|()| self.check_registers(hal)).err();
        match (*self.failure.lock()).or(lost) {
            Some(error) => UnitState::Failed { error, blocking: self.blocking && blocking.is_ok() },
            None if self.on => UnitState::On,
            None => UnitState::Off,
        }
    }

    /// Fails if the unit did not answer when it was looked at, or showed what no unit can be: nothing is done with it at all.
    pub(crate) fn check_usable(&self) -> Result<(), UnitError> {
        self.unusable.map_or(Ok(()), Err)
    }

    /// Fails if translation by the driver's tables is not on, or by none of them in abort mode.
    fn check_translating(&self, hal: &impl Hal) -> Result<(), UnitError> {
        self.registers(hal).status().and_then(|status| self.check_shown(hal, status))
    }

    /// The same, by what GSTS_REG has just shown.
    fn check_shown(&self, hal: &impl Hal, status: Status) -> Result<(), UnitError> {
        let registers = self.registers(hal);
        match () {
            () if !status.is_set(GSTS::TES) => Err(registers.was_reset("GSTS_REG", "TES")),
            () if !status.is_set(GSTS::RTPS) => Err(registers.was_reset("GSTS_REG", "RTPS")),
            () if registers.rtaddr().get() == self.root_set => Ok(()),
            // If it is gone by now, it says only that.
            () => registers.status().and_then(|_| Err(registers.was_reset("RTADDR_REG", "RTA"))),
        }
    }

    /// Fails if the unit is gone, or does not show any more what was switched on.
    pub(super) fn check_registers(&self, hal: &impl Hal) -> Result<(), UnitError> {
        if !self.queue_on && !self.blocking {
            return Ok(());
        }
        let registers = self.registers(hal);
        let status = registers.status()?;
        if self.queue_on && !status.is_set(GSTS::QIES) {
            return Err(registers.was_reset("GSTS_REG", "QIES"));
        }
        if self.remapping {
            self.check_remapping(hal, status)?;
        }
        if self.blocking { self.check_shown(hal, status) } else { Ok(()) }
    }

    /// Fails if interrupts are not remapped by the driver's table, by what GSTS_REG has just shown (R53).
    fn check_remapping(&self, hal: &impl Hal, status: Status) -> Result<(), UnitError> {
        let registers = self.registers(hal);
        match () {
            () if !status.is_set(GSTS::IRES) => Err(registers.was_reset("GSTS_REG", "IRES")),
            () if !status.is_set(GSTS::IRTPS) => Err(registers.was_reset("GSTS_REG", "IRTPS")),
            () if status.is_set(GSTS::CFIS) => Err(registers.was_reset("GSTS_REG", "CFIS")),
            () if registers.irta().get() == self.interrupts_set => Ok(()),
            () => registers.status().and_then(|_| Err(registers.was_reset("IRTA_REG", "IRTA"))),
        }
    }

    /// Starts over with a unit that was reset since it was switched on, whatever had failed before: it keeps its frames.
    pub(super) fn notice_reset(&mut self, hal: &impl Hal) {
        // One that was switched off or given back has nothing on by then, and has perhaps failed at what is its former owner's again.
        let is_known = match *self.failure.get_mut() {
            None => false,
            Some(UnitError::Reset { .. }) => true,
            Some(_) => self.released && self.has_lost_root(hal),
        };
        if matches!(self.check_registers(hal), Err(UnitError::Reset { .. }))
            || is_known && matches!(self.uses_nothing(hal), Ok(true))
        {
            self.blocking = self.blocking && self.check_translating(hal).is_ok();
            (self.on, self.queue_on, self.met) = (false, false, self.blocking);
            self.remapping = false;
            // What it did not do since it failed: its own caches are empty now, and device-TLBs are not.
            if self.failure.get_mut().is_some() {
                self.failed_flushes.fetch_add(1, Ordering::AcqRel);
            }
            self.forgive();
        }
    }

    /// True if the unit, by its registers, walks no table and fetches nothing from a queue, and does not know of the driver's
    /// tables: it was reset as a whole. One register that does not show what it did is no reset.
    pub(super) fn uses_nothing(&self, hal: &impl Hal) -> Result<bool, UnitError> {
        let registers = self.registers(hal);
        let status = registers.status()?;
        let is_on =
            [GSTS::TES::SET, GSTS::QIES::SET, GSTS::IRES::SET].into_iter().any(|bit| status.any_matching_bits_set(bit));
        let knows_interrupts = self.interrupts_set != 0 && registers.irta().get() == self.interrupts_set;
        Ok(!is_on && !knows_interrupts && (self.root_set == 0 || registers.rtaddr().get() != self.root_set))
    }

    /// True if a root table was set, and the unit does not know of any: that is so after a reset alone, while all that is on can be off
    /// since it was switched off, and what was requested then may still happen.
    fn has_lost_root(&self, hal: &impl Hal) -> bool {
        let was_set = self.root_set != 0 || self.former.is_some_and(|former| former.status.is_set(GSTS::RTPS));
        was_set && self.registers(hal).status().is_ok_and(|status| !status.is_set(GSTS::RTPS))
    }

    pub(super) fn forgive(&mut self) {
        *self.failure.get_mut() = None;
        *self.failed.get_mut() = false;
    }

    /// Notes if the unit failed: from then on it takes no change. A descriptor that it refused, or a device that does not
    /// answer, does no harm to others, but what was to be forgotten may be cached until the unit forgets everything.
    pub(super) fn guard<T>(&self, result: Result<T, UnitError>) -> Result<T, UnitError> {
        match &result {
            Ok(_) => {}
            Err(UnitError::Queue { .. } | UnitError::Device { .. } | UnitError::NoRoom { .. }) => {
                self.failed_flushes.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => self.give_up(*error),
        }
        result
    }

    /// Notes why the unit takes no change any more, unless it failed before, other than for lack of frames.
    pub(crate) fn give_up(&self, error: UnitError) {
        let mut failure = self.failure.lock();
        if failure.is_none_or(|before| matches!(before, UnitError::NoFrame { .. })) {
            *failure = Some(error);
        }
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn check_alive(&self) -> Result<(), UnitError> {
        if self.failure.lock().is_some() { Err(UnitError::Failed { unit: self.window }) } else { Ok(()) }
    }

    /// Fails if the unit failed before, or is not switched on, by its registers as they are now.
    pub(crate) fn check_on(&self, hal: &impl Hal) -> Result<(), UnitError> {
        self.check_alive()?;
        if self.on { self.check_registers(hal) } else { Err(UnitError::Failed { unit: self.window }) }
    }

    /// True if the unit has tables that it never learned of, so that nothing of them is cached.
    pub(crate) fn is_prepared(&self) -> bool {
        self.tables.is_some() && self.invalidator.is_none()
    }

    /// Fails if devices cannot be given entries, or their entries not be taken: the unit failed before, or is neither on, by its
    /// registers as they are now, nor prepared.
    pub(crate) fn check_ready(&self, hal: &impl Hal) -> Result<(), UnitError> {
        if self.is_prepared() { self.check_alive() } else { self.check_on(hal) }
    }
}
