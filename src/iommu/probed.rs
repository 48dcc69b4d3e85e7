//! What a front knows of its machine once it has read the firmware's table.
#![forbid(unsafe_code)]

use super::error::Error;
use super::lock::Mutex;
use super::options::Options;
use super::transaction::Work;
use super::unit_lock::UnitLock;
use crate::addr::SourceId;
use crate::contract::UnitConfig;
use crate::hal::Hal;
use crate::limits::{Full, Limits, List};
use crate::topology::{Topology, UnitIndex, UnitInfo};
use crate::unit::Unit;

/// The graphics of Intel's chipsets.
const GRAPHICS: SourceId = SourceId::from_requester(0, 2 << 3);

/// A machine, in the memory that was handed over.
#[derive(Debug)]
pub(super) struct Probed<'s> {
    pub(super) limits: Limits,
    pub(super) topology: Topology<'s>,
    pub(super) units: List<'s, UnitLock>,
    /// The slots in which changes work.
    pub(super) changes: List<'s, Mutex<Work<'s>>>,
}

impl<'s> Probed<'s> {
    /// No machine.
    pub(super) const fn nothing() -> Self {
        Self {
            limits: Limits::DEFAULT,
            topology: Topology::empty(),
            units: List::without_room(),
            changes: List::without_room(),
        }
    }

    #[inline(never)]
    pub(super) fn probe_units(&mut self, hal: &impl Hal, options: &Options) -> Result<(), Error> {
        let Options { timeout_ns, device_timeout_ns, queue_slots, max_leaf_level, .. } = *options;
        let host_bits = self.topology.host_address_width();
        let device_tlbs = self.limits.device_tlbs;
        let config = UnitConfig {
            host_bits,
            timeout_ns,
            device_timeout_ns,
            queue_slots,
            max_leaf_level,
            device_tlbs,
            interrupts: None,
        };
        let graphics = self.topology.unit_of(hal, GRAPHICS);
        for (info, index) in self.topology.units().iter().zip(UnitIndex::all()) {
            let for_graphics = graphics == Some(index) && !info.include_all;
            list(&mut self.units, info, config)?;
            if let Some(unit) = self.units.last_mut() {
                unit.get_mut().look(hal, for_graphics);
            }
        }
        if options.require_all_units {
            self.units.iter_mut().try_for_each(|unit| unit.get_mut().check_usable())?;
        }
        Ok(())
    }
}

#[inline(never)]
fn list(units: &mut List<'_, UnitLock>, info: &UnitInfo, config: UnitConfig) -> Result<(), Error> {
    let full = Full { what: "remapping units", capacity: units.capacity() };
    let unit = Unit::new(info, config).ok_or(Error::UnknownUnit(info.window))?;
    units.push_with(|| UnitLock::new(unit)).map_err(|_| Error::Full(full))
}
