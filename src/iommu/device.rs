//! What the machine says of a device, whatever cell it is to have.
#![forbid(unsafe_code)]

use super::edit::DeviceConfig;
use super::error::{NoDeviceTlb, Refusal};
use super::front::Iommu;
use crate::addr::SourceId;
use crate::contract::Features;
use crate::firmware::dmar::Properties;
use crate::hal::Hal;
use crate::pci::{self, Ats};
use crate::topology::{Requesters, UnitIndex};

impl<H: Hal> Iommu<'_, H> {
    /// Why a device that this unit serves is given to no cell.
    #[inline(never)]
    pub(super) fn refusal(&self, device: SourceId, unit: UnitIndex, requesters: &Requesters) -> Option<Refusal> {
        if !self.topology.is_certain(&self.hal, device) {
            return Some(Refusal::UncertainUnit);
        }
        let elsewhere = |source: &&SourceId| self.topology.unit_of(&self.hal, **source) != Some(unit);
        requesters.ids().iter().find(elsewhere).map(|&source| Refusal::SeveralUnits(source))
    }

    /// True if the DMA of a device behind this unit can be made to snoop (C2).
    pub(super) fn can_enforce_snoop(&self, unit: &Features, device: SourceId) -> bool {
        unit.snoop_control && !self.topology.snoop_forbidden(&self.hal, device)
    }

    /// The capability of a device that is to have a device-TLB, and may (R48). Without one, none is given to a device that
    /// does not work without (R51).
    #[inline(never)]
    pub(super) fn ats_for(
        &self,
        device: SourceId,
        unit: &Features,
        requesters: &Requesters,
        config: DeviceConfig,
    ) -> Result<Option<Ats>, Refusal> {
        if config.device_tlb {
            self.ats_of(device, unit, requesters).map(Some).map_err(Refusal::NoDeviceTlb)
        } else if self.needs_device_tlb(device) {
            Err(Refusal::NeedsDeviceTlb)
        } else {
            Ok(None)
        }
    }

    /// The capability of a device that may have a device-TLB (R48).
    pub(super) fn ats_of(
        &self,
        device: SourceId,
        unit: &Features,
        requesters: &Requesters,
    ) -> Result<Ats, NoDeviceTlb> {
        if unit.device_tlbs.is_none() {
            return Err(NoDeviceTlb::Unit);
        }
        let ats = Ats::of(&self.hal, device).ok_or(NoDeviceTlb::Capability)?;
        if !ats.fits_pages(&self.hal) {
            return Err(NoDeviceTlb::PageSize);
        }
        if !requesters.is_alone() {
            return Err(NoDeviceTlb::SourceId);
        }
        if !self.topology.ats_allowed(&self.hal, device) {
            return Err(NoDeviceTlb::Firmware);
        }
        Ok(ats)
    }

    /// True if a device does not work without a device-TLB (R51).
    pub(super) fn needs_device_tlb(&self, device: SourceId) -> bool {
        let required = self.topology.properties(&self.hal, device).contains(Properties::ATC_REQUIRED);
        required || pci::caches_memory(&self.hal, device)
    }
}
