//! Listing a device that is to be assigned: what the machine says of it, read once, and whether its cell may have it.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::Transaction;
use crate::addr::SourceId;
use crate::cell::{CellId, Reserved};
use crate::hal::Hal;
use crate::iommu::edit::DeviceConfig;
use crate::iommu::error::{Error, Refusal};
use crate::iommu::rules;
use crate::iommu::state::{Assignment, Config, Stay};
use crate::limits::Full;
use crate::pci::{self, Ats, Reset};
use crate::topology::{Group, MAX_REQUESTERS, Requesters, UnitIndex};

impl<H: Hal> Transaction<'_, '_, H> {
    /// Lists a device as one that arrives, if the cell may have it, as far as the device alone is concerned.
    #[inline(never)]
    pub(super) fn enlist(&mut self, device: SourceId, cell: CellId, device_config: DeviceConfig) -> Result<(), Error> {
        let front = self.front;
        let unit = front.topology.unit_of(&front.hal, device).ok_or(Error::NoSuchDevice(device))?;
        let mut all = Requesters::NONE;
        front.topology.add_requesters(&front.hal, device, &mut all)?;
        self.check(device, unit, &all, cell)?;
        let ats = self.ats(device, unit, &all, device_config)?;
        self.list(device, cell, unit, &all, ats)
    }

    /// Fails if the cell may not have the device.
    #[inline(never)]
    fn check(&self, device: SourceId, unit: UnitIndex, all: &Requesters, cell: CellId) -> Result<(), Error> {
        let front = self.front;
        match front.refusal(device, unit, all) {
            Some(reason) => Err(Error::Refused { device, reason }),
            None => {
                rules::admission::check_reset(&self.config, device, cell, || Reset::is_possible(&front.hal, device))
            }
        }
    }

    /// The capability of its device-TLB, if it is to have one.
    #[inline(never)]
    fn ats(
        &self,
        device: SourceId,
        unit: UnitIndex,
        all: &Requesters,
        device_config: DeviceConfig,
    ) -> Result<Option<Ats>, Error> {
        let unit = self.front.unit(unit).ok_or(Error::NoSuchDevice(device))?;
        // A unit that does not translate answers no translation request.
        if device_config.device_tlb && unit.is_prepared() {
            return Err(Error::NotEnabled);
        }
        let ats = self.front.ats_for(device, unit.features(), all, device_config);
        ats.map_err(|reason| Error::Refused { device, reason })
    }

    #[inline(never)]
    fn list(
        &mut self,
        device: SourceId,
        cell: CellId,
        unit: UnitIndex,
        all: &Requesters,
        ats: Option<Ats>,
    ) -> Result<(), Error> {
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        if ats.is_some() {
            rules::admission::check_device_tlbs(config, scope, device, unit, front.limits.device_tlbs)?;
        }
        let mut requesters = Vec::new();
        for &source in all.ids() {
            let full = Full { what: "requester-ids of one device", capacity: MAX_REQUESTERS };
            requesters.push(source.into()).map_err(|_| full)?;
        }
        let identity = pci::identity(&front.hal, device);
        let full = Full { what: "assigned devices", capacity: config.devices.capacity() };
        let listed = config.devices.push_with(|| Assignment {
            device,
            cell,
            unit,
            domain: None,
            requesters,
            identity,
            group: Group::alone(device),
            reserved: 0,
            ats,
            quarantined: false,
            windows: 0,
            reset: None,
            stay: Stay::Arriving,
        });
        Ok(listed.map_err(|_| full)?)
    }

    /// Notes the group of the device that was listed last.
    #[inline(never)]
    pub(super) fn note_group(&mut self, device: SourceId) {
        let front = self.front;
        if let Some(listed) = self.config.devices.last_mut() {
            listed.group = front.topology.group(&front.hal, device);
        }
    }

    /// Notes the memory that firmware reserves for the device that was listed last, as far as its cell has it mapped.
    #[inline(never)]
    pub(super) fn note_reserved(&mut self, device: SourceId, cell: CellId) -> Result<(), Error> {
        let (front, config) = (self.front, &mut *self.config);
        let cell = &config.cell(cell)?.config;
        if Reserved::is_lost(&front.topology, &front.hal, device, cell) {
            return Err(Error::Refused { device, reason: Refusal::LostReserved });
        }
        let reserved = Reserved::mask_of(&front.topology, &front.hal, device, cell);
        if let Some(listed) = config.devices.last_mut() {
            listed.reserved = reserved;
        }
        Ok(())
    }

    /// Notes the windows of bridges that matter to the device that was listed last.
    #[inline(never)]
    pub(super) fn note_windows(&mut self, device: SourceId) -> Result<(), Error> {
        let Config { windows, devices, .. } = &mut *self.config;
        let noted = windows.note_all(&self.front.hal, devices, device)?;
        if let Some(listed) = devices.last_mut() {
            listed.windows = noted;
        }
        Ok(())
    }
}
