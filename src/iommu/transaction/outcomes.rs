//! How it went with what units and devices were asked in a change.
#![forbid(unsafe_code)]

use super::super::error::Error;
use crate::addr::Requester;
use crate::error::UnitError;
use crate::limits::List;
use crate::topology::UnitIndex;
use crate::unit::Begun;

/// How it went with what a unit was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Its queue has no room: nothing was asked.
    NoRoom,
    /// The device of this requester-id did not answer.
    Unresponsive(Requester),
    Failed,
}

/// One unit in a change.
#[derive(Debug)]
pub(in crate::iommu) struct UnitWork {
    /// The worst so far.
    worst: Outcome,
    /// That of the last flush.
    pub(super) last: Outcome,
    pub(super) begun: Option<Begun>,
    /// It was looked at before the change began, and was in service.
    pub(super) ready: bool,
}

impl UnitWork {
    pub(in crate::iommu) const NONE: Self =
        Self { worst: Outcome::Done, last: Outcome::Done, begun: None, ready: false };
}

/// All units in a change. Of the errors two are kept: they are large, units are many, and stacks are small.
#[derive(Debug)]
pub(super) struct Outcomes<'s> {
    pub(super) units: List<'s, UnitWork>,
    /// The error of the unit with the lowest index.
    first: Option<(UnitIndex, UnitError)>,
    /// That of the first device that did not come to rest, or was not reset.
    device: Option<Error>,
}

impl<'s> Outcomes<'s> {
    /// Nothing was asked yet.
    pub(super) fn new(units: List<'s, UnitWork>) -> Self {
        Self { units, first: None, device: None }
    }

    /// Forgets what was noted.
    pub(super) fn clear(&mut self) {
        self.units.iter_mut().for_each(|unit| *unit = UnitWork::NONE);
        (self.first, self.device) = (None, None);
    }

    /// What failed: a unit, or else a device.
    pub(super) fn failure(&self) -> Option<Error> {
        self.first.map(|(_, error)| Error::Unit(error)).or(self.device)
    }

    /// True if this unit has done all that it was asked, but for what devices did not answer that are quarantined by now.
    pub(super) fn is_confirmed(&self, unit: UnitIndex) -> bool {
        let worst = self.units.get(unit.get()).map(|unit| unit.worst);
        matches!(worst, Some(Outcome::Done | Outcome::Unresponsive(_)))
    }

    /// True if a unit failed, and not only a device.
    pub(super) fn any_unit_failed(&self) -> bool {
        self.units.iter().any(|unit| unit.worst == Outcome::Failed)
    }

    /// Notes that a device did not do what it has to before it leaves its cell.
    pub(super) fn note_device(&mut self, error: Error) {
        self.device.get_or_insert(error);
    }

    /// Notes what a unit says, unless it failed before. That it has no room is not noted: it is asked again.
    #[inline(never)]
    pub(super) fn note(&mut self, unit: UnitIndex, error: &UnitError) -> Outcome {
        let outcome = match *error {
            UnitError::NoRoom { .. } => Outcome::NoRoom,
            UnitError::Device { requester, .. } => Outcome::Unresponsive(requester),
            _ => Outcome::Failed,
        };
        if outcome != Outcome::NoRoom {
            self.set(unit, outcome, error);
        }
        if let Some(unit) = self.units.get_mut(unit.get()) {
            unit.last = outcome;
        }
        outcome
    }

    /// Notes that a unit was asked in vain, and is not asked again.
    pub(super) fn fail(&mut self, unit: UnitIndex, error: &UnitError) {
        self.set(unit, Outcome::Failed, error);
    }

    fn set(&mut self, index: UnitIndex, outcome: Outcome, error: &UnitError) {
        let Some(unit) = self.units.get_mut(index.get()) else { return };
        let before = unit.worst;
        if before == Outcome::Done || before != Outcome::Failed && outcome == Outcome::Failed {
            unit.worst = outcome;
            if self.first.is_none_or(|(first, _)| index <= first) {
                self.first = Some((index, *error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::mem::MaybeUninit;

    use super::*;
    use crate::addr::PhysAddr;
    use crate::hal::RegisterWindow;

    fn unit(index: usize) -> RegisterWindow {
        RegisterWindow { base: PhysAddr::new(0xfed9_0000 + 0x1000 * index as u64), bytes: 4096 }
    }

    #[test]
    fn the_first_unit_counts_and_what_is_worse_about_it() {
        let at = |index| UnitIndex::all().nth(index).unwrap();
        let unresponsive = |index| UnitError::Device { unit: unit(index), requester: Requester::new(8) };
        let failed = |index| UnitError::Failed { unit: unit(index) };
        let dead = |index| UnitError::Dead { unit: unit(index), register: "", value: 0 };
        let mut slots = [const { MaybeUninit::uninit() }; 3];
        let mut units = List::new(&mut slots);
        while units.push(UnitWork::NONE).is_ok() {}
        let mut all = Outcomes::new(units);
        let of = |all: &Outcomes<'_>, unit: usize| (all.failure(), all.is_confirmed(at(unit)), all.any_unit_failed());
        let error = |error| Some(Error::Unit(error));
        assert_eq!(of(&all, 2), (None, true, false));
        assert_eq!(all.note(at(2), &unresponsive(2)), Outcome::Unresponsive(Requester::new(8)));
        assert_eq!(of(&all, 2), (error(unresponsive(2)), true, false));
        assert_eq!(all.note(at(2), &failed(2)), Outcome::Failed);
        assert_eq!(of(&all, 2), (error(failed(2)), false, true));
        all.note(at(2), &dead(2));
        all.note(at(2), &unresponsive(2));
        assert_eq!(all.failure(), error(failed(2)), "it failed before");
        all.note(at(1), &unresponsive(1));
        all.note(at(2), &dead(2));
        assert_eq!(
            (all.failure(), all.is_confirmed(at(0)), all.is_confirmed(at(3))),
            (error(unresponsive(1)), true, false)
        );
        let full = UnitError::NoRoom { unit: unit(0) };
        assert_eq!(all.note(at(0), &full), Outcome::NoRoom);
        assert_eq!((all.failure(), all.is_confirmed(at(0))), (error(unresponsive(1)), true));
        all.fail(at(0), &full);
        all.fail(at(1), &full);
        assert_eq!(of(&all, 0), (error(full), false, true));
        all.clear();
        all.note_device(Error::NotEnabled);
        all.note_device(Error::Probed);
        assert_eq!((all.failure(), all.any_unit_failed()), (Some(Error::NotEnabled), false));
    }
}
