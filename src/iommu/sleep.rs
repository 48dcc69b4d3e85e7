//! The machine sleeps, and wakes.
#![forbid(unsafe_code)]

use super::error::Error;
use super::front::Iommu;
use super::state::{Assignment, Config, behind};
use crate::addr::SourceId;
use crate::error::UnitError;
use crate::hal::Hal;
use crate::pci;
use crate::topology::UnitIndex;

impl<H: Hal> Iommu<'_, H> {
    /// Gets ready for a sleep state in which units may lose power: waits until no change is under way and units have nothing left to
    /// invalidate, and has them send no fault event. They go on translating. Until [`resume`](Self::resume) no change begins
    /// ([`Error::Asleep`]), and neither do the calls that switch units. May be repeated.
    ///
    /// No device may be a bus master from when units lose power until `resume` returns: a unit comes out of that without translation.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnabled`]: nothing was done. A change did not end in time ([`Error::InChange`]): nothing was done. Or a unit is gone,
    /// or did not do all that it was asked; the error is that of the first, and all others are ready: `resume` comes next in any case.
    pub fn suspend(&self) -> Result<(), Error> {
        let config = &mut *self.alone_or_asleep()?;
        if !config.enabled {
            return Err(Error::NotEnabled);
        }
        let mut result = Ok(());
        for (unit, _) in self.each_unit() {
            result = result.and(unit.pause(&self.hal));
        }
        config.asleep = true;
        Ok(result?)
    }

    /// Has everything be as it was before the machine slept, by what registers and configuration space show now: units that lost power
    /// are programmed again with the tables that they had, their queue, their table of interrupts and their fault event; Access
    /// Control Services are on, and so is ATS of devices that have a device-TLB. On a machine that did not sleep nothing is lost by it.
    ///
    /// A device in whose place another kind of device answers now is blocked, stays in its cell, and is reported to `each`; so
    /// is one that answers no more, and so are those that share a source-id with one of them. What they had goes to no other device:
    /// release them.
    ///
    /// The configuration is locked meanwhile, so `each` must not call the front. May be repeated. Follow it with
    /// [`isolate`](Self::isolate) if bridges may have changed, and with [`faults`](Self::faults).
    ///
    /// # Errors
    ///
    /// [`Error::NotEnabled`]: nothing was done. Or units failed; the error is that of the first. What is behind them is not blocked, as
    /// [`unblocked`](Self::unblocked) says, and keeps its bus mastering off until a further call succeeds. All others are as they were.
    pub fn resume(&self, mut each: impl FnMut(SourceId)) -> Result<(), Error> {
        let config = &mut *self.alone_or_asleep()?;
        if !config.enabled {
            return Err(Error::NotEnabled);
        }
        self.isolate_all()?;
        let result = self.wake_units();
        let result = result.and(self.wake_devices(config, true, &mut each));
        config.asleep = false;
        Ok(result?)
    }

    #[inline(never)]
    fn wake_units(&self) -> Result<(), UnitError> {
        self.each_alone(|unit, _| unit.wake(&self.hal, self.options.memory))
    }

    /// Blocks devices that are others now, or that are `gone` as well, and calls `each` with them; has the rest use their
    /// device-TLBs. Fails if a unit failed, or cannot be asked to block one.
    #[inline(never)]
    pub(super) fn wake_devices(
        &self,
        config: &mut Config<'_>,
        gone: bool,
        each: &mut dyn FnMut(SourceId),
    ) -> Result<(), UnitError> {
        let mut result = Ok(());
        for (unit, index) in self.each_unit() {
            let ready = unit.check_ready(&self.hal);
            if ready.is_ok() {
                self.look_at_devices(config, index, gone, each);
                result = result.and(self.flush_alone(config, index));
            } else if behind(&config.devices, index).any(|device| device.is_another(&self.hal)) {
                result = result.and(ready);
            }
        }
        result
    }

    /// The same for a unit's devices, and collects what is to be flushed then.
    #[inline(never)]
    fn look_at_devices(&self, config: &mut Config<'_>, index: UnitIndex, gone: bool, each: &mut dyn FnMut(SourceId)) {
        for nth in 0..config.devices.len() {
            let Some(device) = config.devices.get(nth).filter(|device| device.unit == index && !device.quarantined)
            else {
                continue;
            };
            let is_gone = || device.identity.is_some() && pci::identity(&self.hal, device.device).is_none();
            if device.is_another(&self.hal) || gone && is_gone() {
                self.quarantine(config, nth, each);
            } else if let Some(ats) = &device.ats
                && !ats.is_on(&self.hal)
            {
                ats.switch(&self.hal, true);
            }
        }
    }

    /// Blocks the n-th device, with those that share a source-id with it, has what they send go nowhere, and calls `each` with them.
    /// Collects what is to be flushed then.
    #[inline(never)]
    pub(super) fn quarantine(&self, config: &mut Config<'_>, nth: usize, each: &mut dyn FnMut(SourceId)) {
        let Config { devices, interrupts, flushes, .. } = config;
        let Some((index, requesters)) = devices.get(nth).map(|device| (device.unit, device.requesters.clone())) else {
            return;
        };
        let Some((unit, flush)) = flushes.of(&self.probed().units, index) else { return };
        let is_alike = |it: &&mut Assignment| it.unit == index && it.carries_any(&requesters);
        for device in devices.iter_mut().filter(is_alike).filter(|device| !device.quarantined) {
            device.quarantined = true;
            unit.block(&self.hal, &device.requesters, device.domain, None, flush);
            interrupts.cut(device, &mut |slot| unit.set_interrupt(&self.hal, slot, None, flush));
            pci::stop_bus_master(&self.hal, device.device);
            each(device.device);
        }
    }
}
