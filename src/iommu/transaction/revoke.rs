//! What a change takes away: entries of page tables, and devices. In what order a device leaves is in `transaction.rs`.
#![forbid(unsafe_code)]

use super::Transaction;
use super::outcomes::Outcomes;
use crate::cell::{Cell, RegionDifferences};
use crate::domain::Domain;
use crate::hal::{Deadline, Hal};
use crate::invalidation::DeviceTlb;
use crate::iommu::error::Error;
use crate::iommu::state::{Assignment, CellSet, stays_in_use};
use crate::pci;

impl<H: Hal> Transaction<'_, '_, H> {
    /// Switches ATS off, and has device-TLBs emptied: of devices that leave, before their entries block them (R47), and of
    /// those that arrive and that somebody else had switched on, before their entries let them in.
    #[inline(never)]
    pub(super) fn empty_device_tlbs(&mut self) {
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        let mut any = false;
        for device in &mut *config.devices {
            // Who leaves is asked once more.
            device.quarantined &= !device.leaves(scope);
            if device.ats.is_some() && device.leaves(scope) {
                device.look_for_device_tlb(&front.hal);
            }
            let Some(ats) = device.ats else { continue };
            if device.leaves(scope) || device.arrives(scope) && ats.is_on(&front.hal) {
                ats.switch(&front.hal, false);
                if let Some((_, flush)) = config.flushes.of(&front.probed().units, device.unit) {
                    flush.device_tlb(DeviceTlb::of(&ats));
                    any = true;
                }
            }
        }
        if any {
            self.flush();
        }
    }

    /// Clears what the change takes away, rights and routes among it, and blocks the devices that leave.
    #[inline(never)]
    pub(super) fn revoke(&mut self) {
        self.revoke_routes();
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        for Cell { regions, staged, domains, .. } in config.cells.of(scope) {
            let stays = |domain: &&mut Domain| domain.published && stays_in_use(&config.devices, domain);
            for domain in domains.iter_mut().filter(stays) {
                let reserved = front.reserved(domain.attributes.reserved);
                for difference in RegionDifferences::new(regions, staged, reserved).filter(|it| it.revokes()) {
                    let change = difference.revoke(&front.hal, domain);
                    config.flushes.note(&front.probed().units, &config.devices, domain, &change);
                }
            }
        }
        for device in config.devices.iter().filter(|device| device.leaves(scope)) {
            if let Some((unit, flush)) = config.flushes.of(&front.probed().units, device.unit) {
                unit.block(&front.hal, &device.requesters, device.domain, device.device_tlb(), flush);
            }
        }
    }

    /// Switches off the bus mastering of devices that leave, and waits, without the lock, until nothing of theirs is under
    /// way, so that what one cell has had a device do does not arrive in the next.
    ///
    /// Only those are waited for that are blocked for certain. One that does not come to rest stays in its cell, quarantined.
    #[inline(never)]
    pub(super) fn quiesce(&mut self) {
        let (front, scope) = (self.front, self.scope);
        let mut leaving = self.config.devices.iter().filter(|device| device.leaves(scope)).peekable();
        if leaving.peek().is_none() {
            return;
        }
        leaving.for_each(|device| pci::stop_bus_master(&front.hal, device.device));
        let mut deadline = Deadline::new(front.hal.now_ns(), front.options.timeout_ns);
        loop {
            let passed = deadline.passed(front.hal.now_ns());
            let outcomes = &mut self.work.outcomes;
            let mut awaited = self.config.devices.iter_mut().filter(|device| is_released(device, scope, outcomes));
            let pending = |device: &mut Assignment| pci::pending(&front.hal, device.device);
            let found = awaited.find_map(|device| pending(device).map(|register| (device, register)));
            let Some((assignment, register)) = found else { return };
            let device = assignment.device;
            if let Some(waited_ns) = passed {
                assignment.quarantined = true;
                outcomes.note_device(Error::NotIdle { device, register, bit: "Transactions Pending", waited_ns });
                continue;
            }
            self.unlocked(|_, _| {
                while pci::pending(&front.hal, device).is_some() && deadline.passed(front.hal.now_ns()).is_none() {
                    front.hal.pause();
                }
            });
        }
    }
}

/// True if a device leaves, and nothing reaches memory in its name any more: its unit has said so, and so has the device, if
/// it was asked.
pub(super) fn is_released(device: &Assignment, scope: CellSet, outcomes: &Outcomes<'_>) -> bool {
    device.leaves(scope) && !device.quarantined && outcomes.is_confirmed(device.unit)
}
