//! Which memory a cell's devices reach.

use super::devices::Assignment;
use super::{Config, Error, Iommu, cell_mut};
use crate::addr::{IovaRange, Region, Rights};
use crate::cell::CellId;
use crate::domain::Domain;
use crate::error::UnitError;
use crate::hal::{FrameList, Hal};
use crate::limits;
use crate::paging::{self, Change, MapError, Spare};
use crate::vtd::Flush;

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Grants a cell's devices, present and future, a region of memory.
    ///
    /// How wide addresses may be follows from the devices: that is checked for those that the cell has, and for others
    /// when they are assigned.
    ///
    /// # Errors
    ///
    /// The region overlaps another of the cell or memory reserved for one of its devices, or it cannot be mapped: nothing
    /// changed. Or a unit failed: the cell is not granted the region.
    pub fn map(&self, cell: CellId, region: Region) -> Result<(), Error> {
        paging::check(region)?;
        let config = &mut *self.config.lock();
        let Config { cells, assignments, lost, .. } = config;
        let cell = cell_mut(cells, cell)?;
        let regions = cell.regions.with(region)?;
        let in_use = cell.domains.iter().fold(0, |mask, domain| mask | domain.attributes.reserved);
        if let Some(reserved) = self.reserved_in(in_use).find(|reserved| reserved.input.overlaps(region.input)) {
            return Err(Error::Reserved(reserved));
        }
        let spares = prepare(&self.hal, &cell.domains, |domain| Ok(domain.table.prepare_map(&self.hal, region)?))?;
        let mut result = Ok(());
        for (domain, spare) in cell.domains.iter_mut().zip(spares.into_iter().flatten()) {
            let change = domain.table.map(&self.hal, region, spare);
            let flushed = self.flush(assignments, domain.id, &change);
            self.reap(change, flushed, lost);
            result = result.and(flushed);
        }
        if let Err(error) = result {
            // Absent again, also for what the units that did not fail have cached by now.
            for domain in &mut cell.domains {
                if let Ok(spare) = domain.table.prepare_edit(&self.hal, region.input) {
                    let change = domain.table.unmap(&self.hal, region.input, spare);
                    let _ = self.flush(assignments, domain.id, &change);
                    lost.append(&self.hal, change.freed);
                }
            }
            return Err(error.into());
        }
        cell.regions = regions;
        Ok(())
    }

    /// Takes a range away from a cell; it may be part of a region, or of several. When it returns, no device of the cell
    /// reaches the memory behind it, and no request to it is under way.
    ///
    /// # Errors
    ///
    /// Part of the range is not granted, it is not made of whole pages, or there is no room or no frame to split what
    /// stays: nothing changed. Or a unit failed: the cell has lost the range, but a device behind that unit may still
    /// reach it, so the memory must not be used for anything else.
    pub fn unmap(&self, cell: CellId, range: IovaRange) -> Result<(), Error> {
        if !range.is_page_aligned() {
            return Err(Error::Misaligned(range));
        }
        let config = &mut *self.config.lock();
        let Config { cells, assignments, lost, .. } = config;
        let cell = cell_mut(cells, cell)?;
        let regions = cell.regions.without(range)?;
        let spares = prepare(&self.hal, &cell.domains, |domain| Ok(domain.table.prepare_edit(&self.hal, range)?))?;
        cell.regions = regions;
        let mut result = Ok(());
        for (domain, spare) in cell.domains.iter_mut().zip(spares.into_iter().flatten()) {
            let change = domain.table.unmap(&self.hal, range, spare);
            let flushed = self.flush(assignments, domain.id, &change);
            self.reap(change, flushed, lost);
            result = result.and(flushed);
        }
        Ok(result?)
    }

    /// Gives a range of a cell other rights, at least one; it may be part of a region, or of several. When it returns, no
    /// device of the cell has rights that were taken away.
    ///
    /// # Errors
    ///
    /// As for [`unmap`](Self::unmap), and `rights` may not be empty. If a unit failed, the cell has the new rights, but a
    /// device behind that unit may still have the old ones.
    pub fn protect(&self, cell: CellId, range: IovaRange, rights: Rights) -> Result<(), Error> {
        if rights.is_empty() {
            return Err(MapError::NoRights(range).into());
        }
        if !range.is_page_aligned() {
            return Err(Error::Misaligned(range));
        }
        let config = &mut *self.config.lock();
        let Config { cells, assignments, lost, .. } = config;
        let cell = cell_mut(cells, cell)?;
        let regions = cell.regions.with_rights(range, rights)?;
        let spares = prepare(&self.hal, &cell.domains, |domain| Ok(domain.table.prepare_edit(&self.hal, range)?))?;
        cell.regions = regions;
        let mut result = Ok(());
        for (domain, spare) in cell.domains.iter_mut().zip(spares.into_iter().flatten()) {
            let change = domain.table.protect(&self.hal, range, rights, spare);
            let flushed = self.flush(assignments, domain.id, &change);
            self.reap(change, flushed, lost);
            result = result.and(flushed);
        }
        Ok(result?)
    }

    /// Gives back the tables that a change freed, or keeps them for ever if a unit may still reach them.
    fn reap(&self, change: Change, flushed: Result<(), UnitError>, lost: &mut FrameList) {
        match flushed {
            // SAFETY: every unit that uses the page table has confirmed the flush.
            Ok(()) => unsafe { change.free(&self.hal) },
            Err(_) => lost.append(&self.hal, change.freed),
        }
    }

    /// Has every unit that uses the domain flush what changed in its page table, all at a time (R13).
    fn flush(&self, assignments: &[Assignment], domain_id: u16, change: &Change) -> Result<(), UnitError> {
        let uses = |index| assignments.iter().any(|device| device.unit == index && device.domain_id == domain_id);
        let mut begun = [const { Ok(None) }; UNITS];
        for ((index, unit), begun) in self.units.iter().enumerate().zip(&mut begun) {
            if uses(index) {
                let mut flush = Flush::default();
                flush.page_table(unit.capabilities(), domain_id, change);
                *begun = unit.begin(&self.hal, &flush);
            }
        }
        let mut result = Ok(());
        for (unit, begun) in self.units.iter().zip(begun) {
            result = result.and(begun.and_then(|ticket| unit.finish(&self.hal, ticket)));
        }
        result
    }
}

/// Gets what an edit needs for each domain, or nothing at all.
fn prepare(
    hal: &impl Hal,
    domains: &[Domain],
    each: impl Fn(&Domain) -> Result<Spare, Error>,
) -> Result<[Option<Spare>; limits::DOMAINS], Error> {
    let mut spares = [const { None }; limits::DOMAINS];
    for (domain, slot) in domains.iter().zip(&mut spares) {
        match each(domain) {
            Ok(spare) => *slot = Some(spare),
            Err(error) => {
                spares.into_iter().flatten().for_each(|spare: Spare| spare.free(hal));
                return Err(error);
            }
        }
    }
    Ok(spares)
}
