//! Global commands (S 11.4.4.1): one bit at a time, confirmed before the next (R1, R2).
#![forbid(unsafe_code)]

use tock_registers::interfaces::Writeable;

use super::registers::Registers;
use crate::error::UnitError;
use crate::hal::{Deadline, Hal};

/// What a command carries over from the status: all but the one-shot bits 30, 29, 27 and 24.
const CARRIED: u32 = 0x96ff_ffff;

/// A bit of GCMD_REG, and the value of its twin in GSTS_REG that confirms it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    bit: u32,
    value: bool,
    confirmed: bool,
    status: &'static str,
}

impl Command {
    pub(super) const TRANSLATION_ON: Self = Self::level(31, true, "TES");
    pub(super) const TRANSLATION_OFF: Self = Self::level(31, false, "TES");
    pub(super) const SET_INTERRUPT_TABLE: Self = Self::level(24, true, "IRTPS");
    pub(super) const COMPATIBILITY_OFF: Self = Self::level(23, false, "CFIS");
    pub(super) const COMPATIBILITY_ON: Self = Self::level(23, true, "CFIS");
    pub(super) const INTERRUPTS_ON: Self = Self::level(25, true, "IRES");
    pub(super) const INTERRUPTS_OFF: Self = Self::level(25, false, "IRES");
    pub(super) const QUEUE_ON: Self = Self::level(26, true, "QIES");
    pub(super) const QUEUE_OFF: Self = Self::level(26, false, "QIES");
    pub(super) const SET_ROOT_TABLE: Self = Self::level(30, true, "RTPS");
    pub(super) const FLUSH_WRITE_BUFFER: Self = Self { confirmed: false, ..Self::level(27, true, "WBFS") };

    const fn level(bit: u32, value: bool, status: &'static str) -> Self {
        Self { bit, value, confirmed: value, status }
    }

    /// Gives the command and waits until it is confirmed, which a unit that is gone does not do.
    pub(super) fn run<H: Hal>(self, registers: &Registers<'_, H>, timeout_ns: u64) -> Result<(), UnitError> {
        let carried = registers.status()?.get() & CARRIED & !(1 << self.bit);
        registers.gcmd().set(carried | u32::from(self.value) << self.bit);
        wait_until(registers, timeout_ns, "GSTS_REG", self.status, || {
            Ok((registers.status()?.get() >> self.bit & 1 == 1) == self.confirmed)
        })
    }
}

/// Looks until `done`, at most for `timeout_ns` (R6). The last look comes after the deadline, so being slow is no error. A
/// unit that is gone is not waited for.
pub(super) fn wait_until<H: Hal>(
    registers: &Registers<'_, H>,
    timeout_ns: u64,
    register: &'static str,
    bit: &'static str,
    mut done: impl FnMut() -> Result<bool, UnitError>,
) -> Result<(), UnitError> {
    let mut deadline = Deadline::new(registers.hal.now_ns(), timeout_ns);
    loop {
        let passed = deadline.passed(registers.hal.now_ns());
        if done()? {
            return Ok(());
        }
        registers.status()?;
        if let Some(waited_ns) = passed {
            return Err(UnitError::Timeout { unit: registers.window, register, bit, waited_ns });
        }
        registers.hal.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;
    use crate::hal::RegisterWindow;
    use crate::hal::fake::Fake;

    #[test]
    fn there_is_time_until_the_deadline_has_passed() {
        let (hal, window) = (Fake::new(1), RegisterWindow { base: PhysAddr::zero(), bytes: 4096 });
        // The clock stands at the deadline.
        let mut looks = 0;
        let third = || {
            looks += 1;
            Ok(looks == 3)
        };
        assert_eq!(wait_until(&Registers::of(&hal, window), 0, "", "", third), Ok(()));
    }
    #[test]
    fn a_wait_ends_though_the_clock_stands_still() {
        let (hal, window) = (Fake::new(1), RegisterWindow { base: PhysAddr::zero(), bytes: 4096 });
        let ended = wait_until(&Registers::of(&hal, window), 1, "GSTS_REG", "TES", || Ok(false));
        assert_eq!(ended, Err(UnitError::Timeout { unit: window, register: "GSTS_REG", bit: "TES", waited_ns: 0 }));
    }
}
