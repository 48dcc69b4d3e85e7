//! How units do what a change asks of them, and what follows if one does not.
#![forbid(unsafe_code)]

use core::mem;

use super::Transaction;
use super::outcomes::{Outcome, Outcomes};
use crate::addr::Requester;
use crate::error::UnitError;
use crate::hal::Hal;
use crate::invalidation::Flush;
use crate::iommu::edit::Edit;
use crate::iommu::front::Iommu;
use crate::iommu::state::{Assignment, CellSet, Config, behind};
use crate::limits::Limits;
use crate::pci;
use crate::topology::UnitIndex;
use crate::unit::{Scratch, Unit};

/// So many rounds at most: each time, another device does not answer, or another change has taken the room in a queue.
fn rounds(limits: &Limits) -> usize {
    limits.device_tlbs.saturating_add(limits.changes).saturating_add(1)
}

/// Asks a unit for everything, and all its devices but those that another change flushes.
fn everything(devices: &[Assignment], scope: CellSet, unit: UnitIndex, flush: &mut Flush<'_>) {
    let flushed = behind(devices, unit).filter(|device| device.is_flushed_by(scope));
    flush.everything(flushed.filter_map(Assignment::device_tlb));
}

impl<H: Hal> Transaction<'_, '_, H> {
    /// Asks the units that a change is about for everything, if a flush of theirs failed; all units if it has no edits. Nothing
    /// is granted before that is done: they may still know what a domain-id was before it was free again (R33), and where a
    /// page was.
    #[inline(never)]
    pub(super) fn repeat_failed_flushes(&mut self, edits: &[Edit]) {
        let scope = self.scope;
        self.repeat_failed_flushes_of(&|config, unit| edits.is_empty() || config.is_behind(unit, scope));
    }

    /// The same for a change that is refused, which may be one that failed before: has its units do that and nothing else.
    /// Whether they did is theirs to say.
    #[inline(never)]
    pub(super) fn repeat_failed_flushes_alone(&mut self) {
        // Others may change its cells meanwhile.
        let scope = mem::replace(&mut self.scope, CellSet::NONE);
        // What stands in the way of others is a pin that was cut, too.
        if self.repeat_failed_flushes_of(&|config, unit| config.is_behind(unit, scope) || config.has_cut_lines(unit)) {
            self.flush();
        }
    }

    /// The same for one unit that a call is about which changes no cell.
    pub(in crate::iommu) fn repeat_failed_flush(&mut self, unit: UnitIndex) {
        self.repeat_failed_flushes_of(&|_, other| other == unit);
    }

