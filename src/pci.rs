//! What is read of the configuration space of PCI functions.
//!
//! Nothing in it is trusted: capability lists may loop, lead nowhere or read as all ones, so each walk is bounded, and what
//! makes no sense is not there.

mod bridge;
mod capability;
mod config_space;
mod express;
mod header;
mod sr_iov;

pub(crate) use bridge::{Bridge, bridge, bridges_above, has_extended_functions};
pub use config_space::{ConfigSpace, NoConfigSpace};
pub(crate) use express::{PortType, express_register, port_type};
pub(crate) use header::is_there;
pub(crate) use sr_iov::is_virtual_function_of;
