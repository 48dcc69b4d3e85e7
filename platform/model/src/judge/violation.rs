//! What the driver did that the specification forbids.
#![forbid(unsafe_code)]

use std::fmt;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the rule, as [`rules`](crate::rules) lists it.
    pub rule: &'static str,
    /// What was done, in one sentence.
    pub what: String,
    /// The last lines of the journal at that time.
    pub journal: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.rule, self.what)?;
        self.journal.lines().try_for_each(|line| writeln!(f, "    {line}"))
    }
}
