//! A unit that may lose power, and has it again: its registers are as after a reset, and memory has its tables.
#![forbid(unsafe_code)]

use super::faults::event;
use super::unit::VtdUnit;
use crate::contract::MainMemory;
use crate::error::UnitError;
use crate::hal::Hal;

impl VtdUnit {
    /// Waits until the queue is quiesced (S 6.5.2), and masks the fault event; where that goes is remembered. The unit goes on
    /// translating. Does nothing to one that is not on.
    pub(crate) fn pause(&self, hal: &impl Hal) -> Result<(), UnitError> {
        if !self.on {
            return Ok(());
        }
        self.check_on(hal)?;
        let registers = self.registers(hal);
        event::set(&registers, &self.capabilities, None)?;
        match self.queue().filter(|_| self.queue_on) {
            Some(queue) => self.guard(queue.wait_for_all(&registers, self.config.timeout_ns)),
            None => Ok(()),
        }
    }

    /// Programs the unit again if it was reset (S 6.6, 6.7), and has its fault event go where it went. Does nothing to one that was never
    /// switched on.
    ///
    /// # Errors
    ///
    /// As for [`start_invalidation`](Self::start_invalidation) and [`start_translation`](Self::start_translation).
    pub(crate) fn wake(&mut self, hal: &impl Hal, memory: Option<MainMemory>) -> Result<(), UnitError> {
        if self.invalidator.is_none() {
            return (*self.failure.get_mut()).map_or(Ok(()), Err);
        }
        self.start_invalidation(hal)?;
        self.start_translation(hal, memory)?;
        self.send_event_again(hal)
    }

    #[inline(never)]
    fn send_event_again(&mut self, hal: &impl Hal) -> Result<(), UnitError> {
        let wanted = *self.event.get_mut();
        let set = event::set(&self.registers(hal), &self.capabilities, wanted);
        self.guard(set)
    }
}
