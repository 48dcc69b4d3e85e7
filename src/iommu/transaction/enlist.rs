//! Listing a device that is to be assigned: what the machine says of it, read once, and whether its cell may have it.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::Transaction;
use crate::addr::SourceId;
use crate::cell::{CellId, Reserved};
use crate::hal::Hal;
use crate::interrupt::Senders;
use crate::iommu::edit::DeviceConfig;
use crate::iommu::error::{Error, Refusal};
use crate::iommu::rules;
use crate::iommu::state::{Assignment, Config, Held, Stay};
use crate::limits::Full;
use crate::pci::{self, Reset};
use crate::topology::{Group, MAX_REQUESTERS, Requesters, UnitIndex};

impl<H: Hal> Transaction<'_, '_, H> {
    /// Lists a device as one that arrives, if the cell may have it, as far as the device alone is concerned. True if its source-id
    /// is its alone.
    #[inline(never)]
    pub(super) fn enlist(
        &mut self,
        device: SourceId,
        cell: CellId,
        device_config: DeviceConfig,
    ) -> Result<bool, Error> {
        let front = self.front;
        let unit = front.topology().unit_of(&front.hal, device).ok_or(Error::NoSuchDevice(device))?;
        let mut all = Requesters::NONE;
        front.topology().add_requesters(&front.hal, device, &mut all)?;
        self.check(device, unit, &all, cell)?;
        self.check_interrupts(device, unit, cell, device_config)?;
        self.list(device, cell, unit, &all)?;
        self.note_interrupts(&all, device_config)?;
        Ok(all.is_alone())
    }

    /// Fails if interrupts of the device are to be remapped, and are not.
    #[inline(never)]
    fn check_interrupts(
        &self,
        device: SourceId,
        unit: UnitIndex,
        cell: CellId,
        device_config: DeviceConfig,
    ) -> Result<(), Error> {
        if self.front.unit(unit).is_some_and(|unit| unit.remaps_interrupts()) {
            return Ok(());
        }
        let reason = match self.config.cell(cell)?.config.allow_unsafe_interrupts {
            false => Refusal::UnsafeInterrupts,
            true if device_config.messages != 0 => Refusal::NoMessages,
            true => return Ok(()),
        };
        Err(Error::Refused { device, reason })
    }

    /// Takes slots for the messages of the device that was listed last.
    #[inline(never)]
    fn note_interrupts(&mut self, all: &Requesters, device_config: DeviceConfig) -> Result<(), Error> {
        let front = self.front;
        let Config { devices, interrupts, .. } = &mut *self.config;
        if let Some((listed, senders)) =
            devices.last_mut().zip(Senders::of(all)).filter(|_| device_config.messages != 0)
        {
            let block = interrupts.take(device_config.messages, front.left_free(listed.unit))?;
            listed.interrupts = Some(Held { block, senders });
        }
        Ok(())
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

    /// Notes the device-TLB of the device that was listed last, if it is to have one.
    #[inline(never)]
    pub(super) fn note_device_tlb(
        &mut self,
        device: SourceId,
        is_alone: bool,
        device_config: DeviceConfig,
    ) -> Result<(), Error> {
        let (front, scope, config) = (self.front, self.scope, &mut *self.config);
        let Some(index) = config.devices.last().map(|listed| listed.unit) else { return Ok(()) };
        let unit = front.unit(index).ok_or(Error::NoSuchDevice(device))?;
        // A unit that does not translate answers no translation request.
        if device_config.device_tlb && unit.is_prepared() {
            return Err(Error::NotEnabled);
        }
        let ats = front.ats_for(device, unit.features(), is_alone, device_config);
        let ats = ats.map_err(|reason| Error::Refused { device, reason })?;
        if ats.is_some() {
            rules::admission::check_device_tlbs(config, scope, device, index, front.probed().limits.device_tlbs)?;
        }
        if let Some(listed) = config.devices.last_mut() {
            listed.ats = ats;
        }
        Ok(())
    }

    #[inline(never)]
    fn list(&mut self, device: SourceId, cell: CellId, unit: UnitIndex, all: &Requesters) -> Result<(), Error> {
        let (front, config) = (self.front, &mut *self.config);
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
            port: all.port(),
            group: Group::alone(device),
            reserved: 0,
            ats: None,
            interrupts: None,
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
            listed.group = front.topology().group(&front.hal, device);
        }
    }

    /// Notes the memory that firmware reserves for the device that was listed last, as far as its cell has it mapped.
    #[inline(never)]
    pub(super) fn note_reserved(&mut self, device: SourceId, cell: CellId) -> Result<(), Error> {
        let (front, config) = (self.front, &mut *self.config);
        let cell = &config.cell(cell)?.config;
        if Reserved::is_lost(front.topology(), &front.hal, device, cell) {
            return Err(Error::Refused { device, reason: Refusal::LostReserved });
        }
        let reserved = Reserved::mask_of(front.topology(), &front.hal, device, cell);
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