    /// False if none of the units needs one. A unit that is out of service does nothing more: what it may still know of is
    /// withheld, and its failure is no other cell's.
    #[inline(never)]
    fn repeat_failed_flushes_of(&mut self, is_concerned: &dyn Fn(&Config<'_>, UnitIndex) -> bool) -> bool {
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        let mut any = false;
        for (unit, index) in front.each_unit() {
            let needs_one = unit.needs_full_flush() && is_concerned(config, index);
            let Some((_, flush)) = config.flushes.of(&front.probed().units, index).filter(|_| needs_one) else {
                continue;
            };
            if unit.check_ready(&front.hal).is_ok() {
                everything(&config.devices, scope, index, flush);
                any = true;
            }
        }
        any
    }

    /// Notes that units are out of service behind which devices of a cell may still reach what is withheld: of the cells whose memory
    /// the change edits, or of all if it has no edits. They may know another place for that memory, or more rights, than the
    /// change says, also where it finds nothing to do.
    #[inline(never)]
    pub(super) fn note_unconfirmed(&mut self, edits: &[Edit]) {
        let (front, config, outcomes) = (self.front, &*self.config, &mut self.work.outcomes);
        let is_edited = |cell| edits.is_empty() || edits.iter().any(|edit| edit.memory_of() == Some(cell));
        let is_concerned = |cell| config.withheld.iter().any(|range| range.cell == cell) && is_edited(cell);
        for (unit, index) in front.each_unit() {
            if behind(&config.devices, index).any(|device| is_concerned(device.cell))
                && let Err(error) = unit.check_ready(&front.hal)
            {
                outcomes.fail(index, &error);
            }
        }
    }

    /// Has every unit do what is collected for it, and notes what it says unless it failed before.
    ///
    /// A device that does not answer is quarantined, and its unit asked again until it has done all else; the error stays the
    /// unit's outcome. A unit without room is waited for, and asked again as well.
    #[inline(never)]
    pub(in crate::iommu) fn flush(&mut self) {
        for _ in 0..rounds(&self.front.probed().limits) {
            self.round();
            let quarantined = self.quarantine_unresponsive();
            if !self.ask_again() && !quarantined {
                return;
            }
        }
        self.give_up();
    }

    /// Units that have done nothing in all rounds failed.
    #[cold]
    #[inline(never)]
    fn give_up(&mut self) {
        for (unit, index) in self.front.each_unit() {
            let last = self.work.outcomes.units.get(index.get()).map(|unit| unit.last);
            if matches!(last, Some(Outcome::NoRoom | Outcome::Unresponsive(_))) {
                self.work.outcomes.fail(index, &UnitError::NoRoom { unit: unit.window() });
            }
        }
    }

    /// Has every unit begin what is collected for it, and waits for all of them at a time (R13), without the lock.
    #[inline(never)]
    fn round(&mut self) {
        let (front, config) = (self.front, &mut *self.config);
        let mut waits = false;
        for (index, unit, flush) in config.flushes.each(&front.probed().units) {
            if !flush.is_empty() {
                unit.list(flush, &mut config.scratch);
            }
            waits |= begin(&front.hal, &unit, index, flush, &config.scratch, &mut self.work.outcomes);
            flush.clear();
        }
        if waits {
            self.unlocked(wait_for_all);
        }
    }

    /// Adds to what is collected all that units without room were asked, which is not kept. False if there is none.
    #[inline(never)]
    fn ask_again(&mut self) -> bool {
        let (scope, config, outcomes) = (self.scope, &mut *self.config, &self.work.outcomes);
        let mut any = false;
        for ((index, unit, flush), own) in config.flushes.each(&self.front.probed().units).zip(&outcomes.units) {
            if own.last != Outcome::NoRoom {
                continue;
            }
            any = true;
            if unit.needs_full_flush() {
                everything(&config.devices, scope, index, flush);
            }
            // Another change may have asked for everything meanwhile, but for what leaves or arrives by this one.
            let moves = |device: &&Assignment| device.arrives(scope) || device.leaves(scope);
            let moving = behind(&config.devices, index).filter(moves);
            moving.filter_map(Assignment::device_tlb).for_each(|device| flush.device_tlb(device));
        }
        any
    }

    /// Quarantines the devices that did not answer (R21), and adds to what is collected for their units all that was asked of
    /// those, which is not known to be done (R20). False if there are none.
    ///
    /// What a unit was asked is not kept, so it is asked for everything, and so are its other devices.
    #[inline(never)]
    fn quarantine_unresponsive(&mut self) -> bool {
        let (front, scope, config, outcomes) = (self.front, self.scope, &mut *self.config, &self.work.outcomes);
        let mut any = false;
        for ((index, unit, flush), own) in config.flushes.each(&front.probed().units).zip(&outcomes.units) {
            let Outcome::Unresponsive(requester) = own.last else { continue };
            any = true;
            // One that moves is in two cells. One that another change has or had released since was flushed by that.
            for device in config.devices.iter_mut().filter(|it| it.unit == index && it.is_flushed_by(scope)) {
                let Some(ats) = device.ats.filter(|ats| Requester::from(ats.function) == requester) else { continue };
                device.quarantined = true;
                ats.switch(&front.hal, false);
                pci::stop_bus_master(&front.hal, device.device);
                unit.block(&front.hal, &device.requesters, device.domain, None, flush);
            }
            everything(&config.devices, scope, index, flush);
        }
        any
    }
}

/// Has a unit begin what is listed. True if it is to be waited for.
#[inline(never)]
fn begin(
    hal: &impl Hal,
    unit: &Unit,
    index: UnitIndex,
    flush: &Flush<'_>,
    scratch: &Scratch<'_>,
    outcomes: &mut Outcomes<'_>,
) -> bool {
    let Some(own) = outcomes.units.get_mut(index.get()) else { return false };
    own.last = Outcome::Done;
    match unit.begin(hal, flush, scratch) {
        Ok(begun) => {
            own.begun = begun;
            own.begun.is_some()
        }
        Err(error) => outcomes.note(index, &error) == Outcome::NoRoom,
    }
}

/// Waits for each unit that has begun something, or that has no room for it.
#[inline(never)]
fn wait_for_all<H: Hal>(front: &Iommu<'_, H>, outcomes: &mut Outcomes<'_>) {
    for (unit, index) in front.each_unit() {
        let Some(own) = outcomes.units.get_mut(index.get()) else { continue };
        let done = match own.last {
            Outcome::NoRoom => unit.wait_for_room(&front.hal),
            _ => unit.finish(&front.hal, own.begun.take()),
        };
        if let Err(error) = done {
            outcomes.note(index, &error);
        }
    }
}
