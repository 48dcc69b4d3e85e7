//! The root cell has what no other cell has, one to one.
#![forbid(unsafe_code)]

use crate::addr::Region;
use crate::cell::{CellId, Reserved};
use crate::iommu::error::{Error, Incompatibility, Refusal};
use crate::iommu::state::{CellSet, Config, Stay};
use crate::topology::ReservedMemory;

/// Fails if the root cell is to map memory that is not one to one.
pub(in crate::iommu) fn check_one_to_one(config: &Config<'_>, cell: CellId, region: Region) -> Result<(), Error> {
    if config.root.is(cell) && region.input.start().as_u64() != region.output.as_u64() {
        return Err(Error::NotOneToOne(region));
    }
    Ok(())
}

/// Fails if a page table of the root cell could not have all of the root cell's memory: what another cell gives back goes
/// there, or that cell could not be destroyed.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet, all: &[ReservedMemory]) -> Result<(), Error> {
    let Some(root) = config.root.cell().filter(|root| scope.has(*root)) else { return Ok(()) };
    let cell = config.cell(root)?;
    let whole = config.root.staged();
    for domain in &cell.domains {
        let users = || config.devices.iter().filter(|it| it.uses(domain) && it.stay != Stay::Leaving);
        if users().next().is_none() {
            continue;
        }
        let arriving = users().find(|it| it.stay == Stay::Arriving).map(|it| it.device);
        if let Some(memory) = Reserved::new(all, domain.attributes.reserved).conflict(&cell.config, whole) {
            let reason = Refusal::ReservedMemory(memory);
            return Err(arriving.map_or(Error::Reserved(memory), |device| Error::Refused { device, reason }));
        }
        let fits = |region: Region| domain.attributes.geometry.tables_to_map(region).map(drop);
        if let Err(error) = whole.iter().try_for_each(fits) {
            let reason = Incompatibility::Map(error);
            return Err(arriving.map_or(error.into(), |device| Error::Incompatible { device, reason }));
        }
    }
    Ok(())
}
