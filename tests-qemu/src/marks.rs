//! Names in QEMU's trace, between what the driver's calls leave there.

use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam_pc::Pc;
use cofferdam_report::mark;

use crate::tables::mapped;

const CAP: u32 = 0x08;
const ECAP: u32 = 0x10;

/// Says in the trace of a remapping unit which call comes next. Shares no code with the driver.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    pc: &'static Pc,
    registers: MappedRegisters,
}

impl Marks {
    /// Marks for the unit with these registers.
    ///
    /// # Safety
    ///
    /// `window` is a unit's, as the firmware's table says, and that unit is QEMU's.
    pub unsafe fn new(pc: &'static Pc, window: RegisterWindow) -> Option<Self> {
        Some(Self { pc, registers: mapped(pc, window)? })
    }

    /// What the unit can do: CAP_REG and ECAP_REG (VT-d 5.10, sections 11.4.2 and 11.4.3).
    pub fn capabilities(&self) -> [u64; 2] {
        // SAFETY: every unit has both, and reading them changes nothing.
        [CAP, ECAP].map(|register| unsafe { self.pc.read64(self.registers, register) })
    }

    /// What follows in the trace belongs to `call`.
    pub fn begin(&self, call: &str) {
        for word in mark::words(call) {
            // SAFETY: the unit has no register there, and QEMU's does nothing then.
            unsafe { self.pc.write64(self.registers, mark::REGISTER, word) };
        }
    }
}
