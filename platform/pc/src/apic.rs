//! Interrupt controllers.

use cofferdam::addr::PhysAddr;
use x86_64::instructions::port::PortWriteOnly;
use x86_64::registers::model_specific::{ApicBase, Msr};

use crate::pci::Bar;
use crate::{Mmio, Pc};

/// Where both are after a reset (SDM 3A, section 11.4.1; ICH9 datasheet, section 13.5.1).
const LOCAL: PhysAddr = PhysAddr::new(0xfee0_0000);
const IO: PhysAddr = PhysAddr::new(0xfec0_0000);
const BYTES: u64 = 0x1000;

/// Registers of a local APIC: 16 bytes each in xAPIC mode, model-specific registers from 0x800 on in x2APIC mode (SDM 3A,
/// sections 11.4.1 and 11.12.1).
const ID: u32 = 0x02;
const END_OF_INTERRUPT: u32 = 0x0b;
const SPURIOUS_VECTOR: u32 = 0x0f;
const IN_SERVICE: u32 = 0x10;
const COMMAND: u32 = 0x30;
const COMMAND_HIGH: u32 = 0x31;
const LINT0: u32 = 0x35;

/// Of the register that has the local APIC's base: it is in x2APIC mode.
const X2APIC: u64 = 1 << 10;
/// The id that stands for all CPUs in xAPIC mode, in which ids have 8 bits.
const ALL: u32 = 0xff;

/// Looks at a message that is not delivered: many times what one takes. One to an id that no CPU has may stay for ever.
const LOOKS: u32 = 1_000_000;

/// Messages to other CPUs (SDM 3A, section 11.6.1): all are edges, with bit 14 for the level that asserts them.
pub(crate) const INIT: u32 = 5 << 8 | 1 << 14;
pub(crate) const START_UP: u32 = 6 << 8 | 1 << 14;
pub(crate) const FIXED: u32 = 1 << 14;

/// Masks all pins of the legacy controllers (ICH9 datasheet, section 13.4.7). Firmware leaves some unmasked, and QEMU takes one that is
/// pending for an interrupt without a vector once LINT0 is masked.
pub(crate) fn mask_legacy() {
    for port in [0x21, 0xa1] {
        // SAFETY: each PC has both controllers there, and they send no more interrupts.
        unsafe { PortWriteOnly::<u8>::new(port).write(0xff) };
    }
}

/// The local APIC of whichever CPU uses it.
#[derive(Debug)]
pub(crate) enum LocalApic {
    Xapic(Mmio),
    X2apic,
}

/// An IOAPIC (ICH9 datasheet, section 13.5).
#[derive(Debug)]
pub struct IoApic(Mmio);

impl Pc {
    fn controller(&self, base: PhysAddr) -> Option<Mmio> {
        // SAFETY: an interrupt controller is there on each PC. It touches no memory.
        unsafe { self.registers(Bar { base, bytes: BYTES }) }
    }

    /// How CPUs use their local APICs. `None` if the registers are out of reach.
    pub(crate) fn local_apic(&self, x2apic: bool) -> Option<LocalApic> {
        if x2apic { Some(LocalApic::X2apic) } else { self.controller(LOCAL).map(LocalApic::Xapic) }
    }

    /// True if this CPU's local APIC is in x2APIC mode now (SDM 3A, section 11.12.1).
    pub fn x2apic_is_on(&self) -> bool {
        // SAFETY: each x86-64 CPU has this register.
        let base = unsafe { ApicBase::MSR.read() };
        base & X2APIC != 0
    }

    /// The first IOAPIC.
    pub fn io_apic(&self) -> Option<IoApic> {
        self.controller(IO).map(IoApic)
    }
}

impl LocalApic {
    fn read(&self, register: u32) -> u32 {
        match self {
            Self::Xapic(registers) => registers.read32(u64::from(register) * 0x10),
            // SAFETY: the CPU is in x2APIC mode, in which each of the registers above is there.
            Self::X2apic => unsafe { Msr::new(0x800 + register).read() as u32 },
        }
    }

    fn write(&self, register: u32, value: u64) {
        match self {
            Self::Xapic(registers) => registers.write32(u64::from(register) * 0x10, value as u32),
            // SAFETY: as above; interrupts go to handlers that touch nothing but counters.
            Self::X2apic => unsafe { Msr::new(0x800 + register).write(value) },
        }
    }

    /// Switches it on, with vector 0xff for what is spurious, and without the legacy controllers.
    pub(crate) fn switch_on(&self) {
        if let Self::X2apic = self {
            let mut base = ApicBase::MSR;
            // SAFETY: each x86-64 CPU has this register.
            let value = unsafe { base.read() };
            // SAFETY: that is the mode in which the CPU's local APIC is used from here on.
            unsafe { base.write(value | X2APIC) };
        }
        self.write(SPURIOUS_VECTOR, 1 << 8 | 0xff);
        self.write(LINT0, 1 << 16);
    }

    /// The CPU's APIC id.
    pub(crate) fn id(&self) -> u32 {
        let id = self.read(ID);
        if let Self::Xapic(_) = self { id >> 24 } else { id }
    }

    /// True if a message can be sent to the one CPU with this id.
    pub(crate) fn reaches(&self, id: u32) -> bool {
        match self {
            Self::Xapic(_) => id < ALL,
            Self::X2apic => id != u32::MAX,
        }
    }

    /// The vector that the CPU handles now.
    pub(crate) fn in_service(&self) -> Option<u8> {
        let part = |part| Some((part, self.read(IN_SERVICE + part).checked_ilog2()?));
        (0..8).rev().find_map(part).map(|(part, bit)| (part * 32 + bit) as u8)
    }

    /// That vector is handled.
    pub(crate) fn end(&self) {
        self.write(END_OF_INTERRUPT, 0);
    }

    /// Sends a message to another CPU, or to this one. Never waits for ever for it to be delivered.
    pub(crate) fn send(&self, to: u32, message: u32) {
        if let Self::Xapic(_) = self {
            self.write(COMMAND_HIGH, u64::from(to) << 24);
            self.write(COMMAND, message.into());
            // Bit 12: not delivered yet.
            let is_on_its_way = || self.read(COMMAND) >> 12 & 1 == 1;
            let _ = (0..LOOKS).find(|_| !is_on_its_way());
        } else {
            self.write(COMMAND, u64::from(to) << 32 | u64::from(message));
        }
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

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::ptr::NonNull;

    use super::*;

    #[test]
    fn a_message_that_is_never_delivered_is_given_up() {
        let memory = [const { Cell::new(0_u32) }; 0x100];
        // SAFETY: the words stand for registers, and others read them by cells alone.
        let registers = unsafe { Mmio::new(NonNull::from(&memory).cast(), 0x400) };
        // What is written stays, as if it were on its way.
        LocalApic::Xapic(registers).send(7, INIT | 1 << 12);
        assert_eq!([memory[0xc0].get(), memory[0xc4].get()], [INIT | 1 << 12, 7 << 24]);
    }
}
