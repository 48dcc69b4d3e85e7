//! Which devices may have a device-TLB (ATS), and how it is switched on and off.
#![forbid(unsafe_code)]

use core::fmt;

use super::flush::{Guard, everything};
use super::results::{Outcome, Results};
use super::stage::Touched;
use super::{Config, Iommu, Refusal};
use crate::addr::{Requester, SourceId};
use crate::contract::{DeviceTlbFeatures, Features};
use crate::firmware::dmar::Properties;
use crate::hal::Hal;
use crate::invalidation::DeviceTlb;
use crate::pci::{self, Ats};
use crate::topology::Requesters;

/// How a device is given to a cell.
///
/// Its bus mastering is left as it is, and as a device that leaves a cell loses it, the driver of the device in its new cell
/// has to switch it on.
///
/// With a device-TLB, the device's ATS is switched on last, and off first when it is released. Have its driver stop it for
/// the time of either: the specification advises to (VT-d 5.10, section 4.5). Release a device before you reset it, and
/// assign it anew only when the reset is over; what [`ResetPolicy`](crate::ResetPolicy) resets is released by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The device may cache translations itself (ATS). Off by default.
    ///
    /// It is trusted then: what it sends with a translated address is checked for who sent it, but not for where it goes.
    /// Take only devices whose makers can be trusted with all memory.
    pub device_tlb: bool,
}

/// Why a device cannot have a device-TLB (R48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDeviceTlb {
    /// Its unit does not support any (ECAP.DT).
    Unit,
    /// Firmware does not list its root port (ATSR), nor the device as one of the SoC with a validated cache (SATC, SIDP).
    Firmware,
    /// It does not have the capability, or the physical function that has it cannot be made out.
    Capability,
    /// It asks for pages larger than 4 KiB: its physical function is set to that (STU).
    PageSize,
    /// It does not have a source-id of its own: it is behind a bridge to conventional PCI, or uses phantom functions.
    SourceId,
}

impl fmt::Display for NoDeviceTlb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "its remapping unit supports none (ECAP_REG.DT)",
            Self::Firmware => "firmware lists neither its root port (ATSR) nor the device (SATC)",
            Self::Capability => "it has no ATS capability",
            Self::PageSize => "it asks for pages larger than 4 KiB",
            Self::SourceId => "it does not have a source-id of its own",
        })
    }
}

/// What is to be known of a device that can have a device-TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AtsInfo {
    /// Invalidations that it takes at a time without holding up others on its link, 1 to 32; a physical function and its
    /// virtual ones together (Invalidate Queue Depth).
    pub queue_depth: u8,
    /// One invalidation can empty it for all PASIDs (Global Invalidate Supported). Nothing here has PASIDs yet.
    pub global_invalidate: bool,
    /// Its physical function, or itself if it is no virtual one, where the unit counts what it asks of each and has to be told
    /// whom it asks (ECAP.DIT): each invalidation names it (PFSID). `None` where none does.
    pub pfsid: Option<SourceId>,
}

impl AtsInfo {
    pub(super) fn of(ats: &Ats, unit: &Features) -> Self {
        let Ats { queue_depth, global_invalidate, physical, .. } = *ats;
        let throttled = unit.device_tlbs.is_some_and(|DeviceTlbFeatures { throttled }| throttled);
        Self { queue_depth, global_invalidate, pfsid: throttled.then_some(physical) }
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// The capability of a device that is to have a device-TLB, and may (R48). Without one, none is given to a device that
    /// does not work without (R51).
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

    /// Switches ATS off, and has device-TLBs emptied: of devices that leave, before their context entries block them (R47),
    /// and of those that arrive and that somebody else had switched on, before their entries let them in.
    pub(super) fn empty_device_tlbs<'l>(
        &'l self,
        mut config: Guard<'l, UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        results: &mut Results<UNITS>,
    ) -> Guard<'l, UNITS, CELLS, DEVICES> {
        let Config { assignments, flushes, .. } = &mut *config;
        let mut any = false;
        for device in assignments.iter_mut() {
            // Who leaves is asked once more.
            device.fenced &= !device.leaves(touched);
            let Some(ats) = device.ats else { continue };
            if device.leaves(touched) || device.arrives(touched) && ats.is_on(&self.hal) {
                ats.switch(&self.hal, false);
                if let Some(flush) = flushes.get_mut(device.unit) {
                    flush.device_tlb(DeviceTlb::of(&ats));
                    any = true;
                }
            }
        }
        if any { self.flush(config, touched, results) } else { config }
    }

    /// Fences the devices that did not answer a flush (R21), and adds to what is collected for their units all that was
    /// asked of those, which is not known to be done (R20). False if there are none.
    ///
    /// What a unit was asked is not kept, so it is asked to forget everything, and so are its other devices.
    pub(super) fn fence(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        last: &[Outcome; UNITS],
    ) -> bool {
        let Config { assignments, flushes, .. } = config;
        let mut any = false;
        for (index, ((unit, flush), last)) in self.units.iter().zip(flushes).zip(last).enumerate() {
            let Outcome::Silent(requester) = *last else { continue };
            any = true;
            // One that moves is in two cells. One that another change has or had released since was asked by that.
            for device in assignments.iter_mut().filter(|a| a.unit == index && a.is_asked_by(touched)) {
                let Some(ats) = device.ats.filter(|ats| Requester::from(ats.function) == requester) else { continue };
                device.fenced = true;
                ats.switch(&self.hal, false);
                pci::stop_bus_master(&self.hal, device.device);
                unit.block(&self.hal, &device.requesters, device.domain, None, flush);
            }
            everything(assignments, touched, index, flush);
        }
        any
    }
}
