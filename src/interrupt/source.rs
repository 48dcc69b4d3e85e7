#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::SourceId;

/// What sends an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A message of a device: of the several that it can send by MSI, or the entry of its MSI-X table.
    Message {
        /// The device.
        device: SourceId,
        /// Which one, from 0.
        index: u16,
    },
    /// A pin of an IOAPIC.
    Pin {
        /// The id that the firmware's table (DMAR, IVRS) has for the IOAPIC.
        io_apic: u8,
        /// Which pin, from 0.
        pin: u8,
    },
    /// A timer of an HPET that sends messages.
    Timer {
        /// The number that the firmware's table has for the HPET.
        hpet: u8,
        /// Which timer, from 0.
        timer: u8,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { device, index } => write!(f, "message {index} of {device}"),
            Self::Pin { io_apic, pin } => write!(f, "pin {pin} of IOAPIC {io_apic}"),
            Self::Timer { hpet, timer } => write!(f, "timer {timer} of HPET {hpet}"),
        }
    }
}
