//! What each cell has: after a change that failed, too.
#![forbid(unsafe_code)]

use core::mem;

use crate::addr::{PhysRange, Region, SourceId};
use crate::cell::CellId;
use crate::domain::Coherency;
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::state::{Stay, WithheldRange};

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

/// Memory that is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WithheldMemory {
    /// The cell whose devices may still reach it.
    pub cell: CellId,
    /// The memory.
    pub memory: PhysRange,
    /// The cell had it in common with others, which may still be granted it in common; or it is the root cell, with which
    /// every cell shares that maps memory as shared.
    pub shared: bool,
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

    /// Calls `each` with memory that devices of a cell may still reach although a change that failed took it from the cell, or was
    /// to give it: a unit has not confirmed what it was to forget. It must not be used for anything else.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn withheld(&self, mut each: impl FnMut(WithheldMemory)) -> Result<(), Error> {
        let config = self.locked()?;
        for &WithheldRange { cell, memory, shared, .. } in config.withheld.iter() {
            each(WithheldMemory { cell, memory, shared });
        }
        Ok(())
    }

    /// Calls `each` with the cells whose coherency is another than what the hypervisor learned last, by
    /// [`Committed`](super::super::Committed) or by this call, and with what it is now. A change that fails reports nothing: a
    /// device that it leaves in a cell may have changed the cell's coherency. Cells that are in a change are left out.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn coherency_changes(&self, mut each: impl FnMut(CellId, Coherency)) -> Result<(), Error> {
        let mut config = self.locked()?;
        for (id, cell) in config.cells.iter_mut().filter(|(_, cell)| !cell.busy) {
            let now = cell.coherency();
            if mem::replace(&mut cell.coherency_reported, now) != now {
                each(id, now);
            }
        }
        Ok(())
    }
}
