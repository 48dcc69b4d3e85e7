//! Protected memory regions (S 11.4.8): memory that no request reaches, translated or not. Firmware may leave them on, and
//! they keep memory safe while a unit that was left on is taken over.
#![forbid(unsafe_code)]

use tock_registers::interfaces::{Readable, Writeable};

use super::Capabilities;
use super::command::wait_until;
use super::registers::{PMEN, Registers};
use crate::contract::MainMemory;
use crate::error::UnitError;
use crate::hal::Hal;

const FOUR_GIB: u64 = 1 << 32;

/// True if regions are protected now.
pub(super) fn is_on<H: Hal>(registers: &Registers<'_, H>) -> bool {
    registers.pmen().is_set(PMEN::PRS)
}

/// Switches protection on or off.
pub(super) fn switch<H: Hal>(registers: &Registers<'_, H>, on: bool, timeout_ns: u64) -> Result<(), UnitError> {
    let others = registers.pmen().get() & !PMEN::EPM::SET.mask();
    registers.pmen().set(others | PMEN::EPM.val(on.into()).value);
    wait_until(registers, timeout_ns, "PMEN_REG", "PRS", || Ok(is_on(registers) == on))
}

/// Regions that somebody else had protected: base and limit of the low one and of the high one.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormerRegions {
    low: [u32; 2],
    high: [u64; 2],
}

impl FormerRegions {
    /// Those that are protected now, if any are.
    pub(super) fn read<H: Hal>(registers: &Registers<'_, H>, unit: &Capabilities) -> Option<Self> {
        let low = if unit.protected_low { [registers.plmbase().get(), registers.plmlimit().get()] } else { [0; 2] };
        let high = if unit.protected_high { [registers.phmbase().get(), registers.phmlimit().get()] } else { [0; 2] };
        is_on(registers).then_some(Self { low, high })
    }

    /// Protects them again, whatever became of the registers in a reset.
    pub(super) fn protect<H: Hal>(
        &self,
        registers: &Registers<'_, H>,
        unit: &Capabilities,
        timeout_ns: u64,
    ) -> Result<(), UnitError> {
        if is_on(registers) {
            return Ok(());
        }
        let &Self { low: [low_base, low_limit], high: [high_base, high_limit] } = self;
        if unit.protected_low {
            registers.plmbase().set(low_base);
            registers.plmlimit().set(low_limit);
        }
        if unit.protected_high {
            registers.phmbase().set(high_base);
            registers.phmlimit().set(high_limit);
        }
        switch(registers, true, timeout_ns)
    }
}

/// Protects `memory`, as far as the unit can. True if no byte of it is left out.
///
/// Regions that are on already stay as they are, since they must not change (S 11.4.8.2), and count as leaving some out.
pub(super) fn cover<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    memory: MainMemory,
    timeout_ns: u64,
) -> Result<bool, UnitError> {
    if is_on(registers) || !unit.protected_low {
        return Ok(false);
    }
    registers.plmlimit().set(u32::MAX);
    let low = region(0, memory.low_end.as_u64().min(FOUR_GIB), registers.plmlimit().get().into());
    registers.plmbase().set(low.base as u32);
    registers.plmlimit().set(low.limit as u32);

    let mut all = low.whole && memory.high_end.as_u64() <= FOUR_GIB;
    if unit.protected_high {
        registers.phmlimit().set(u64::MAX);
        let high = region(FOUR_GIB, memory.high_end.as_u64(), registers.phmlimit().get());
        registers.phmbase().set(high.base);
        registers.phmlimit().set(high.limit);
        all = low.whole && high.whole;
    }
    switch(registers, true, timeout_ns)?;
    Ok(all)
}

/// What goes into the registers of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    base: u64,
    /// Below the base: no region.
    limit: u64,
    /// No byte is left out.
    whole: bool,
}

/// The region from `base` to `end`, or before it if it has to, given what a register keeps of all ones.
fn region(base: u64, end: u64, kept: u64) -> Bounds {
    // The lowest bit that is kept is the size of the steps (S 11.4.8.3).
    let rounded = end & !(kept & kept.wrapping_neg()).wrapping_sub(1);
    if rounded > base {
        Bounds { base, limit: rounded - 1, whole: rounded == end }
    } else {
        Bounds { base: u64::MAX, limit: 0, whole: end <= base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_ends_with_memory_or_before_it_but_never_behind() {
        let bounds = |base, limit, whole| Bounds { base, limit, whole };
        let none = |whole| bounds(u64::MAX, 0, whole);
        assert_eq!(region(0, 0x8000_0000, 0xfff0_0000), bounds(0, 0x7fff_ffff, true));
        assert_eq!(region(0, 0x7fe0_0000, 0xff00_0000), bounds(0, 0x7eff_ffff, false));
        assert_eq!(region(FOUR_GIB, 0x1_8000_0000, 0x7f_ffe0_0000), bounds(FOUR_GIB, 0x1_7fff_ffff, true));
        assert_eq!(region(FOUR_GIB, 0x8000_0000, 0x7f_ffe0_0000), none(true), "no memory there");
        assert_eq!(region(FOUR_GIB, FOUR_GIB, 0x7f_ffe0_0000), none(true), "nor here");
        assert_eq!(region(0, 0x1000, 0xffe0_0000), none(false), "too small");
        assert_eq!(region(0, 0x8000_0000, 0), none(false), "no such register");
    }
}
