//! What AMD-Vi units read, from the specification 48882 ("AMD I/O Virtualization Technology").
//!
//! No unit is driven yet: there are page tables, and nothing that leads to them.

mod v1;

#[doc(hidden)]
pub use v1::V1;
