//! What a caller may ask before it chooses: what a device can do.
#![forbid(unsafe_code)]

use crate::addr::SourceId;
use crate::cell::CellId;
use crate::contract::{DeviceTlbFeatures, Features};
use crate::hal::{Hal, RegisterWindow};
use crate::iommu::error::{Error, NoDeviceTlb, Others, Refusal};
use crate::iommu::front::Iommu;
use crate::pci::{self, Ats, Reset};
use crate::topology::{BridgeWindow, Group, Requesters};

/// What a device can do and what stands in its way, as far as no cell matters.
///
/// Two more things stand in the way of memory: what firmware reserves for the device
/// ([`Topology::reserved`](crate::topology::Topology::reserved)), and windows of bridges ([`Iommu::windows`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The registers of the unit that serves it.
    pub unit: RegisterWindow,
    /// The cell that it belongs to.
    pub cell: Option<CellId>,
    /// Its DMA can be made to snoop the CPU's caches: the unit can, and firmware does not forbid it (ECAP.SC, SIDP).
    pub snoop_enforceable: bool,
    /// Width of the addresses that it can be translated for, in bits: at most 39, 48 or 57.
    pub input_bits: u8,
    /// The largest page that its table can have, in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub largest_page: u64,
    /// It is a USB host controller or graphics: a cell may leave its reserved memory out
    /// ([`CellConfig::leave_out_relaxable`](crate::CellConfig)).
    pub relaxable: bool,
    /// The source-ids that its requests may carry, and the functions that share one: all of them belong to one cell.
    pub requesters: Requesters,
    /// The functions that nothing keeps apart from it, and what isolates it from all others: all of the group belong to one
    /// cell.
    pub group: Group,
    /// Who else may use memory that firmware reserves for it: the devices that the table names, of which a bridge stands for
    /// all behind it ([`Topology::reserved_with`](crate::topology::Topology::reserved_with) lists them all). They are not
    /// isolated from it, and belong to the same cell unless all their cells
    /// [allow that](crate::CellConfig::allow_shared_reserved).
    pub reserved_with: Others,
    /// Whether it can have a device-TLB, if its assignment asks for one ([`DeviceConfig`](crate::iommu::DeviceConfig)): what that is
    /// like, or why not.
    pub ats: Result<AtsInfo, NoDeviceTlb>,
    /// It does not work without one: no cell has it unless its assignment asks for one.
    pub needs_device_tlb: bool,
    /// It can be reset alone when it leaves a cell ([`ResetPolicy`](crate::ResetPolicy)).
    pub resettable: bool,
    /// Why no cell is given it, whatever its configuration, if so.
    pub refusal: Option<Refusal>,
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
    /// Its physical function, or itself if it is no virtual one, where the unit counts what it sends to each
    /// (ECAP.DIT): each invalidation names it (PFSID). `None` where none does.
    pub pfsid: Option<SourceId>,
}

impl AtsInfo {
    fn of(ats: &Ats, unit: &Features) -> Self {
        let Ats { queue_depth, global_invalidate, physical, .. } = *ats;
        let throttled = unit.device_tlbs.is_some_and(|DeviceTlbFeatures { throttled }| throttled);
        Self { queue_depth, global_invalidate, pfsid: throttled.then_some(physical) }
    }
}

impl<H: Hal> Iommu<'_, H> {
    /// What a device can do. Touches nothing; works before [`enable`](Self::enable), too.
    ///
    /// A caller asks this first, chooses a cell with the coherency that it wants, and assigns the device then. While a device
    /// is reset as it leaves its cell, the call waits: nobody may look at that device.
    ///
    /// # Errors
    ///
    /// Another device's reset takes longer than [`Options::timeout_ns`](crate::iommu::Options): [`Error::InChange`]. No unit serves the device, or that translates nothing: [`Error::NoSuchDevice`]. Or its requests may carry more
    /// source-ids than a list holds: [`Error::Full`].
    pub fn device_info(&self, device: SourceId) -> Result<DeviceInfo, Error> {
        let config = self.between_resets()?;
        let index = self.topology().unit_of(&self.hal, device).ok_or(Error::NoSuchDevice(device))?;
        let unit = self.unit(index).ok_or(Error::NoSuchDevice(device))?;
        let features = unit.features();
        let requesters = self.topology().requesters(&self.hal, device)?;
        let geometry = features.geometry.ok_or(Error::NoSuchDevice(device))?;
        let ats = self.ats_of(device, features, requesters.is_alone());
        let needs_device_tlb = self.needs_device_tlb(device);
        let missing = ats.err().filter(|_| needs_device_tlb).map(Refusal::NoDeviceTlb);
        let mut reserved_with = Others::default();
        self.topology().reserved_with(&self.hal, device).for_each(|scope| reserved_with.add(scope.source));
        let relaxable = pci::is_display_or_usb(&self.hal, device);
        let is_lost = !relaxable && self.topology().loses_reserved(&self.hal, device);
        let cell = config.devices.iter().find(|other| other.device == device).map(|other| other.cell);
        Ok(DeviceInfo {
            unit: unit.window(),
            cell,
            snoop_enforceable: self.can_enforce_snoop(features, device),
            input_bits: geometry.input_bits(),
            largest_page: geometry.largest_page_bytes(),
            relaxable,
            ats: ats.map(|ats| AtsInfo::of(&ats, features)),
            needs_device_tlb,
            resettable: Reset::is_possible(&self.hal, device),
            refusal: self.refusal(device, index, &requesters).or(missing).or(is_lost.then_some(Refusal::LostReserved)),
            requesters,
            group: self.topology().group(&self.hal, device),
            reserved_with,
        })
    }

    /// Calls `each` with the windows of bridges that requests of a device do not pass, as they are now: no cell that has it may
    /// have memory there. What lies within an earlier one is left out.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front. While a device is reset as it leaves its cell, the
    /// call waits: nobody may look at that device.
    ///
    /// # Errors
    ///
    /// A reset takes longer than [`Options::timeout_ns`](crate::iommu::Options): [`Error::InChange`]. More bridges say that they
    /// lead to the device than any machine has: [`Error::Full`].
    pub fn windows(&self, device: SourceId, each: &mut dyn FnMut(BridgeWindow)) -> Result<(), Error> {
        let _config = self.between_resets()?;
        let mut count = 0;
        BridgeWindow::each(&self.hal, device, &mut |window| {
            let (mut earlier, mut is_within) = (0..count, false);
            let _ = BridgeWindow::each(&self.hal, device, &mut |other| {
                is_within |= earlier.next().is_some() && other.range.contains(window.range);
            });
            if !is_within {
                each(window);
            }
            count += 1;
        })?;
        Ok(())
    }
}
