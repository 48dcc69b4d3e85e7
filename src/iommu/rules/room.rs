//! A change that fails leaves what it revoked, and grants nothing: that has to fit, too.
#![forbid(unsafe_code)]

use crate::cell::check_room_without_grants;
use crate::iommu::error::Error;
use crate::iommu::state::{CellSet, Config};

/// Fails if a cell could not have what is left of its memory when the change fails: there may be more regions than before, and
/// more than after.
#[inline(never)]
pub(in crate::iommu) fn check(config: &mut Config<'_>, scope: CellSet) -> Result<(), Error> {
    let Config { cells, root, left, .. } = config;
    for (_, cell) in cells.iter().filter(|(id, _)| scope.has(*id)) {
        check_room_without_grants(&cell.regions, &cell.staged, left)?;
    }
    if root.cell().is_some_and(|root| scope.has(root)) {
        root.check_room(left)?;
    }
    Ok(())
}
