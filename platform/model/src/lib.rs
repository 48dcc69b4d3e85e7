//! A model of remapping hardware, stricter than silicon, for host tests.
//!
//! A [`Machine`] is a [`Hal`](cofferdam::hal::Hal): the driver runs on it unchanged. It is written from the VT-d
//! specification (revision 5.10) alone and shares no bit definition with the driver.

mod arena;
mod device;
mod journal;
mod machine;
mod memory;
mod preset;
mod ram;
mod random;
pub mod rules;
mod unit;
mod violation;

pub use device::{Answer, GIVES_UP_NS};
pub use machine::Machine;
pub use preset::{Config, UnitConfig};
pub use unit::{Defect, Fault, Reason};
pub use violation::Violation;
