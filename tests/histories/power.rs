//! Units that lose power and have it again, as in a sleep state: their registers are reset, and memory keeps the tables.

use cofferdam::hal::Hal as _;
use cofferdam::iommu::{Difference, Error, UnitState};
use cofferdam_model::Defect;

use crate::broken::SLOWEST_NS;
use crate::history::History;

/// So many changes are tried at most while units are not switched on again.
const CHANGES_ASLEEP: u64 = 3;

impl History<'_> {
    /// Now and then, the machine sleeps while a unit owes a flush.
    pub(crate) fn sleep_on_what_is_owed(&mut self) {
        let is_asleep = self.oracle.units.iter().any(|unit| unit.open);
        if !is_asleep && self.random.one_in(4) && self.iommu.units().any(|unit| unit.needs_flush) {
            self.sleep();
        }
    }

    /// All units are reset, or one alone, and switched on again: each device has what it had before, also behind a unit that
    /// failed or owed a flush.
    pub(crate) fn sleep(&mut self) {
        self.done.steps += 1;
        let count = self.oracle.units.len();
        let alone = self.random.one_in(4).then(|| self.random.below(count as u64) as usize);
        let resets: Vec<bool> = (0..count).map(|unit| alone.is_none_or(|alone| alone == unit)).collect();
        let owes = self.iommu.units().zip(&resets).any(|(unit, resets)| *resets && unit.needs_flush);
        self.tell(format_args!("reset {resets:?}, a flush is owed: {owes}"));
        self.done.sleeps += 1;
        self.done.owing += u64::from(owes);
        // Or nobody knew that it would.
        let knows = self.random.one_in(2);
        if knows {
            let suspended = self.iommu.suspend();
            self.tell(format_args!("suspend: {suspended:?}"));
            assert!(suspended.is_ok() || self.broken.is_some() || self.has_failed().contains(&true), "{suspended:?}");
        }
        for unit in (0..count).filter(|unit| resets[*unit]) {
            self.machine.reset_unit(unit);
            // One that could not be switched on when it woke is not asked again.
            if let Some(broken) = self.broken.as_mut().filter(|_| self.oracle.units[unit].open) {
                broken.beyond_repair[unit] = true;
            }
            self.oracle.units[unit].open = true;
        }
        let states: Vec<UnitState> = self.iommu.units().map(|unit| unit.state).collect();
        for (unit, state) in states.iter().enumerate().filter(|(unit, _)| resets[*unit]) {
            // Or one that could not be switched on when it woke before.
            let is_open = matches!(state, UnitState::Failed { blocking: false, .. } | UnitState::Off);
            assert!(is_open, "unit {unit} was reset: {state:?}");
        }
        let mut open = Vec::new();
        let is_open = |difference| match difference {
            Difference::NotTranslating { unit } | Difference::Unresponsive { unit } => open.push(unit),
            _ => {}
        };
        self.iommu.audit(is_open).unwrap();
        let windows = self.machine.windows();
        assert!(
            (0..count).all(|unit| open.contains(&windows[unit]) || !resets[unit]),
            "the audit tells of {open:?} alone"
        );
        if knows {
            assert_eq!(self.iommu.commit(&[]).map(drop), Err(Error::Asleep));
        } else if self.broken.is_some() {
            self.change_asleep(&resets);
        }
        self.wake(&resets, knows);
    }

    /// Makes changes, which fail where they concern a unit that was reset.
    fn change_asleep(&mut self, resets: &[bool]) {
        let mends = self.random.one_in(2);
        let failed = self.has_failed();
        let Some(broken) = &mut self.broken else { return };
        // What it was asked before may have failed.
        broken.ever.iter_mut().zip(&broken.suspects).for_each(|(ever, suspect)| *ever |= suspect);
        // What cannot fail once it is on again is exempt no longer, whatever it did before.
        let suspects = if mends { vec![false; resets.len()] } else { broken.suspects.clone() };
        broken.suspects.iter_mut().zip(&failed).for_each(|(suspect, failed)| *suspect |= failed);
        for _ in 0..self.random.below(CHANGES_ASLEEP + 1) {
            if self.oracle.slots().next().is_some() {
                self.change();
            }
        }
        if mends {
            self.broken.iter_mut().for_each(|broken| broken.dark.fill(false));
            (0..resets.len()).for_each(|unit| self.machine.mend_unit(unit));
            // What a slow unit was asked is still under way.
            let over = self.machine.now_ns() + SLOWEST_NS;
            while self.machine.now_ns() < over {
                self.machine.pause();
            }
        }
        let failed = self.has_failed();
        let Some(broken) = &mut self.broken else { return };
        for (unit, suspect) in broken.suspects.iter_mut().enumerate() {
            *suspect = suspects[unit] || !resets[unit] && failed[unit] || broken.beyond_repair[unit];
        }
    }

    /// Switches all units on again, or resumes the machine.
    fn wake(&mut self, resets: &[bool], resumes: bool) {
        // Those too that were reset before and could not be switched on.
        let resets: Vec<bool> =
            self.oracle.units.iter().zip(resets).map(|(unit, resets)| unit.open || *resets).collect();
        let again = || if resumes { self.iommu.resume(|_| ()) } else { self.iommu.enable().map(drop) };
        let mut result = again();
        if result.is_err() {
            // A unit that has refused a descriptor is off, and may be asked again.
            result = again();
        }
        let failed = self.has_failed();
        self.tell(format_args!("enable: {result:?}, out of service: {failed:?}"));
        let is_lost = |unit: usize| self.oracle.units[unit].lost;
        let is_suspect =
            |unit: usize| is_lost(unit) || self.broken.as_ref().is_some_and(|broken| broken.suspects[unit]);
        assert!((0..failed.len()).all(|unit| !failed[unit] || is_suspect(unit)), "{result:?}, and nothing is broken");
        assert_eq!(result.is_err(), failed.contains(&true), "{result:?}: {failed:?}");
        for unit in (0..failed.len()).filter(|unit| resets[*unit]) {
            self.oracle.units[unit].open = failed[unit];
            let meets = |id| self.live.borrow().origins.iter().any(|it| it.carries == id && it.unit == unit);
            let forgotten: Vec<_> = self.blocked.iter().copied().filter(|id| meets(*id)).collect();
            self.blocked.retain(|id| !forgotten.contains(id));
            let gone: Vec<_> = self.faults_read.keys().copied().filter(|id| meets(*id)).collect();
            self.faults_read.retain(|id, _| !gone.contains(id));
            if !failed[unit] {
                self.oracle.forget_loose(unit);
                self.oracle.confirm_routes(|other| other == unit);
            }
        }
        if resumes {
            self.others_are_blocked(Ok(()), true);
        }
        self.excuse_device_tlbs();
        self.look_at_peers();
        assert!(self.oracle.peers.is_empty(), "ports isolate again: {:?}", self.oracle.peers);
        self.look();
        (0..4).for_each(|_| self.dma());
    }

    /// What a device-TLB has of one that is quarantined is of no use to it, and what a flush was to drop that is owed is withheld:
    /// of a unit that never was broken, the model would not believe it.
    fn excuse_device_tlbs(&self) {
        let quarantined =
            self.oracle.devices.iter().filter(|device| device.stuck && device.tlb).map(|device| device.unit);
        let owing = self.iommu.units().enumerate().filter(|(_, unit)| unit.needs_flush).map(|(unit, _)| unit);
        quarantined.chain(owing).for_each(|unit| self.machine.break_unit(unit, Defect::Slow(0)));
    }

    /// A unit that is out of service loses power, with all devices behind it, and the driver is told so: they belong to nobody
    /// any more, until the unit is switched on again. False if there is none.
    pub(crate) fn forget_one(&mut self) -> bool {
        let is_out = |state| matches!(state, UnitState::Failed { .. });
        let failed: Vec<usize> =
            self.iommu.units().enumerate().filter(|(_, unit)| is_out(unit.state)).map(|(unit, _)| unit).collect();
        let Some(broken) = self.broken.as_mut().filter(|_| !failed.is_empty()) else { return false };
        let unit = self.random.of(&failed);
        (broken.suspects[unit], broken.dark[unit]) = (true, true);
        self.oracle.units[unit].open = true;
        self.done.steps += 1;
        self.done.forgotten += 1;
        self.machine.break_unit(unit, Defect::AllOnes);
        self.machine.reset_unit(unit);
        let behind = self.oracle.devices.iter().filter(|device| device.unit == unit);
        behind.for_each(|device| self.machine.cut_power(device.id));
        self.tell(format_args!("forget unit {unit}"));
        // SAFETY: devices of units that are open do no DMA here.
        unsafe { self.iommu.forget_unit(self.machine.windows()[unit]) }.unwrap();
        let meets = |id| self.live.borrow().origins.iter().any(|it| it.carries == id && it.unit == unit);
        let lost: Vec<_> = self.blocked.iter().copied().filter(|id| meets(*id)).collect();
        self.blocked.retain(|id| !lost.contains(id));
        self.oracle.forget(unit);
        let oracle = &self.oracle;
        self.programs.retain(|sender, _| oracle.unit_of(*sender) != unit);
        self.look();
        true
    }
}
