//! Interrupt controllers, as far as scenarios look at them. Nothing is handled: the CPU has interrupts masked, and one that its
//! local APIC has taken stands in the request register, where it is looked for.

use cofferdam::addr::PhysAddr;

use crate::pci::Bar;
use crate::{Mmio, Pc};

/// Where both are after a reset (SDM 3A, section 11.4.1; ICH9 datasheet, section 13.5.1).
const LOCAL: PhysAddr = PhysAddr::new(0xfee0_0000);
const IO: PhysAddr = PhysAddr::new(0xfec0_0000);
const BYTES: u64 = 0x1000;

/// The local APIC of the CPU that looks, in xAPIC mode (SDM 3A, section 11.4.1).
#[derive(Debug)]
pub struct LocalApic(Mmio);

/// An IOAPIC (ICH9 datasheet, section 13.5).
#[derive(Debug)]
pub struct IoApic(Mmio);

impl Pc {
    fn controller(&self, base: PhysAddr) -> Option<Mmio> {
        // SAFETY: an interrupt controller is there on each PC. It touches no memory.
        unsafe { self.registers(Bar { base, bytes: BYTES }) }
    }

    /// The local APIC of this CPU, switched on. `None` if its registers are out of the CPU's reach.
    pub fn local_apic(&self) -> Option<LocalApic> {
        let apic = LocalApic(self.controller(LOCAL)?);
        // Spurious-interrupt vector: switched on in bit 8; vector 0xff.
        apic.0.write32(0xf0, 1 << 8 | 0xff);
        Some(apic)
    }

    /// The first IOAPIC.
    pub fn io_apic(&self) -> Option<IoApic> {
        self.controller(IO).map(IoApic)
    }
}

impl LocalApic {
    /// The CPU's APIC id.
    pub fn id(&self) -> u32 {
        self.0.read32(0x20) >> 24
    }

    /// True if an interrupt with this vector was taken. It stays so, since nobody handles it.
    pub fn has_taken(&self, vector: u8) -> bool {
        self.0.read32(0x200 + u64::from(vector / 32) * 0x10) >> (vector % 32) & 1 == 1
    }

    /// How many vectors were taken.
    pub fn taken(&self) -> u32 {
        (0..8).map(|part| self.0.read32(0x200 + part * 0x10).count_ones()).sum()
    }
}

impl IoApic {
    fn write(&self, register: u32, value: u32) {
        self.0.write32(0, register);
        self.0.write32(0x10, value);
    }

    /// Sets the redirection entry of a pin, masked first.
    pub fn redirect(&self, pin: u8, entry: u64) {
        let register = 0x10 + 2 * u32::from(pin);
        self.write(register, 1 << 16);
        self.write(register + 1, (entry >> 32) as u32);
        self.write(register, entry as u32);
    }
}
