#![forbid(unsafe_code)]

use crate::cell::{Cell, CellConfig, CellId};
use crate::iommu::error::{Error, NoSuchCell};
use crate::limits::{Full, List};

/// The cells, each in a slot of its own. A slot without a cell keeps its room.
#[derive(Debug)]
pub(in crate::iommu) struct Cells<'s> {
    slots: List<'s, Cell<'s>>,
    /// From this slot on there was never a cell.
    unused: usize,
    /// How many cells were ever made.
    made: u32,
}

impl<'s> Cells<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        Self { slots: List::without_room(), unused: 0, made: 0 }
    }

    pub(in crate::iommu) fn new(slots: List<'s, Cell<'s>>) -> Self {
        Self { slots, unused: 0, made: 0 }
    }

    pub(in crate::iommu) fn create(&mut self, config: CellConfig) -> Result<CellId, Error> {
        let capacity = self.slots.len();
        let free = self.slots.iter_mut().zip(0..).find(|(cell, _)| !cell.exists());
        let (cell, index) = free.ok_or(Full { what: "cells", capacity })?;
        self.made = self.made.wrapping_add(1).max(1);
        cell.begin(self.made, config);
        self.unused = self.unused.max(usize::from(index) + 1);
        Ok(cell.id(index))
    }

    pub(in crate::iommu) fn get(&self, id: CellId) -> Result<&Cell<'s>, NoSuchCell> {
        let cell = self.slots.get(usize::from(id.index)).filter(|cell| cell.id(id.index) == id);
        cell.ok_or(NoSuchCell(id))
    }

    pub(in crate::iommu) fn get_mut(&mut self, id: CellId) -> Result<&mut Cell<'s>, NoSuchCell> {
        let cell = self.slots.get_mut(usize::from(id.index)).filter(|cell| cell.id(id.index) == id);
        cell.ok_or(NoSuchCell(id))
    }

    /// How many cells were ever made.
    pub(in crate::iommu) fn made(&self) -> u32 {
        self.made
    }

    /// A cell, and the others that exist.
    pub(in crate::iommu) fn one_and_others(
        &mut self,
        id: CellId,
    ) -> Result<(&mut Cell<'s>, impl Iterator<Item = (CellId, &Cell<'s>)> + Clone), NoSuchCell> {
        let none = NoSuchCell(id);
        let used = self.slots.get_mut(..self.unused).ok_or(none)?;
        let (below, rest) = used.split_at_mut_checked(id.index.into()).ok_or(none)?;
        let (one, above) = rest.split_first_mut().filter(|(cell, _)| cell.id(id.index) == id).ok_or(none)?;
        let others = below.iter().zip(0..).chain(above.iter().zip(id.index.wrapping_add(1)..));
        let existing = others.filter(|(cell, _)| cell.exists());
        Ok((one, existing.map(|(cell, index)| (cell.id(index), cell))))
    }

    /// Those that exist.
    pub(in crate::iommu) fn iter(&self) -> impl Iterator<Item = (CellId, &Cell<'s>)> + Clone {
        let used = self.slots.get(..self.unused).unwrap_or_default();
        let existing = used.iter().zip(0..).filter(|(cell, _)| cell.exists());
        existing.map(|(cell, index)| (cell.id(index), cell))
    }

    pub(in crate::iommu) fn iter_mut(&mut self) -> impl Iterator<Item = (CellId, &mut Cell<'s>)> {
        let used = self.slots.get_mut(..self.unused).unwrap_or_default();
        let existing = used.iter_mut().zip(0..).filter(|(cell, _)| cell.exists());
        existing.map(|(cell, index)| (cell.id(index), cell))
    }

    /// Those of a set.
    pub(in crate::iommu) fn of(&mut self, set: CellSet) -> impl Iterator<Item = &mut Cell<'s>> {
        self.iter_mut().filter(move |(id, _)| set.has(*id)).map(|(_, cell)| cell)
    }
}

/// Some of the cells that exist. It knows slots alone, so it means nothing once one of them may be gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::iommu) struct CellSet(u64);

impl CellSet {
    pub(in crate::iommu) const NONE: Self = Self(0);
    pub(in crate::iommu) const ALL: Self = Self(u64::MAX);

    pub(in crate::iommu) fn add(&mut self, cell: CellId) {
        self.0 |= bit(cell);
    }

    pub(in crate::iommu) fn has(self, cell: CellId) -> bool {
        self.0 & bit(cell) != 0
    }
}

/// There are no more than 64 cells.
fn bit(cell: CellId) -> u64 {
    1_u64.checked_shl(cell.index.into()).unwrap_or(0)
}
