//! ACPI bytes, checked once and then read through accessors that cannot fail.
//!
//! Knows the two tables that describe remapping hardware, [`dmar`] and [`ivrs`], and what firmware gets wrong in them. It
//! allocates nothing, does not recurse, and takes time in proportion to the table's length. What the structures mean
//! together is the business of [`topology`](crate::topology).
#![forbid(unsafe_code)]

pub mod dmar;
mod error;
mod finding;
pub mod ivrs;
mod table;

pub use error::TableError;
pub use finding::{Finding, Flaw, Severity, Strictness};
pub use table::Header;
