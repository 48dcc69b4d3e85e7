//! Addresses of all kinds: physical, as a device sees them, and of the device itself.
//!
//! No bare integer crosses an interface of this crate; these types do.

mod iova;
mod phys_addr;
mod phys_range;
mod region;
mod source_id;

pub use iova::{Iova, IovaRange};
pub use phys_addr::{NotPhysical, PhysAddr};
pub use phys_range::PhysRange;
pub use region::{Region, Rights};
pub use source_id::{Requester, SourceId};

/// Bytes of the smallest page and of one frame.
pub const PAGE_BYTES: u64 = 4096;

/// First and last address of the interrupt range: never translated on input, a fault on output (VT-d 5.10, section 3.15;
/// R43).
pub(crate) const INTERRUPTS: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

/// True if an address from `first` to `last` lies in the interrupt range.
pub(crate) const fn meets_interrupts(first: u64, last: u64) -> bool {
    first <= INTERRUPTS.1 && INTERRUPTS.0 <= last
}

/// True if `value` is a multiple of [`PAGE_BYTES`].
pub(crate) const fn is_page_aligned(value: u64) -> bool {
    value.is_multiple_of(PAGE_BYTES)
}
