//! How units are told what to forget, and what follows if one does not.
#![forbid(unsafe_code)]

use heapless::Vec;
use spin::MutexGuard;

use super::devices::Assignment;
use super::results::{Outcome, Results};
use super::stage::Touched;
use super::{Config, Iommu};
use crate::error::UnitError;
use crate::hal::Hal;
use crate::invalidation::Flush;
use crate::limits;
use crate::unit::Unit;

pub(super) type Guard<'l, const UNITS: usize, const CELLS: usize, const DEVICES: usize> =
    MutexGuard<'l, Config<UNITS, CELLS, DEVICES>>;

/// Has a unit forget everything, and all its devices but those that are another change's.
pub(super) fn everything<const CELLS: usize>(
    assignments: &[Assignment],
    touched: &Touched<CELLS>,
    index: usize,
    flush: &mut Flush,
) {
    let devices = assignments.iter().filter(|device| device.unit == index && device.is_asked_by(touched));
    flush.everything(devices.filter_map(Assignment::device_tlb));
}

/// The same, if the unit has not made up yet for a flush that failed: what it was asked is not kept.
pub(super) fn make_up<const CELLS: usize>(
    unit: &Unit,
    assignments: &[Assignment],
    touched: &Touched<CELLS>,
    index: usize,
    flush: &mut Flush,
) {
    if unit.needs_full_flush() {
        everything(assignments, touched, index, flush);
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Has the units that a change is about [make up](make_up) for what failed. Nothing is granted before that is done: they
    /// may still know what a domain-id was before it was free again (R33), and where a page was.
    pub(super) fn make_up_first(&self, config: &mut Config<UNITS, CELLS, DEVICES>, touched: &Touched<CELLS>) {
        let Config { assignments, flushes, .. } = config;
        for (index, (_, flush)) in
            self.units.iter().zip(flushes).enumerate().filter(|(_, (unit, _))| unit.needs_full_flush())
        {
            if assignments.iter().any(|device| device.unit == index && touched.has(device.cell)) {
                everything(assignments, touched, index, flush);
            }
        }
    }

    /// Has every unit do what is collected for it, and notes what it says unless it failed before.
    ///
    /// A device that does not answer is fenced, and its unit asked again until it has done all else; the error stays the
    /// unit's result. A unit without room is waited for, and asked again as well.
    pub(super) fn flush<'l>(
        &'l self,
        mut config: Guard<'l, UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        results: &mut Results<UNITS>,
    ) -> Guard<'l, UNITS, CELLS, DEVICES> {
        let mut last = [Outcome::Done; UNITS];
        // Each time, another device does not answer, or others have taken the room.
        for _ in 0..=limits::DEVICE_TLBS {
            config = self.flush_once(config, &mut last, results);
            let fenced = self.fence(&mut config, touched, &last);
            if !self.ask_again(&mut config, touched, &last) && !fenced {
                return config;
            }
        }
        for (index, (unit, last)) in self.units.iter().zip(last).enumerate() {
            if matches!(last, Outcome::NoRoom | Outcome::Silent(_)) {
                results.fail(index, UnitError::NoRoom { unit: unit.window() });
            }
        }
        config
    }

    /// Adds to what is collected all that units without room were asked, which is not kept. False if there is none.
    fn ask_again(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        last: &[Outcome; UNITS],
    ) -> bool {
        let Config { assignments, flushes, .. } = config;
        let mut any = false;
        for (index, ((unit, flush), last)) in self.units.iter().zip(flushes).zip(last).enumerate() {
            if *last == Outcome::NoRoom {
                any = true;
                // Another change may have asked for everything meanwhile, but for what leaves or arrives by this one.
                make_up(unit, assignments, touched, index, flush);
                let own = assignments.iter().filter(|a| a.unit == index && (a.arrives(touched) || a.leaves(touched)));
                own.filter_map(Assignment::device_tlb).for_each(|device| flush.device_tlb(device));
            }
        }
        any
    }

    /// Has every unit begin what is collected for it, and waits for all of them at a time (R13), without the lock.
    fn flush_once<'l>(
        &'l self,
        mut config: Guard<'l, UNITS, CELLS, DEVICES>,
        last: &mut [Outcome; UNITS],
        results: &mut Results<UNITS>,
    ) -> Guard<'l, UNITS, CELLS, DEVICES> {
        *last = [Outcome::Done; UNITS];
        let mut begun = Vec::<_, UNITS>::new();
        for (index, ((unit, flush), last)) in self.units.iter().zip(&mut config.flushes).zip(&mut *last).enumerate() {
            let one = unit.begin(&self.hal, flush);
            flush.clear();
            let _ = begun.push(one.unwrap_or_else(|error| {
                *last = results.note(index, error);
                None
            }));
        }
        if begun.iter().all(Option::is_none) && !last.contains(&Outcome::NoRoom) {
            return config;
        }
        drop(config);
        for (index, ((unit, begun), last)) in self.units.iter().zip(&mut begun).zip(last).enumerate() {
            let done = match last {
                Outcome::NoRoom => unit.wait_for_room(&self.hal),
                _ => unit.finish(&self.hal, begun.take()),
            };
            if let Err(error) = done {
                *last = results.note(index, error);
            }
        }
        self.config.lock()
    }
}
