//! What is behind the units: functions, bridges, and what a device does by itself.
#![forbid(unsafe_code)]

pub(crate) mod acs;
pub(crate) mod all;
pub(crate) mod bridge;
pub(crate) mod buses;
pub(crate) mod endpoint;
pub(crate) mod function;
pub(crate) mod late;
pub(crate) mod peers;
pub(crate) mod reset;
pub(crate) mod scope;
pub(crate) mod tlb;
