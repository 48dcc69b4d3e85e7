//! The root cell: it has what no other cell has.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::change::Edit;
use super::devices::State;
use super::stage::Touched;
use super::{Config, Error, Incompatibility, Iommu, Refusal};
use crate::addr::{Iova, IovaRange, Region, SourceId};
use crate::cell::{Cell, CellConfig, CellId, Regions, differences, withdraw_grants};
use crate::hal::Hal;
use crate::limits;

/// The root cell's memory, as if there were no other cell.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) cell: CellId,
    whole: Regions,
    staged: Regions,
    /// What was taken from a cell while a unit failed, so that the unit's devices may still reach it.
    withheld: Vec<(CellId, IovaRange), { limits::REGIONS }>,
}

impl Root {
    pub(super) fn begin(&mut self) {
        self.staged.clone_from(&self.whole);
    }

    pub(super) fn end(&mut self, succeeded: bool) {
        if !succeeded {
            withdraw_grants(&self.whole, &mut self.staged);
        }
        self.whole.clone_from(&self.staged);
    }

    /// May have what was withheld for a cell that is gone: so is every device of it that could still reach that.
    pub(super) fn release(&mut self, cell: CellId) {
        self.withheld.retain(|(other, _)| *other != cell);
    }

    fn withhold(&mut self, cell: CellId, range: IovaRange) {
        if self.withheld.push((cell, range)).is_err() {
            // Then for good, and if there is no room to leave a hole, whatever it costs.
            if self.whole.subtract(range).is_err() {
                self.whole.clear();
            }
        }
    }
}

impl<const UNITS: usize, const CELLS: usize, const DEVICES: usize> Config<UNITS, CELLS, DEVICES> {
    /// The root cell, if this edit of another cell may change what it has.
    pub(super) fn root_behind(&self, edit: &Edit) -> Option<CellId> {
        let root = self.root.as_ref()?.cell;
        let is_its = |device| self.assignments.iter().any(|other| other.cell == root && other.device == device);
        let concerned = match *edit {
            Edit::Map(..) | Edit::Unmap(..) | Edit::Destroy(_) => true,
            Edit::Assign(_, device, _) => is_its(device),
            Edit::MapShared(..) | Edit::Protect(..) | Edit::Release(_) => false,
        };
        concerned.then_some(root)
    }

    pub(super) fn is_root(&self, cell: CellId) -> bool {
        self.root.as_ref().is_some_and(|root| root.cell == cell)
    }

    /// What a cell is to have in a change; the root cell, as if there were no other.
    pub(super) fn staged(&self, cell: CellId) -> Result<&Regions, Error> {
        match &self.root {
            Some(root) if root.cell == cell => Ok(&root.staged),
            _ => Ok(&self.cell(cell)?.staged),
        }
    }

    /// What edits of a cell's memory are made in.
    pub(super) fn staged_mut(&mut self, cell: CellId) -> Result<&mut Regions, Error> {
        let Self { root, cells, .. } = self;
        match root {
            Some(root) if root.cell == cell => Ok(&mut root.staged),
            _ => Ok(&mut super::cell_mut(cells, cell)?.staged),
        }
    }

    /// Has a device of the root cell leave it, if it is going to be another cell's.
    pub(super) fn leave_root(&mut self, device: SourceId, cell: CellId) {
        let Some(root) = self.root.as_ref().map(|root| root.cell).filter(|root| *root != cell) else { return };
        let its = self.assignments.iter_mut().filter(|other| other.cell == root && other.device == device);
        its.filter(|its| its.state == State::Staying).for_each(|its| its.state = State::Leaving);
    }

    /// Fails if the root cell is to map memory that is not one to one.
    pub(super) fn check_one_to_one(&self, cell: CellId, region: Region) -> Result<(), Error> {
        if self.is_root(cell) && region.input.start().as_u64() != region.output.as_u64() {
            return Err(Error::NotOneToOne(region));
        }
        Ok(())
    }

