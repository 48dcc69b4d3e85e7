//! Which devices a cell has.

use heapless::Vec;

use super::{Config, Error, Iommu, Refusal, cell_mut};
use crate::addr::{Region, SourceId};
use crate::cell::{Cell, CellId};
use crate::domain::{Attributes, Domain};
use crate::hal::Hal;
use crate::limits::{self, Full};
use crate::topology::MAX_REQUESTERS;
use crate::vtd::{Capabilities, Flush, Unit};

/// A device that belongs to a cell.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) device: SourceId,
    pub(super) cell: CellId,
    /// Index of the unit that serves it.
    pub(super) unit: usize,
    /// The domain that it uses, one of its cell's.
    pub(super) domain_id: u16,
    /// Every requester-id that its requests may carry.
    pub(super) requesters: Vec<u16, MAX_REQUESTERS>,
}

/// A domain's attributes have one bit for each.
const _: () = assert!(limits::RESERVED <= 64);

impl<const CELLS: usize, const DEVICES: usize> Config<CELLS, DEVICES> {
    /// The lowest domain-id that no domain has; never 0, which caching mode keeps for itself (R38, R39).
    fn free_domain_id(&self, unit: &Capabilities) -> Result<u16, Error> {
        let used = |id| self.cells.iter().flatten().flat_map(|cell| &cell.domains).any(|domain| domain.id == id);
        let last = u16::try_from(unit.domain_ids - 1).unwrap_or(u16::MAX);
        let full = Full { what: "domain-ids of the unit", capacity: last.into() };
        (1..=last).find(|&id| !used(id)).ok_or(Error::Full(full))
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Gives a device to a cell: it reaches the cell's memory, with the cell's rights, and nothing else.
    ///
    /// A page table that fits is looked for before the device is touched; only if none does, one is made.
    ///
    /// # Errors
    ///
    /// The device has a cell, no unit serves it, or the cell may not have it; or a region of the cell cannot be mapped
    /// for it; or there is no room or no frame: nothing changed. Or a unit failed: the device is blocked, as far as that
    /// unit still does what it is told.
    pub fn assign(&self, device: SourceId, cell_id: CellId) -> Result<(), Error> {
        let config = &mut *self.config.lock();
        if !config.enabled {
            return Err(Error::NotEnabled);
        }
        let mut assignment = self.candidate(config, device, cell_id)?;
        let unit = self.units.get(assignment.unit).ok_or(Error::NoSuchDevice(device))?;
        unit.prepare(&self.hal, &assignment.requesters)?;
        let id = config.free_domain_id(unit.capabilities());
        let Config { cells, assignments, lost, .. } = config;
        let cell = cell_mut(cells, cell_id)?;
        if assignments.is_full() {
            return Err(Full { what: "assigned devices", capacity: DEVICES }.into());
        }
        let (domain, fresh) = self.domain_for(cell, unit, device, id)?;
        assignment.domain_id = domain.id;
        let (translation, requesters) = (domain.translation(), assignment.requesters.clone());
        // Listed before its entry is live, so that no flush misses it (R44).
        let _ = assignments.push(assignment);
        let mut flush = Flush::default();
        unit.admit(&self.hal, &requesters, translation, &mut flush);
        unit.flush(&self.hal, &flush).map_err(|error| {
            unit.expel(&self.hal, &requesters, translation.domain_id, &mut flush);
            assignments.retain(|other| other.device != device);
            if fresh && let Some(domain) = cell.domains.pop() {
                lost.append(&self.hal, domain.table.into_frames(&self.hal));
            }
            error.into()
        })
    }

    /// The device with its unit and requesters, if the cell may have it.
    fn candidate(&self, config: &Config<CELLS, DEVICES>, device: SourceId, cell: CellId) -> Result<Assignment, Error> {
        let refused = |reason| Err(Error::Refused { device, reason });
        if !config.cell(cell)?.config.allow_unsafe_interrupts {
            return refused(Refusal::UnsafeInterrupts);
        }
        if let Some(other) = config.assignments.iter().find(|other| other.device == device) {
            return Err(Error::Busy { device, cell: other.cell });
        }
        let unit = self.topology.unit_of(&self.hal, device).ok_or(Error::NoSuchDevice(device))?;
        if !self.topology.is_certain(&self.hal, device) {
            return refused(Refusal::UncertainUnit);
        }
        let granted = config.cell(cell)?.regions.as_slice();
        for reserved in self.topology.reserved(&self.hal, device) {
            if granted.iter().any(|region| region.input.overlaps(reserved.region.input)) {
                return refused(Refusal::ReservedMemory(reserved.region));
            }
        }
        let mut requesters = Vec::new();
        for &source in self.topology.requesters(&self.hal, device)?.ids() {
            let taken = |other: &&Assignment| {
                other.device.segment() == source.segment() && other.requesters.contains(&source.requester())
            };
            if let Some(other) = config.assignments.iter().find(taken) {
                return refused(Refusal::SharesRequester(other.device));
            }
            if self.topology.unit_of(&self.hal, source) != Some(unit) {
                return refused(Refusal::SeveralUnits(source));
            }
            let full = Full { what: "requester-ids of one device", capacity: MAX_REQUESTERS };
            requesters.push(source.requester()).map_err(|_| full)?;
        }
        Ok(Assignment { device, cell, unit, domain_id: 0, requesters })
    }

    /// The domain of `cell` that fits a device behind `unit`; one with this id is made if there is none, and `true` told.
    fn domain_for<'c>(
        &self,
        cell: &'c mut Cell,
        unit: &Unit,
        device: SourceId,
        id: Result<u16, Error>,
    ) -> Result<(&'c Domain, bool), Error> {
        let host_bits = self.topology.host_address_width();
        let no_snoop = self.topology.snoop_forbidden(&self.hal, device);
        let needs = Attributes::of(unit.capabilities(), host_bits, no_snoop, self.reserved_of(device))
            .ok_or(Error::NoSuchDevice(device))?;
        let index = cell.domains.iter().position(|domain| domain.fits(&needs));
        if index.is_none() {
            if cell.domains.is_full() {
                return Err(Full { what: "page tables in this cell", capacity: limits::DOMAINS }.into());
            }
            let regions = cell.regions.as_slice().iter().copied().chain(self.reserved_in(needs.reserved));
            let _ = cell.domains.push(Domain::new(&self.hal, id?, needs, regions)?);
        }
        let domain = index.map_or(cell.domains.last(), |index| cell.domains.get(index));
        Ok((domain.ok_or(Error::NoSuchDevice(device))?, index.is_none()))
    }

