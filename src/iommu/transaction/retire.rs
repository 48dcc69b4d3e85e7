//! What becomes of devices that leave and are at rest: they are reset, and then free. In what order a device leaves is in
//! `transaction.rs`.
#![forbid(unsafe_code)]

use super::Transaction;
use super::revoke::is_released;
use crate::cell::ResetPolicy;
use crate::domain::Domain;
use crate::hal::{Deadline, Hal};
use crate::iommu::error::Error;
use crate::iommu::state::{Stay, stays_in_use};
use crate::pci::{self, Reset};

impl<H: Hal> Transaction<'_, '_, H> {
    /// Resets the devices that leave, as their cells have it, and waits for them without the lock, all at a time. They are
    /// blocked, and their device-TLBs off (R49). One that does not come back stays in its cell, quarantined.
    #[inline(never)]
    pub(super) fn reset(&mut self) {
        let front = self.front;
        if !self.begin_resets() {
            return;
        }
        let start = front.hal.now_ns();
        let mut over = Deadline::new(start, pci::RESET_NS);
        let mut deadline = Deadline::new(start, pci::RESET_NS.saturating_add(front.options.timeout_ns));
        self.unlocked(|front, _| {
            while over.passed(front.hal.now_ns()).is_none() {
                front.hal.pause();
            }
        });
        loop {
            let passed = deadline.passed(front.hal.now_ns());
            if !self.end_resets(passed) {
                return;
            }
            self.unlocked(|front, _| front.hal.pause());
        }
    }

    /// Begins the resets that can be. False if there are none.
    fn begin_resets(&mut self) -> bool {
        let (front, scope) = (self.front, self.scope);
        let (config, outcomes) = (&mut *self.config, &mut self.work.outcomes);
        let mut any = false;
        for device in &mut *config.devices {
            if !is_released(device, scope, outcomes) {
                continue;
            }
            let policy = config.cells.get(device.cell).map(|cell| cell.config.reset).unwrap_or_default();
            if policy == ResetPolicy::Never {
                continue;
            }
            // One that was given up before may still be under way: it is waited for again.
            let is_of_another = |reset: &Reset| reset.is_of_another(&front.hal);
            if device.reset.as_ref().is_none_or(is_of_another) {
                device.reset = None;
                Reset::prepare(&mut device.reset, &front.hal, device.device);
                device.reset.iter().for_each(|reset| reset.begin(&front.hal));
            }
            match device.reset {
                Some(_) => any = true,
                None if policy == ResetPolicy::Required && !pci::is_gone(&front.hal, device.device) => {
                    device.quarantined = true;
                    outcomes.note_device(Error::NotReset { device: device.device, waited_ns: 0 });
                }
                None => {}
            }
        }
        any
    }

    /// Restores the registers of devices whose reset is over, and waits for none that was pulled out meanwhile; gives those up that
    /// are not ready when the time has `passed`, until they are to leave again. False if none is waited for any more.
    fn end_resets(&mut self, passed: Option<u64>) -> bool {
        let (hal, scope) = (&self.front.hal, self.scope);
        let mut any = false;
        for device in self.config.devices.iter_mut().filter(|device| device.leaves(scope)) {
            let Some(reset) = &device.reset else { continue };
            if pci::is_unplugged(hal, device.device, device.port) {
                device.reset = None;
            } else if reset.is_done(hal) {
                reset.restore(hal);
                device.reset = None;
            } else if let Some(waited_ns) = passed {
                device.quarantined = true;
                self.work.outcomes.note_device(Error::NotReset { device: device.device, waited_ns });
            } else {
                any = true;
            }
        }
        any
    }

    /// Takes devices that are released from the list (R44), and domains that no device uses any more from their cells. One
    /// that is not stays where it was, quarantined.
    #[inline(never)]
    pub(super) fn retire(&mut self) {
        self.retire_lines();
        let (front, scope) = (self.front, self.scope);
        let (config, work) = (&mut *self.config, &mut *self.work);
        for device in config.devices.iter_mut().filter(|device| device.leaves(scope)) {
            if !is_released(device, scope, &work.outcomes) {
                (device.stay, device.quarantined) = (Stay::Staying, true);
            }
        }
        for device in config.devices.iter().filter(|device| device.leaves(scope)) {
            if let Some((unit, flush)) = config.flushes.of(&front.probed().units, device.unit) {
                unit.erase(&front.hal, &device.own_requesters(&config.devices), flush);
            }
        }
        config.remove_devices(&|device| device.leaves(scope));
        for cell in config.cells.of(scope) {
            let unused = |domain: &Domain| !stays_in_use(&config.devices, domain);
            cell.remove_domains(&front.hal, unused, |frames| work.freed.append(&front.hal, frames));
        }
    }
}
