#![forbid(unsafe_code)]

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
