//! What a change does with interrupts: their entries are cleared with all else that is revoked, and written with all that is granted.
//! One that goes elsewhere is written with what is granted, since its cell may have both places.
#![forbid(unsafe_code)]

use super::Transaction;
use crate::addr::SourceId;
use crate::cell::CellId;
use crate::hal::Hal;
use crate::interrupt::{Course, Posting, Route, Senders, SlotBlock, Source};
use crate::iommu::edit::Edit;
use crate::iommu::error::{Error, Unroutable};
use crate::iommu::rules;
use crate::iommu::state::{
    Assignment, CellSet, Config, Held, Interrupts, Line, RoutedSlot, Stay, UnitSlot, each_slot, holders, posting_to,
};
use crate::limits::Full;
use crate::topology::{Requesters, UnitIndex};

impl<H: Hal> Transaction<'_, '_, H> {
    /// Makes an edit of an interrupt.
    #[inline(never)]
    pub(super) fn plan_interrupt(&mut self, cell: CellId, source: Source, edit: &Edit) -> Result<(), Error> {
        match *edit {
            Edit::Route(.., route) => self.plan_route(cell, source, route),
            Edit::Post(.., posting) => self.plan_post(cell, source, posting),
            Edit::Keep(.., entry) => self.plan_keep(cell, source, entry),
            _ => self.plan_unroute(cell, source),
        }
    }

    #[inline(never)]
    fn plan_route(&mut self, cell: CellId, source: Source, route: Route) -> Result<(), Error> {
        self.check_route(cell, source, route)?;
        self.plan_course(cell, source, Course::Remapped(route))
    }

    #[inline(never)]
    fn plan_post(&mut self, cell: CellId, source: Source, posting: Posting) -> Result<(), Error> {
        self.check_posting(cell, source, posting)?;
        self.plan_course(cell, source, Course::Posted(posting))
    }

