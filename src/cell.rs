//! A cell's view: the memory that its devices may reach, and the domains that give it to them.

mod regions;

pub(crate) use regions::{RegionError, Regions};

use crate::domain::Domain;
use crate::limits;

/// Which cell: valid from its creation until it is destroyed. The handle of a destroyed cell never names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellId {
    pub(crate) index: u16,
    /// Counts the cells that were ever made.
    pub(crate) generation: u32,
}

impl core::fmt::Display for CellId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cell {}", self.index)
    }
}

/// What a cell is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellConfig {
    /// Devices may be assigned although their interrupts are not remapped, so that a device can send any interrupt to any
    /// CPU. Without it, such a device is refused.
    pub allow_unsafe_interrupts: bool,
}

/// A cell.
#[derive(Debug)]
pub(crate) struct Cell {
    pub generation: u32,
    pub config: CellConfig,
    pub regions: Regions,
    /// One for each combination of attributes that its devices need; each has at least one device.
    pub domains: heapless::Vec<Domain, { limits::DOMAINS }>,
}

impl Cell {
    pub(crate) fn new(generation: u32, config: CellConfig) -> Self {
        Self { generation, config, regions: Regions::new(), domains: heapless::Vec::new() }
    }
}
