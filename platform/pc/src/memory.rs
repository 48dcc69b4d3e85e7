//! Memory: which of it is free, how the CPU sees it, and who has it.

mod block;
mod frames;
mod identity;
mod owners;

pub use block::Block;
pub(crate) use frames::{Frames, PAGE, allocate_zeroed};
pub(crate) use identity::{IdentityMap, LOW};
pub(crate) use owners::{carve, first_in_use, is_for_tables, is_free, is_free_at_boot, is_memory};
