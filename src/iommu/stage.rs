//! The first half of a commit: everything is checked and got, and nothing that hardware knows of is touched.

use super::change::Edit;
use super::devices::{Assignment, State};
use super::{Config, Error, Incompatibility, Iommu, Refusal};
use crate::addr::{Region, SourceId};
use crate::cell::{Cell, CellConfig, CellId, Regions};
use crate::contract::DomainId;
use crate::domain::{Attributes, Domain};
use crate::hal::{FrameList, Hal};
use crate::limits::{self, Full};
use crate::paging::{self, MapError, Prealloc};

/// Which cells a change is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touched<const CELLS: usize>([bool; CELLS]);

impl<const CELLS: usize> Touched<CELLS> {
    pub(super) const NONE: Self = Self([false; CELLS]);

    pub(super) fn has(&self, cell: CellId) -> bool {
        self.0.get(usize::from(cell.index)).is_some_and(|touched| *touched)
    }

    /// Those of `cells`.
    pub(super) fn of<'c>(&'c self, cells: &'c mut [Option<Cell>; CELLS]) -> impl Iterator<Item = &'c mut Cell> + 'c {
        cells.iter_mut().zip(&self.0).filter_map(|(cell, touched)| cell.as_mut().filter(|_| *touched))
    }
}

/// True if a device uses this domain, or is going to, when the change is done.
pub(super) fn stays_in_use(assignments: &[Assignment], domain: DomainId) -> bool {
    assignments.iter().any(|device| device.domain == Some(domain) && device.state != State::Leaving)
}

impl<const UNITS: usize, const CELLS: usize, const DEVICES: usize> Config<UNITS, CELLS, DEVICES> {
    pub(super) fn touched(&self, edits: &[Edit]) -> Result<Touched<CELLS>, Error> {
        let mut touched = Touched::NONE;
        for edit in edits {
            let cell = match *edit {
                Edit::Release(device) => self.assignments.iter().find(|a| a.device == device).map(|a| a.cell),
                _ => edit.cell(),
            };
            for id in cell.into_iter().chain(self.root_behind(edit)) {
                self.cell(id)?;
                if let Some(touched) = touched.0.get_mut(usize::from(id.index)) {
                    *touched = true;
                }
            }
        }
        Ok(touched)
    }

    fn stage_release(&mut self, device: SourceId, touched: &Touched<CELLS>) -> Result<(), Error> {
        let is_it =
            |other: &Assignment| other.device == device && other.state != State::Leaving && touched.has(other.cell);
        let found = self.assignments.iter_mut().find(|other| is_it(other)).ok_or(Error::NotAssigned(device))?;
        match found.state {
            State::Arriving => self.assignments.retain(|other| !is_it(other)),
            _ => found.state = State::Leaving,
        }
        Ok(())
    }

