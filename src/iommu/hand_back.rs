//! The machine is given back to who had it before, while the devices of the root cell work on.

use super::error::{Error, Unroutable};
use super::front::Iommu;
use super::state::{Assignment, Config};
use crate::error::UnitError;
use crate::hal::Hal;
use crate::invalidation::DeviceTlb;
use crate::topology::UnitIndex;

impl<H: Hal> Iommu<'_, H> {
    /// Gives all units back as they were found when they were first switched on, while the devices of the root cell work on: a unit
    /// that was off is switched off, and one that was on goes on by what it had then. **From then on every device reaches all memory**,
    /// or what the former owner's tables let it reach, and so it is with interrupts.
    ///
    /// No device of the root cell is reset, or blocked for a moment, and its bus mastering stays as it is: what it reaches one to one, it
    /// reaches without a gap, and what was [kept](crate::iommu::Edit::Keep) of its interrupts goes on. Its ATS is switched off. What was
    /// [routed](crate::iommu::Edit::Route) otherwise ends: mask it before, and program it again afterwards.
    ///
    /// The registers are as they were: where tables are, the queue with its head and tail, the fault event, protected memory. The
    /// memory that they lead to has to be as it was, too. The queue of a former owner is written to, up to its tail
    /// ([`Hal::found_memory`]). Two things do not come back: translation in another mode than legacy,
    /// which stays off, and Access Control Services, which stay on.
    ///
    /// Cells stay, without devices, and [`enable`](Self::enable) may follow.
    ///
    /// # Errors
    ///
    /// Another cell than the root cell has a device ([`Error::Busy`]), a pin or a timer ([`Unroutable::Taken`] in [`Error::Route`]), or
    /// the queue of a unit cannot be given back ([`UnitError::FoundQueue`]): nothing was done. Or a device did not answer the
    /// invalidation of its device-TLB, or its unit did not: the device is quarantined, as in a [change](Self::commit), all others have
    /// their ATS on as before, and nothing else was done. Or units failed, before or now, or were reset meanwhile; the error is that of
    /// the first. They keep what frames they may still use, with their devices, unless they do not use the driver's tables any more;
    /// [`units`](Self::units) says whether they still block. All others are given back. A unit that refuses its former owner's queue
    /// ([`UnitError::Queue`]) has all else back. [`enable`](Self::enable) takes that one again, as it does one that was reset in the midst
    /// of this or after it had failed, and it may be given back then; until then [`disable`](Self::disable) leaves it as it is.
    pub fn hand_back(&self) -> Result<(), Error> {
        let config = &mut *self.alone()?;
        self.check_hand_back(config)?;
        self.end_device_tlbs(config)?;
        config.enabled = false;
        Ok(self.give_units_back(config)?)
    }

    #[inline(never)]
    fn give_units_back(&self, config: &mut Config<'_>) -> Result<(), UnitError> {
        self.each_alone(|unit, index| {
            let result = unit.hand_back(&self.hal);
            // Also where something else could not be given back.
            if unit.root().is_none() {
                // SAFETY: the unit has confirmed that it translates by no table of the driver's, whose frames it gave back.
                unsafe { self.forget_devices(config, index) };
            }
            result
        })
    }

    #[inline(never)]
    fn check_hand_back(&self, config: &Config<'_>) -> Result<(), Error> {
        let is_others = |cell| config.root.cell() != Some(cell);
        if let Some(left) = config.devices.iter().find(|device| is_others(device.cell)) {
            return Err(Error::Busy { device: left.device, cell: left.cell });
        }
        if let Some(left) = config.interrupts.lines.iter().find(|line| is_others(line.cell)) {
            return Err(Error::Route { source: left.source, reason: Unroutable::Taken(left.cell) });
        }
        Ok(self.each_unit().try_for_each(|(unit, _)| unit.check_hand_back(&self.hal))?)
    }

    /// Has no device use a device-TLB any more; or, if one does not answer, all others as before.
    #[inline(never)]
    fn end_device_tlbs(&self, config: &mut Config<'_>) -> Result<(), Error> {
        for (_, index) in self.each_unit() {
            self.switch_ats_off(config, index);
            if let Err(error) = self.flush_alone(config, index) {
                self.go_on_without(config, index, &error);
                return Err(error.into());
            }
        }
        config.devices.iter_mut().filter(|device| !device.quarantined).for_each(|device| device.ats = None);
        Ok(())
    }

    /// Blocks the device that an error names, with all that share a source-id with it, and has the others use their device-TLBs.
    #[inline(never)]
    fn go_on_without(&self, config: &mut Config<'_>, index: UnitIndex, error: &UnitError) {
        if let UnitError::Device { requester, .. } = *error {
            let is_it = |device: &Assignment| device.unit == index && device.requesters.contains(&requester);
            let silent = config.devices.iter().position(is_it);
            silent.into_iter().for_each(|nth| self.quarantine(config, nth, &mut |_| ()));
        }
        for device in config.devices.iter().filter(|device| !device.quarantined) {
            if let Some(ats) = &device.ats {
                ats.switch(&self.hal, true);
            }
        }
        // Its entry is gone; who failed besides has said so.
        let _ = self.flush_alone(config, index);
    }

    /// Switches ATS of the devices behind a unit off, and collects what is to be flushed then.
    #[inline(never)]
    fn switch_ats_off(&self, config: &mut Config<'_>, index: UnitIndex) {
        let Config { devices, flushes, .. } = config;
        let Some((unit, flush)) = flushes.of(&self.probed().units, index) else { return };
        for device in devices.iter_mut().filter(|device| device.unit == index && !device.quarantined) {
            if device.ats.is_some() {
                device.look_for_device_tlb(&self.hal);
            }
            if let Some(ats) = &device.ats {
                ats.switch(&self.hal, false);
                flush.device_tlb(DeviceTlb::of(ats));
            }
        }
        // One that was reset, or is out of service, is asked for nothing.
        if unit.check_ready(&self.hal).is_err() {
            flush.clear();
        }
    }

    /// Has a unit do what is collected for it, and waits for that under the lock.
    #[inline(never)]
    pub(super) fn flush_alone(&self, config: &mut Config<'_>, index: UnitIndex) -> Result<(), UnitError> {
        let Config { flushes, scratch, .. } = config;
        let of_unit = flushes.of(&self.probed().units, index);
        let Some((unit, flush)) = of_unit.filter(|(_, flush)| !flush.is_empty()) else { return Ok(()) };
        unit.list(flush, scratch);
        let begun = unit.begin(&self.hal, flush, scratch);
        flush.clear();
        unit.finish(&self.hal, begun?)
    }
}
