//! What a change has to keep to: one rule a file. A rule looks at the configuration as it is to be, and at nothing else.
#![forbid(unsafe_code)]

pub(super) mod admission;
pub(super) mod groups;
pub(super) mod interrupts;
pub(super) mod outputs;
pub(super) mod overlap;
pub(super) mod reserved_owners;
pub(super) mod room;
pub(super) mod root_cell;
pub(super) mod windows;
