//! One Intel VT-d remapping unit in legacy mode, from the specification of revision 5.10 (`S` in this layer).

mod bring_up;
mod capabilities;
mod command;
mod condition;
mod counters;
mod faults;
mod former;
mod interrupts;
pub(crate) mod invalidation;
mod protected;
mod quirks;
mod registers;
pub(crate) mod second_stage;
mod sleep;
mod stop;
mod sync;
mod tables;
mod unit;

pub use capabilities::Capabilities;
pub use faults::FaultReason;
pub use interrupts::PostedDescriptor;
pub(crate) use invalidation::list::CommandList;
pub use quirks::{Effect, Quirk, of_machine as quirks_of_machine};
pub(crate) use second_stage::SecondStage;
pub(crate) use unit::{VtdBegun, VtdUnit};
