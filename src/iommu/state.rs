//! What is committed: cells with their memory, and the devices that they have. The only code that knows slots and
//! generations.
#![forbid(unsafe_code)]

mod assignment;
mod cells;
mod flushes;
mod held;
mod interrupts;
mod root;
mod root_memory;
mod root_part;
mod windows;
mod withheld;
mod withholding;

pub(super) use assignment::{Assignment, Stay};
pub(super) use cells::{CellSet, Cells};
pub(super) use flushes::Flushes;
pub(super) use held::Held;
pub(super) use interrupts::{Interrupts, Line, RoutedSlot, UnitSlot, each_slot, forger, holders, posting_to};
pub(super) use root::Root;
pub(super) use windows::Windows;
pub(super) use withheld::{Withheld, WithheldRange};
pub(super) use withholding::Phase;

use super::error::{Error, NoSuchCell};
use super::unit_lock::{UnitGuard, UnitLock};
use crate::cell::{Cell, CellId, Regions};
use crate::contract::{DomainId, Features};
use crate::domain::Domain;
use crate::limits::{Full, List};
use crate::topology::UnitIndex;
use crate::unit::Scratch;

/// What is committed, and what a change that has the lock works with.
#[derive(Debug)]
pub(super) struct Config<'s> {
    /// Devices can be assigned: units were prepared, or switched on.
    pub(super) enabled: bool,
    /// From `suspend` to `resume`: no change begins.
    pub(super) asleep: bool,
    pub(super) cells: Cells<'s>,
    /// How many calls have given up the lock to wait for units or resets, and go on after that.
    pub(super) waiting: usize,
    /// How many calls ever waited for cells, or for the end of resets.
    pub(super) turns: u64,
    /// Which of the calls that wait for the end of resets has waited longest; 0 if none waits.
    pub(super) look_awaited_by: u64,
    pub(super) root: Root<'s>,
    /// Room to work in, for what is left of a cell's regions.
    pub(super) left: Regions<'s>,
    pub(super) withheld: Withheld<'s>,
    pub(super) devices: List<'s, Assignment>,
    pub(super) windows: Windows<'s>,
    pub(super) interrupts: Interrupts<'s>,
    pub(super) flushes: Flushes<'s>,
    /// Where a unit makes its commands of that.
    pub(super) scratch: Scratch<'s>,
}

impl<'s> Config<'s> {
    /// No cell, and no room for one. It is large, and made where it stays.
    #[inline(always)]
    pub(super) const fn without_room() -> Self {
        Self {
            enabled: false,
            asleep: false,
            cells: Cells::without_room(),
            waiting: 0,
            turns: 0,
            look_awaited_by: 0,
            root: Root::without_room(),
            left: Regions::without_room(),
            withheld: Withheld::without_room(),
            devices: List::without_room(),
            windows: Windows::without_room(),
            interrupts: Interrupts::without_room(),
            flushes: Flushes::without_room(),
            scratch: Scratch::without_room(),
        }
    }

