#![forbid(unsafe_code)]

/// A message-signalled interrupt: what is written, and where (VT-d 5.10, section 5.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address, within 0xFEE0_0000 to 0xFEEF_FFFF in its lower half.
    pub address: u64,
    /// The data.
    pub data: u32,
}

/// Which interrupt of which CPU: fixed delivery, edge triggered, physical destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The CPU's local APIC id. Above 254 only where the CPUs are in x2APIC mode.
    pub apic_id: u32,
    /// The vector, 16 to 255.
    pub vector: u8,
}

impl Destination {
    /// The message with which a unit reaches it that is not remapped itself: the id's bits 7:0 are bits 19:12 of the address,
    /// its bits 31:8 stand in place in the upper half, which counts in x2APIC mode alone (VT-d 5.10, section 5.1.6.2).
    pub const fn message(self) -> Message {
        let low = 0xfee0_0000 | (self.apic_id & 0xff) << 12;
        Message { address: ((self.apic_id & !0xff) as u64) << 32 | low as u64, data: self.vector as u32 }
    }
}

/// How a CPU learns of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEvent {
    /// By an interrupt.
    Vector(Destination),
    /// By an NMI, which comes where interrupts are masked, too.
    ///
    /// The specification names the vector's delivery modes alone (VT-d 5.10, section 5.1.6), and has this one's bits reserved.
    /// Hypervisors have used it for years on units that keep them; one that does not is found out, and refused.
    Nmi {
        /// The CPU's local APIC id. Above 254 only where the CPUs are in x2APIC mode.
        apic_id: u32,
    },
}

impl FaultEvent {
    /// To the CPU with this APIC id, by an interrupt with this vector, 16 to 255.
    pub const fn to(apic_id: u32, vector: u8) -> Self {
        Self::Vector(Destination { apic_id, vector })
    }

    /// The message with which a unit sends it.
    pub(crate) const fn message(self) -> Message {
        match self {
            Self::Vector(to) => to.message(),
            Self::Nmi { apic_id } => Message { data: NMI, ..Destination { apic_id, vector: 0 }.message() },
        }
    }
}

/// The delivery mode in bits 10:8 of a message's data (SDM 3A, section 11.11.2).
const NMI: u32 = 0b100 << 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nmi_has_its_delivery_mode_and_no_vector() {
        let (nmi, other) = (FaultEvent::Nmi { apic_id: 0x1_2345 }.message(), FaultEvent::to(0x1_2345, 0x41).message());
        assert_eq!(nmi, Message { data: 0x400, ..other });
    }

    #[test]
    fn the_id_is_split_over_both_halves_of_the_address() {
        let message = |apic_id| Destination { apic_id, vector: 16 }.message();
        assert_eq!(message(0xab), Message { address: 0xfeea_b000, data: 16 });
        assert_eq!(message(0x1234_56cd), Message { address: 0x1234_5600_feec_d000, data: 16 });
    }
}
