//! The interrupt that a unit sends when it records a fault or its queue stops (S 7.3, 11.4.7.2 to 11.4.7.5, 5.1.6).
#![forbid(unsafe_code)]

use tock_registers::interfaces::{Readable, Writeable};

use crate::error::UnitError;
use crate::hal::Hal;
use crate::interrupt::{Destination, Message};
use crate::vtd::Capabilities;
use crate::vtd::registers::{FECTL, Registers};

/// Has the unit send its fault event there, or send none. The unit's own interrupts are never remapped.
///
/// The event is masked while its message changes (R64b). One that was held back meanwhile is sent at the end.
pub(in crate::vtd) fn set<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    to: Option<Destination>,
) -> Result<(), UnitError> {
    let to = to.map(Destination::message);
    let upper = to.map_or(0, |Message { address, .. }| (address >> 32) as u32);
    if upper != 0 && !unit.extended_interrupts {
        let (bit, missing) = ("EIM", "extended interrupt mode, so that it reaches no CPU above 255");
        return Err(UnitError::Unsupported { unit: registers.window, register: "ECAP_REG", bit, missing });
    }
    let kept = registers.fectl().get() & !FECTL::IM::SET.mask();
    registers.fectl().set(kept | FECTL::IM::SET.mask());
    let Some(Message { address, data }) = to else { return Ok(()) };
    registers.fedata().set(data);
    registers.feaddr().set(address as u32);
    if unit.extended_interrupts {
        registers.feuaddr().set(upper);
    }
    registers.fectl().set(kept);
    Ok(())
}
