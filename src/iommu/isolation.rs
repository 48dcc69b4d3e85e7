//! The rescan of hot-plug: what isolates devices from each other, switched on again, and who is another now.
#![forbid(unsafe_code)]

use super::error::Error;
use super::front::Iommu;
use super::state::{Assignment, Config, Stay};
use crate::hal::Hal;
use crate::limits::Full;
use crate::pci;
use crate::topology::Isolation;

impl<H: Hal> Iommu<'_, H> {
    /// The rescan of hot-plug: looks at the machine again, and has assigned devices be isolated as configuration space allows it now.
    /// To be called whenever a device or a bridge has come, and whenever ports or devices may have lost what was set: after a port or
    /// a bus was reset, and after the machine slept. Bridges have their bus numbers by then. [Hot-plug](crate::guide::devices#hot-plug)
    /// has the whole course.
    ///
    /// - Access Control Services are switched on in all ports and functions that have them, as [`enable`](Self::enable) does.
    /// - The group of each assigned device is noted again, and the windows of bridges where its requests pass no unit.
    /// - A device in whose place another kind of device answers is blocked, with all that share a source-id with it: bus mastering is
    ///   off, and they stay in their cell, quarantined ([`assigned`](Self::assigned) lists them so), until they are released. Two of one
    ///   kind are not told apart.
    /// - A device with a device-TLB has ATS on again, if it was switched off by a reset.
    ///
    /// Until then devices of different cells may reach each other without passing a unit, and another device reaches what the cell
    /// has in whose device's place it is; [`audit`](Self::audit) names them. Nothing is done for a device that is gone: it stays in its
    /// cell until it is released, and has what it had if it is back before that.
    ///
    /// A device that arrives is held against what isolates it at that moment, so this comes before an assignment. Memory that a
    /// cell maps already stays where it is, in a window or not, and the audit names it; no more is granted there from now on.
    /// Of a device that configuration space does not show now, as while its link is down, what was noted before is kept. So is the
    /// group of an endpoint that did not isolate itself, or from other functions of its device, until it is assigned again: what it
    /// says of itself by now takes nobody out of it.
    ///
    /// The lock on the configuration is taken for the functions of a bus, and for a device, at a time. While a device is reset
    /// as it leaves its cell, the call waits: nobody may look at that device. To block a device, or to switch its ATS on, it waits until
    /// no change is under way, and then for units, under the lock.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnabled`]; or a reset or a change takes longer than [`Options::timeout_ns`](crate::iommu::Options):
    /// [`Error::InChange`]. What comes after is as it was then; the call may be repeated. [`Error::Full`]: there is no room for the
    /// windows of a device, which keeps those that were noted before. All else is done. [`Error::Asleep`]: a device is another now, or
    /// has lost its ATS, and the machine is to sleep: [`resume`](Self::resume) does what is left. A unit failed ([`Error::Unit`]): another
    /// device behind it may reach what its cell has; all else is done.
    pub fn isolate(&self) -> Result<(), Error> {
        let (mut noted, mut is_as_it_was) = (Ok(()), true);
        self.note_all(&mut noted, &mut is_as_it_was)?;
        if is_as_it_was { Ok(noted?) } else { self.wake_others(noted) }
    }

    /// Looks at each bus and each device. Says whether there was room for what is noted, and whether all are as they were.
    #[inline(never)]
    fn note_all(&self, noted: &mut Result<(), Full>, is_as_it_was: &mut bool) -> Result<(), Error> {
        for segment in self.segments() {
            (0..=u8::MAX).try_for_each(|bus| self.isolate_bus(segment, bus))?;
        }
        // From the last one on: one that leaves meanwhile moves those behind it, which were looked at. One that arrives is looked
        // at as it does.
        let mut left = self.locked()?.devices.len();
        while let Some(index) = left.checked_sub(1) {
            *noted = (*noted).and(self.note(index)?);
            *is_as_it_was &= self.is_as_it_was(index)?;
            left = index;
        }
        Ok(())
    }

    #[inline(never)]
    fn wake_others(&self, noted: Result<(), Full>) -> Result<(), Error> {
        self.wake_devices(&mut *self.alone()?, false, &mut |_| ())?;
        Ok(noted?)
    }

    /// False if another kind of device answers as the n-th device, or that has lost its ATS.
    #[inline(never)]
    fn is_as_it_was(&self, index: usize) -> Result<bool, Error> {
        let config = self.between_resets()?;
        let is_off = |device: &Assignment| device.ats.as_ref().is_some_and(|ats| !ats.is_on(&self.hal));
        let is_changed = |device: &&Assignment| device.is_another(&self.hal) || is_off(device);
        let stays = |device: &&Assignment| device.stay == Stay::Staying && !device.quarantined;
        Ok(!config.devices.get(index).filter(stays).is_some_and(|device| is_changed(&device)))
    }

    #[inline(never)]
    fn isolate_bus(&self, segment: u16, bus: u8) -> Result<(), Error> {
        let config = self.between_resets()?;
        if !config.enabled {
            return Err(Error::NotEnabled);
        }
        pci::isolate_bus(&self.hal, segment, bus);
        Ok(())
    }

    /// Notes the group and the windows of the n-th device, if there are so many, as they are now; one that configuration space
    /// does not show keeps what was noted.
    #[inline(never)]
    fn note(&self, index: usize) -> Result<Result<(), Full>, Error> {
        let mut config = self.between_resets()?;
        let Some(device) = config.devices.get_mut(index) else { return Ok(Ok(())) };
        let (source, group) = (device.device, self.topology().group(&self.hal, device.device));
        let mut kept = device.windows;
        if group.isolation() != Isolation::Unknown {
            device.group.note(group);
            kept = 0;
        }
        let Config { windows, devices, .. } = &mut *config;
        let windows = windows.note_all(&self.hal, devices, source);
        if let (Ok(windows), Some(device)) = (&windows, config.devices.get_mut(index)) {
            device.windows = windows | kept;
        }
        Ok(windows.map(drop))
    }
}