    pub(super) fn cell(&self, id: CellId) -> Result<&Cell<'s>, NoSuchCell> {
        self.cells.get(id)
    }

    /// True if devices of these two cells may be in one group.
    pub(super) fn may_share_group(&self, one: CellId, other: CellId) -> bool {
        [one, other].iter().all(|id| self.cell(*id).is_ok_and(|cell| cell.config.allow_shared_group))
    }

    pub(super) fn cell_mut(&mut self, id: CellId) -> Result<&mut Cell<'s>, NoSuchCell> {
        self.cells.get_mut(id)
    }

    /// What a cell is to have in a change; the root cell, as if there were no other.
    pub(super) fn staged(&self, cell: CellId) -> Result<&Regions<'s>, NoSuchCell> {
        if self.root.is(cell) { Ok(&self.root.staged) } else { Ok(&self.cell(cell)?.staged) }
    }

    /// What a cell has before a change; the root cell, as if there were no other.
    pub(super) fn committed(&self, cell: CellId) -> Result<&Regions<'s>, NoSuchCell> {
        if self.root.is(cell) { Ok(self.root.whole()) } else { Ok(&self.cell(cell)?.regions) }
    }

    /// The list in which edits of a cell's memory are made.
    pub(super) fn staged_mut(&mut self, cell: CellId) -> Result<&mut Regions<'s>, NoSuchCell> {
        if self.root.is(cell) { Ok(&mut self.root.staged) } else { Ok(&mut self.cells.get_mut(cell)?.staged) }
    }

    /// True if one of some cells has a device or a line behind a unit.
    pub(super) fn is_behind(&self, unit: UnitIndex, scope: CellSet) -> bool {
        let mut lines = self.interrupts.lines.iter();
        behind(&self.devices, unit).any(|device| scope.has(device.cell))
            || lines.any(|line| line.unit == unit && scope.has(line.cell))
    }

    /// True if a line behind a unit waits for the unit to confirm that it goes nowhere.
    pub(super) fn has_cut_lines(&self, unit: UnitIndex) -> bool {
        self.interrupts.lines.iter().any(|line| line.unit == unit && line.is_cut())
    }

    /// Takes devices out of the list, and gives back their slots, whose entries no unit knows.
    #[inline(never)]
    pub(super) fn remove_devices(&mut self, is_removed: &dyn Fn(&Assignment) -> bool) {
        let Self { devices, interrupts, .. } = self;
        let removed = devices.iter().filter(|device| is_removed(device));
        removed.filter_map(|device| device.interrupts).for_each(|held| interrupts.give_back(held.block));
        devices.retain(|device| !is_removed(device));
    }

    /// The domain that a device uses.
    pub(super) fn domain_of(&self, device: &Assignment) -> Option<&Domain> {
        self.cell(device.cell).ok()?.domains.iter().find(|domain| device.uses(domain))
    }

    /// Frames of page tables that are only kept since a unit may still read them: those that were taken out of a table, and
    /// tables whose devices are all quarantined.
    pub(super) fn quarantined_frames(&self) -> usize {
        let domains = self.cells.iter().flat_map(|(_, cell)| &cell.domains);
        let uses = |device: &Assignment, domain: &Domain| device.uses(domain) && !device.quarantined;
        let is_used = |domain: &Domain| self.devices.iter().any(|device| uses(device, domain));
        let frames = domains.map(|it| it.table.unlinked() + if is_used(it) { 0 } else { it.table.frames() });
        frames.fold(0, usize::saturating_add)
    }

    /// A domain-id for a domain of this cell on this unit: the lowest that no domain has, so that other units can use the domain
    /// as well; or else the lowest that none has on this unit (R38, R39).
    pub(super) fn free_domain_id(&self, unit: UnitIndex, features: &Features, cell: CellId) -> Result<DomainId, Error> {
        let has = |cell: &Cell<'_>, id| cell.domains.iter().any(|domain| domain.id == id);
        let is_free = |id: &DomainId| !self.cells.iter().any(|(_, cell)| has(cell, *id));
        let own = self.cell(cell)?;
        let is_free_here = |id: &DomainId| !has(own, *id) && !self.is_used_on(unit, *id, cell);
        let last = u16::try_from(features.domain_ids - 1).unwrap_or(u16::MAX);
        let full = Full { what: "domain-ids of the unit", capacity: last.into() };
        let ids = || (1..=last).filter_map(DomainId::new);
        ids().find(is_free).or_else(|| ids().find(is_free_here)).ok_or(Error::Full(full))
    }

    /// True if a unit may know this domain-id as that of a domain of another cell than this one.
    pub(super) fn is_used_on(&self, unit: UnitIndex, id: DomainId, cell: CellId) -> bool {
        behind(&self.devices, unit).any(|device| device.domain == Some(id) && device.cell != cell)
    }
}

/// True if a device uses this domain, or is going to, when the change is done.
pub(super) fn stays_in_use(devices: &[Assignment], domain: &Domain) -> bool {
    devices.iter().any(|device| device.uses(domain) && device.stay != Stay::Leaving)
}

/// The units behind which any of some devices is, each once, however many devices there are: to look at a unit's registers
/// takes time.
pub(super) fn units_of<'u>(
    units: &'u [UnitLock],
    devices: &[Assignment],
    is_concerned: impl Fn(&Assignment) -> bool,
) -> impl Iterator<Item = UnitGuard<'u>> {
    let all = units.iter().map(|unit| unit.read()).zip(UnitIndex::all());
    all.filter(move |(_, index)| behind(devices, *index).any(&is_concerned)).map(|(unit, _)| unit)
}

/// The devices behind a unit.
pub(super) fn behind(devices: &[Assignment], unit: UnitIndex) -> impl Iterator<Item = &Assignment> + Clone {
    devices.iter().filter(move |device| device.unit == unit)
}
