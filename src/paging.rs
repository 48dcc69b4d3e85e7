//! Page tables: one walker for many entry formats.
//!
//! A table belongs to no unit: what an edit changed is told as a `Change`, and its user tells the hardware.

mod change;
mod check;
mod format;
mod needs;
mod table;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use check::MapError;
pub(crate) use check::check;
pub(crate) use format::page_bytes;
pub use format::{Entry, Format, Shape};
pub use table::{PageTable, Spare};
