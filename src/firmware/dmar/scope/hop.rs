use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// One hop of a path: a device and a function on the bus that the hops before lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Hop {
    /// Device number: 0 to 31.
    pub device: u8,
    /// Function number: 0 to 7.
    pub function: u8,
}
