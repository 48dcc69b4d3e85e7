//! The entries of legacy mode, 128 bits each.
#![forbid(unsafe_code)]

pub(super) mod context_entry;
pub(super) mod root_entry;
