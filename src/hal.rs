//! The seam to the platform: memory, registers, configuration space and time.
//!
//! A hypervisor implements [`Hal`] once; everything that the driver does to the machine goes through it. It is used by
//! instance, so two machines can live in one process, as they do in tests.

mod cache;
mod cpuid;
mod deadline;
#[cfg(test)]
pub(crate) mod fake;
mod frame_list;
mod frames;
#[cfg(test)]
pub(crate) mod on_model;
mod one_to_one;
mod pair;
mod platform;
mod register_window;
#[cfg(test)]
mod tests;

pub(crate) use deadline::Deadline;
#[doc(hidden)]
pub use frame_list::FrameList;
pub use frames::NoFrame;
pub(crate) use frames::{Frame, Frames, PairStore, Pairs, WORDS};
pub use one_to_one::{Ecam, Kernel, OneToOne};
pub use platform::Hal;
pub use register_window::{MappedRegisters, RegisterWindow};
