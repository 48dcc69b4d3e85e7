//! Windows of bridges: where a cell's devices cannot reach memory, whatever is mapped there.
#![forbid(unsafe_code)]

use crate::addr::Region;
use crate::cell::Reserved;
use crate::iommu::error::{Error, Refusal};
use crate::iommu::state::{CellSet, Config, Stay};
use crate::topology::ReservedMemory;

/// Fails if a cell is to have memory, or a device needs some that is reserved for it, where requests of the cell's devices do
/// not pass a unit.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet, all: &[ReservedMemory]) -> Result<(), Error> {
    let concerned = config.devices.iter().filter(|it| it.windows != 0 && scope.has(it.cell));
    for it in concerned.filter(|it| it.stay != Stay::Leaving) {
        let arrives = it.stay == Stay::Arriving;
        let reserved = Reserved::new(all, if arrives { it.reserved } else { 0 });
        let staged = config.staged(it.cell)?;
        for window in config.windows.of(it.windows) {
            let lies_there = |region: Region| region.input.overlaps(window.range);
            if staged.iter().chain(reserved.iter()).any(lies_there) {
                let refused = Error::Refused { device: it.device, reason: Refusal::Window(window) };
                return Err(if arrives { refused } else { Error::Window(window) });
            }
        }
    }
    Ok(())
}