    /// The reserved memory of a device, as a domain's attributes have it.
    fn reserved_of(&self, device: SourceId) -> u64 {
        let all = self.topology.reserved_memory();
        let bit = |memory| all.iter().position(|other| *other == memory).map_or(0, |index| 1 << index);
        self.topology.reserved(&self.hal, device).map(bit).fold(0, |mask, bit| mask | bit)
    }

    /// The other way round.
    pub(super) fn reserved_in(&self, mask: u64) -> impl Iterator<Item = Region> + '_ {
        let all = self.topology.reserved_memory().iter().enumerate();
        all.filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, memory)| memory.region)
    }

    /// Takes a device away from its cell: it is blocked, and no request of it is under way any more. May be repeated
    /// after an error.
    ///
    /// # Errors
    ///
    /// The device has no cell: nothing changed. Or its unit failed: its entry is cleared, but what the unit has cached may
    /// still let it through, so it stays listed in its cell.
    pub fn release(&self, device: SourceId) -> Result<(), Error> {
        let config = &mut *self.config.lock();
        let index = config.assignments.iter().position(|other| other.device == device);
        self.release_at(config, index.ok_or(Error::NotAssigned(device))?)
    }

    pub(super) fn release_at(&self, config: &mut Config<CELLS, DEVICES>, index: usize) -> Result<(), Error> {
        let Some(device) = config.assignments.get(index) else { return Ok(()) };
        let (cell, id) = (device.cell, device.domain_id);
        if let Some(unit) = self.units.get(device.unit) {
            let mut flush = Flush::default();
            unit.expel(&self.hal, &device.requesters, id, &mut flush);
            unit.flush(&self.hal, &flush)?;
            unit.forget(&self.hal, &device.requesters)?;
        }
        // Leaves the list only when its entry is gone and flushed (R44).
        let device = device.device;
        config.assignments.retain(|other| other.device != device);
        if config.assignments.iter().any(|other| other.domain_id == id) {
            return Ok(());
        }
        let cell = cell_mut(&mut config.cells, cell)?;
        let mut kept = Vec::new();
        while let Some(domain) = cell.domains.pop() {
            if domain.id != id {
                let _ = kept.push(domain);
                continue;
            }
            let frames = domain.table.into_frames(&self.hal);
            // SAFETY: each device that used the table was expelled, and its unit has confirmed that.
            unsafe { frames.free(&self.hal) };
        }
        cell.domains = kept;
        Ok(())
    }
}
