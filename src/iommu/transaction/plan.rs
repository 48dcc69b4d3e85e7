//! The edits, made in what is staged, and held against every rule. Nothing that hardware knows of is touched.
#![forbid(unsafe_code)]

use super::Transaction;
use crate::addr::{IovaRange, Region, Rights, SourceId};
use crate::cell::{CellId, cut};
use crate::error::UnitError;
use crate::hal::Hal;
use crate::iommu::edit::{DeviceConfig, Edit};
use crate::iommu::error::Error;
use crate::iommu::rules;
use crate::iommu::state::{Assignment, Stay, behind};
use crate::paging::{self, MapError};

impl<H: Hal> Transaction<'_, '_, H> {
    /// Plans the edits, and provides what they need. The root cell does not `get` what others give back, unless that can be.
    #[inline(never)]
    pub(super) fn prepare(&mut self, edits: &[Edit], get: bool) -> Result<(), Error> {
        self.begin_to_stage();
        for edit in edits {
            self.check_exists(edit)?;
            self.plan(edit)?;
            if !self.config.interrupts.lines.is_empty() {
                self.config.release_messages(self.scope);
            }
        }
        self.judge(get)?;
        self.check_units_of_routes()?;
        // A domain for each device that arrives.
        for index in 0..self.config.devices.len() {
            if self.provide_domain(index)? {
                self.fill_domain(index)?;
            }
        }
        self.provide_frames()
    }

    /// Stages what each cell has.
    #[inline(never)]
    fn begin_to_stage(&mut self) {
        self.config.release_withheld(&self.front.hal, &self.front.probed().units);
        self.config.release_lines(&self.front.hal, &self.front.probed().units);
        for cell in self.config.cells.of(self.scope) {
            cell.staged.copy_from(&cell.regions);
        }
        if self.concerns_root() {
            self.config.root.begin();
        }
    }

    /// Holds what is staged against every rule, once the root cell has what is left over.
    #[inline(never)]
    fn judge(&mut self, get: bool) -> Result<(), Error> {
        let get = get && self.root_can_get();
        let reserved = self.front.topology().reserved_memory();
        self.config.stage_root(self.scope, get, reserved)?;
        rules::groups::check(&self.config, self.scope)?;
        // Before who owns what memory: this one names all devices.
        rules::reserved_owners::check(&self.config, self.scope, reserved)?;
        rules::outputs::check(&self.front.hal, &self.config, self.scope, self.front.topology())?;
        rules::overlap::check(&self.config, self.scope, reserved)?;
        rules::windows::check(&self.config, self.scope, reserved)?;
        rules::interrupts::check(&self.config, self.scope)?;
        rules::room::check(&mut self.config, self.scope)
    }

    /// True if the root cell is one of the cells that the change is about.
    pub(super) fn concerns_root(&self) -> bool {
        self.config.root.cell().is_some_and(|root| self.scope.has(root))
    }

    /// False if a unit behind which the root cell has a device is out of service: it confirms nothing any more.
    fn root_can_get(&mut self) -> bool {
        let Some(root) = self.config.root.cell().filter(|root| self.scope.has(*root)) else { return true };
        self.check_units(|device| device.cell == root).is_ok()
    }

    /// Fails if a unit is out of service behind which there is a concerned device. Looks at each unit's registers once before the
    /// change begins; after that, the unit has to confirm what it is asked.
    #[inline(never)]
    pub(super) fn check_units(&mut self, is_concerned: impl Fn(&Assignment) -> bool) -> Result<(), UnitError> {
        let Self { front, work, config, .. } = self;
        for ((unit, index), own) in front.each_unit().zip(&mut *work.outcomes.units) {
            if !own.ready && behind(&config.devices, index).any(&is_concerned) {
                unit.check_ready(&front.hal)?;
                own.ready = true;
            }
        }
        Ok(())
    }

