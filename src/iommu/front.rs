//! The front itself: the units of a machine, and what is committed.

use core::fmt;

use once_cell::race::OnceRef;

use super::lock::Mutex;
use super::options::Options;
use super::probed::Probed;
use super::state::Config;
use super::unit_lock::UnitGuard;
use crate::cell::Reserved;
use crate::error::UnitError;
use crate::hal::Hal;
use crate::topology::{Topology, UnitIndex};
use crate::unit::Unit;

/// All remapping units of a machine, and its cells.
///
/// Until [`enable`](Self::enable) no unit is touched. From then on a device reaches nothing but what the cell that it is
/// assigned to was granted; a device without a cell reaches nothing.
///
/// May be shared between CPUs, and lie in a static: no call takes it mutably. Changes of the same cell come one after the other,
/// those of different cells wait for their units at the same time, and reading faults waits for none of them.
///
/// The front itself takes some hundred bytes; what it knows lies in the memory that it is given when it
/// [reads the firmware's table](Self::probe_acpi). No call takes more than 2 KiB of stack, and [`audit`](Self::audit)
/// 2.9 KiB, the platform's functions apart, in the [builds that are measured](crate::guide::capacities#stack).
pub struct Iommu<'s, H> {
    pub(super) hal: H,
    pub(super) options: Options,
    /// What was read of the machine, once it was.
    pub(super) read: OnceRef<'s, Probed<'s>>,
    nothing: Probed<'s>,
    /// A change takes a slot, then this lock, then that of a unit's queue.
    pub(super) config: Mutex<Config<'s>>,
}

impl<'s, H: Hal> Iommu<'s, H> {
    /// A front that knows of no unit yet. It may be the value of a static, and [`probe_acpi`](Self::probe_acpi) completes it.
    // It is large, and made where it stays.
    #[inline(always)]
    pub const fn new(hal: H, options: Options) -> Self {
        let config = Mutex::new(Config::without_room());
        Self { hal, options, read: OnceRef::new(), nothing: Probed::nothing(), config }
    }

    /// What the firmware's table says; nothing before it was read.
    pub fn topology(&self) -> &Topology<'s> {
        &self.probed().topology
    }

    /// The platform that the front works on.
    pub fn hal(&self) -> &H {
        &self.hal
    }

    /// Reserved memory, by a mask of the topology's.
    pub(super) fn reserved(&self, mask: u64) -> Reserved<'_> {
        Reserved::new(self.topology().reserved_memory(), mask)
    }
}

impl<'s, H> Iommu<'s, H> {
    #[inline(never)]
    pub(super) fn probed(&self) -> &Probed<'s> {
        self.read.get().unwrap_or(&self.nothing)
    }

    #[inline(never)]
    pub(super) fn unit(&self, index: UnitIndex) -> Option<UnitGuard<'_>> {
        self.probed().units.get(index.get()).map(|unit| unit.read())
    }

    pub(super) fn each_unit(&self) -> impl Iterator<Item = (UnitGuard<'_>, UnitIndex)> {
        UnitIndex::all().map_while(|index| Some((self.unit(index)?, index)))
    }

    /// Switches units, one after the other, also where one of them fails. The error is that of the first.
    pub(super) fn each_alone(
        &self,
        mut switch: impl FnMut(&mut Unit, UnitIndex) -> Result<(), UnitError>,
    ) -> Result<(), UnitError> {
        let mut result = Ok(());
        for (unit, index) in self.probed().units.iter().zip(UnitIndex::all()) {
            result = result.and(switch(&mut unit.write(), index));
        }
        result
    }
}

impl<H> fmt::Debug for Iommu<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iommu")
            .field("units", &self.probed().units)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
