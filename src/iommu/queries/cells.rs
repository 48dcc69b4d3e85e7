//! What each cell has: after a change that failed, too.
#![forbid(unsafe_code)]

use crate::addr::{PhysRange, Region, SourceId};
use crate::cell::CellId;
use crate::domain::Coherency;
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::state::{Assignment, Stay, WithheldRange};

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

impl From<&Assignment> for AssignedDevice {
    fn from(listed: &Assignment) -> Self {
        Self { device: listed.device, cell: listed.cell, quarantined: listed.quarantined }
    }
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
    /// every cell shares that maps memory as shared. [`shared_memory`](Iommu::shared_memory) names both then.
    pub shared: bool,
}

impl From<&WithheldRange> for WithheldMemory {
    fn from(&WithheldRange { cell, memory, shared }: &WithheldRange) -> Self {
        Self { cell, memory, shared }
    }
}

impl<H: Hal> Iommu<'_, H> {
    /// True if a cell has memory which the root cell may keep ([`Edit::MapShared`](crate::iommu::Edit)): devices of the root
    /// cell may reach memory of such cells alone. A change that is under way counts when it has ended.
    ///
    /// # Errors
    ///
    /// There is no such cell, or the configuration stays locked ([`Error::InChange`]).
    pub fn shares(&self, cell: CellId) -> Result<bool, Error> {
        let config = self.locked()?;
        let is_root = config.root.is(cell);
        Ok(config.cell(cell)?.regions.parts().iter().any(|part| part.shared) && !is_root)
    }

    /// True if a cell allows unsafe interrupts: an [`audit`](Self::audit) does not look at what its devices can do with interrupts,
    /// since nothing holds them back.
    ///
    /// # Errors
    ///
    /// There is no such cell, or the configuration stays locked ([`Error::InChange`]).
    pub fn allows_unsafe_interrupts(&self, cell: CellId) -> Result<bool, Error> {
        Ok(self.locked()?.cell(cell)?.config.allow_unsafe_interrupts)
    }

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
        self.assigned_if(|_| true, &mut each)
    }

    /// Calls `each` with the devices that cells have whose requests carry this source-id, as a [fault](crate::fault::Fault) names it:
    /// with one in most cases, with several that share it behind a bridge, with none if no cell has the sender. Those of a bridge and
    /// of phantom functions lead to the devices behind them. An IOAPIC or an HPET is no device.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front. It is not for an NMI, which keeps the source-id and asks
    /// later.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn senders(&self, source: SourceId, mut each: impl FnMut(AssignedDevice)) -> Result<(), Error> {
        self.assigned_if(
            |listed| listed.device.segment() == source.segment() && listed.requesters.contains(&source.into()),
            &mut each,
        )
    }

    fn assigned_if(
        &self,
        is_wanted: impl Fn(&Assignment) -> bool,
        each: &mut dyn FnMut(AssignedDevice),
    ) -> Result<(), Error> {
        let config = self.locked()?;
        let listed = config.devices.iter().filter(|listed| listed.stay != Stay::Arriving && is_wanted(listed));
        listed.for_each(|listed| each(listed.into()));
        Ok(())
    }

    /// Calls `each` with memory that devices of a cell may still reach although a change that failed took it from the cell, wholly
    /// or by some right, or was to give it: a unit has not confirmed what it was to forget. It must not be used for anything
    /// else.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn withheld(&self, mut each: impl FnMut(WithheldMemory)) -> Result<(), Error> {
        let mut config = self.locked()?;
        config.release_withheld(&self.hal, &self.probed().units);
        config.withheld.iter().map(WithheldMemory::from).for_each(&mut each);
        Ok(())
    }

    /// Calls `each` with the cells whose coherency is another than what the hypervisor learned last, by
    /// [`coherency_change`](Self::coherency_change), by [`Remains`](super::super::Remains) or by this call, and with what it is
    /// now: a device that a change leaves in a cell, which failed, may have changed the cell's coherency. Cells that are in a
    /// change are left out.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn coherency_changes(&self, each: impl FnMut(CellId, Coherency)) -> Result<(), Error> {
        self.locked()?.report_coherency(|_| true, each);
        Ok(())
    }
}
