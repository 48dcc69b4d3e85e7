//! What a driver has a unit do, and when that is done.
#![forbid(unsafe_code)]

pub(crate) mod command;
pub(crate) mod device_tlb;
pub(crate) mod protected;
pub(crate) mod queue;
pub(crate) mod register_based;
pub(crate) mod run;
