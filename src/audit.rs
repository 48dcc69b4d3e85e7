//! The audit: what the live tables of a unit let each source-id reach, read as hardware reads them, and how that differs
//! from what is granted.
//!
//! It starts from a unit's registers and shares no code and no bit definition with what writes the tables: its own are from
//! the specification, revision 5.10 (`S` in this floor). It knows tables of legacy mode, and says so where it finds others.

mod compare;
mod context_entry;
mod crossing;
mod difference;
mod registers;
mod root_entry;
mod second_stage;
mod tables;
mod walk;

pub(crate) use compare::Comparison;
pub(crate) use context_entry::Target;
pub(crate) use crossing::{owned, unowned};
pub use difference::Difference;
pub(crate) use registers::{Mode, Registers};
pub(crate) use tables::{LiveTables, Seen};

use core::fmt;

use crate::addr::{Region, SourceId};

/// Memory that a source-id reaches by the live tables: a range that nothing continues with the same rights and snooping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Who.
    pub source: SourceId,
    /// Where its requests lead, and what they may do.
    pub region: Region,
    /// Its requests snoop the CPU's caches, whatever it asks for (SNP, S 3.10).
    pub snoop: bool,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snoop = if self.snoop { ", snooped" } else { "" };
        write!(f, "{}: {}{snoop}", self.source, self.region)
    }
}

/// Bits from the host address width on, which are reserved in every pointer of a table (S 9.1, 9.3).
const fn above(host_bits: u8) -> u64 {
    match u64::MAX.checked_shl(host_bits as u32) {
        Some(bits) => bits,
        None => 0,
    }
}
