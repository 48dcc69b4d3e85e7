//! What is measured: the same work done by cofferdam, by its peers, and by nothing but the stores.
//!
//! One [`job()`] is one piece of work by one contender, made ready. `times.rs` runs it against the clock, `counts.rs` under
//! an emulator that counts instructions. All contenders take their frames from one [`pool`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark")]

pub mod driver;
pub mod job;
pub mod ours;
pub mod peers;
pub mod pool;
pub mod stub;
pub mod tables;

pub use job::{Job, job};
