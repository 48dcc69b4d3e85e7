#![forbid(unsafe_code)]

use crate::invalidation::Flush;
use crate::limits::List;
use crate::topology::UnitIndex;
use crate::unit::Unit;

/// What each unit has to invalidate for the change that has the lock; empty else.
#[derive(Debug)]
pub(in crate::iommu) struct Flushes<'s>(List<'s, Flush<'s>>);

impl<'s> Flushes<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        Self(List::without_room())
    }

    /// One for each unit, in their order.
    pub(in crate::iommu) fn new(flushes: List<'s, Flush<'s>>) -> Self {
        Self(flushes)
    }

    /// A unit with its flush.
    pub(in crate::iommu) fn of<'f>(
        &'f mut self,
        units: &'f [Unit],
        index: UnitIndex,
    ) -> Option<(&'f Unit, &'f mut Flush<'s>)> {
        units.get(index.get()).zip(self.0.get_mut(index.get()))
    }

    /// Each unit with its flush.
    pub(in crate::iommu) fn each<'f>(
        &'f mut self,
        units: &'f [Unit],
    ) -> impl Iterator<Item = (UnitIndex, &'f Unit, &'f mut Flush<'s>)> {
        units.iter().zip(self.0.iter_mut()).zip(UnitIndex::all()).map(|((unit, flush), index)| (index, unit, flush))
    }
}
