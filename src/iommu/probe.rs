//! The firmware's table is read, and the units that it names are looked at.
#![forbid(unsafe_code)]

use core::mem::MaybeUninit;

use super::error::Error;
use super::front::Iommu;
use super::memory;
use super::probed::Probed;
use super::state::Config;
use crate::firmware::Finding;
use crate::hal::Hal;
use crate::limits::{Carver, Limits};

impl<'s, H: Hal> Iommu<'s, H> {
    /// Reads the firmware's table, a DMAR or an IVRS, and looks at the units that it names; writes nothing to them. Once for a
    /// front, before anything else.
    ///
    /// A unit that does not answer, or shows what no unit can be, has [failed](crate::iommu::UnitState) from then on, and costs
    /// itself alone: [`units`](Self::units) says why, and its devices are refused.
    ///
    /// `memory` takes [`Limits::words`]; what is over is not used. It is the front's from now on. Findings go to `report`, a
    /// few for each structure at most; each costs what it names and no more.
    ///
    /// # Errors
    ///
    /// The bytes are no such table, or describe no unit that can be used ([`Error::Firmware`]). A unit is none that this driver
    /// can drive ([`Error::UnknownUnit`]); or one does not answer, or shows what no unit can be, and
    /// [all are required](crate::iommu::Options::require_all_units) ([`Error::Unit`]). A capacity is out
    /// of its bounds or too small, or so is the memory ([`Error::Full`]). Or it is not the first call that succeeds
    /// ([`Error::Probed`]). The front knows of no unit then, as before, and the memory is lost to it.
    pub fn probe_acpi(
        &self,
        memory: &'s mut [MaybeUninit<u64>],
        limits: &Limits,
        table: &[u8],
        report: impl FnMut(Finding),
    ) -> Result<(), Error> {
        let config = &mut *self.locked()?;
        if self.read.get().is_some() {
            return Err(Error::Probed);
        }
        let (probed, rest) = self.read_table(memory, limits, table, report)?;
        let cut = cut(probed, config, rest, limits);
        if let Err(error) = cut.and_then(|()| probed.probe_units(&self.hal, &self.options)) {
            forget(config);
            return Err(error);
        }
        // The lock keeps others from having set it meanwhile.
        self.read.set(probed).map_err(|()| Error::Probed)
    }

    /// A machine whose topology is known, and what of the memory is left.
    #[inline(never)]
    fn read_table(
        &self,
        memory: &'s mut [MaybeUninit<u64>],
        limits: &Limits,
        table: &[u8],
        report: impl FnMut(Finding),
    ) -> Result<(&'s mut Probed<'s>, &'s mut [MaybeUninit<u64>]), Error> {
        let mut carver = Carver::new(memory);
        let probed = carver.one()?.write(Probed::nothing());
        let rest = probed.topology.read_in(carver.into_rest(), limits, table, &self.hal, report)?;
        Ok((probed, rest))
    }
}

/// Takes its parts from the memory that is left.
#[inline(never)]
fn cut<'s>(
    probed: &mut Probed<'s>,
    config: &mut Config<'s>,
    memory: &'s mut [MaybeUninit<u64>],
    limits: &Limits,
) -> Result<(), Error> {
    let (carver, units) = (&mut Carver::new(memory), probed.topology.units().len());
    probed.limits = *limits;
    probed.units = carver.list(units)?;
    probed.changes = memory::cut_changes(carver, limits, units)?;
    Ok(config.cut(carver, limits, units)?)
}

#[cold]
#[inline(never)]
fn forget(config: &mut Config<'_>) {
    *config = Config::without_room();
}
