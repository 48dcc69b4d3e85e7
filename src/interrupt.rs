//! Interrupts, whoever made the unit that sends or remaps them.
#![forbid(unsafe_code)]

mod message;

pub use message::{Destination, Message};
