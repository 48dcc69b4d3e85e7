//! One Intel VT-d remapping unit in legacy mode, from the specification of revision 5.10 (`S` in this floor).

mod capabilities;
mod command;
mod context_entry;
mod cover;
mod descriptor;
mod fault;
mod fault_event;
mod fault_reason;
mod flush;
mod invalidation;
mod protected;
mod queue;
mod queue_alone;
mod quirks;
mod register_based;
mod registers;
mod root_entry;
mod second_stage;
mod sync;
#[cfg(test)]
mod tests;
mod unit;

pub use capabilities::Capabilities;
pub use fault::{Access, Fault, FaultLog};
pub use fault_event::Destination;
pub use fault_reason::FaultReason;
pub(crate) use flush::Flush;
pub(crate) use invalidation::DeviceTlb;
use invalidation::Invalidation;
pub use protected::MainMemory;
#[doc(hidden)]
pub use queue_alone::QueueAlone;
pub(crate) use quirks::of_machine as quirks_of_machine;
pub use quirks::{Effect, Quirk};
#[doc(hidden)]
pub use second_stage::SecondStage;
pub use unit::UnitState;
pub(crate) use unit::{Translation, Unit};
