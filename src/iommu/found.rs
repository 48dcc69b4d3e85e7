//! The tables by which units are found to remap interrupts.
#![forbid(unsafe_code)]

use super::error::Error;
use super::front::Iommu;
use crate::addr::{Requester, SourceId};
use crate::audit::{LiveInterrupts, LiveRegisters};
use crate::hal::{Hal, RegisterWindow};
use crate::interrupt::{Cpus, Delivery, Route, Senders, SlotBlock};
use crate::topology::UnitIndex;
use crate::unit::Unit;

/// An interrupt that a unit is found to let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundInterrupt {
    /// The unit's registers.
    pub unit: RegisterWindow,
    /// Which entry of its table that is.
    pub entry: u16,
    /// The requester-id that it takes; `None` if it takes any, or those of several buses.
    pub requester: Option<SourceId>,
    /// Where it goes; `None` if it is posted, or goes nowhere that a cell's interrupt may go, whichever cell has it: an NMI, for
    /// example.
    pub route: Option<Route>,
}

impl<H: Hal> Iommu<'_, H> {
    /// Calls `each` with what units let through that remap interrupts by a table that is not the driver's: what can be
    /// [kept](crate::iommu::Edit::Keep) before they are switched on. Reads that table by
    /// [`Hal::word_at`].
    ///
    /// # Errors
    ///
    /// Part of the table of this unit cannot be read: [`Error::Unreadable`]. Those of units after it were not looked at.
    pub fn found_interrupts(&self, mut each: impl FnMut(FoundInterrupt)) -> Result<(), Error> {
        for (unit, _) in self.each_unit() {
            let Some(table) = self.found_table(&unit) else { continue };
            let (window, segment) = (unit.window(), unit.segment());
            let all_read = table.entries(&self.hal, |entry| {
                let requester = match entry.senders() {
                    Some(Senders::Functions { requester, .. }) => {
                        Some(SourceId::from_requester(segment, requester.get()))
                    }
                    Some(Senders::Buses { .. }) | None => None,
                };
                each(FoundInterrupt { unit: window, entry: entry.index, requester, route: entry.route() });
            });
            if !all_read {
                return Err(Error::Unreadable(window));
            }
        }
        Ok(())
    }

    /// Where an entry that a unit is found with has the requests of some senders go; `extended`: the CPUs are in x2APIC mode.
    pub(super) fn found_route(&self, unit: UnitIndex, entry: u16, senders: Senders, extended: bool) -> Option<Route> {
        let entry = self.found_table(&*self.unit(unit)?)?.entry(&self.hal, entry)??;
        let requester = match senders {
            Senders::Functions { requester, .. } => requester,
            Senders::Buses { first, .. } => Requester::new(u16::from(first) << 8),
        };
        let route = entry.route().filter(|_| entry.takes(requester) && entry.is_extended() == extended)?;
        // The driver's entry goes to one of several CPUs by lowest priority, and to all of them otherwise.
        let to_one = route.delivery == Delivery::LowestPriority;
        let is_alike = entry.goes_to_one() == to_one || !to_one && matches!(route.cpus, Cpus::Physical(_));
        is_alike.then_some(route)
    }

    /// Says of slots whether what is routed by them contradicts no entry that a unit is found with: until the driver's table has followed
    /// that one, the unit may use either (S 6.7).
    pub(super) fn left_free(&self, unit: UnitIndex) -> impl Fn(SlotBlock) -> bool {
        let table = self.unit(unit).filter(|unit| unit.is_prepared()).and_then(|unit| self.found_table(&unit));
        move |block| table.as_ref().is_none_or(|table| table.has_none_in(&self.hal, block))
    }

    /// The table by which a unit remaps interrupts, if that is not the driver's.
    fn found_table(&self, unit: &Unit) -> Option<LiveInterrupts> {
        unit.features().interrupts?;
        let registers = LiveRegisters::read(&self.hal, unit.mapped());
        let pointer = registers.interrupt_table_address(&self.hal, unit.mapped());
        let is_found = registers.remaps_interrupts() && unit.interrupt_table() != Some(pointer);
        is_found.then(|| registers.interrupts(pointer))
    }
}
