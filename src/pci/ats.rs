//! The extended capability of Address Translation Services (PCIe 6.0, section 10.5.1).
//!
//! | bits of the second word | field |
//! |---|---|
//! | 4:0 | Invalidate Queue Depth; 0 for 32 |
//! | 6 | Global Invalidate Supported: of all PASIDs in one invalidation |
//! | 20:16 | STU, smallest translation unit: 2^STU pages of 4 KiB |
//! | 31 | Enable |

use super::capability::extended_capabilities;
use super::{ConfigSpace, physical_function};
use crate::addr::SourceId;
use crate::hal::Hal;

const ID: u16 = 0x0f;
const BYTES: u16 = 8;
/// Capability in bits 15:0, Control in bits 31:16.
const REGISTERS: u16 = 0x04;
const DEPTH: u32 = 0x1f;
const GLOBAL: u32 = 1 << 6;
const STU: u32 = 0x1f << 16;
const ENABLE: u32 = 1 << 31;

/// A function that can have a device-TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ats {
    /// The function.
    pub(crate) function: SourceId,
    /// Whose virtual function it is, or itself.
    pub(crate) physical: SourceId,
    /// How many invalidations the physical function takes at a time, 1 to 32, its virtual functions together.
    pub(crate) queue_depth: u8,
    /// The physical function takes one invalidation for all PASIDs.
    pub(crate) global_invalidate: bool,
    /// Where its capability is.
    at: u16,
    /// Where that of the physical function is.
    physical_at: u16,
}

impl Ats {
    /// Looks for the capability; `None` if the function has none, or none can be made out.
    pub(crate) fn of(config: &impl ConfigSpace, function: SourceId) -> Option<Self> {
        let capability = |function| extended_capabilities(config, function, ID, BYTES).next();
        let at = capability(function)?;
        let physical = physical_function(config, function)?;
        // What a virtual function says itself reads as 0: its physical function's counts.
        let physical_at = capability(physical)?;
        let register = config.read(physical, physical_at + REGISTERS);
        let queue_depth = match register & DEPTH {
            0 => 32,
            depth => depth as u8,
        };
        Some(Self { function, physical, queue_depth, global_invalidate: register & GLOBAL != 0, at, physical_at })
    }

    /// True if the function asks for pages of 4 KiB, or will once it is [switched on](Self::switch). A virtual function
    /// asks for what its physical function is set to.
    pub(crate) fn fits_pages(&self, config: &impl ConfigSpace) -> bool {
        self.physical == self.function || config.read(self.physical, self.physical_at + REGISTERS) & STU == 0
    }

    /// True if it is switched on.
    pub(crate) fn is_on(&self, config: &impl ConfigSpace) -> bool {
        config.read(self.function, self.at + REGISTERS) & ENABLE != 0
    }

    /// Switches it on, for pages of 4 KiB (STU = 0), or off. A function that does not answer is left alone: it may be in a
    /// reset. So is one that has something else there: it was put in the place of another.
    pub(crate) fn switch(&self, hal: &impl Hal, on: bool) {
        if hal.config_read(self.function, self.at) as u16 != ID {
            return;
        }
        let control = if on { ENABLE } else { 0 };
        // SAFETY: the register is the function's own. Its lower half is read-only; switched on, the device may ask for
        // translations, which its context entry allows or not.
        unsafe { hal.config_write(self.function, self.at + REGISTERS, control) };
        // A read comes back only when the write has arrived.
        let _ = hal.config_read(self.function, self.at + REGISTERS);
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    const THERE: u32 = 0x1234_8086;
    const HEADER: u32 = 0x0001_000f;

    #[test]
    fn the_fields_are_where_the_specification_has_them() {
        let ats = |register| {
            let registers = [(function(1), 0, THERE), (function(1), 0x100, HEADER), (function(1), 0x104, register)];
            let config = FewRegisters(&registers);
            let ats = Ats::of(&config, function(1)).unwrap();
            assert_eq!((ats.function, ats.physical, ats.at), (function(1), function(1), 0x100));
            (ats.queue_depth, ats.is_on(&config), ats.fits_pages(&config))
        };
        assert_eq!(ats(0), (32, false, true));
        assert_eq!(ats(0x8000_0000), (32, true, true));
        assert_eq!(ats(0x7fff_ffff), (31, false, true), "its STU is set when it is switched on");
        assert_eq!(ats(0x61), (1, false, true));
    }

    #[test]
    fn a_virtual_function_follows_its_physical_function() {
        let (physical, virtual_one) = (function(3), function(4));
        let of = |register, own| {
            let registers = [
                (physical, 0, THERE),
                (physical, 0x100, 0x1400_0000 | HEADER),
                (physical, 0x104, register),
                (physical, 0x140, 0x0001_0010),
                (physical, 0x148, 1),
                (physical, 0x150, 1),
                (physical, 0x154, 8),
                (virtual_one, 0, u32::MAX),
                (virtual_one, 0x100, HEADER),
                (virtual_one, 0x104, own),
            ];
            let config = FewRegisters(&registers);
            let ats = Ats::of(&config, virtual_one).unwrap();
            assert_eq!((ats.function, ats.physical), (virtual_one, physical));
            (ats.queue_depth, ats.fits_pages(&config), ats.is_on(&config))
        };
        assert_eq!(of(8, 0), (8, true, false));
        assert_eq!(of(0, 0), (32, true, false));
        assert_eq!(of(8 | 1 << 16, 0), (8, false, false));
        assert_eq!(of(8, ENABLE), (8, true, true), "each has its own switch");
        assert_eq!(of(8 | ENABLE, 0), (8, true, false));
    }

    #[test]
    fn what_has_no_capability_or_no_physical_function_has_none() {
        assert_eq!(Ats::of(&FewRegisters(&[]), function(1)), None);
        let plain = [(function(1), 0, THERE), (function(1), 0x100, 0x0001_0001)];
        assert_eq!(Ats::of(&FewRegisters(&plain), function(1)), None);
        let orphan = [(function(1), 0, u32::MAX), (function(1), 0x100, HEADER)];
        assert_eq!(Ats::of(&FewRegisters(&orphan), function(1)), None);
        let at_the_end = [(function(1), 0, THERE), (function(1), 0x100, 0xffc0_0001), (function(1), 0xffc, HEADER)];
        assert_eq!(Ats::of(&FewRegisters(&at_the_end), function(1)), None);
    }
}
