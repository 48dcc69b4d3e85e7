//! Where the registers of a unit are.

use core::fmt;
use core::ptr::NonNull;

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

/// The registers of one unit, and where the CPU sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRegisters {
    /// Which they are.
    pub window: RegisterWindow,
    /// What [`map_registers`](super::Hal::map_registers) says of it.
    pub first: NonNull<u8>,
}

// SAFETY: the pointer is used by the platform's methods alone, which say on which CPUs they may be called.
unsafe impl Send for MappedRegisters {}
// SAFETY: as above.
unsafe impl Sync for MappedRegisters {}

impl MappedRegisters {
    /// Where the register at `offset` is.
    #[inline]
    pub fn at<T>(self, offset: u32) -> *mut T {
        self.first.as_ptr().wrapping_byte_add(offset as usize).cast()
    }
}
