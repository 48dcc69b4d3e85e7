//! What the tests and benchmarks share: machines of the model and fronts over them, firmware's tables, random numbers, and
//! what calls cost.
//!
//! Nothing here is linked into the driver. Each function panics where a test would fail.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

pub mod cost;
pub mod device;
pub mod front;
pub mod machine;
pub mod random;
pub mod stop;
pub mod tables;
pub mod watched;
