//! A cell has no memory of its own where firmware reserves some for one of its devices. That memory is mapped by
//! `transaction/provide.rs`.
#![forbid(unsafe_code)]

use crate::addr::SourceId;
use crate::cell::{Cell, Reserved};
use crate::iommu::error::{Error, Refusal};
use crate::iommu::state::{CellSet, Config, stays_in_use};
use crate::topology::ReservedMemory;

/// Fails if memory that firmware reserves for a device that stays in its cell is where the cell is to have memory of its own
/// (R66). Which it is was noted when the device got its domain.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet, all: &[ReservedMemory]) -> Result<(), Error> {
    for (_, cell) in config.cells.iter().filter(|(id, _)| scope.has(*id)) {
        for domain in cell.domains.iter().filter(|domain| stays_in_use(&config.devices, domain)) {
            let reserved = Reserved::new(all, domain.attributes.reserved);
            if let Some(memory) = reserved.conflict(&cell.config, &cell.staged) {
                return Err(Error::Reserved(memory));
            }
        }
    }
    Ok(())
}

/// The same for a device that arrives in the cell, and has no domain yet.
pub(in crate::iommu) fn check_arriving(cell: &Cell<'_>, reserved: Reserved<'_>, device: SourceId) -> Result<(), Error> {
    match reserved.conflict(&cell.config, &cell.staged) {
        Some(memory) => Err(Error::Refused { device, reason: Refusal::ReservedMemory(memory) }),
        None => Ok(()),
    }
}
