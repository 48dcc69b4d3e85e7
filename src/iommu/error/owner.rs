#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::SourceId;
use crate::cell::CellId;
use crate::hal::RegisterWindow;

/// Who may reach memory, so that nobody else is granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// A cell that has it mapped. Two cells may have it if both map it as [shared](crate::iommu::Edit::MapShared).
    Cell(CellId),
    /// A device for which firmware reserves it, while a cell has the device. Others may have it if that cell
    /// [allows it](crate::CellConfig::allow_shared_reserved), and they map it as shared or allow the same.
    Reserved {
        /// The device.
        device: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// A cell whose devices may still reach it: it was taken from that cell in a change that a unit did not confirm. It is
    /// free as soon as the unit has confirmed a later change.
    Withheld(CellId),
    /// A remapping unit: these are its registers.
    Registers(RegisterWindow),
    /// The platform, which [keeps it for itself](crate::hal::Hal::own_memory): frames of the driver's tables, or other memory
    /// of the hypervisor.
    Platform,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell(cell) => write!(f, "{cell} has it, and not both have it mapped as shared"),
            Self::Reserved { device, cell } => write!(f, "firmware reserves it for {device} of {cell}"),
            Self::Withheld(cell) => {
                write!(f, "devices of {cell} may still reach it, until a unit that failed confirms a change")
            }
            Self::Registers(unit) => write!(f, "it has registers of unit {unit}"),
            Self::Platform => f.write_str("the platform keeps it for itself"),
        }
    }
}
