//! The interrupt that a unit sends when it records a fault or its queue stops (S 7.3, 11.4.7.2 to 11.4.7.5, 5.1.6).
#![forbid(unsafe_code)]

use tock_registers::interfaces::{Readable, Writeable};

use super::Capabilities;
use super::registers::{FECTL, Registers};
use crate::error::UnitError;
use crate::hal::Hal;

/// Which interrupt of which CPU: fixed delivery, edge triggered. A unit's own interrupts are never remapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The CPU's local APIC id. Above 254 only where the CPUs are in x2APIC mode.
    pub apic_id: u32,
    /// The vector, 16 to 255.
    pub vector: u8,
}

impl Destination {
    /// Message address and upper address: the id's bits 7:0 in 19:12 of the one, 31:8 in place in the other (S 5.1.6.2).
    fn address(self) -> (u32, u32) {
        (0xfee0_0000 | (self.apic_id & 0xff) << 12, self.apic_id & !0xff)
    }
}

/// Has the unit send its fault event there, or send none.
///
/// The event is masked while its message changes (R64b). One that was held back meanwhile is sent at the end.
pub(super) fn set<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    to: Option<Destination>,
) -> Result<(), UnitError> {
    let upper = to.map(Destination::address).unwrap_or_default().1;
    if upper != 0 && !unit.extended_interrupts {
        let (bit, missing) = ("EIM", "extended interrupt mode, so that it reaches no CPU above 255");
        return Err(UnitError::Unsupported { unit: registers.window, register: "ECAP_REG", bit, missing });
    }
    let kept = registers.fectl().get() & !FECTL::IM::SET.mask();
    registers.fectl().set(kept | FECTL::IM::SET.mask());
    let Some(to) = to else { return Ok(()) };
    registers.fedata().set(to.vector.into());
    registers.feaddr().set(to.address().0);
    if unit.extended_interrupts {
        registers.feuaddr().set(upper);
    }
    registers.fectl().set(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_split_over_both_addresses() {
        let address = |apic_id| Destination { apic_id, vector: 16 }.address();
        assert_eq!(address(0xab), (0xfeea_b000, 0));
        assert_eq!(address(0x1234_56cd), (0xfeec_d000, 0x1234_5600));
    }
}
