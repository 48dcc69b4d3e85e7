//! Where the registers of a unit are.
#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{PhysAddr, PhysRange};

/// The registers of one unit: where they are and how far they reach. Made from what the firmware's table says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RegisterWindow {
    /// Physical address of the first register; aligned to 4 KiB.
    pub base: PhysAddr,
    /// Size; a multiple of 4 KiB.
    pub bytes: u32,
}

impl RegisterWindow {
    /// The addresses of all registers.
    pub(crate) fn memory(self) -> Option<PhysRange> {
        PhysRange::new(self.base, self.bytes.into())
    }
}

impl fmt::Display for RegisterWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.base.as_u64())
    }
}

impl fmt::Debug for RegisterWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisterWindow({:#x}, {:#x} bytes)", self.base.as_u64(), self.bytes)
    }
}
