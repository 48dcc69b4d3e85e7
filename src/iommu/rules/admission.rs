//! Who may be given to a cell at all.
#![forbid(unsafe_code)]

use crate::addr::SourceId;
use crate::cell::{CellId, ResetPolicy};
use crate::iommu::error::{Error, Refusal};
use crate::iommu::state::{Assignment, CellSet, Config};
use crate::limits::Full;
use crate::topology::UnitIndex;

/// Fails if the cell takes no device, or the device belongs to a cell that it does not leave.
#[inline(never)]
pub(in crate::iommu) fn check(
    config: &Config<'_>,
    scope: CellSet,
    device: SourceId,
    cell: CellId,
) -> Result<(), Error> {
    if !config.enabled {
        return Err(Error::NotEnabled);
    }
    // A unit may not remap them although others do: that is looked at when it is known which one serves the device.
    if config.interrupts.config.is_none() && !config.cell(cell)?.config.allow_unsafe_interrupts {
        return Err(Error::Refused { device, reason: Refusal::UnsafeInterrupts });
    }
    // Those that leave are blocked before this one is let in.
    let mut others = config.devices.iter().filter(|other| !other.leaves(scope));
    match others.find(|other| other.device == device) {
        Some(other) => Err(Error::Busy { device, cell: other.cell }),
        None => Ok(()),
    }
}

/// Fails if the cell gives up no device that was not reset, and this one cannot be: `is_possible` looks.
#[inline(never)]
pub(in crate::iommu) fn check_reset(
    config: &Config<'_>,
    device: SourceId,
    cell: CellId,
    is_possible: impl FnOnce() -> bool,
) -> Result<(), Error> {
    if config.cell(cell)?.config.reset == ResetPolicy::Required && !is_possible() {
        return Err(Error::Refused { device, reason: Refusal::NoReset });
    }
    Ok(())
}

/// Fails if there are as many device-TLBs behind a unit as there can be, for a device that is to have one more.
#[inline(never)]
pub(in crate::iommu) fn check_device_tlbs(
    config: &Config<'_>,
    scope: CellSet,
    device: SourceId,
    unit: UnitIndex,
    capacity: usize,
) -> Result<(), Error> {
    let others = config.devices.iter().filter(|other| !other.leaves(scope));
    // Those that leave count as well, but once if they move: all of them may be asked in one batch.
    let leaving = config.devices.iter().filter(|other| other.leaves(scope) && other.device != device);
    let comes_back = |gone: &Assignment| others.clone().any(|it| it.device == gone.device && it.ats.is_some());
    let gone = leaving.filter(|leaving| !comes_back(leaving));
    let alike = others.clone().chain(gone).filter(|other| other.unit == unit && other.ats.is_some());
    if alike.count() >= capacity {
        return Err(Full { what: "devices with a device-TLB behind this unit", capacity }.into());
    }
    Ok(())
}
