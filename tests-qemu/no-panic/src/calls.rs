//! Every call of the driver's public interface, with anything for arguments. What the driver says in words is not here.

mod front;
mod ground;
mod paging;
mod tables;
mod topology;

use cofferdam::hal::Hal;

use crate::any;

/// All calls. The numbers are the capacities of the topology and of the front.
pub fn all<
    H: Hal + Copy + 'static,
    const UNITS: usize,
    const SCOPES: usize,
    const RESERVED: usize,
    const CELLS: usize,
    const DEVICES: usize,
>() {
    ground::calls();
    tables::dmar();
    tables::ivrs();
    topology::calls::<H, UNITS, SCOPES, RESERVED>();
    paging::calls(any::<H>());
    front::calls::<H, UNITS, CELLS, DEVICES>();
}
