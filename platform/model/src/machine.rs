//! What a test holds: the machine, the seam that the driver sees of it, its clock, and what it can break.

mod assembly;
mod breaks;
mod clock;
pub(crate) mod config;
mod devices;
mod dmar;
mod look;
mod requests;
mod seam;
mod state;
mod verdict;

pub use assembly::Machine;
