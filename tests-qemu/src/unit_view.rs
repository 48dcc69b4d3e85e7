//! A unit's invalidation queue and faults, as its registers show them (VT-d 5.10, sections 11.4.2, 11.4.7.1 and 11.4.9). Shares no
//! code with the driver.

use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam_pc::Pc;

use crate::tables::mapped;

const CAP: u32 = 0x08;
/// CAP.CM.
const CACHING_MODE: u32 = 1 << 7;
const FSTS: u32 = 0x34;
/// FSTS.IQE: the queue stands at a descriptor that the unit refuses.
const REFUSED: u32 = 1 << 4;
const IQH: u32 = 0x80;
const IQT: u32 = 0x88;
const IQA: u32 = 0x90;
/// IQA.QS: the queue has 2^QS pages, of 256 descriptors each.
const SIZE: u32 = 0b111;
const SLOTS_A_PAGE: u64 = 256;

/// The registers of a unit that is QEMU's, of which all fields lie in the lower halves that are read here.
#[derive(Clone, Copy, Debug)]
pub struct UnitView {
    pc: &'static Pc,
    registers: MappedRegisters,
}

// SAFETY: registers are at the same address on every CPU, and they are only read.
unsafe impl Send for UnitView {}
// SAFETY: as above.
unsafe impl Sync for UnitView {}

impl UnitView {
    /// A view of the unit with these registers. `None` if they are out of reach.
    pub fn new(pc: &'static Pc, window: RegisterWindow) -> Option<Self> {
        Some(Self { pc, registers: mapped(pc, window)? })
    }

    fn read(&self, register: u32) -> u32 {
        // SAFETY: each unit with a queue has it, and reading changes nothing.
        unsafe { self.pc.read32(self.registers, register) }
    }

    /// True if the unit also caches what is not present.
    pub fn has_caching_mode(&self) -> bool {
        self.read(CAP) & CACHING_MODE != 0
    }

    /// How many descriptors of 128 bits the queue has room for.
    pub fn slots(&self) -> u64 {
        SLOTS_A_PAGE << (self.read(IQA) & SIZE)
    }

    /// The slot that the unit fetches next.
    pub fn head(&self) -> u64 {
        u64::from(self.read(IQH) >> 4)
    }

    /// The slot that is written next.
    pub fn tail(&self) -> u64 {
        u64::from(self.read(IQT) >> 4)
    }

    /// True if the unit stands at a descriptor that it refuses.
    pub fn has_refused(&self) -> bool {
        self.read(FSTS) & REFUSED != 0
    }
}
