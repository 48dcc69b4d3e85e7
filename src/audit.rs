//! The audit: what the live tables of a unit let each source-id reach, read as hardware reads them, and how that differs
//! from what is granted.
//!
//! It starts from a unit's registers and shares no code and no bit definition with what writes the tables.

mod compare;
mod crossing;
mod difference;
mod vtd;

pub(crate) use compare::Comparison;
pub(crate) use crossing::{owned, unowned};
pub use difference::Difference;
pub(crate) use vtd::{LiveTables, Mode, Registers, Seen, Target};

use core::fmt;

use crate::addr::{Region, SourceId};

/// Memory that a source-id reaches by the live tables: a range that nothing continues with the same rights and snooping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Who.
    pub source: SourceId,
    /// Where its requests lead, and what they may do.
    pub region: Region,
    /// Its requests snoop the CPU's caches, whatever it asks for.
    pub snoop: bool,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snoop = if self.snoop { ", snooped" } else { "" };
        write!(f, "{}: {}{snoop}", self.source, self.region)
    }
}
