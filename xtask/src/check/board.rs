//! What is known of a board.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};
use cofferdam::topology::{ConfigSpace, Topology};

use crate::inspect::{Input, limits};

/// A board's table, and its configuration space, if there is one.
pub(super) struct Board<'b, C> {
    pub(super) topology: Topology<'b>,
    pub(super) space: &'b C,
}

/// Room for what a table holds.
pub(super) fn memory(input: &Input) -> Vec<MaybeUninit<u64>> {
    vec![MaybeUninit::uninit(); limits(&input.table).words()]
}

impl<'b, C: ConfigSpace> Board<'b, C> {
    /// # Errors
    ///
    /// The table cannot be used.
    pub(super) fn read(input: &Input, memory: &'b mut [MaybeUninit<u64>], space: &'b C) -> Result<Self> {
        let topology = Topology::read(memory, &limits(&input.table), &input.table, space, |_| ());
        let topology =
            topology.with_context(|| format!("{} describes no board that can be partitioned", input.name))?;
        Ok(Self { topology, space })
    }
}