    fn stage_destroy(&mut self, id: CellId) -> Result<(), Error> {
        self.staged_mut(id)?.clear();
        self.cell_mut(id)?.doomed = true;
        self.assignments.retain(|device| device.cell != id || device.state != State::Arriving);
        self.assignments.iter_mut().filter(|device| device.cell == id).for_each(|device| device.state = State::Leaving);
        Ok(())
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Makes the edits in what is staged, and gets what they need. Gives the frames for context tables.
    ///
    /// On failure nothing is left of it.
    // Its stack is free again before units are told.
    #[inline(never)]
    pub(super) fn stage(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        edits: &[Edit],
    ) -> Result<FrameList, Error> {
        for cell in touched.of(&mut config.cells) {
            cell.staged.clone_from(&cell.regions);
        }
        if let Some(root) = config.root.as_mut().filter(|root| touched.has(root.cell)) {
            root.begin();
        }
        let staged = edits.iter().try_for_each(|&edit| self.stage_edit(config, touched, edit));
        let staged = staged.and_then(|()| config.stage_root(touched));
        let staged = staged.and_then(|()| self.check_groups(config, touched));
        let staged = staged.and_then(|()| self.check_reserved(config, touched));
        let staged = staged.and_then(|()| self.check_windows(config, touched));
        let staged = staged.and_then(|()| self.choose_domains(config, touched));
        let staged = staged.and_then(|()| self.check_root(config, touched));
        let staged = staged.and_then(|()| self.prepare_tables(config, touched));
        let staged = staged.and_then(|()| self.prepare_context_tables(config, touched));
        staged.inspect_err(|_| self.unstage(config, touched))
    }

    fn stage_edit(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        edit: Edit,
    ) -> Result<(), Error> {
        if let Some(cell) = edit.cell().filter(|cell| config.cell(*cell).is_ok_and(|cell| cell.doomed)) {
            return Err(Error::NoSuchCell(cell));
        }
        match edit {
            Edit::Map(cell, region) | Edit::MapShared(cell, region) => {
                paging::check(region)?;
                config.check_one_to_one(cell, region)?;
                config.staged_mut(cell)?.insert(region, matches!(edit, Edit::MapShared(..)))?;
            }
            Edit::Unmap(_, range) | Edit::Protect(_, range, _) if !range.is_page_aligned() => {
                return Err(Error::Misaligned(range));
            }
            Edit::Unmap(cell, range) => config.staged_mut(cell)?.remove(range)?,
            Edit::Protect(_, range, rights) if rights.is_empty() => return Err(MapError::NoRights(range).into()),
            Edit::Protect(cell, range, rights) => config.staged_mut(cell)?.set_rights(range, rights)?,
            Edit::Release(device) => config.stage_release(device, touched)?,
            Edit::Destroy(cell) => config.stage_destroy(cell)?,
            Edit::Assign(cell, device, device_config) => {
                config.leave_root(device, cell);
                let mut assignment = self.candidate(config, touched, device, cell, device_config)?;
                assignment.windows = self.note_windows_of(config, device)?;
                let full = Full { what: "assigned devices", capacity: DEVICES };
                config.assignments.push(assignment).map_err(|_| full)?;
            }
        }
        Ok(())
    }

    /// Fails if memory that firmware reserves for a device that stays in its cell is where the cell is to have memory of its
    /// own (R66). Which it is was noted when the device got its domain.
    fn check_reserved(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<(), Error> {
        let Config { cells, assignments, .. } = config;
        for Cell { config, staged, domains, .. } in touched.of(cells) {
            for domain in domains.iter().filter(|domain| stays_in_use(assignments, domain.id)) {
                if let Some(reserved) = self.reserved_within(config, staged, domain.attributes.reserved) {
                    return Err(Error::Reserved(reserved));
                }
            }
        }
        Ok(())
    }

    /// The first of some reserved memory that overlaps a cell's own, and may not.
    pub(super) fn reserved_within(&self, cell: &CellConfig, regions: &Regions, reserved: u64) -> Option<Region> {
        let is_same = |region: &Region, memory: &Region| {
            region.output.as_u64() == region.input.start().as_u64() && region.rights.contains(memory.rights)
        };
        let is_in_the_way = |region: &Region, memory: &Region| {
            region.input.overlaps(memory.input) && !(cell.allow_identical_reserved && is_same(region, memory))
        };
        self.reserved_in(reserved).find(|memory| regions.as_slice().iter().any(|region| is_in_the_way(region, memory)))
    }

    /// Finds for each device that arrives a domain of its cell that fits, or makes one: no unit knows that yet.
    fn choose_domains(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<(), Error> {
        for index in 0..config.assignments.len() {
            let arriving = config.assignments.get(index).filter(|device| device.arrives(touched));
            let Some(own @ &Assignment { device, cell: cell_id, unit, .. }) = arriving else { continue };
            // One with a source-id in common has a domain already: there is one entry for the two.
            let mut others = config.assignments.iter().filter(|other| !other.leaves(touched));
            let with = others.find_map(|other| {
                let domain = other.domain.filter(|_| other.shares_requester(own))?;
                Some((domain, other.device))
            });
            let unit = self.units.get(unit).ok_or(Error::NoSuchDevice(device))?.features();
            let cell = config.cell(cell_id)?;
            let reserved = self.reserved_of(device, &cell.config);
            if let Some(memory) = self.reserved_within(&cell.config, &cell.staged, reserved) {
                return Err(Error::Refused { device, reason: Refusal::ReservedMemory(memory) });
            }
            let CellConfig { coherency: policy, sharing, .. } = config.cell(cell_id)?.config;
            let can_enforce = self.can_enforce_snoop(unit, device);
            let coherency = policy.wanted(can_enforce);
            let coherency = coherency.ok_or(Error::Incompatible { device, reason: Incompatibility::Snoop })?;
            let needs = Attributes::of(unit, coherency, reserved).ok_or(Error::NoSuchDevice(device))?;
            let fits = |domain: &&Domain| {
                sharing.shares(&needs, can_enforce, &domain.attributes)
                    && u32::from(domain.id.get()) < unit.domain_ids
                    && with.is_none_or(|(id, _)| domain.id == id)
            };
            let fitting = config.cell(cell_id)?.domains.iter().find(fits);
            let id = match (fitting, with) {
                (Some(domain), _) => domain.id,
                (None, Some((_, other))) => {
                    return Err(Error::Refused { device, reason: Refusal::SharesRequester(other) });
                }
                (None, None) => {
                    let id = config.free_domain_id(unit)?;
                    let cell = config.cell_mut(cell_id)?;
                    if cell.domains.is_full() {
                        return Err(Full { what: "page tables in this cell", capacity: limits::DOMAINS }.into());
                    }
                    let regions = self.mapped(needs.reserved, &cell.staged);
                    let domain = Domain::new(&self.hal, id, needs, regions).map_err(|error| match error {
                        MapError::NoFrame(reason) => Error::NoFrame(reason),
                        error => Error::Incompatible { device, reason: Incompatibility::Map(error) },
                    })?;
                    let _ = cell.domains.push(domain);
                    id
                }
            };
            if let Some(arriving) = config.assignments.get_mut(index) {
                arriving.domain = Some(id);
            }
        }
        Ok(())
    }

    /// Gets the frames that the edits of each page table need, and fails if one cannot be made.
    fn prepare_tables(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<(), Error> {
        let Config { cells, assignments, .. } = config;
        for Cell { regions, staged, domains, .. } in touched.of(cells) {
            for domain in domains.iter_mut().filter(|domain| domain.known && stays_in_use(assignments, domain.id)) {
                let (table, geometry) = (&domain.table, domain.attributes.geometry);
                let reserved = domain.attributes.reserved;
                let mut all = self.differences(reserved, regions, staged);
                domain.prealloc = match (all.next(), all.next()) {
                    (None, _) => Prealloc::none(),
                    // Alone, an edit is given just what it needs.
                    (Some(edit), None) if edit.taken().is_none() => match edit.granted() {
                        Some(region) => table.prepare_map(&self.hal, region)?,
                        None => table.prepare_edit(&self.hal, edit.range)?,
                    },
                    (Some(edit), None) if edit.granted().is_none() => table.prepare_edit(&self.hal, edit.range)?,
                    _ => {
                        let mut needed = 0;
                        for edit in self.differences(reserved, regions, staged) {
                            needed += edit.granted().map_or(Ok(0), |region| geometry.tables_to_map(region))?;
                            needed += if edit.is_edit() { geometry.tables_to_edit(edit.range) } else { 0 };
                        }
                        Prealloc::allocate(&self.hal, needed, geometry)?
                    }
                };
            }
        }
        Ok(())
    }

    /// Gets a frame for each context table that is missing.
    fn prepare_context_tables(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<FrameList, Error> {
        let mut needed = 0;
        for (index, unit) in self.units.iter().enumerate() {
            let arriving = config.assignments.iter().filter(|device| device.unit == index && device.arrives(touched));
            if arriving.clone().next().is_some() {
                unit.check_on()?;
                needed +=
                    unit.frames_to_attach(&self.hal, arriving.flat_map(|device| device.requesters.iter().copied()));
            }
        }
        Ok(FrameList::allocate(&self.hal, needed, self.topology.host_address_width())?)
    }

    /// Takes back what was staged.
    fn unstage(&self, config: &mut Config<UNITS, CELLS, DEVICES>, touched: &Touched<CELLS>) {
        config.assignments.retain(|device| !device.arrives(touched));
        let leaving = config.assignments.iter_mut().filter(|device| device.leaves(touched));
        leaving.for_each(|device| device.state = State::Staying);
        for cell in touched.of(&mut config.cells) {
            cell.doomed = false;
            for domain in &mut cell.domains {
                domain.take_prealloc().free(&self.hal);
            }
            // SAFETY: no unit was told of a domain that is not known.
            cell.remove_domains(&self.hal, |domain| !domain.known, |frames| unsafe { frames.free(&self.hal) });
        }
    }
}