    /// Keeps from the root cell what a change has taken from other cells without a unit's word that its devices do not reach it
    /// any more, until those cells are destroyed.
    pub(super) fn withhold(&mut self, touched: &Touched<CELLS>) {
        let Self { root: Some(root), cells, .. } = self else { return };
        for (index, cell) in (0..).zip(&*cells) {
            let Some(cell) = cell else { continue };
            let id = CellId { index, generation: cell.generation };
            if id == root.cell || !touched.has(id) {
                continue;
            }
            for lost in differences(&cell.regions, &cell.staged).filter_map(|difference| difference.lost()) {
                let own = |(region, shared): (Region, bool)| !shared && region.input.overlaps(lost.input);
                let memory = IovaRange::new(Iova::new(lost.output.as_u64()), lost.input.bytes());
                if let Some(memory) = memory.filter(|_| cell.regions.parts().any(own)) {
                    root.withhold(id, memory);
                }
            }
        }
    }

    /// Takes what all other cells are to have for themselves out of what the root cell is to have.
    pub(super) fn stage_root(&mut self, touched: &Touched<CELLS>) -> Result<(), Error> {
        let Some(root) = self.root.as_ref().filter(|root| touched.has(root.cell)) else { return Ok(()) };
        let mut left = Regions::new();
        left.clone_from(&root.staged);
        for (index, cell) in (0..).zip(&self.cells) {
            let Some(Cell { generation, regions, staged, .. }) = cell else { continue };
            let id = CellId { index, generation: *generation };
            if id == root.cell {
                continue;
            }
            let regions = if touched.has(id) { staged } else { regions };
            for (region, _) in regions.parts().filter(|(_, shared)| !shared) {
                if let Some(range) = IovaRange::new(Iova::new(region.output.as_u64()), region.input.bytes()) {
                    left.subtract(range)?;
                }
            }
        }
        for &(cell, range) in &root.withheld {
            if !self.cell(cell)?.doomed {
                left.subtract(range)?;
            }
        }
        let root = root.cell;
        self.cell_mut(root)?.staged.clone_from(&left);
        Ok(())
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Fails if a page table of the root cell could not have all of the root cell's memory: what another cell gives back goes
    /// there, or that cell could not be destroyed.
    pub(super) fn check_root(
        &self,
        config: &Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<(), Error> {
        let Some(root) = config.root.as_ref().filter(|root| touched.has(root.cell)) else { return Ok(()) };
        let Cell { config: cell_config, domains, .. } = config.cell(root.cell)?;
        for domain in domains {
            let users =
                || config.assignments.iter().filter(|it| it.domain == Some(domain.id) && it.state != State::Leaving);
            if users().next().is_none() {
                continue;
            }
            let arriving = users().find(|it| it.state == State::Arriving).map(|it| it.device);
            if let Some(reserved) = self.reserved_within(cell_config, &root.staged, domain.attributes.reserved) {
                let reason = Refusal::ReservedMemory(reserved);
                return Err(arriving.map_or(Error::Reserved(reserved), |device| Error::Refused { device, reason }));
            }
            let fits = |region: &Region| domain.attributes.geometry.tables_to_map(*region).map(drop);
            if let Err(error) = root.staged.as_slice().iter().try_for_each(fits) {
                let reason = Incompatibility::Map(error);
                return Err(arriving.map_or(error.into(), |device| Error::Incompatible { device, reason }));
            }
        }
        Ok(())
    }

    /// Makes the root cell, without memory or devices; [`Change::map`](super::Change::map) and
    /// [`Change::assign`](super::Change::assign) give it what the hypervisor's first guest is to have.
    ///
    /// All its memory is mapped one to one. What another cell maps, the root cell loses in the same change, and has again
    /// when no other cell maps it any more; a range that is unmapped from the root cell itself does not come back. It keeps
    /// what another cell has by [`Change::map_shared`](super::Change::map_shared) alone. A device
    /// that is assigned to another cell leaves the root cell in the same change. It **never comes back by itself**: when it
    /// has left its cell, it is blocked until it is assigned anew.
    ///
    /// # Errors
    ///
    /// There is a root cell already, or `CELLS` cells.
    pub fn create_root_cell(&self, cell: CellConfig) -> Result<CellId, Error> {
        let config = &mut *self.config.lock();
        if let Some(root) = &config.root {
            return Err(Error::RootExists(root.cell));
        }
        let cell = config.create_cell(cell)?;
        config.root = Some(Root { cell, whole: Regions::new(), staged: Regions::new(), withheld: Vec::new() });
        Ok(cell)
    }
}
