//! The memory of the machine: the driver's frames, as the CPU and as units see them, and the memory of cells.

pub(crate) mod arena;
pub(crate) mod frames;
pub(crate) mod lines;
pub(crate) mod ram;
