//! What a change needs: a domain for each device that arrives, and frames. Nothing that hardware knows of is touched.

use super::Transaction;
use crate::addr::SourceId;
use crate::cell::{Cell, CellId, RegionDifferences, for_each_mapped};
use crate::contract::DomainId;
use crate::domain::{Attributes, Domain};
use crate::hal::{FrameList, Hal};
use crate::iommu::error::{Error, Incompatibility, Refusal};
use crate::iommu::rules;
use crate::iommu::state::{Assignment, behind, stays_in_use};
use crate::limits::Full;
use crate::paging::{MapError, Prealloc};
use crate::topology::UnitIndex;

/// The domain of a device that arrives.
enum Choice {
    /// One that its cell has.
    Found(DomainId),
    /// One with these attributes, which is to be made.
    Missing(Attributes),
}

impl<H: Hal> Transaction<'_, '_, H> {
    /// Gets the frames that the change needs. What was got until something failed is noted where `unstage` finds it.
    #[inline(never)]
    pub(super) fn provide_frames(&mut self) -> Result<(), Error> {
        rules::root_cell::check(&self.config, self.scope, self.front.topology().reserved_memory())?;
        self.preallocate()?;
        self.get_frames_to_attach()
    }

    /// Finds for a device, if it arrives, a domain of its cell that fits, or makes one. True if it is new, and maps nothing yet.
    #[inline(never)]
    pub(super) fn provide_domain(&mut self, index: usize) -> Result<bool, Error> {
        let arriving = self.config.devices.get(index).filter(|device| device.arrives(self.scope));
        let Some(own @ &Assignment { device, cell, unit, .. }) = arriving else { return Ok(false) };
        let (id, is_new) = match self.choose_domain(own)? {
            Choice::Found(id) => (id, false),
            Choice::Missing(needs) => (self.make_domain(device, cell, unit, needs)?, true),
        };
        if let Some(arriving) = self.config.devices.get_mut(index) {
            arriving.domain = Some(id);
        }
        Ok(is_new)
    }

    /// Finds for a device that arrives a domain of its cell that fits, or says which one is to be made.
    #[inline(never)]
    fn choose_domain(&self, own: &Assignment) -> Result<Choice, Error> {
        let (front, scope, config) = (self.front, self.scope, &*self.config);
        let &Assignment { device, cell: cell_id, unit, reserved, .. } = own;
        // One with a source-id in common has a domain already: there is one entry for the two.
        let mut others = config.devices.iter().filter(|other| !other.leaves(scope));
        let with = others.find_map(|other| {
            let domain = other.domain.filter(|_| other.shares_requester(own))?;
            Some((domain, other.device))
        });
        let served = front.unit(unit).ok_or(Error::NoSuchDevice(device))?;
        let features = served.features();
        let cell = config.cell(cell_id)?;
        rules::overlap::check_arriving(cell, front.reserved(reserved), device)?;
        let can_enforce = front.can_enforce_snoop(features, device);
        let coherency = cell.config.coherency.wanted(can_enforce);
        let coherency = coherency.ok_or(Error::Incompatible { device, reason: Incompatibility::Snoop })?;
        let needs = Attributes::of(features, coherency, reserved).ok_or(Error::NoSuchDevice(device))?;
        let fits = |domain: &&Domain| {
            cell.config.sharing.shares(&needs, can_enforce, &domain.attributes)
                && u32::from(domain.id.get()) < features.domain_ids
                && !config.is_used_on(unit, domain.id, cell_id)
                && with.is_none_or(|(id, _)| domain.id == id)
                && !domain.incomplete
        };
        let fitting = cell.domains.iter().find(fits).map(|domain| domain.id);
        match (fitting, with) {
            (Some(id), _) => Ok(Choice::Found(id)),
            (None, Some((_, other))) => Err(Error::Refused { device, reason: Refusal::SharesRequester(other) }),
            (None, None) => Ok(Choice::Missing(needs)),
        }
    }

