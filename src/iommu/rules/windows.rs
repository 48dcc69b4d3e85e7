//! Windows of bridges: where a cell's devices cannot reach memory, whatever is mapped there.
#![forbid(unsafe_code)]

use crate::addr::Region;
use crate::cell::{RegionDifference, RegionDifferences, Reserved};
use crate::iommu::error::{Error, Refusal};
use crate::iommu::state::{CellSet, Config, Stay};
use crate::topology::ReservedMemory;

/// Fails if a device arrives in a cell that has memory, or needs some that is reserved for it, where the device's requests do not
/// pass a unit; or if a cell is granted more memory there, for a device that it has. What it had there before such a window was
/// noted does not stand in the way of other edits.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet, all: &[ReservedMemory]) -> Result<(), Error> {
    let concerned = config.devices.iter().filter(|it| it.windows != 0 && scope.has(it.cell));
    for it in concerned.filter(|it| it.stay != Stay::Leaving) {
        let arrives = it.stay == Stay::Arriving;
        let reserved = Reserved::new(all, if arrives { it.reserved } else { 0 });
        let (committed, staged) = (config.committed(it.cell)?, config.staged(it.cell)?);
        for window in config.windows.of(it.windows) {
            let lies_there = |region: Region| region.input.overlaps(window.range);
            let is_granted = |it: RegionDifference| {
                it.range.overlaps(window.range) && (it.granted().is_some() || it.widened().is_some())
            };
            let mut more = RegionDifferences::new(committed, staged, Reserved::NONE);
            if staged.iter().chain(reserved.iter()).any(lies_there) && (arrives || more.any(is_granted)) {
                let refused = Error::Refused { device: it.device, reason: Refusal::Window(window) };
                return Err(if arrives { refused } else { Error::Window(window) });
            }
        }
    }
    Ok(())
}
