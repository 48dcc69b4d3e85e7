//! The second half of a commit: tables are written, units are told, and what nothing reaches any more is given back.
//!
//! What is taken away comes first and is flushed before anything is granted. While units work on a flush no lock is held;
//! the cells of the change are marked, so that no other change comes between.

use heapless::Vec;

use super::change::{Committed, Edit};
use super::devices::{Assignment, State};
use super::flush::Guard;
use super::groups::own_requesters;
use super::results::Results;
use super::stage::{Touched, stays_in_use};
use super::{Config, Error, Iommu};
use crate::addr::{IovaRange, Rights};
use crate::cell::{Cell, CellId, Difference, withdraw_grants};
use crate::contract::DomainId;
use crate::domain::Domain;
use crate::hal::{Deadline, FrameList, Hal};
use crate::invalidation::Flush;
use crate::paging::{Change, Prealloc};
use crate::unit::Unit;

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// [`Change::commit`](super::Change::commit).
    pub(super) fn commit(&self, edits: &[Edit]) -> Result<Committed<CELLS>, Error> {
        let (mut config, touched) = self.claim(edits)?;
        let mut context_tables = self.stage(&mut config, &touched, edits)?;
        touched.of(&mut config.cells).for_each(|cell| cell.busy = true);

        // Frames of domains that are gone.
        let mut freed = FrameList::new();
        let mut results = Results::NONE;
        self.make_up_first(&mut config, &touched);
        let mut config = self.empty_device_tlbs(config, &touched, &mut results);
        self.take_away(&mut config, &touched);
        let config = self.flush(config, &touched, &mut results);
        let (mut config, quiet) = self.quiet(config, &touched, &results);
        let confirmed = results.all();
        self.forget_released(&mut config, &touched, &results, &mut freed);
        if let Err(error) = confirmed.map_err(Error::from).and(quiet) {
            // SAFETY: no context table was made of them.
            unsafe { context_tables.free(&self.hal) };
            // A device that does not answer or does not come to rest is blocked by its unit, for certain.
            if results.any_unit_failed() {
                config.withhold(&touched);
            }
            return self.give_up(config, &touched, freed, confirmed.is_ok(), error);
        }
        // SAFETY: each unit has confirmed that it forgot what led to them.
        unsafe { freed.free(&self.hal) };

        self.grant(&mut config, &touched, &mut context_tables);
        // SAFETY: what is left was not needed.
        unsafe { context_tables.free(&self.hal) };
        let mut config = self.flush(config, &touched, &mut results);
        if let Err(error) = results.all() {
            self.take_back(&mut config, &touched);
            return self.give_up(config, &touched, FrameList::new(), false, error.into());
        }
        // Only when their entries allow it (R47).
        let arrived = config.assignments.iter().filter(|device| device.arrives(&touched));
        arrived.filter_map(|device| device.ats.as_ref()).for_each(|ats| ats.switch(&self.hal, true));
        self.end(&mut config, &touched, true, true);
        Ok(self.report(&mut config, &touched))
    }

    /// Locks the configuration at a moment when none of the edits' cells is in another change.
    fn claim(&self, edits: &[Edit]) -> Result<(Guard<'_, UNITS, CELLS, DEVICES>, Touched<CELLS>), Error> {
        let mut deadline = Deadline::new(self.hal.now_ns(), self.options.timeout_ns);
        loop {
            let late = deadline.passed(self.hal.now_ns()).is_some();
            let mut config = self.config.lock();
            let touched = config.touched(edits)?;
            if !touched.of(&mut config.cells).any(|cell| cell.busy) {
                return Ok((config, touched));
            }
            drop(config);
            if late {
                return Err(Error::InChange);
            }
            self.hal.pause();
        }
    }

    /// Clears what the change takes away, rights among it.
    fn take_away(&self, config: &mut Config<UNITS, CELLS, DEVICES>, touched: &Touched<CELLS>) {
        let Config { cells, assignments, flushes, .. } = config;
        for Cell { regions, staged, domains, .. } in touched.of(cells) {
            for domain in domains.iter_mut().filter(|domain| domain.known && stays_in_use(assignments, domain.id)) {
                for difference in
                    self.differences(domain.attributes.reserved, regions, staged).filter(Difference::takes)
                {
                    let prealloc = domain.prealloc_for_edit(&self.hal, difference.range);
                    let change = difference.edit(&self.hal, &mut domain.table, prealloc);
                    self.note(assignments, flushes, domain.id, &change);
                }
            }
        }
        for device in assignments.iter().filter(|a| a.leaves(touched)) {
            if let (Some(unit), Some(flush)) = (self.units.get(device.unit), flushes.get_mut(device.unit)) {
                unit.block(&self.hal, &device.requesters, device.domain, device.device_tlb(), flush);
            }
        }
    }

    /// Adds what a change of a page table asks for to what each unit that uses it is going to be told.
    fn note(&self, assignments: &[Assignment], flushes: &mut [Flush], domain_id: DomainId, change: &Change) {
        for (index, (unit, flush)) in self.units.iter().zip(flushes).enumerate() {
            let users = assignments.iter().filter(|device| device.unit == index && device.domain == Some(domain_id));
            if users.clone().next().is_some() {
                // The device-TLB of a device that arrives is switched on later.
                let known = users.filter(|device| device.state != State::Arriving);
                flush.page_table(unit.features(), domain_id, change, known.filter_map(Assignment::device_tlb));
            }
        }
    }

    /// Gives back the tables that changes took out of a domain, once this one is confirmed: not where a unit failed, as it
    /// may still walk what an earlier change took out.
    fn free_unlinked(&self, assignments: &[Assignment], domain: &mut Domain) {
        if domain.table.unlinked() == 0 {
            return;
        }
        let mut users = assignments.iter().filter(|device| device.domain == Some(domain.id));
        let is_up_to_date = |unit: &Unit| unit.check_on().is_ok();
        if users.all(|device| self.units.get(device.unit).is_some_and(is_up_to_date)) {
            // SAFETY: each unit whose devices use the domain has confirmed the flushes of all changes, this one's among
            // them. One whose devices have left it has confirmed that it forgot the domain.
            unsafe { domain.table.free_unlinked(&self.hal) };
        }
    }

    /// Takes devices that are [released](Assignment::is_released) from the list (R44), and domains that no device uses any
    /// more from their cells. One that is not stays where it was, fenced.
    fn forget_released(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        results: &Results<UNITS>,
        freed: &mut FrameList,
    ) {
        let Config { cells, assignments, flushes, .. } = config;
        let leaving = assignments.iter_mut().filter(|device| device.leaves(touched));
        leaving
            .filter(|device| !device.is_released(touched, results))
            .for_each(|device| (device.state, device.fenced) = (State::Staying, true));
        for device in assignments.iter().filter(|device| device.leaves(touched)) {
            if let (Some(unit), Some(flush)) = (self.units.get(device.unit), flushes.get_mut(device.unit)) {
                unit.erase(&self.hal, &own_requesters(assignments, device), flush);
            }
        }
        assignments.retain(|device| !device.leaves(touched));
        for cell in touched.of(cells) {
            let unused = |domain: &Domain| !stays_in_use(assignments, domain.id);
            cell.remove_domains(&self.hal, unused, |frames| freed.append(&self.hal, frames));
        }
    }

    /// Writes what the change grants, context entries last.
    fn grant(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        context_tables: &mut FrameList,
    ) {
        let Config { cells, assignments, flushes, .. } = config;
        for Cell { regions, staged, domains, .. } in touched.of(cells) {
            for domain in domains.iter_mut().filter(|domain| domain.known) {
                for difference in self.differences(domain.attributes.reserved, regions, staged) {
                    let change = if let Some(region) = difference.granted() {
                        let prealloc = domain.prealloc_for_map(&self.hal, region);
                        domain.table.map(&self.hal, region, prealloc)
                    } else if let Some((_, rights)) = difference.widened() {
                        let prealloc = domain.prealloc_for_edit(&self.hal, difference.range);
                        domain.table.protect(&self.hal, difference.range, rights, prealloc)
                    } else {
                        continue;
                    };
                    self.note(assignments, flushes, domain.id, &change);
                }
            }
            for domain in domains.iter_mut() {
                domain.known = true;
            }
        }
        for device in assignments.iter().filter(|a| a.arrives(touched)) {
            let domain = cells.get(usize::from(device.cell.index)).and_then(Option::as_ref);
            let domain = domain.and_then(|cell| cell.domains.iter().find(|domain| Some(domain.id) == device.domain));
            if let (Some(domain), Some(unit), Some(flush)) =
                (domain, self.units.get(device.unit), flushes.get_mut(device.unit))
            {
                let translation = domain.translation(device.ats.is_some());
                let requesters = own_requesters(assignments, device);
                unit.attach(&self.hal, &requesters, translation, context_tables, flush);
            }
        }
    }

    /// The opposite of [`grant`](Self::grant), also for what units have cached by now: devices that arrived leave again.
    fn take_back(&self, config: &mut Config<UNITS, CELLS, DEVICES>, touched: &Touched<CELLS>) {
        let Config { cells, assignments, flushes, .. } = config;
        for Cell { regions, staged, domains, .. } in touched.of(cells) {
            for domain in domains.iter_mut() {
                for difference in self.differences(domain.attributes.reserved, regions, staged) {
                    let (granted, widened) = (difference.granted(), difference.widened());
                    if granted.is_none() && widened.is_none() {
                        continue;
                    }
                    let change = self.take(domain, difference.range, widened.map(|(before, _)| before));
                    self.note(assignments, flushes, domain.id, &change);
                }
            }
        }
        for device in assignments.iter().filter(|device| device.arrives(touched)) {
            if let (Some(unit), Some(flush)) = (self.units.get(device.unit), flushes.get_mut(device.unit)) {
                let requesters = own_requesters(assignments, device);
                unit.block(&self.hal, &requesters, device.domain, device.device_tlb(), flush);
            }
        }
        let arriving = assignments.iter_mut().filter(|device| device.arrives(touched));
        arriving.for_each(|device| device.state = State::Leaving);
    }

    /// Takes a range from a page table, but for these rights. If no frame is left to split a page, all of it goes: devices may
    /// reach less than they are granted, but not more.
    fn take(&self, domain: &mut Domain, range: IovaRange, but_for: Option<Rights>) -> Change {
        match (domain.table.prepare_edit(&self.hal, range), but_for) {
            (Ok(prealloc), Some(rights)) => domain.table.protect(&self.hal, range, rights, prealloc),
            (prealloc, _) => domain.table.unmap(&self.hal, range, prealloc.unwrap_or(Prealloc::none())),
        }
    }

    /// Ends a change of which a unit or a device has not done its part: nothing is granted, and no frame is given back that
    /// a unit may reach, which it may unless all have `confirmed` what was taken away.
    fn give_up(
        &self,
        mut config: Guard<'_, UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        mut freed: FrameList,
        confirmed: bool,
        error: Error,
    ) -> Result<Committed<CELLS>, Error> {
        let Config { cells, assignments, flushes, .. } = &mut *config;
        assignments.retain(|device| !device.arrives(touched));
        for cell in touched.of(cells) {
            // SAFETY: no unit was told of a domain that is not known.
            cell.remove_domains(&self.hal, |domain| !domain.known, |frames| unsafe { frames.free(&self.hal) });
            // A domain that was to be left by all of its devices was not edited, and one of them is still there.
            for domain in &mut cell.domains {
                let reserved = domain.attributes.reserved;
                for difference in self.differences(reserved, &cell.regions, &cell.staged).filter(Difference::takes) {
                    let change = self.take(domain, difference.range, difference.narrowed());
                    self.note(assignments, flushes, domain.id, &change);
                }
            }
            withdraw_grants(&cell.regions, &mut cell.staged);
            cell.doomed = false;
        }
        let mut results = Results::NONE;
        let mut config = self.flush(config, touched, &mut results);
        self.forget_released(&mut config, touched, &results, &mut freed);
        let mut config = self.flush(config, touched, &mut results);
        let confirmed = confirmed && results.all().is_ok();
        if confirmed {
            // SAFETY: each unit has confirmed that it forgot what led to them.
            unsafe { freed.free(&self.hal) };
        } else {
            config.lost.append(&self.hal, freed);
        }
        self.end(&mut config, touched, false, confirmed);
        Err(error)
    }

    /// What was staged is so from now on, and other changes may come.
    /// Units have `confirmed` all that was taken away, or not.
    fn end(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        succeeded: bool,
        confirmed: bool,
    ) {
        let Config { cells, assignments, root, .. } = config;
        if let Some(root) = root.as_mut().filter(|root| touched.has(root.cell)) {
            root.end(succeeded);
        }
        assignments
            .iter_mut()
            .filter(|device| device.arrives(touched))
            .for_each(|device| device.state = State::Staying);
        for cell in touched.of(cells) {
            cell.regions.clone_from(&cell.staged);
            cell.busy = false;
            for domain in &mut cell.domains {
                domain.take_prealloc().free(&self.hal);
                if confirmed {
                    self.free_unlinked(assignments, domain);
                }
            }
        }
    }

    /// Forgets the cells that the change ends with, and tells which others have another coherency than was told last.
    fn report(&self, config: &mut Config<UNITS, CELLS, DEVICES>, touched: &Touched<CELLS>) -> Committed<CELLS> {
        let mut coherency = Vec::new();
        for (index, slot) in (0..).zip(&mut config.cells) {
            let Some(cell) = slot else { continue };
            let id = CellId { index, generation: cell.generation };
            if !touched.has(id) {
                continue;
            }
            let now = cell.coherency();
            if cell.doomed {
                *slot = None;
                config.root.take_if(|root| root.cell == id);
                config.root.iter_mut().for_each(|root| root.release(id));
            } else if core::mem::replace(&mut cell.coherency_told, now) != now {
                let _ = coherency.push((id, now));
            }
        }
        Committed { coherency }
    }
}
