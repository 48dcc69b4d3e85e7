//! How long things take, as the machine counts time.
#![forbid(unsafe_code)]

/// Nanoseconds that accesses take.
pub(super) const REGISTER_NS: u64 = 100;
pub(super) const CLOCK_NS: u64 = 20;
/// A pause lasts until something happens, but between these two.
pub(super) const PAUSE_NS: u64 = 40;
pub(super) const LONGEST_PAUSE_NS: u64 = 20_000;
pub(super) const LOAD_NS: u64 = 1;
/// So many loads may pass before time moves on by all of them.
pub(super) const LOADS_AT_ONCE: u64 = 64;
