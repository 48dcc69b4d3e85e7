//! What a change gives: entries of page tables, and then devices.

use core::mem;

use super::Transaction;
use crate::cell::{Cell, RegionDifferences};
use crate::hal::{FrameList, Hal};

impl<H: Hal> Transaction<'_, '_, H> {
    /// Writes what the change grants, the entries of devices last.
    #[inline(never)]
    pub(super) fn grant(&mut self) {
        self.free_retired();
        self.grant_memory();
        self.grant_routes();
        self.grant_devices();
        self.free_frames_left();
    }

    #[inline(never)]
    fn grant_memory(&mut self) {
        let (front, config) = (self.front, &mut *self.config);
        for Cell { regions, staged, domains, .. } in config.cells.of(self.scope) {
            for domain in domains.iter_mut() {
                let was_published = mem::replace(&mut domain.published, true);
                let reserved = front.reserved(domain.attributes.reserved);
                for difference in RegionDifferences::new(regions, staged, reserved).filter(|_| was_published) {
                    if let Some(change) = difference.grant(&front.hal, domain) {
                        config.flushes.note(&front.probed().units, &config.devices, domain, &change);
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn grant_devices(&mut self) {
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        for device in config.devices.iter().filter(|device| device.arrives(scope)) {
            let domains = config.cells.get(device.cell).map(|cell| &*cell.domains).unwrap_or_default();
            let domain = domains.iter().find(|domain| device.uses(domain));
            if let Some((domain, (unit, flush))) = domain.zip(config.flushes.of(&front.probed().units, device.unit)) {
                let translation = domain.translation(device.ats.is_some());
                let requesters = device.own_requesters(&config.devices);
                unit.attach(&front.hal, &requesters, translation, &mut self.work.frames, flush);
            }
        }
    }

    /// Gives back the frames that no table was made of.
    pub(super) fn free_frames_left(&mut self) {
        let frames = mem::replace(&mut self.work.frames, FrameList::new());
        // SAFETY: a frame leaves the list before a table is made of it.
        unsafe { frames.free(&self.front.hal) };
    }
}
