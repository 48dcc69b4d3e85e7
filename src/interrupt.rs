//! Interrupts, whoever made the unit that sends or remaps them: what sends one, where it goes, and what is programmed for that.

mod course;
mod message;
mod posting;
mod route;
mod senders;
mod slots;
mod source;
mod targets;

pub(crate) use course::Course;
pub use course::FoundCourse;
pub use message::{Destination, FaultEvent, Message};
pub use posting::Posting;
pub use route::{Cpus, Delivery, Route, Trigger};
pub(crate) use senders::Senders;
pub(crate) use slots::{SlotBlock, SlotTable};
pub use source::Source;
pub use targets::{CpuSet, InterruptTargets, VectorSet};
