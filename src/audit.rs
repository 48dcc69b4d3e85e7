//! The audit: what the live tables of a unit let each source-id reach, read as hardware reads them, and how that differs
//! from what is granted.
//!
//! It starts from a unit's registers and shares no code and no bit definition with what writes the tables. The readers of
//! live tables lie in this folder, a folder a vendor, and are declared in `lib.rs` as `live`: this file names no vendor.

mod compare;
mod difference;
mod findings;
mod reach;

pub(crate) use compare::Comparison;
pub use difference::Difference;
pub(crate) use findings::Findings;
pub use reach::Reach;

pub(crate) use crate::live::{
    Ignored, LiveInterrupt, LiveInterrupts, LiveRegisters, LiveTables, LiveTarget, Mode, Seen,
};
