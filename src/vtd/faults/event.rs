//! The interrupt that a unit sends when it records a fault or its queue stops (S 7.3, 11.4.7.2 to 11.4.7.5, 5.1.6), and two
//! others that it can send, which the driver has no use for (S 11.4.9.5, 11.4.11.5).
#![forbid(unsafe_code)]

use tock_registers::interfaces::{Readable, Writeable};

use crate::error::UnitError;
use crate::hal::Hal;
use crate::interrupt::{FaultEvent, Message};
use crate::vtd::Capabilities;
use crate::vtd::registers::{FECTL, Register, Registers};

/// Has the unit send its fault event there, or send none. The unit's own interrupts are never remapped.
///
/// The event is masked while its message changes (R64b). One that was held back meanwhile is sent at the end.
///
/// # Errors
///
/// The unit cannot reach that CPU, cannot send an NMI, or is gone: it sends what it sent before.
pub(in crate::vtd) fn set<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    to: Option<FaultEvent>,
) -> Result<(), UnitError> {
    check(registers, unit, to)?;
    let to = to.map(FaultEvent::message);
    let upper = to.map_or(0, |Message { address, .. }| (address >> 32) as u32);
    let before = registers.fectl().get();
    let kept = mask(&registers.fectl());
    let Some(Message { address, data }) = to else { return Ok(()) };
    let data_before = registers.fedata().get();
    registers.fedata().set(data);
    if registers.fedata().get() != data {
        registers.status()?;
        registers.fedata().set(data_before);
        registers.fectl().set(before);
        let (bit, missing) = ("IMD", "an NMI as its fault event: take an interrupt's vector");
        return Err(UnitError::Unsupported { unit: registers.window, register: "FEDATA_REG", bit, missing });
    }
    registers.feaddr().set(address as u32);
    if unit.extended_interrupts {
        registers.feuaddr().set(upper);
    }
    registers.fectl().set(kept);
    Ok(())
}

/// True if the unit sends its fault event.
pub(in crate::vtd) fn is_sent<H: Hal>(registers: &Registers<'_, H>) -> bool {
    !registers.fectl().is_set(FECTL::IM)
}

/// Fails if the unit cannot reach that CPU, or is gone.
pub(in crate::vtd) fn check<H: Hal>(
    registers: &Registers<'_, H>,
    unit: &Capabilities,
    to: Option<FaultEvent>,
) -> Result<(), UnitError> {
    let upper = to.map_or(0, |to| to.message().address >> 32);
    if upper != 0 && !unit.extended_interrupts {
        let (bit, missing) = ("EIM", "extended interrupt mode, so that it reaches no CPU above 255");
        return Err(UnitError::Unsupported { unit: registers.window, register: "ECAP_REG", bit, missing });
    }
    registers.status().map(drop)
}

/// Masks all events of a unit: of faults, of waits and of page requests, as far as it has them.
pub(in crate::vtd) fn mask_all<H: Hal>(registers: &Registers<'_, H>, unit: &Capabilities) {
    mask(&registers.fectl());
    if unit.queued_invalidation {
        mask(&registers.iectl());
    }
    if unit.page_requests {
        mask(&registers.pectl());
    }
}

/// Masks an event. Returns what its control register is to have when it is not masked.
fn mask<H: Hal>(control: &Register<'_, H, u32, FECTL::Register>) -> u32 {
    let kept = control.get() & !FECTL::IM::SET.mask();
    control.set(kept | FECTL::IM::SET.mask());
    kept
}

/// Where the controls of events are: of faults, of waits and of page requests.
const EVENTS: [u32; 3] = [0x38, 0xa0, 0xe0];
const MASKED: u32 = FECTL::IM::SET.value;

/// The registers of a unit's events as somebody else has left them: control, data, address and upper address of each.
#[derive(Clone, Copy, Debug)]
pub(in crate::vtd) struct FormerEvents([[u32; 4]; 3]);

/// The events that a unit has, by their places in [`EVENTS`], and how many registers each has.
fn events_of(unit: &Capabilities) -> ([bool; 3], u32) {
    ([true, unit.queued_invalidation, unit.page_requests], if unit.extended_interrupts { 4 } else { 3 })
}

impl FormerEvents {
    pub(in crate::vtd) fn read<H: Hal>(registers: &Registers<'_, H>, unit: &Capabilities) -> Self {
        let (has, count) = events_of(unit);
        let mut found = [[MASKED, 0, 0, 0]; 3];
        for ((event, first), _) in found.iter_mut().zip(EVENTS).zip(has).filter(|(_, has)| *has) {
            let registers = (0..count).map(|index| registers.event(first, index).get());
            event.iter_mut().zip(registers).for_each(|(kept, value)| *kept = value);
        }
        Self(found)
    }

    /// Has the registers show that again, also after a reset. An event is masked while its message changes (R64b).
    pub(in crate::vtd) fn give_back<H: Hal>(&self, registers: &Registers<'_, H>, unit: &Capabilities) {
        let (has, count) = events_of(unit);
        for ((event, first), _) in self.0.iter().zip(EVENTS).zip(has).filter(|(_, has)| *has) {
            let control = registers.event(first, 0);
            control.set(control.get() | MASKED);
            for (index, value) in (1..count).zip(event.iter().skip(1)) {
                registers.event(first, index).set(*value);
            }
            event.iter().take(1).for_each(|value| control.set(*value));
        }
    }
}
