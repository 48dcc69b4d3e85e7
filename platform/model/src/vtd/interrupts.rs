//! Interrupt remapping.
#![forbid(unsafe_code)]

pub(crate) mod cache;
mod post;
pub(crate) mod remap;
pub(crate) mod table;