    fn plan_course(&mut self, cell: CellId, source: Source, course: Course) -> Result<(), Error> {
        self.check_kept(cell, source, course)?;
        match self.routed_mut(cell, source) {
            Some((_, routed)) => routed.staged = Some(course),
            None if matches!(source, Source::Message { .. }) => {
                return Err(Error::Route { source, reason: Unroutable::NotHeld });
            }
            None => {
                let (unit, senders) = self.senders_of(cell, source)?;
                self.list_line(cell, source, course, (unit, senders), None)?;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn plan_keep(&mut self, cell: CellId, source: Source, entry: u16) -> Result<(), Error> {
        let no = |reason| Err(Error::Route { source, reason });
        if let Some((slot, _)) = self.routed_mut(cell, source) {
            return no(Unroutable::HasEntry(slot));
        }
        let (unit, senders) = self.senders_of(cell, source)?;
        let found = self.front.found_route(unit, entry, senders, self.config.interrupts.is_extended());
        let Some(route) = found else { return no(Unroutable::NotFound(entry)) };
        self.check_route(cell, source, route)?;
        self.list_line(cell, source, Course::Remapped(route), (unit, senders), Some(entry))
    }

    fn check_route(&self, cell: CellId, source: Source, route: Route) -> Result<(), Error> {
        let targets = &self.config.cell(cell)?.config.interrupts;
        rules::interrupts::check_route(targets, self.config.interrupts.is_extended(), source, route)
    }

    #[inline(never)]
    fn check_posting(&self, cell: CellId, source: Source, posting: Posting) -> Result<(), Error> {
        self.config.cell(cell)?;
        // Configuration space says nothing of that, so devices may be in reset.
        let (unit, reason) = match source {
            Source::Message { device, .. } => {
                (self.config.holder(cell, device).map(|own| own.unit), Unroutable::NotHeld)
            }
            Source::Timer { hpet, timer } => {
                (self.front.topology().hpet_timer(hpet, timer).map(|(unit, _)| unit), Unroutable::NoUnit)
            }
            Source::Pin { .. } => (None, Unroutable::PostedPin),
        };
        let unit = unit.and_then(|unit| self.front.unit(unit)).ok_or(Error::Route { source, reason })?;
        let host_bits = self.front.topology().host_address_width();
        rules::interrupts::check_posting(&self.front.hal, unit.features().interrupts, host_bits, source, posting)?;
        let mut cells = posting_to(&self.config.devices, &self.config.interrupts, posting.descriptor());
        match cells.find(|other| *other != cell) {
            Some(other) => Err(Error::Route { source, reason: Unroutable::DescriptorTaken(other) }),
            None => Ok(()),
        }
    }

    /// Fails if a line goes elsewhere in the table that its unit is found with: until the driver's has followed that, units may use
    /// either (S 6.7).
    fn check_kept(&mut self, cell: CellId, source: Source, course: Course) -> Result<(), Error> {
        let extended = self.config.interrupts.is_extended();
        let Some(line) = line_of(&mut self.config.interrupts.lines, cell, source) else { return Ok(()) };
        let (slot, senders) = (line.held.block.first, line.held.senders);
        if !self.front.unit(line.unit).is_some_and(|unit| unit.is_prepared()) {
            return Ok(());
        }
        match self.front.found_route(line.unit, slot, senders, extended) {
            Some(found) if Course::Remapped(found) != course => {
                Err(Error::Route { source, reason: Unroutable::GoesOn(slot) })
            }
            _ => Ok(()),
        }
    }

    /// The slot of what a cell can route or has routed, and where that goes. A device that is quarantined has none.
    fn routed_mut(&mut self, cell: CellId, source: Source) -> Option<(u16, &mut RoutedSlot)> {
        if let Source::Message { device, .. } = source {
            self.config.holder(cell, device)?;
        }
        let slot = self.config.message_slot(cell, source);
        let Interrupts { slots, lines, .. } = &mut self.config.interrupts;
        if let Some(slot) = slot {
            return Some((slot, slots.get_mut(usize::from(slot))?));
        }
        let line = line_of(lines, cell, source)?;
        Some((line.held.block.first, &mut line.routed))
    }

    #[inline(never)]
    fn plan_unroute(&mut self, cell: CellId, source: Source) -> Result<(), Error> {
        let Interrupts { lines, .. } = &mut self.config.interrupts;
        match line_of(lines, cell, source) {
            Some(line) if line.stay == Stay::Staying => line.stay = Stay::Leaving,
            Some(_) => {
                let is_it = |line: &Line| line.source == source && line.cell == cell && line.stay == Stay::Arriving;
                self.config.interrupts.remove_lines(&is_it);
            }
            None => {
                let routed = self.routed_mut(cell, source).filter(|(_, routed)| routed.staged.is_some());
                let (_, routed) = routed.ok_or(Error::Route { source, reason: Unroutable::NotRouted })?;
                routed.staged = None;
            }
        }
        Ok(())
    }

    /// Lists a line as one that arrives, with this slot or any.
    fn list_line(
        &mut self,
        cell: CellId,
        source: Source,
        course: Course,
        (unit, senders): (UnitIndex, Senders),
        slot: Option<u16>,
    ) -> Result<(), Error> {
        let scope = self.scope;
        let no = |reason| Err(Error::Route { source, reason });
        // Those that leave are blocked before this one is let through.
        let mut others = self.config.interrupts.lines.iter().filter(|line| !line.leaves(scope));
        if let Some(other) = others.find(|line| line.source == source) {
            return no(Unroutable::Taken(other.cell));
        }
        let interrupts = &mut self.config.interrupts;
        if interrupts.lines.is_full() {
            return Err(Full { what: "lines of interrupts", capacity: interrupts.lines.capacity() }.into());
        }
        let front = self.front;
        let block = match slot {
            Some(slot) if !interrupts.take_this(slot, unit, scope) => return no(Unroutable::EntryTaken(slot)),
            Some(first) => SlotBlock { first, order: 0 },
            None => interrupts.take(1, front.left_free(unit))?,
        };
        let routed = RoutedSlot { staged: Some(course), ..RoutedSlot::default() };
        let held = Held { block, senders };
        let _ = interrupts.lines.push(Line { source, cell, unit, held, routed, stay: Stay::Arriving });
        Ok(())
    }

    /// The unit that requests of a source pass, and by whose name.
    fn senders_of(&self, cell: CellId, source: Source) -> Result<(UnitIndex, Senders), Error> {
        let topology = self.front.topology();
        // An HPET may leave the function number open (R56).
        let found = match source {
            Source::Pin { io_apic, .. } => topology.ioapic(io_apic).map(|found| (found, 0)),
            Source::Timer { hpet, timer } => topology.hpet_timer(hpet, timer).map(|found| (found, 3)),
            Source::Message { .. } => None,
        };
        let found = found.map(|((unit, id), free)| (unit, Senders::Functions { requester: id.into(), free }));
        let found = match source {
            Source::Message { device, .. } => {
                let own =
                    self.config.holder(cell, device).ok_or(Error::Route { source, reason: Unroutable::NotHeld })?;
                let mut all = Requesters::NONE;
                topology.add_requesters(&self.front.hal, device, &mut all)?;
                Senders::of(&all).map(|senders| (own.unit, senders))
            }
            Source::Pin { .. } | Source::Timer { .. } => found,
        };
        let (unit, senders) = found.ok_or(Error::Route { source, reason: Unroutable::NoUnit })?;
        if self.front.unit(unit).is_some_and(|unit| unit.remaps_interrupts()) {
            Ok((unit, senders))
        } else {
            Err(Error::Route { source, reason: Unroutable::NotRemapped })
        }
    }

    /// Fails if a unit is out of service behind which something is to be routed.
    #[inline(never)]
    pub(super) fn check_units_of_routes(&mut self) -> Result<(), Error> {
        let (front, scope) = (self.front, self.scope);
        let Config { devices, interrupts, .. } = &mut *self.config;
        let (mut looked_at, mut result) = (None, Ok(()));
        each_slot(devices, interrupts, scope, &mut |UnitSlot { unit, .. }, routed, _| {
            let is_granted = routed.staged.is_some() && routed.staged != routed.now;
            if result.is_ok() && is_granted && looked_at.replace(unit) != Some(unit) {
                result = front.unit(unit).map_or(Ok(()), |unit| unit.check_ready(&front.hal));
            }
        });
        Ok(result?)
    }

    /// Clears the entries of what is routed no more. Those of devices and lines that leave are flushed in any case, since an earlier
    /// change may have cleared them and failed.
    #[inline(never)]
    pub(super) fn revoke_routes(&mut self) {
        self.write_routes(&|slot, stay| {
            let is_leaving = stay == Stay::Leaving;
            slot.staged = slot.staged.filter(|_| !is_leaving);
            let is_gone = slot.now.is_some() && slot.staged.is_none();
            slot.leave(slot.now.filter(|_| is_gone));
            slot.now = slot.now.filter(|_| !is_gone);
            is_gone.then_some(None)
        });
        let (front, scope) = (self.front, self.scope);
        let Config { devices, interrupts: Interrupts { lines, .. }, flushes, .. } = &mut *self.config;
        let leaving = holders(devices, lines).filter(|(cell, _, _, stay)| *stay == Stay::Leaving && scope.has(*cell));
        for (_, index, held, _) in leaving {
            if let Some((unit, flush)) = flushes.of(&front.probed().units, index) {
                flush.interrupts_set(unit.features(), held.block, true);
            }
        }
    }

    /// Writes the entries of what is routed, or goes elsewhere.
    #[inline(never)]
    pub(super) fn grant_routes(&mut self) {
        self.write_routes(&|slot, _| {
            let is_granted = slot.staged != slot.now;
            slot.leave(slot.now.filter(|_| is_granted));
            is_granted.then_some(slot.staged)
        });
    }

    /// Has what [`grant_routes`](Self::grant_routes) wrote go where it went before, or nowhere.
    #[inline(never)]
    pub(super) fn take_back_routes(&mut self) {
        self.write_routes(&|slot, _| {
            let was_granted = slot.staged != slot.now;
            slot.leave(slot.staged.filter(|_| was_granted));
            slot.staged = slot.now;
            was_granted.then_some(slot.now)
        });
    }

    /// What is staged is as it was, and no entry was touched.
    #[inline(never)]
    pub(super) fn unstage_routes(&mut self) {
        self.write_routes(&|slot, _| {
            slot.staged = slot.now;
            None
        });
    }

    /// What is staged is so from now on. Units have `confirmed` all that is so no more, or not.
    #[inline(never)]
    pub(super) fn settle_routes(&mut self, confirmed: bool) {
        self.write_routes(&|slot, _| {
            slot.now = slot.staged;
            slot.left = slot.left.filter(|_| !confirmed);
            None
        });
    }

    /// Calls `each` with where all goes that the change's cells have, and writes what it says into the entries.
    #[inline(never)]
    fn write_routes(&mut self, each: &dyn Fn(&mut RoutedSlot, Stay) -> Option<Option<Course>>) {
        let (front, scope) = (self.front, self.scope);
        let Config { devices, interrupts, flushes, .. } = &mut *self.config;
        each_slot(devices, interrupts, scope, &mut |UnitSlot { unit, slot, senders }, routed, stay| {
            if let Some((unit, flush)) = flushes.of(&front.probed().units, unit)
                && let Some(to) = each(routed, stay)
            {
                unit.set_interrupt(&front.hal, slot, to.map(|course| (course, senders)), flush);
            }
        });
    }

    /// Takes away the lines that leave, whose units have confirmed that in this change. One whose unit has not stays its cell's, and
    /// goes nowhere.
    #[inline(never)]
    pub(super) fn retire_lines(&mut self) {
        let (scope, outcomes) = (self.scope, &self.work.outcomes);
        let config = &mut *self.config;
        config.interrupts.remove_lines(&|line| line.leaves(scope) && outcomes.is_confirmed(line.unit));
        let left = config.interrupts.lines.iter_mut().filter(|line| line.leaves(scope));
        left.for_each(|line| line.stay = Stay::Staying);
    }
}

/// A line that a cell has, or gets.
fn line_of(lines: &mut [Line], cell: CellId, source: Source) -> Option<&mut Line> {
    lines.iter_mut().find(|line| line.source == source && line.cell == cell && line.stay != Stay::Leaving)
}

impl Config<'_> {
    /// Has the messages that devices keep leave with them.
    #[inline(never)]
    pub(super) fn release_messages(&mut self, scope: CellSet) {
        let Self { devices, interrupts, .. } = self;
        let is_left = |line: &Line| {
            let Source::Message { device, .. } = line.source else { return false };
            let mut own = devices.iter().filter(|it| it.device == device && it.cell == line.cell);
            !own.any(|it| it.stay == Stay::Staying || it.stay == line.stay)
        };
        interrupts.remove_lines(&|line| line.arrives(scope) && is_left(line));
        let left = interrupts.lines.iter_mut().filter(|line| scope.has(line.cell) && is_left(line));
        left.for_each(|line| line.stay = Stay::Leaving);
    }

    /// A device that a cell has, or gets.
    fn holder(&self, cell: CellId, device: SourceId) -> Option<&Assignment> {
        let mut own = self.devices.iter().filter(|it| it.cell == cell && it.stay != Stay::Leaving && !it.quarantined);
        own.find(|it| it.device == device)
    }

    /// The slot of a message, of the block that its device has.
    fn message_slot(&self, cell: CellId, source: Source) -> Option<u16> {
        let Source::Message { device, index } = source else { return None };
        self.holder(cell, device)?.interrupts?.block.nth(index)
    }
}
