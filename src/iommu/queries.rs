//! What can be asked of the front.

mod audit;
mod cells;
mod device_info;
mod faults;
mod input_ranges;
mod interrupts;
mod remains;
mod statistics;
mod unblocked;

pub use audit::{Audit, SharedMemory};
pub use cells::{AssignedDevice, WithheldMemory};
pub use device_info::{AtsInfo, DeviceInfo};
pub use interrupts::RoutedInterrupt;
pub use remains::Remains;
pub use statistics::{RemappingUnit, Statistics};
