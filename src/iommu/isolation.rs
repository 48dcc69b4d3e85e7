//! What isolates devices from each other, switched on again.
#![forbid(unsafe_code)]

use super::error::Error;
use super::front::Iommu;
use super::state::Config;
use crate::hal::Hal;
use crate::limits::Full;
use crate::pci;
use crate::topology::Isolation;

impl<H: Hal> Iommu<'_, H> {
    /// Switches Access Control Services on in all ports and functions that have them, as [`enable`](Self::enable) does, and
    /// looks again at the group of each assigned device, and at the windows of bridges where its requests pass no unit. To be
    /// called whenever ports may have lost them, or new ones are there: after the machine slept, after a port or a bus was reset,
    /// after hot-plug. Bridges have their bus numbers by then.
    ///
    /// Until then devices of different cells may reach each other without passing a unit; [`audit`](Self::audit) names them.
    /// A device that arrives is held against what isolates it at that moment, so this comes before an assignment. Memory that a
    /// cell maps already stays where it is, in a window or not, and the audit names it; no more is granted there from now on.
    /// Of a device that configuration space does not show now, as while its link is down, what was noted before is kept. So is the
    /// group of an endpoint that did not isolate itself, or from other functions of its device, until it is assigned again: what it
    /// says of itself by now takes nobody out of it.
    ///
    /// The lock on the configuration is taken for the functions of a bus, and for a device, at a time. While a device is reset
    /// as it leaves its cell, the call waits: nobody may look at that device.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnabled`]; or a reset takes longer than [`Options::timeout_ns`](crate::iommu::Options): [`Error::InChange`].
    /// What comes after is as it was then; the call may be repeated. [`Error::Full`]: there is no room for the windows of a
    /// device, which keeps those that were noted before. All else is done.
    pub fn isolate(&self) -> Result<(), Error> {
        for segment in self.segments() {
            (0..=u8::MAX).try_for_each(|bus| self.isolate_bus(segment, bus))?;
        }
        // From the last one on: one that leaves meanwhile moves those behind it, which were looked at. One that arrives is looked
        // at as it does.
        let (mut left, mut noted) = (self.locked()?.devices.len(), Ok(()));
        while let Some(index) = left.checked_sub(1) {
            noted = noted.and(self.note(index)?);
            left = index;
        }
        Ok(noted?)
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
