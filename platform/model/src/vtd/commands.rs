//! What a driver has a unit do.
#![forbid(unsafe_code)]

pub(crate) mod command;
pub(crate) mod device_tlb;
pub(crate) mod queue;
pub(crate) mod register_based;
