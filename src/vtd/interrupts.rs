//! Interrupt remapping (S 5.1): the table of a unit, and what is programmed into sources so that they name its entries.
#![forbid(unsafe_code)]

mod entry;
mod source;
mod table;

pub(super) use source::{message, redirection};
pub(super) use table::{InterruptTable, at, pointer};
