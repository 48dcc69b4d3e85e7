//! How a change ends of which a unit or a device has not done its part: nothing is granted, and no frame is given back that a
//! unit may reach.

use core::mem;

use super::Transaction;
use crate::addr::Rights;
use crate::cell::{Cell, RegionDifference, RegionDifferences, without_grants};
use crate::hal::{FrameList, Hal};
use crate::iommu::state::{Config, Phase, Stay};

impl<H: Hal> Transaction<'_, '_, H> {
    /// The opposite of [`grant`](Self::grant), also for what units have cached by now: devices that arrived leave again.
    #[inline(never)]
    pub(super) fn take_back(&mut self) {
        self.take_back_routes();
        let before = |difference: &RegionDifference| difference.widened().map(|(before, _)| before);
        self.revoke_each(|it| it.granted().is_some() || it.widened().is_some(), before);
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        for device in config.devices.iter().filter(|device| device.arrives(scope)) {
            if let Some((unit, flush)) = config.flushes.of(&front.probed().units, device.unit) {
                let requesters = device.own_requesters(&config.devices);
                unit.block(&front.hal, &requesters, device.domain, device.device_tlb(), flush);
            }
        }
        let arriving = config.devices.iter_mut().filter(|device| device.arrives(scope));
        arriving.for_each(|device| device.stay = Stay::Leaving);
        let arriving = config.interrupts.lines.iter_mut().filter(|line| line.arrives(scope));
        arriving.for_each(|line| line.stay = Stay::Leaving);
    }

    /// Ends the change, with as much revoked as was to be, and nothing granted. If a unit failed, be it now, its devices may
    /// still reach that: it is withheld from all other cells. A device that does not answer or does not come to rest is blocked by
    /// its unit, for certain, which has done all else that it was asked.
    #[inline(never)]
    pub(super) fn roll_back(&mut self, phase: Phase) {
        let failed_before = self.work.outcomes.any_unit_failed();
        self.free_frames_left();
        self.drop_arriving();
        self.revoke_the_rest();
        self.work.outcomes.clear();
        self.flush();
        // What was let in leaves as any other device does.
        self.quiesce();
        self.reset();
        self.retire();
        self.flush();
        let failed = failed_before || self.work.outcomes.any_unit_failed();
        if failed {
            self.config.withhold(&self.front.hal, &self.front.probed().units, self.scope, phase);
        }
        self.withdraw_grants();
        self.free_retired();
        self.end(false, !failed);
    }

    /// Gives back the frames of domains that were taken out.
    pub(super) fn free_retired(&mut self) {
        let retired = mem::replace(&mut self.work.freed, FrameList::new());
        // SAFETY: a domain is taken out when its last device is released: each unit that ever knew of it has confirmed that it
        // has nothing cached that leads to it. One that has not keeps its device, and so the domain.
        unsafe { retired.free(&self.front.hal) };
    }

    /// Forgets devices and lines that arrive, domains that were made for them, and routes that are staged.
    #[inline(never)]
    fn drop_arriving(&mut self) {
        self.unstage_routes();
        let (hal, scope, config) = (&self.front.hal, self.scope, &mut *self.config);
        config.remove_devices(&|device| device.arrives(scope));
        config.interrupts.remove_lines(&|line| line.arrives(scope));
        for cell in config.cells.of(scope) {
            // SAFETY: no unit knows of a domain that is not published.
            cell.remove_domains(hal, |domain| !domain.published, |frames| unsafe { frames.free(hal) });
            cell.doomed = false;
        }
    }

    /// Revokes what a domain lost that was to be left by all of its devices, so that it was not edited, and one of which is
    /// still there.
    #[inline(never)]
    fn revoke_the_rest(&mut self) {
        self.revoke_each(RegionDifference::revokes, RegionDifference::narrowed);
    }

    /// Stages what is left if nothing is granted.
    #[inline(never)]
    fn withdraw_grants(&mut self) {
        let Config { cells, left, .. } = &mut *self.config;
        for Cell { regions, staged, .. } in cells.of(self.scope) {
            // It fits: the plan was held against that.
            let _ = without_grants(regions, staged, left);
            staged.copy_from(left);
        }
    }

    /// Revokes in each domain the differences that are `concerned`, except for the rights that are `left`. A domain of which a
    /// device stays was edited by the change, so nothing spans an edge of a difference there but what was joined since, which
    /// needs no frame. From one whose devices are all blocked more goes if there is no frame to split a page.
    fn revoke_each(
        &mut self,
        concerned: impl Fn(&RegionDifference) -> bool,
        left: impl Fn(&RegionDifference) -> Option<Rights>,
    ) {
        let (front, config) = (self.front, &mut *self.config);
        for Cell { regions, staged, domains, .. } in config.cells.of(self.scope) {
            for domain in domains.iter_mut() {
                let reserved = front.reserved(domain.attributes.reserved);
                for difference in RegionDifferences::new(regions, staged, reserved).filter(&concerned) {
                    let change = domain.revoke_or_more(&front.hal, difference.range, left(&difference));
                    config.flushes.note(&front.probed().units, &config.devices, domain, &change);
                }
            }
        }
    }

    /// Takes back what was planned: nothing is left of it.
    #[inline(never)]
    pub(super) fn unstage(&mut self) {
        let (hal, scope) = (&self.front.hal, self.scope);
        self.drop_arriving();
        let leaving = self.config.devices.iter_mut().filter(|device| device.leaves(scope));
        leaving.for_each(|device| device.stay = Stay::Staying);
        let leaving = self.config.interrupts.lines.iter_mut().filter(|line| line.leaves(scope));
        leaving.for_each(|line| line.stay = Stay::Staying);
        for cell in self.config.cells.of(scope) {
            for domain in cell.domains.iter_mut() {
                domain.take_prealloc().free(hal);
            }
        }
    }
}
