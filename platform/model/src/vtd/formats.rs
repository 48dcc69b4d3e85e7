//! Structures of the specification: their fields, and the bits that are reserved in them.
#![forbid(unsafe_code)]

pub(crate) mod capability;
pub(crate) mod descriptor;
pub(crate) mod entry;
pub(crate) mod interrupt_entry;
