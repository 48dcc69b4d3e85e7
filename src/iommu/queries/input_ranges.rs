//! What a caller may ask before it chooses: where a cell can have memory.
#![forbid(unsafe_code)]

use crate::addr::{Iova, IovaRange};
use crate::cell::CellId;
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::state::Stay;

impl<H: Hal> Iommu<'_, H> {
    /// Calls `each` with the input ranges that a cell can map for all devices that it has now: what all their tables can
    /// translate, without what no table can ([`Hole`](super::super::Hole)), without memory that firmware reserves for one of
    /// them, and without windows of bridges that requests of one of them do not pass. What the cell has mapped already is
    /// among them. In ascending order; assigning a device may make them smaller.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// There is no such cell.
    pub fn input_ranges(&self, cell: CellId, mut each: impl FnMut(IovaRange)) -> Result<(), Error> {
        let config = self.locked()?;
        // A table stays as narrow as it was made, for a device perhaps that has left it to others.
        let tables = config.cell(cell)?.domains.iter().map(|domain| domain.attributes.geometry);
        let narrowest = tables.min_by_key(|geometry| geometry.input_bits());
        // Without a table, what any unit reaches.
        let units = self.each_unit().filter_map(|(unit, _)| unit.features().geometry);
        let Some(geometry) = narrowest.or_else(|| units.max_by_key(|geometry| geometry.input_bits())) else {
            return Ok(());
        };
        let (mut reserved, mut windows) = (0, 0);
        for device in config.devices.iter().filter(|it| it.cell == cell && it.stay != Stay::Leaving) {
            reserved |= device.reserved;
            windows |= device.windows;
        }
        let holes = geometry.holes().iter().filter_map(|hole| {
            let bytes = hole.last.as_u64().wrapping_sub(hole.first.as_u64()).saturating_add(1);
            IovaRange::new(hole.first, bytes)
        });
        let holes = holes.chain(self.reserved(reserved).iter().map(|memory| memory.input));
        let holes = holes.chain(config.windows.of(windows).map(|window| window.range));
        let bytes = 1_u64.checked_shl(geometry.input_bits().into()).unwrap_or(u64::MAX);
        let all = IovaRange::new(Iova::new(0), bytes);
        let hole_from = |at| IovaRange::lowest_from(holes.clone(), at);
        all.into_iter().flat_map(|all| all.outside(hole_from)).for_each(&mut each);
        Ok(())
    }
}
