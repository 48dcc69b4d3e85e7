//! Units are switched on, and off.
#![forbid(unsafe_code)]

use super::error::{Error, Unblocked, Unroutable};
use super::front::Iommu;
use crate::hal::Hal;
use crate::pci;

impl<H: Hal> Iommu<'_, H> {
    /// Gets ready for devices to be assigned before [`enable`](Self::enable), which need their memory without a gap: those that
    /// firmware reserves memory for, or those of a running system. Then [changes](Self::commit) may assign devices, except with
    /// a device-TLB, and take effect when `enable` switches their units on.
    ///
    /// Switches Access Control Services on, as `enable` does, and takes a frame for each unit. Writes to no unit: until `enable`
    /// devices reach what they reached before. [`disable`](Self::disable) gives the frames back. May be repeated, and is not
    /// needed before `enable`.
    ///
    /// # Errors
    ///
    /// [`Error::NotProbed`]: nothing was done. Or units cannot be used, or found no frame; the error is that of the first. All
    /// others are ready.
    pub fn prepare(&self) -> Result<(), Error> {
        let mut config = self.alone()?;
        self.isolate_all()?;
        let result = self.each_alone(|unit, _| unit.prepare(&self.hal));
        config.enabled = true;
        Ok(result?)
    }

    /// Switches Access Control Services on in all segments of units.
    #[inline(never)]
    pub(super) fn isolate_all(&self) -> Result<(), Error> {
        if self.probed().units.is_empty() {
            return Err(Error::NotProbed);
        }
        self.segments().for_each(|segment| pci::isolate_all(&self.hal, segment));
        Ok(())
    }

    /// Switches all units on. Every device is blocked from then on, except those that were assigned after
    /// [`prepare`](Self::prepare), and for what the result says.
    ///
    /// Looks at the registers of units that are on already. One that was reset since, as in a sleep state, is programmed again
    /// with the tables that it had, its queue and its fault event; until then its devices may reach all memory.
    ///
    /// A unit that somebody else left on goes on with their tables until all is ready, if it [is to be taken over](crate::iommu::Options::take_over);
    /// [`RemappingUnit::gap`](crate::iommu::RemappingUnit::gap) says whether its devices could reach memory for a moment then.
    ///
    /// Access Control Services are switched on in all ports and functions that have them, so that no two devices reach each
    /// other without passing a unit, where that can be had ([`Group`](crate::topology::Group)). They stay on afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotProbed`]; or somebody else has a unit on ([`UnitError::FoundOn`](crate::error::UnitError)), which
    /// [is not to be taken over](crate::iommu::Options::take_over): nothing was done.
    ///
    /// Units failed, cannot be used, or found no frames; the error is that of the first. Or all are on, and devices are left
    /// that none of them serves ([`Error::Unblocked`]). All units that did not fail are on and can be used, and
    /// [`units`](Self::units) has the state of each. Devices that no unit blocks are refused, **and may reach all memory**, as
    /// [`unblocked`](Self::unblocked) says. So a caller who wants no such device on the machine stops here; one who goes on
    /// has to keep their bus mastering off. With [`Options::accept_unblocked`](crate::iommu::Options) neither is an error. Devices that were assigned
    /// before stay in their cells in any case. May be repeated.
    pub fn enable(&self) -> Result<Unblocked, Error> {
        let mut config = self.alone()?;
        if !self.options.take_over {
            self.each_unit().try_for_each(|(unit, _)| unit.check_free(&self.hal))?;
        }
        self.isolate_all()?;
        let result = self.each_alone(|unit, _| unit.start_invalidation(&self.hal));
        // One that has failed by now says only that.
        let result = result.and(self.each_alone(|unit, _| unit.start_translation(&self.hal, self.options.memory)));
        config.enabled = true;
        let unblocked = self.find_unblocked(&mut |_| ());
        if self.options.accept_unblocked {
            return Ok(unblocked);
        }
        // One may have gone since.
        result.and(self.each_unit().try_for_each(|(unit, _)| unit.check_on(&self.hal)))?;
        let all_listed =
            unblocked.open_segment.is_none_or(|segment| pci::functions_in(&self.hal, segment).next().is_some());
        if unblocked.is_nothing_now() && all_listed { Ok(unblocked) } else { Err(Error::Unblocked(unblocked)) }
    }

    /// Switches all units off and gives their frames back, once no cell has a device, a pin or a timer: **from then on every device
    /// reaches all memory** and interrupts any CPU, except for the regions that firmware had protected by registers, which are
    /// protected again.
    ///
    /// Only that is given back, and the table of interrupts that the driver's [followed](crate::iommu::RemappingUnit::found_interrupts),
    /// whose memory has to be as it was. Where firmware had left translation or a queue on, it stays off, since what became of
    /// their memory is not known; no unit sends fault events. Cells stay, and [`enable`](Self::enable) may follow.
    ///
    /// # Errors
    ///
    /// A device still has a cell ([`Error::Busy`]), or a pin or a timer is still routed ([`Unroutable::Taken`] in
    /// [`Error::Route`]): nothing changed. Or units failed, before or now; the error is that of the first. They keep their frames,
    /// and [`units`](Self::units) says whether they still block; all others are off.
    pub fn disable(&self) -> Result<(), Error> {
        let mut config = self.alone()?;
        if let Some(left) = config.devices.first() {
            return Err(Error::Busy { device: left.device, cell: left.cell });
        }
        if let Some(left) = config.interrupts.lines.first() {
            return Err(Error::Route { source: left.source, reason: Unroutable::Taken(left.cell) });
        }
        config.enabled = false;
        Ok(self.each_alone(|unit, _| unit.stop(&self.hal))?)
    }
}
