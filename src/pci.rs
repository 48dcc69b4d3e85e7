//! What is read of the configuration space of PCI functions, and the few bits that are written there.
//!
//! Nothing in it is trusted: capability lists may loop, lead nowhere or read as all ones, so each walk is bounded, and what
//! makes no sense is not there.

mod acs;
mod alias;
mod ats;
mod bridge;
mod capability;
mod command;
mod config_space;
mod cxl;
mod express;
mod header;
mod msi;
mod msi_x;
mod reset;
mod resizable;
mod sr_iov;
mod window;

pub(crate) use acs::{isolate_all, isolate_bus, isolates};
pub(crate) use alias::{alias, functions_with_alias};
pub(crate) use ats::Ats;
pub(crate) use bridge::{Above, Bridge, bridge, bridges_on, has_extended_functions};
pub(crate) use command::stop_bus_master;
pub use config_space::{ConfigSpace, NoConfigSpace};
pub(crate) use cxl::caches_memory;
pub(crate) use express::{PortType, express_register, is_unplugged, port_type};
pub(crate) use header::{
    functions_behind, functions_in, functions_of, functions_on, identity, is_any_bridge, is_bridge, is_display_or_usb,
    is_gone, is_there,
};
pub(crate) use msi::program_msi;
pub use msi_x::MsiXTable;
pub(crate) use msi_x::{msi_x_table, program_msi_x};
pub(crate) use reset::{RESET_NS, Reset, pending};
pub(crate) use sr_iov::{is_virtual_function_of, physical_function};
pub(crate) use window::windows;
