//! How a request finds its way through the tables.
#![forbid(unsafe_code)]

pub(crate) mod device_tlb;
pub(crate) mod tables;
pub(crate) mod translate;
pub(crate) mod view;