    /// Makes a domain for a device; no unit knows it yet. If a step fails later, it is taken back.
    #[inline(never)]
    fn make_domain(
        &mut self,
        device: SourceId,
        cell: CellId,
        unit: UnitIndex,
        needs: Attributes,
    ) -> Result<DomainId, Error> {
        let (front, config) = (self.front, &mut *self.config);
        let served = front.unit(unit).ok_or(Error::NoSuchDevice(device))?;
        let features = served.features();
        let id = config.free_domain_id(unit, features, cell)?;
        let domains = &mut config.cell_mut(cell)?.domains;
        if domains.is_full() {
            return Err(Full { what: "page tables in this cell", capacity: domains.capacity() }.into());
        }
        let _ = domains.push(Domain::new(&front.hal, id, cell.generation, needs)?);
        Ok(id)
    }

    /// Maps in the domain that was made for a device what its cell has.
    #[inline(never)]
    pub(super) fn fill_domain(&mut self, index: usize) -> Result<(), Error> {
        let (front, config) = (self.front, &mut *self.config);
        let Some(&Assignment { device, cell, domain, .. }) = config.devices.get(index) else { return Ok(()) };
        let Cell { staged, domains, .. } = config.cell_mut(cell)?;
        let Some(domain) = domains.iter_mut().find(|it| Some(it.id) == domain) else { return Ok(()) };
        let reserved = front.reserved(domain.attributes.reserved);
        let filled = for_each_mapped(staged, reserved, |region| domain.fill(&front.hal, region));
        filled.map_err(|error| match error {
            MapError::NoFrame(reason) => Error::NoFrame(reason),
            error => Error::Incompatible { device, reason: Incompatibility::Map(error) },
        })
    }

    /// Gets the frames that the edits of each page table need, and fails if one cannot be made.
    #[inline(never)]
    fn preallocate(&mut self) -> Result<(), Error> {
        let (front, config) = (self.front, &mut *self.config);
        for Cell { regions, staged, domains, .. } in config.cells.of(self.scope) {
            let stays = |domain: &&mut Domain| domain.published && stays_in_use(&config.devices, domain);
            for domain in domains.iter_mut().filter(stays) {
                let reserved = front.reserved(domain.attributes.reserved);
                domain.prealloc = preallocated(&front.hal, domain, RegionDifferences::new(regions, staged, reserved))?;
            }
        }
        Ok(())
    }

    /// Gets the frames for the tables that lead to page tables, as far as they are missing.
    #[inline(never)]
    fn get_frames_to_attach(&mut self) -> Result<(), Error> {
        let (front, scope) = (self.front, self.scope);
        if !self.config.devices.iter().any(|device| device.arrives(scope)) {
            return Ok(());
        }
        self.check_units(|device| device.arrives(scope))?;
        let mut needed = 0;
        for (unit, index) in front.each_unit() {
            let arriving = behind(&self.config.devices, index).filter(|device| device.arrives(scope));
            let requesters = arriving.flat_map(|device| device.requesters.iter().copied());
            needed += unit.frames_to_attach(&front.hal, requesters);
        }
        self.work.frames = FrameList::allocate(&front.hal, needed, front.topology().host_address_width())?;
        Ok(())
    }
}

/// The frames for all edits of a page table.
#[inline(never)]
fn preallocated(hal: &impl Hal, domain: &Domain, edits: RegionDifferences<'_>) -> Result<Prealloc, MapError> {
    let (table, geometry) = (&domain.table, domain.attributes.geometry);
    let mut all = edits.clone();
    let (first, second) = (all.next(), all.next());
    let Some(edit) = first else { return Ok(Prealloc::none()) };
    // Alone, an edit is given just what it needs.
    match (second, edit.revoked(), edit.granted()) {
        (None, None, Some(region)) => table.prepare_map(hal, region),
        (None, _, None) => Ok(table.prepare_edit(hal, edit.range)?),
        _ => {
            let mut needed = 0;
            for edit in edits {
                needed += edit.granted().map_or(Ok(0), |region| geometry.tables_to_map(region))?;
                needed += if edit.is_edit() { geometry.tables_to_edit(edit.range) } else { 0 };
            }
            Ok(Prealloc::allocate(hal, needed, geometry)?)
        }
    }
}
