//! The front: one [`Iommu`] is all the remapping units of a machine, and the cells that they keep apart.

mod bring_up;
mod change;
mod device;
mod edit;
mod error;
mod forget;
mod found;
mod front;
mod hand_back;
mod isolation;
mod lock;
mod memory;
mod options;
mod probe;
mod probed;
mod queries;
mod remapping;
mod rules;
mod sleep;
mod state;
mod transaction;
mod unit_lock;

pub use crate::audit::{Difference, Reach};
pub use crate::contract::{
    DeviceTlbFeatures, DomainId, Features, InterruptFeatures, MainMemory, TableFormat, TableOfInterrupts, UnitState,
};
pub use crate::paging::{Geometry, Hole, MapError};
pub use crate::pci::MsiXTable;
pub use crate::unit::UnitDetails;
pub use edit::{DeviceConfig, Edit};
pub use error::{Error, Incompatibility, NoDeviceTlb, NotRemapped, Others, Owner, Refusal, Unblocked, Unroutable};
pub use found::FoundInterrupt;
pub use front::Iommu;
pub use options::Options;
pub use queries::{
    AssignedDevice, AtsInfo, Audit, DeviceInfo, Remains, RemappingUnit, RoutedInterrupt, SharedMemory, Statistics,
    WithheldMemory,
};
pub use transaction::Committed;
