//! Interrupt remapping (S 5.1): the table of a unit, and what is programmed into sources so that they name its entries.
#![forbid(unsafe_code)]

mod entry;
mod posted;
mod source;
mod table;

pub use posted::PostedDescriptor;
pub(super) use source::{message, redirection};
pub(super) use table::{InterruptTable, at, pointer};
