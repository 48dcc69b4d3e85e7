//! Memory: which of it is free, how the CPU sees it, and who has it.

mod block;
mod carve;
mod frames;
mod identity;

pub use block::Block;
pub(crate) use carve::carve;
pub(crate) use frames::{Frames, PAGE, allocate_zeroed};
pub(crate) use identity::{IdentityMap, LOW};
