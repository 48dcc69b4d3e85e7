//! What ought to be, in plain maps: which pages each cell has, and which cell has each device.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::{CellId, limits};
use cofferdam_model::Machine;

use crate::pages::{Extent, Pages};
use crate::{Change, Front};

pub(crate) const CELLS: usize = 8;
const ADDRESS_BITS: u8 = 39;
/// Pages of addresses that are interrupts.
const INTERRUPTS: (u64, u64) = (0xfee00, 0xfef00);

/// What an edit names a cell by: its place among those that exist.
pub(crate) type Slot = usize;

/// One edit, in pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    Map(Slot, u64, Extent),
    Unmap(Slot, u64, u64),
    Protect(Slot, u64, u64, Rights),
    Assign(usize, Slot),
    Release(usize),
    Destroy(Slot),
    /// One that is always refused: of a range that is no pages, without rights, or of a cell that is gone.
    Wrong(Slot, u8),
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) id: CellId,
    /// It takes no device.
    pub(crate) careful: bool,
    pub(crate) pages: Pages,
    /// Snooping was enforced when that was told last.
    pub(crate) told: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) id: SourceId,
    pub(crate) unit: usize,
    pub(crate) cell: Option<Slot>,
    /// Reserved for it: as any page of its cell, but each leads to itself.
    pub(crate) reserved: Option<(u64, u64)>,
    pub(crate) muted: bool,
    /// What it may still reach behind a unit that failed in a change of its cell; it may be blocked as well.
    pub(crate) loose: Vec<Pages>,
}

/// What is known of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) input_bits: u8,
    pub(crate) snoops: bool,
    pub(crate) domain_ids: u32,
    pub(crate) largest_page: u8,
}

pub(crate) struct Oracle {
    pub(crate) units: Vec<Facts>,
    pub(crate) cells: Vec<Option<Cell>>,
    pub(crate) gone: Vec<CellId>,
    pub(crate) devices: Vec<Device>,
}

/// Where edits lead.
pub(crate) struct After {
    pub(crate) touched: Vec<bool>,
    pub(crate) doomed: Vec<bool>,
    pub(crate) pages: Vec<Pages>,
    /// The cell of each device, and whether the device comes to it.
    pub(crate) cells: Vec<Option<Slot>>,
    pub(crate) arrives: Vec<bool>,
    pub(crate) leaves: Vec<bool>,
}

/// True if a page from `first` up to `end` is one whose requests are interrupts.
pub(crate) fn is_message(first: u64, end: u64) -> bool {
    first < INTERRUPTS.1 && INTERRUPTS.0 < end
}

