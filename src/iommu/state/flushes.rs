#![forbid(unsafe_code)]

use super::{Assignment, Stay};
use crate::domain::Domain;
use crate::invalidation::Flush;
use crate::iommu::unit_lock::{UnitGuard, UnitLock};
use crate::limits::List;
use crate::paging::Change;
use crate::topology::UnitIndex;

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
    #[inline(never)]
    pub(in crate::iommu) fn of<'f>(
        &'f mut self,
        units: &'f [UnitLock],
        index: UnitIndex,
    ) -> Option<(UnitGuard<'f>, &'f mut Flush<'s>)> {
        Some((units.get(index.get())?.read(), self.0.get_mut(index.get())?))
    }

    /// Adds what a change of a page table asks for to the flush of each unit that uses the table.
    #[inline(never)]
    pub(in crate::iommu) fn note(
        &mut self,
        units: &[UnitLock],
        devices: &[Assignment],
        domain: &Domain,
        change: &Change,
    ) {
        for (index, unit, flush) in self.each(units) {
            let users = devices.iter().filter(|device| device.unit == index && device.uses(domain));
            if users.clone().next().is_some() {
                // The device-TLB of a device that arrives is switched on later.
                let present = users.filter(|device| device.stay != Stay::Arriving);
                flush.page_table(unit.features(), domain.id, change, present.filter_map(Assignment::device_tlb));
            }
        }
    }

    /// Each unit with its flush.
    pub(in crate::iommu) fn each<'f>(
        &'f mut self,
        units: &'f [UnitLock],
    ) -> impl Iterator<Item = (UnitIndex, UnitGuard<'f>, &'f mut Flush<'s>)> {
        let both = units.iter().zip(self.0.iter_mut());
        both.zip(UnitIndex::all()).map(|((unit, flush), index)| (index, unit.read(), flush))
    }
}
