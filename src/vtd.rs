//! One Intel VT-d remapping unit in legacy mode, from the specification of revision 5.10 (`S` in this layer).

mod bring_up;
mod capabilities;
mod command;
mod counters;
mod faults;
mod invalidation;
mod protected;
mod quirks;
mod registers;
mod second_stage;
mod sync;
mod tables;
mod unit;

pub use capabilities::Capabilities;
pub use faults::FaultReason;
#[doc(hidden)]
pub use invalidation::queue_alone::QueueAlone;
pub use quirks::{Effect, Quirk, of_machine as quirks_of_machine};
#[doc(hidden)]
pub use second_stage::SecondStage;
pub(crate) use unit::{Begun, Unit};
