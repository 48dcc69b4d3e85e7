//! Memory that firmware reserves for several devices leads from one to the other: they belong to one cell, unless both cells
//! know.
#![forbid(unsafe_code)]

use crate::iommu::error::{Error, Others, Refusal};
use crate::iommu::state::{CellSet, Config};
use crate::topology::{ReservedMemory, overlapping};

/// Fails if a device is to arrive with reserved memory that a device of another cell has, too, all of it or a part.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet, all: &[ReservedMemory]) -> Result<(), Error> {
    let knows = |cell| config.cell(cell).map(|cell| cell.config.allow_shared_reserved);
    for own in config.devices.iter().filter(|own| own.arrives(scope) && own.reserved != 0) {
        let shared = overlapping(all, own.reserved);
        let own_knows = knows(own.cell)?;
        let mut elsewhere = Others::default();
        let others = config.devices.iter().filter(|other| !other.leaves(scope) && other.cell != own.cell);
        for other in others.filter(|other| other.reserved & shared != 0) {
            if !own_knows || !knows(other.cell)? {
                elsewhere.add(other.device);
            }
        }
        if elsewhere.count() != 0 {
            return Err(Error::Refused { device: own.device, reason: Refusal::SharesReserved(elsewhere) });
        }
    }
    Ok(())
}
