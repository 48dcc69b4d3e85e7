//! How much the driver can hold: the defaults of the capacities that its user may choose.
//!
//! The driver allocates nothing but the hardware's own tables, so everything else has a fixed capacity. A full one is a
//! typed error, [`Full`].
#![forbid(unsafe_code)]

use core::fmt;

/// Remapping units: enough for a four-socket server.
pub const UNITS: usize = 64;
/// Device scopes of all structures of the firmware's table together.
pub const SCOPES: usize = 1024;
/// Reserved memory regions of the firmware's table.
pub const RESERVED: usize = 64;
/// Cells that exist at a time.
pub const CELLS: usize = 16;
/// Regions of one cell.
pub const REGIONS: usize = 64;
/// Devices assigned at a time, in all cells together.
pub const DEVICES: usize = 256;
/// Devices with a device-TLB at a time, behind one remapping unit; those that a change releases are among them until it
/// is committed.
pub const DEVICE_TLBS: usize = 32;
/// Devices whose faults are counted one by one, behind one remapping unit.
pub const FAULTING_DEVICES: usize = 16;
/// Windows of bridges that matter to a device, and to all that are assigned at a time
/// ([`BridgeWindow`](crate::topology::BridgeWindow)).
pub const WINDOWS: usize = 32;
/// Edits of one change.
pub const EDITS: usize = 64;
/// Different page tables of one cell: one for each combination of attributes that its devices need.
pub const DOMAINS: usize = 4;

/// A fixed capacity is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// What there is no room for.
    pub what: &'static str,
    /// How many there can be.
    pub capacity: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room for more {}: the capacity is {}", self.what, self.capacity)
    }
}

impl core::error::Error for Full {}
