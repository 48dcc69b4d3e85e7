//! The registers, as a driver reads and writes them.
#![forbid(unsafe_code)]

pub(crate) mod access;
pub(crate) mod offset;
pub(crate) mod read;
pub(crate) mod write;
