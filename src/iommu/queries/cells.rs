//! What each cell has: after a change that failed, too.
#![forbid(unsafe_code)]

use crate::addr::{Region, SourceId};
use crate::cell::CellId;
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::state::Stay;

/// A device that a cell has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssignedDevice {
    /// The device.
    pub device: SourceId,
    /// Its cell.
    pub cell: CellId,
    /// It is blocked, and stays in its cell until a release succeeds: it did not answer an invalidation of its device-TLB, or
    /// was to leave, and did not come to rest, was not reset, or its unit failed.
    pub quarantined: bool,
}

impl<H: Hal> Iommu<'_, H> {
    /// Calls `each` with the memory that a cell has, in ascending order of input addresses; with that of the root cell, without
    /// what other cells have for themselves. Regions that continue each other with the same rights are one. A change that is
    /// under way counts when it has ended.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// There is no such cell.
    pub fn regions(&self, cell: CellId, mut each: impl FnMut(Region)) -> Result<(), Error> {
        let config = self.locked()?;
        config.cell(cell)?.regions.iter().for_each(&mut each);
        Ok(())
    }

    /// Calls `each` with all devices that cells have, in no particular order: quarantined ones are those that a change could not
    /// release. One that a change is taking away counts until that has ended, one that it is assigning does not.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn assigned(&self, mut each: impl FnMut(AssignedDevice)) -> Result<(), Error> {
        let config = self.locked()?;
        for listed in config.devices.iter().filter(|listed| listed.stay != Stay::Arriving) {
            let (device, cell, quarantined) = (listed.device, listed.cell, listed.quarantined);
            each(AssignedDevice { device, cell, quarantined });
        }
        Ok(())
    }
}