impl Oracle {
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..CELLS).filter(|slot| self.cells[*slot].is_some())
    }

    pub(crate) fn cell(&self, slot: Slot) -> &Cell {
        self.cells[slot].as_ref().expect("edits are of cells that exist")
    }

    pub(crate) fn enforced(&self, slot: Slot) -> bool {
        self.devices.iter().filter(|device| device.cell == Some(slot)).all(|device| self.units[device.unit].snoops)
    }

    /// All that a device reaches with these pages of its cell.
    pub(crate) fn with_reserved(device: &Device, pages: &Pages) -> Pages {
        let mut all = pages.clone();
        if let Some((first, last)) = device.reserved {
            all.add(first, Extent { end: last + 1, output: first, rights: Rights::all() });
        }
        all
    }

    /// Where a page of a device leads.
    pub(crate) fn target(&self, device: &Device, page: u64) -> Option<(u64, Rights)> {
        let cell = device.cell?;
        match device.reserved {
            Some((first, last)) if (first..=last).contains(&page) => Some((page, Rights::all())),
            _ => self.cell(cell).pages.at(page),
        }
    }

    /// Where the edits lead, or why they are refused. Capacities of page tables and domain-ids are not looked at.
    pub(crate) fn stage(&self, edits: &[Edit]) -> Result<After, &'static str> {
        let mut after = After {
            touched: vec![false; CELLS],
            doomed: vec![false; CELLS],
            pages: self
                .cells
                .iter()
                .map(|cell| cell.as_ref().map_or_else(Pages::default, |c| c.pages.clone()))
                .collect(),
            cells: self.devices.iter().map(|device| device.cell).collect(),
            arrives: vec![false; self.devices.len()],
            leaves: vec![false; self.devices.len()],
        };
        for edit in edits {
            self.stage_one(&mut after, *edit)?;
        }
        for (index, device) in self.devices.iter().enumerate() {
            let Some(cell) = after.cells[index].filter(|cell| after.touched[*cell]) else { continue };
            let pages = &after.pages[cell];
            let bits = self.units[device.unit].input_bits - 12;
            if pages.iter().any(|(_, extent)| (extent.end - 1) >> bits != 0) {
                return Err("the unit translates no such address");
            }
            let beyond =
                |first: u64, extent: Extent| (extent.output + (extent.end - first) - 1) >> (ADDRESS_BITS - 12) != 0;
            if pages.iter().any(|(first, extent)| beyond(first, extent)) {
                return Err("there is no such memory");
            }
            if device.reserved.is_some_and(|(first, last)| pages.any(first, last + 1) || last >> bits != 0) {
                return Err("firmware reserves it");
            }
        }
        Ok(after)
    }

    fn stage_one(&self, after: &mut After, edit: Edit) -> Result<(), &'static str> {
        let cell = match edit {
            Edit::Map(cell, ..) | Edit::Unmap(cell, ..) | Edit::Protect(cell, ..) => Some(cell),
            Edit::Assign(_, cell) | Edit::Destroy(cell) | Edit::Wrong(cell, _) => Some(cell),
            Edit::Release(device) => after.cells[device],
        };
        if let Some(cell) = cell {
            after.touched[cell] = true;
            if after.doomed[cell] {
                return Err("the cell is gone by then");
            }
        }
        match edit {
            Edit::Map(cell, first, extent) => {
                let output_end = extent.output + (extent.end - first);
                if is_message(first, extent.end) || is_message(extent.output, output_end) {
                    return Err("requests there are interrupts");
                }
                if after.pages[cell].any(first, extent.end) {
                    return Err("the cell has memory there");
                }
                after.pages[cell].add(first, extent);
            }
            Edit::Unmap(cell, first, end) | Edit::Protect(cell, first, end, _)
                if !after.pages[cell].all(first, end) =>
            {
                return Err("it is not granted");
            }
            Edit::Unmap(cell, first, end) => after.pages[cell].remove(first, end),
            Edit::Protect(cell, first, end, rights) => after.pages[cell].protect(first, end, rights),
            Edit::Assign(device, cell) => {
                if self.cell(cell).careful {
                    return Err("the cell takes no device");
                }
                if after.cells[device].is_some() {
                    return Err("the device has a cell");
                }
                (after.cells[device], after.arrives[device]) = (Some(cell), true);
            }
            Edit::Release(device) => {
                if after.cells[device].take().is_none() {
                    return Err("the device has no cell");
                }
                let arrived = std::mem::take(&mut after.arrives[device]);
                after.leaves[device] |= !arrived;
            }
            Edit::Destroy(cell) => {
                after.pages[cell] = Pages::default();
                after.doomed[cell] = true;
                for device in 0..self.devices.len() {
                    if after.cells[device] != Some(cell) {
                        continue;
                    }
                    after.leaves[device] |= !after.arrives[device];
                    (after.cells[device], after.arrives[device]) = (None, false);
                }
            }
            Edit::Wrong(..) => return Err("it is no edit of pages"),
        }
        match cell.map(|cell| after.pages[cell].len()) {
            Some(extents) if extents > limits::REGIONS => Err("no room for so many regions"),
            _ => Ok(()),
        }
    }

    /// Why the driver may have no room although [`stage`](Self::stage) sees none: tables of a cell are as many as its
    /// devices need different ones, and each has a domain-id.
    pub(crate) fn may_be_full(&self, edits: &[Edit]) -> bool {
        let reserved = self.devices.iter().any(|device| device.reserved.is_some());
        let kinds = self.units.len() * (1 + usize::from(reserved));
        let few = self.units.iter().any(|unit| (unit.domain_ids as usize) <= CELLS * limits::DOMAINS);
        edits.iter().any(|edit| matches!(edit, Edit::Assign(..))) && (kinds > limits::DOMAINS || few)
    }

    /// Takes over what a change has done, and checks what it told.
    pub(crate) fn commit(&mut self, after: &After, told: &[(CellId, cofferdam::Coherency)]) {
        for (index, device) in self.devices.iter_mut().enumerate() {
            device.cell = after.cells[index];
            if after.arrives[index] || after.leaves[index] {
                device.loose.clear();
            }
        }
        let mut expected = Vec::new();
        for slot in (0..CELLS).filter(|slot| after.touched[*slot]) {
            if after.doomed[slot] {
                self.gone.extend(self.cells[slot].take().map(|cell| cell.id));
                continue;
            }
            let enforced = self.enforced(slot);
            let cell = self.cells[slot].as_mut().expect("edits are of cells that exist");
            cell.pages = after.pages[slot].clone();
            if std::mem::replace(&mut cell.told, enforced) != enforced {
                expected.push((cell.id, coherency(enforced)));
            }
        }
        assert_eq!(told.len(), expected.len(), "coherency: told {told:?}, expected {expected:?}");
        assert!(told.iter().all(|one| expected.contains(one)), "coherency: told {told:?}, expected {expected:?}");
    }

    /// Takes over what is left of a change that a unit failed in: what was to be taken away is gone, nothing is granted,
    /// and a device that leaves or arrives is in a cell if `is_in` says so. Behind `suspects` it may reach what it had, or was
    /// to have.
    pub(crate) fn fail(&mut self, after: &After, suspects: &[bool], is_in: impl Fn(&Device, usize) -> bool) {
        for index in 0..self.devices.len() {
            let (cells, pages) = ([self.devices[index].cell, after.cells[index]], &after.pages);
            let cells = cells.map(|cell| cell.filter(|cell| after.touched[*cell]));
            if suspects[self.devices[index].unit] && cells.iter().any(Option::is_some) {
                let device = &self.devices[index];
                let had = cells[0].map(|cell| Self::with_reserved(device, &self.cell(cell).pages));
                let gets = cells[1].map(|cell| Self::with_reserved(device, &pages[cell]));
                let device = &mut self.devices[index];
                device.loose.extend(had.into_iter().chain(gets));
                device.loose.dedup();
            }
            let device = &self.devices[index];
            if after.leaves[index] || after.arrives[index] {
                let cell = [device.cell, after.cells[index]].into_iter().flatten().find(|cell| is_in(device, *cell));
                self.devices[index].cell = cell;
            }
        }
        for slot in (0..CELLS).filter(|slot| after.touched[*slot]) {
            if let Some(cell) = &mut self.cells[slot] {
                cell.pages = cell.pages.without_grants(&after.pages[slot]);
            }
        }
    }

    /// Asks the driver for the edits.
    pub(crate) fn request(
        &self,
        iommu: &Front<'_>,
        edits: &[Edit],
    ) -> Result<cofferdam::iommu::Committed<CELLS>, cofferdam::iommu::Error> {
        if let &[edit] = edits {
            return self.request_alone(iommu, edit);
        }
        let mut change = iommu.change();
        edits.iter().try_for_each(|edit| self.add(&mut change, *edit))?;
        change.commit()
    }

    fn request_alone(
        &self,
        iommu: &Front<'_>,
        edit: Edit,
    ) -> Result<cofferdam::iommu::Committed<CELLS>, cofferdam::iommu::Error> {
        let id = |cell| self.cell(cell).id;
        match edit {
            Edit::Map(cell, first, extent) => iommu.map(id(cell), region(first, extent)),
            Edit::Unmap(cell, first, end) => iommu.unmap(id(cell), range(first, end)),
            Edit::Protect(cell, first, end, rights) => iommu.protect(id(cell), range(first, end), rights),
            Edit::Assign(device, cell) => iommu.assign(self.devices[device].id, id(cell)),
            Edit::Release(device) => iommu.release(self.devices[device].id),
            Edit::Destroy(cell) => iommu.destroy_cell(id(cell)),
            Edit::Wrong(..) => {
                let mut change = iommu.change();
                self.add(&mut change, edit)?;
                change.commit()
            }
        }
    }

    fn add(&self, change: &mut Change<'_, '_>, edit: Edit) -> Result<(), cofferdam::iommu::Error> {
        let id = |cell| self.cell(cell).id;
        match edit {
            Edit::Map(cell, first, extent) => change.map(id(cell), region(first, extent)),
            Edit::Unmap(cell, first, end) => change.unmap(id(cell), range(first, end)),
            Edit::Protect(cell, first, end, rights) => change.protect(id(cell), range(first, end), rights),
            Edit::Assign(device, cell) => change.assign(self.devices[device].id, id(cell)),
            Edit::Release(device) => change.release(self.devices[device].id),
            Edit::Destroy(cell) => change.destroy(id(cell)),
            Edit::Wrong(cell, 0) => change.protect(id(cell), range(0, 1), Rights::empty()),
            Edit::Wrong(_, 1) if !self.gone.is_empty() => change.destroy(*self.gone.last().unwrap()),
            Edit::Wrong(cell, _) => change.unmap(id(cell), crate::machine::range(0x5000, 0x123)),
        }
        .map(drop)
    }
}

pub(crate) fn coherency(enforced: bool) -> cofferdam::Coherency {
    if enforced { cofferdam::Coherency::Enforced } else { cofferdam::Coherency::NotEnforced }
}

fn region(first: u64, extent: Extent) -> cofferdam::addr::Region {
    crate::machine::region(first << 12, extent.output << 12, (extent.end - first) << 12, extent.rights)
}

fn range(first: u64, end: u64) -> cofferdam::addr::IovaRange {
    crate::machine::range(first << 12, (end - first) << 12)
}

/// Looks whether the driver lists a device in a cell, with a change that is refused either way.
pub(crate) fn is_listed(iommu: &Front<'_>, machine: &Machine, device: SourceId, cell: CellId) -> bool {
    let before = machine.frames_in_use();
    let mut change = iommu.change();
    change.assign(device, cell).unwrap();
    change.unmap(cell, crate::machine::range(0x5000, 0x123)).unwrap();
    let error = change.commit().unwrap_err();
    assert_eq!(machine.frames_in_use(), before);
    matches!(error, cofferdam::iommu::Error::Busy { cell: found, .. } if found == cell)
}