    /// Makes an edit in what is staged.
    #[inline(never)]
    fn plan(&mut self, edit: &Edit) -> Result<(), Error> {
        match *edit {
            Edit::Map(cell, ref region) => self.plan_map(cell, region, false),
            Edit::MapShared(cell, ref region) => self.plan_map(cell, region, true),
            Edit::Unmap(cell, range) => self.plan_unmap(cell, range),
            Edit::UnmapAny(cell, range) => self.plan_unmap_any(cell, range),
            Edit::Protect(cell, range, rights) => self.plan_protect(cell, range, rights),
            Edit::Release(device) => self.plan_release(device),
            Edit::Destroy(cell) => self.plan_destroy(cell),
            Edit::Assign(device, cell, device_config) => self.plan_assign(device, cell, device_config),
            Edit::Route(cell, source, _)
            | Edit::Post(cell, source, _)
            | Edit::Keep(cell, source, _)
            | Edit::Unroute(cell, source) => self.plan_interrupt(cell, source, edit),
        }
    }

    /// Fails if the change has destroyed the edit's cell by then.
    #[inline(never)]
    fn check_exists(&self, edit: &Edit) -> Result<(), Error> {
        let doomed = edit.cell().filter(|cell| self.config.cell(*cell).is_ok_and(|cell| cell.doomed));
        doomed.map_or(Ok(()), |cell| Err(Error::NoSuchCell(cell)))
    }

    #[inline(never)]
    fn plan_map(&mut self, cell: CellId, &region: &Region, shared: bool) -> Result<(), Error> {
        paging::check(region)?;
        rules::outputs::check_region(&self.front.hal, region, self.front.topology())?;
        rules::root_cell::check_one_to_one(&self.config, cell, region)?;
        // The root cell shares nothing with itself.
        let shared = shared && !self.config.root.is(cell);
        Ok(self.config.staged_mut(cell)?.insert(region, shared)?)
    }

    #[inline(never)]
    fn plan_unmap(&mut self, cell: CellId, range: IovaRange) -> Result<(), Error> {
        check_aligned(range)?;
        Ok(self.config.staged_mut(cell)?.remove(range)?)
    }

    #[inline(never)]
    fn plan_unmap_any(&mut self, cell: CellId, range: IovaRange) -> Result<(), Error> {
        check_aligned(range)?;
        let staged = self.config.staged_mut(cell)?;
        while let Some(part) = staged.from(range.start()).and_then(|region| cut(region, range)) {
            staged.remove(part.input)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn plan_protect(&mut self, cell: CellId, range: IovaRange, rights: Rights) -> Result<(), Error> {
        check_aligned(range)?;
        if rights.is_empty() {
            return Err(MapError::NoRights(range).into());
        }
        Ok(self.config.staged_mut(cell)?.set_rights(range, rights)?)
    }

    #[inline(never)]
    fn plan_release(&mut self, device: SourceId) -> Result<(), Error> {
        let (scope, config) = (self.scope, &mut *self.config);
        let is_meant = |it: &&mut Assignment| it.device == device && it.stay != Stay::Leaving && scope.has(it.cell);
        let found = config.devices.iter_mut().find(is_meant).ok_or(Error::NotAssigned(device))?;
        if found.stay == Stay::Arriving {
            config.remove_devices(&|it| it.device == device && it.stay == Stay::Arriving);
            return Ok(());
        }
        found.stay = Stay::Leaving;
        Ok(())
    }

    #[inline(never)]
    fn plan_destroy(&mut self, id: CellId) -> Result<(), Error> {
        let config = &mut *self.config;
        config.staged_mut(id)?.clear();
        config.cell_mut(id)?.doomed = true;
        config.remove_devices(&|device| device.cell == id && device.stay == Stay::Arriving);
        config.interrupts.remove_lines(&|line| line.cell == id && line.stay == Stay::Arriving);
        config.devices.iter_mut().filter(|device| device.cell == id).for_each(|device| device.stay = Stay::Leaving);
        config.interrupts.lines.iter_mut().filter(|line| line.cell == id).for_each(|line| line.stay = Stay::Leaving);
        Ok(())
    }

    #[inline(never)]
    fn plan_assign(&mut self, device: SourceId, cell: CellId, device_config: DeviceConfig) -> Result<(), Error> {
        let (scope, config) = (self.scope, &mut *self.config);
        config.leave_root(device, cell);
        rules::admission::check(config, scope, device, cell)?;
        let is_alone = self.enlist(device, cell, device_config)?;
        self.note_device_tlb(device, is_alone, device_config)?;
        self.note_group(device);
        self.note_reserved(device, cell)?;
        self.note_windows(device)
    }
}

fn check_aligned(range: IovaRange) -> Result<(), Error> {
    if range.is_page_aligned() { Ok(()) } else { Err(Error::Misaligned(range)) }
}
