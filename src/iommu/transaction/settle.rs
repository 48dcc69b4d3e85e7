//! How a change ends: what was staged is so from now on, and other changes may come.

use super::Transaction;
use crate::cell::CellId;
use crate::domain::{Coherency, Domain};
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::state::{Assignment, CellSet, Stay, units_of};
use crate::iommu::unit_lock::UnitLock;

/// What a change did beside what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    changed: CellSet,
    enforced: CellSet,
    /// How many cells had ever been made.
    made: u32,
}

impl Committed {
    /// True if the coherency of any cell is another than before: of which,
    /// [`Iommu::coherency_change`](crate::Iommu::coherency_change) says.
    pub fn changes_coherency(&self) -> bool {
        self.changed != CellSet::NONE
    }
}

impl<H: Hal> Iommu<'_, H> {
    /// What a cell's coherency became by a change, if that made it another one: the hypervisor honours WBINVD and guest memory
    /// types in such a cell, or need not any more. `None` for all other cells.
    ///
    /// # Errors
    ///
    /// There is no such cell any more ([`Error::NoSuchCell`]), or the configuration stays locked ([`Error::InChange`]).
    pub fn coherency_change(&self, committed: &Committed, cell: CellId) -> Result<Option<Coherency>, Error> {
        self.locked()?.cells.get(cell)?;
        let has_changed = cell.is_among(committed.made) && committed.changed.has(cell);
        let now = if committed.enforced.has(cell) { Coherency::Enforced } else { Coherency::NotEnforced };
        Ok(has_changed.then_some(now))
    }
}

impl<H: Hal> Transaction<'_, '_, H> {
    /// Ends a change that succeeded.
    #[inline(never)]
    pub(super) fn settle(&mut self) -> Committed {
        let (hal, scope) = (&self.front.hal, self.scope);
        // Only when their entries allow it (R47).
        let arrived = self.config.devices.iter().filter(|device| device.arrives(scope));
        arrived.filter_map(|device| device.ats.as_ref()).for_each(|ats| ats.switch(hal, true));
        self.end(true, true);
        self.forget_cells()
    }

    /// What was staged is so from now on. Units have `confirmed` all that was revoked, or not.
    #[inline(never)]
    pub(super) fn end(&mut self, succeeded: bool, confirmed: bool) {
        self.settle_routes(confirmed);
        let (front, scope) = (self.front, self.scope);
        let concerns_root = self.concerns_root();
        let config = &mut *self.config;
        if concerns_root {
            config.root.end(succeeded, &mut config.left);
        }
        let arrived = config.devices.iter_mut().filter(|device| device.arrives(scope));
        arrived.for_each(|device| device.stay = Stay::Staying);
        let arrived = config.interrupts.lines.iter_mut().filter(|line| line.arrives(scope));
        arrived.for_each(|line| line.stay = Stay::Staying);
        for cell in config.cells.of(scope) {
            cell.regions.copy_from(&cell.staged);
            cell.busy = false;
            for domain in cell.domains.iter_mut() {
                domain.take_prealloc().free(&front.hal);
                if confirmed {
                    free_unlinked(&front.hal, &front.probed().units, &config.devices, domain);
                }
            }
        }
    }

    /// Forgets the cells that the change ends with, and notes which others have another coherency than the hypervisor learned
    /// last.
    fn forget_cells(&mut self) -> Committed {
        let (scope, config) = (self.scope, &mut *self.config);
        let mut committed = Committed { made: config.cells.made(), ..Committed::default() };
        for (id, cell) in config.cells.iter_mut().filter(|(id, _)| scope.has(*id)) {
            if cell.doomed {
                cell.end();
                config.root.forget(id, cell);
            } else if let Some(now) = cell.learn_coherency() {
                committed.changed.add(id);
                if now == Coherency::Enforced {
                    committed.enforced.add(id);
                }
            }
        }
        committed
    }
}

/// Gives back the tables that this change and earlier ones took out of a domain, once this one is confirmed: before it began,
/// units had repeated flushes that failed. A unit that is out of service, or was then, may still walk what an earlier change took
/// out.
fn free_unlinked(hal: &impl Hal, units: &[UnitLock], devices: &[Assignment], domain: &mut Domain) {
    if domain.table.unlinked() == 0 {
        return;
    }
    if units_of(units, devices, |device| device.uses(domain)).all(|unit| unit.has_confirmed_all(hal)) {
        // SAFETY: each unit whose devices use the domain has confirmed the flushes of all changes, this one's among them. One
        // whose devices have left it has confirmed that it has nothing of the domain cached.
        unsafe { domain.table.free_unlinked(hal) };
    }
}
