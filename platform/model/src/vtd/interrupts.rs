//! Interrupt remapping.
#![forbid(unsafe_code)]

pub(crate) mod cache;
pub(crate) mod remap;
pub(crate) mod table;
