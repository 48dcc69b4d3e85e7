//! What the machine says of a device, whatever cell it is to have.
#![forbid(unsafe_code)]

use super::edit::DeviceConfig;
use super::error::{Error, NoDeviceTlb, Refusal};
use super::front::Iommu;
use super::state::Assignment;
use crate::addr::{Requester, SourceId};
use crate::contract::Features;
use crate::firmware::dmar::Properties;
use crate::hal::Hal;
use crate::pci::{self, Ats};
use crate::topology::{Requesters, UnitIndex};

impl<H: Hal> Iommu<'_, H> {
    /// Takes in that the requests of a device may carry this id, too ([`Topology::add_alias`](crate::topology::Topology)): it
    /// gets an entry with the device's own, and whoever shares it belongs to the same cell. The id is the unit's that serves the
    /// device, or the device is refused from then on. After [`probe_acpi`](Self::probe_acpi), before the device is assigned.
    ///
    /// Interrupts are taken by the device's own id, and by the alias only where it is another function of the same device: an entry
    /// could not tell it from all ids between the two.
    ///
    /// # Errors
    ///
    /// A device with either id has a cell ([`Error::Busy`]), or there are 16 aliases already ([`Error::Full`]): nothing
    /// changed.
    pub fn add_alias(&self, device: SourceId, alias: Requester) -> Result<(), Error> {
        let is_concerned = |other: &&Assignment| {
            let ids = [device.into(), alias];
            other.device.segment() == device.segment() && ids.iter().any(|id| other.requesters.contains(id))
        };
        let config = self.between_changes()?;
        if let Some(other) = config.devices.iter().find(is_concerned) {
            return Err(Error::Busy { device: other.device, cell: other.cell });
        }
        Ok(self.topology().add_alias(device, alias)?)
    }

    /// Why a device that this unit serves is given to no cell.
    #[inline(never)]
    pub(super) fn refusal(&self, device: SourceId, unit: UnitIndex, requesters: &Requesters) -> Option<Refusal> {
        if !self.topology().is_certain(&self.hal, device) {
            return Some(Refusal::UncertainUnit);
        }
        let elsewhere = |source: &&SourceId| self.topology().unit_of(&self.hal, **source) != Some(unit);
        requesters.ids().iter().find(elsewhere).map(|&source| Refusal::SeveralUnits(source))
    }

    /// True if the DMA of a device behind this unit can be made to snoop (C2).
    pub(super) fn can_enforce_snoop(&self, unit: &Features, device: SourceId) -> bool {
        unit.snoop_control && !self.topology().snoop_forbidden(&self.hal, device)
    }

    /// The capability of a device that is to have a device-TLB, and may (R48). Without one, none is given to a device that
    /// does not work without (R51).
    #[inline(never)]
    pub(super) fn ats_for(
        &self,
        device: SourceId,
        unit: &Features,
        is_alone: bool,
        config: DeviceConfig,
    ) -> Result<Option<Ats>, Refusal> {
        if config.device_tlb {
            self.ats_of(device, unit, is_alone).map(Some).map_err(Refusal::NoDeviceTlb)
        } else if self.needs_device_tlb(device) {
            Err(Refusal::NeedsDeviceTlb)
        } else {
            Ok(None)
        }
    }

    /// The capability of a device that may have a device-TLB (R48): one whose source-id [is its alone](Requesters::is_alone).
    pub(super) fn ats_of(&self, device: SourceId, unit: &Features, is_alone: bool) -> Result<Ats, NoDeviceTlb> {
        if unit.device_tlbs.is_none() {
            return Err(NoDeviceTlb::Unit);
        }
        let ats = Ats::of(&self.hal, device).ok_or(NoDeviceTlb::Capability)?;
        if !ats.fits_pages(&self.hal) {
            return Err(NoDeviceTlb::PageSize);
        }
        if !is_alone {
            return Err(NoDeviceTlb::SourceId);
        }
        if !self.topology().ats_allowed(&self.hal, device) {
            return Err(NoDeviceTlb::Firmware);
        }
        Ok(ats)
    }

    /// True if a device does not work without a device-TLB (R51).
    pub(super) fn needs_device_tlb(&self, device: SourceId) -> bool {
        let required = self.topology().properties(&self.hal, device).contains(Properties::ATC_REQUIRED);
        required || pci::caches_memory(&self.hal, device)
    }
}
