//! Every call of the driver's public interface, with anything for arguments. What the driver says in words is not here.

mod front;
mod ground;
mod limits;
mod paging;
mod tables;
mod topology;

use cofferdam::hal::Hal;

use crate::any;

/// All calls, whatever the capacities are.
pub fn all<H: Hal + Copy + 'static>() {
    ground::calls();
    limits::calls();
    tables::written();
    tables::dmar();
    tables::ivrs();
    topology::calls::<H>();
    paging::calls(any::<H>());
    front::calls::<H>();
}
