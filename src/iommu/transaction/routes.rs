//! What a change does with interrupts: their entries are cleared with all else that is revoked, and written with all that is granted.
//! One that goes elsewhere is written with what is granted, since its cell may have both places.
#![forbid(unsafe_code)]

use super::Transaction;
use crate::cell::CellId;
use crate::hal::Hal;
use crate::interrupt::{Route, Senders, Source};
use crate::iommu::error::{Error, Unroutable};
use crate::iommu::rules;
use crate::iommu::state::{Config, Held, Interrupts, Line, RoutedSlot, Stay, holders, slots_of};
use crate::limits::Full;

impl<H: Hal> Transaction<'_, '_, H> {
    #[inline(never)]
    pub(super) fn plan_route(&mut self, cell: CellId, source: Source, route: Route) -> Result<(), Error> {
        let extended = self.config.interrupts.config.is_some_and(|config| config.extended);
        rules::interrupts::check_route(&self.config.cell(cell)?.config.interrupts, extended, source, route)?;
        let slot = match source {
            Source::Message { .. } => self.config.message_slot(cell, source)?,
            Source::Pin { .. } | Source::Timer { .. } => self.line_slot(cell, source)?,
        };
        if let Some(slot) = self.config.interrupts.slots.get_mut(usize::from(slot)) {
            slot.staged = Some(route);
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn plan_unroute(&mut self, cell: CellId, source: Source) -> Result<(), Error> {
        let config = &mut *self.config;
        let not_routed = Error::Route { source, reason: Unroutable::NotRouted };
        if let Source::Message { .. } = source {
            let slot = config.message_slot(cell, source)?;
            let slot = config.interrupts.slots.get_mut(usize::from(slot)).filter(|slot| slot.staged.is_some());
            slot.ok_or(not_routed)?.staged = None;
            return Ok(());
        }
        let mut lines = config.interrupts.lines.iter_mut();
        let line = lines.find(|line| line.source == source && line.cell == cell && line.stay != Stay::Leaving);
        let line = line.ok_or(not_routed)?;
        if line.stay == Stay::Arriving {
            config.interrupts.remove_lines(|line, _| line.source == source && line.stay == Stay::Arriving);
        } else {
            line.stay = Stay::Leaving;
        }
        Ok(())
    }

    /// The slot of a pin or a timer, which is the cell's from now on.
    fn line_slot(&mut self, cell: CellId, source: Source) -> Result<u16, Error> {
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        let no = |reason| Err(Error::Route { source, reason });
        // Those that leave are blocked before this one is let through.
        let mut others = config.interrupts.lines.iter().filter(|line| !line.leaves(scope));
        match others.find(|line| line.source == source) {
            Some(line) if line.cell == cell => return Ok(line.held.block.first),
            Some(line) => return no(Unroutable::Taken(line.cell)),
            None => {}
        }
        let found = match source {
            Source::Pin { io_apic, .. } => front.topology.ioapic(io_apic),
            Source::Timer { hpet, timer } => front.topology.hpet_timer(hpet, timer),
            Source::Message { .. } => None,
        };
        let Some((unit, requester)) = found else { return no(Unroutable::NoUnit) };
        if !front.unit(unit).is_some_and(|unit| unit.remaps_interrupts()) {
            return no(Unroutable::NotRemapped);
        }
        let lines = &config.interrupts.lines;
        if lines.is_full() {
            return Err(Full { what: "lines of interrupts", capacity: lines.capacity() }.into());
        }
        // An HPET may leave the function number open (R56).
        let free = if matches!(source, Source::Timer { .. }) { 3 } else { 0 };
        let senders = Senders::Functions { requester: requester.into(), free };
        let held = Held { block: config.interrupts.take(1)?, senders };
        let _ = config.interrupts.lines.push(Line { source, cell, unit, held, stay: Stay::Arriving });
        Ok(held.block.first)
    }

    /// Fails if a unit is out of service behind which something is to be routed.
    #[inline(never)]
    pub(super) fn check_units_of_routes(&mut self) -> Result<(), Error> {
        let (front, scope) = (self.front, self.scope);
        let Config { devices, interrupts: Interrupts { slots, lines, .. }, .. } = &mut *self.config;
        let mut looked_at = None;
        for (_, index, held, _) in holders(devices, lines).filter(|(cell, ..)| scope.has(*cell)) {
            let is_granted = |slot: &RoutedSlot| slot.staged.is_some() && slot.staged != slot.now;
            if looked_at != Some(index) && slots_of(slots, held.block).any(|(_, slot)| is_granted(slot)) {
                front.unit(index).map_or(Ok(()), |unit| unit.check_ready(&front.hal))?;
                looked_at = Some(index);
            }
        }
        Ok(())
    }

    /// Clears the entries of what is routed no more, and of all whose devices and lines leave: these are flushed in any case, since
    /// an earlier change may have cleared them and failed.
    #[inline(never)]
    pub(super) fn revoke_routes(&mut self) {
        self.each_slot(|slot, stay| {
            let is_leaving = stay == Stay::Leaving;
            slot.staged = slot.staged.filter(|_| !is_leaving);
            let is_gone = slot.now.is_some() && slot.staged.is_none();
            slot.now = slot.now.filter(|_| !is_gone);
            (is_gone || is_leaving).then_some(None)
        });
        let (front, scope) = (self.front, self.scope);
        let Config { devices, interrupts: Interrupts { lines, .. }, flushes, .. } = &mut *self.config;
        let leaving = holders(devices, lines).filter(|(cell, _, _, stay)| *stay == Stay::Leaving && scope.has(*cell));
        for (_, index, held, _) in leaving {
            if let Some((unit, flush)) = flushes.of(&front.units, index) {
                flush.interrupts_set(unit.features(), held.block, true);
            }
        }
    }

    /// Writes the entries of what is routed, or goes elsewhere.
    #[inline(never)]
    pub(super) fn grant_routes(&mut self) {
        self.each_slot(|slot, _| (slot.staged != slot.now).then_some(slot.staged));
    }

    /// Has what [`grant_routes`](Self::grant_routes) wrote go where it went before, or nowhere.
    #[inline(never)]
    pub(super) fn take_back_routes(&mut self) {
        self.each_slot(|slot, _| {
            let was_granted = slot.staged != slot.now;
            slot.staged = slot.now;
            was_granted.then_some(slot.now)
        });
    }

    /// What is staged is as it was, and no entry was touched.
    #[inline(never)]
    pub(super) fn unstage_routes(&mut self) {
        self.each_slot(|slot, _| {
            slot.staged = slot.now;
            None
        });
    }

    /// What is staged is so from now on.
    #[inline(never)]
    pub(super) fn settle_routes(&mut self) {
        self.each_slot(|slot, _| {
            slot.now = slot.staged;
            None
        });
    }

    /// Calls `each` with the slots of all that the change's cells have, and writes what it says into their entries.
    fn each_slot(&mut self, mut each: impl FnMut(&mut RoutedSlot, Stay) -> Option<Option<Route>>) {
        let (front, scope) = (self.front, self.scope);
        let Config { devices, interrupts: Interrupts { slots, lines, .. }, flushes, .. } = &mut *self.config;
        for (cell, index, held, stay) in holders(devices, lines) {
            let Some((unit, flush)) = flushes.of(&front.units, index).filter(|_| scope.has(cell)) else { continue };
            for (slot, route) in slots_of(slots, held.block) {
                if let Some(to) = each(route, stay) {
                    unit.set_interrupt(&front.hal, slot, to.map(|route| (route, held.senders)), flush);
                }
            }
        }
    }

    /// Takes away the lines that leave, whose units have confirmed that in this change. One whose unit has not stays its cell's, and
    /// goes nowhere.
    #[inline(never)]
    pub(super) fn retire_lines(&mut self) {
        let (scope, outcomes) = (self.scope, &self.work.outcomes);
        let config = &mut *self.config;
        config.interrupts.remove_lines(|line, _| line.leaves(scope) && outcomes.is_confirmed(line.unit));
        let left = config.interrupts.lines.iter_mut().filter(|line| line.leaves(scope));
        left.for_each(|line| line.stay = Stay::Staying);
    }
}

impl Config<'_> {
    /// The slot of a device's message.
    pub(in crate::iommu) fn message_slot(&self, cell: CellId, source: Source) -> Result<u16, Error> {
        let Source::Message { device, index } = source else {
            return Err(Error::Route { source, reason: Unroutable::NotHeld });
        };
        let mut devices =
            self.devices.iter().filter(|it| it.cell == cell && it.stay != Stay::Leaving && !it.quarantined);
        let held = devices.find(|it| it.device == device).and_then(|it| it.interrupts);
        held.and_then(|held| held.block.nth(index)).ok_or(Error::Route { source, reason: Unroutable::NotHeld })
    }
}
