//! What is known of a board.

use std::{mem::MaybeUninit, ops::Range};

use anyhow::{Context, Result};
use cofferdam::topology::{ConfigSpace, Topology};

use super::{config::Id, mistakes::range};
use crate::{
    inspect::{Input, limits},
    report::{Contents, ReportedFunction, ReportedUnit},
};

/// A board's table, its configuration space, if there is one, and its report, if there is one.
pub(super) struct Board<'b, C> {
    pub(super) topology: Topology<'b>,
    pub(super) space: &'b C,
    pub(super) report: Option<&'b Contents>,
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
        Ok(Self { topology, space, report: None })
    }

    /// The same board, whose report is known.
    pub(super) fn with(self, report: Option<&'b Contents>) -> Self {
        Self { report, ..self }
    }

    /// What the report says of a function.
    pub(super) fn reported(&self, id: Id) -> Option<&'b ReportedFunction> {
        self.report?.function(id.0)
    }

    /// What the report says of the unit that serves a function.
    pub(super) fn unit_of(&self, id: Id) -> Option<&'b ReportedUnit> {
        self.report?.unit(self.reported(id)?.unit?)
    }

    /// Memory that firmware reserves for a function: as the report says, which knows what is behind bridges, or as the table
    /// does.
    pub(super) fn reserved(&self, id: Id) -> Vec<Range<u64>> {
        if let Some(function) = self.reported(id) {
            let bytes = |(first, last): &(u64, u64)| last.checked_sub(*first)?.checked_add(1);
            return function.uses.iter().filter_map(|uses| range(uses.0, bytes(uses)?)).collect();
        }
        let all = self.topology.reserved(self.space, id.0).map(|memory| memory.region.input);
        all.filter_map(|input| range(input.start().as_u64(), input.bytes())).collect()
    }
}
