//! Giving up a unit that is out of service: what its devices had is free again.

use super::error::Error;
use super::front::Iommu;
use super::state::{Config, Interrupts, behind, holders, stays_in_use};
use crate::contract::UnitState;
use crate::error::UnitError;
use crate::hal::{FrameList, Hal, RegisterWindow};
use crate::topology::UnitIndex;

impl<H: Hal> Iommu<'_, H> {
    /// Takes the devices behind a unit that is out of service from their cells, with all that is [routed](Self::route) behind it,
    /// pins and timers among it, and gives their page tables back, without asking the unit, which does not answer any more. Their
    /// cells can be destroyed then, and what was withheld for those devices is free. The unit stays out of service, and no device
    /// behind it is given to a cell, until it is reset and [switched on](Self::enable) again.
    ///
    /// # Errors
    ///
    /// There is no such unit, or it is not out of service ([`Error::InService`]); or a change did not end in time
    /// ([`Error::InChange`]). Nothing changed.
    ///
    /// # Safety
    ///
    /// The devices behind the unit, with its IOAPICs and HPETs where interrupts are remapped, reach no memory and send no interrupt
    /// until the unit is reset: they are without power, for example, or removed, or the platform has cut them off. What is freed
    /// here may be used for anything at once, and the unit may still have translations of it, and walk tables in it.
    pub unsafe fn forget_unit(&self, window: RegisterWindow) -> Result<(), Error> {
        let config = &mut *self.between_changes()?;
        let mut units = self.each_unit();
        let (unit, index) = units.find(|(unit, _)| unit.window() == window).ok_or(Error::InService(window))?;
        let UnitState::Failed { error, .. } = unit.state(&self.hal) else { return Err(Error::InService(window)) };
        // It may be back in a moment, as if nothing had been, or find the frames that it lacked.
        unit.give_up(if matches!(error, UnitError::NoFrame { .. }) {
            UnitError::Failed { unit: window }
        } else {
            error
        });
        // Their entries go first: a unit that is reset is switched on again with the tables that it has.
        let Config { devices, interrupts: Interrupts { lines, .. }, flushes, .. } = config;
        if let Some((unit, flush)) = flushes.of(&self.probed().units, index) {
            for device in behind(devices, index) {
                unit.block(&self.hal, &device.requesters, device.domain, None, flush);
                unit.erase(&self.hal, &device.requesters, flush);
            }
            for (.., held, _) in holders(devices, lines).filter(|(_, unit, ..)| *unit == index) {
                let slots = (0..=u16::MAX).map_while(|nth| held.block.nth(nth));
                slots.for_each(|slot| unit.set_interrupt(&self.hal, slot, None, flush));
            }
            flush.clear();
        }
        // SAFETY: the caller says that its devices reach nothing.
        unsafe { self.forget_devices(config, index) };
        Ok(())
    }

    /// Takes the devices and lines behind a unit out of their cells, and frees the page tables that no device uses any more.
    ///
    /// # Safety
    ///
    /// The unit does not translate by the driver's tables any more, or the devices behind it reach nothing.
    #[inline(never)]
    pub(super) unsafe fn forget_devices(&self, config: &mut Config<'_>, index: UnitIndex) {
        config.remove_devices(&|device| device.unit == index);
        config.interrupts.remove_lines(&|line| line.unit == index);
        for (_, cell) in config.cells.iter_mut() {
            let devices = &config.devices;
            // SAFETY: no device of this unit reaches what leads to it, as the caller says, and each other unit that ever knew of the
            // domain has confirmed that it has nothing cached of it.
            let free = |frames: FrameList| unsafe { frames.free(&self.hal) };
            cell.remove_domains(&self.hal, |domain| !stays_in_use(devices, domain), free);
        }
    }
}
