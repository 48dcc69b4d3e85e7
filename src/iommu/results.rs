//! What units say to a flush.
#![forbid(unsafe_code)]

use crate::addr::Requester;
use crate::error::UnitError;

/// How it went with what a unit was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Its queue has no room: nothing was asked.
    NoRoom,
    /// The device of this requester-id did not answer.
    Silent(Requester),
    Failed,
}

/// How it went with each unit. Of the errors one is kept: they are large, units are many, and stacks are small.
#[derive(Debug)]
pub(super) struct Results<const UNITS: usize> {
    each: [Outcome; UNITS],
    /// That of the unit with the lowest index.
    first: Option<(usize, UnitError)>,
}

impl<const UNITS: usize> Results<UNITS> {
    /// Before anything is asked.
    pub(super) const NONE: Self = Self { each: [Outcome::Done; UNITS], first: None };

    /// The error of the first unit that failed.
    pub(super) fn all(&self) -> Result<(), UnitError> {
        self.first.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// True if this unit has done all that it was asked, but for what devices did not answer that are fenced by now.
    pub(super) fn is_confirmed(&self, unit: usize) -> bool {
        matches!(self.each.get(unit), Some(Outcome::Done | Outcome::Silent(_)))
    }

    /// True if something else than a device failed.
    pub(super) fn any_unit_failed(&self) -> bool {
        self.each.contains(&Outcome::Failed)
    }

    /// Notes what a unit says, unless it failed before. That it has no room is not noted: it is asked again.
    pub(super) fn note(&mut self, unit: usize, error: UnitError) -> Outcome {
        let outcome = match error {
            UnitError::NoRoom { .. } => return Outcome::NoRoom,
            UnitError::Device { requester, .. } => Outcome::Silent(requester),
            _ => Outcome::Failed,
        };
        self.set(unit, outcome, error);
        outcome
    }

    /// Notes for good that a unit was asked in vain.
    pub(super) fn fail(&mut self, unit: usize, error: UnitError) {
        self.set(unit, Outcome::Failed, error);
    }

    fn set(&mut self, unit: usize, outcome: Outcome, error: UnitError) {
        let Some(before) = self.each.get_mut(unit) else { return };
        if *before == Outcome::Done || *before != Outcome::Failed && outcome == Outcome::Failed {
            *before = outcome;
            if self.first.is_none_or(|(first, _)| unit <= first) {
                self.first = Some((unit, error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;
    use crate::hal::Window;

    fn unit(index: usize) -> Window {
        Window { base: PhysAddr::new(0xfed9_0000 + 0x1000 * index as u64), bytes: 4096 }
    }

    #[test]
    fn the_first_unit_counts_and_what_is_worse_about_it() {
        let silent = |index| UnitError::Device { unit: unit(index), requester: Requester::new(8) };
        let (failed, dead) = (
            |index| UnitError::Failed { unit: unit(index) },
            |index| UnitError::Dead { unit: unit(index), register: "", value: 0 },
        );
        let mut results = Results::<3>::NONE;
        assert_eq!((results.all(), results.is_confirmed(2), results.any_unit_failed()), (Ok(()), true, false));
        assert_eq!(results.note(2, silent(2)), Outcome::Silent(Requester::new(8)));
        assert_eq!((results.all(), results.is_confirmed(2), results.any_unit_failed()), (Err(silent(2)), true, false));
        assert_eq!(results.note(2, failed(2)), Outcome::Failed);
        assert_eq!((results.all(), results.is_confirmed(2), results.any_unit_failed()), (Err(failed(2)), false, true));
        results.note(2, dead(2));
        results.note(2, silent(2));
        assert_eq!(results.all(), Err(failed(2)), "it failed before");
        results.note(1, silent(1));
        results.note(2, dead(2));
        assert_eq!((results.all(), results.is_confirmed(0), results.is_confirmed(3)), (Err(silent(1)), true, false));
        let full = UnitError::NoRoom { unit: unit(0) };
        assert_eq!(
            (results.note(0, full), results.all(), results.is_confirmed(0)),
            (Outcome::NoRoom, Err(silent(1)), true)
        );
        results.fail(0, full);
        results.fail(1, full);
        assert_eq!((results.all(), results.is_confirmed(0), results.any_unit_failed()), (Err(full), false, true));
    }
}
