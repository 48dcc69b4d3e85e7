//! Why a device is not given to a cell.
#![forbid(unsafe_code)]

use core::fmt;

use super::Owner;
use crate::addr::{PhysRange, Region, SourceId};
use crate::paging::MapError;
use crate::topology::BridgeWindow;

/// Why a device cannot have a device-TLB ([R48](crate::guide::rules#r48)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDeviceTlb {
    /// Its unit does not support any (ECAP.DT).
    Unit,
    /// Firmware does not list its root port (ATSR), nor the device as one of the SoC with a validated cache (SATC, SIDP).
    Firmware,
    /// It does not have the capability, or the physical function that has it cannot be made out.
    Capability,
    /// It asks for pages larger than 4 KiB: its physical function is set to that (STU).
    PageSize,
    /// It does not have a source-id of its own: it is behind a bridge to conventional PCI, or uses phantom functions.
    SourceId,
}

impl fmt::Display for NoDeviceTlb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "its remapping unit supports none (ECAP_REG.DT)",
            Self::Firmware => "firmware lists neither its root port (ATSR) nor the device (SATC)",
            Self::Capability => "it has no ATS capability",
            Self::PageSize => "it asks for pages larger than 4 KiB",
            Self::SourceId => "it does not have a source-id of its own",
        })
    }
}

/// Why a device is not given to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its interrupts are not remapped, and the cell does not allow that.
    UnsafeInterrupts,
    /// Firmware reserves this memory for it, which it would have to reach in every cell; but this cell has memory at the
    /// same input addresses, and not [the same](crate::CellConfig::allow_identical_reserved).
    ReservedMemory(Region),
    /// Firmware reserves this memory for it, which it would have to reach in every cell; but another may reach that.
    Owned {
        /// The first part of it that is not free.
        memory: PhysRange,
        /// Who may reach it.
        owner: Owner,
    },
    /// Firmware reserves memory for it that cannot be mapped, or that the topology has no room for
    /// ([`Topology::loses_reserved`](crate::topology::Topology::loses_reserved)); and the cell does not leave it out.
    LostReserved,
    /// The firmware's table names no unit for it, and part of the table could not be read: the unit that takes all the rest
    /// may not be its own.
    UncertainUnit,
    /// It is not to have a device-TLB, but does not work without: firmware says so, or it caches memory by CXL.cache.
    NeedsDeviceTlb,
    /// It is to have a device-TLB, but cannot.
    NoDeviceTlb(NoDeviceTlb),
    /// Its requests cannot be distinguished from those of this device, which belongs to another cell, stays where it was,
    /// or needs another page table.
    SharesRequester(SourceId),
    /// Its requests may reach these devices without passing a remapping unit, or theirs may reach it, and they belong to
    /// other cells ([`Group`](crate::topology::Group)).
    SharesGroup(Others),
    /// Firmware reserves memory for it that these devices use, too, all of it or a part, and they belong to other cells. What
    /// helps is one cell for all of them, a cell that [leaves it out](crate::CellConfig::leave_out_relaxable), or cells that
    /// [know](crate::CellConfig::allow_shared_reserved).
    SharesReserved(Others),
    /// It cannot be reset, as its cell has it when it leaves.
    NoReset,
    /// Configuration space does not show it, so its group is unknown, and the cell does not allow that.
    UnknownIsolation,
    /// The cell has memory, or firmware reserves some for it, where its requests do not pass a unit.
    Window(BridgeWindow),
    /// Its requests may pass this source-id's unit, which is not its own.
    SeveralUnits(SourceId),
    /// It could send interrupts that are routed for another cell, or another cell's device its own, in whose name such a message
    /// comes: this one, if it is that.
    SharesInterrupts(Option<SourceId>),
    /// It is to have [messages](crate::iommu::DeviceConfig::messages), and its unit does not remap interrupts.
    NoMessages,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsafeInterrupts => {
                f.write_str("its interrupts are not remapped, and the cell does not allow unsafe interrupts")
            }
            Self::ReservedMemory(region) => {
                write!(f, "firmware reserves {region} for it, where the cell has memory of its own")
            }
            Self::Owned { memory, owner: Owner::Reserved { device, cell } } => {
                write!(f, "firmware reserves {memory} for it, but it is reserved for {device} of {cell}, too")
            }
            Self::Owned { memory, owner } => write!(f, "firmware reserves {memory} for it, but {owner}"),
            Self::LostReserved => f.write_str("firmware reserves memory for it that cannot be mapped"),
            Self::UncertainUnit => f.write_str("the table names no unit for it, and part of the table was lost"),
            Self::NeedsDeviceTlb => f.write_str("it does not work without a device-TLB, which it is not to have"),
            Self::NoDeviceTlb(reason) => write!(f, "it cannot have a device-TLB: {reason}"),
            Self::SharesRequester(other) => write!(f, "its requests cannot be distinguished from those of {other}"),
            Self::SharesGroup(others) => {
                write!(f, "nothing isolates it from {others}, which another cell has")
            }
            Self::SharesReserved(others) => {
                write!(f, "firmware reserves memory for it and for {others}, which another cell has")
            }
            Self::NoReset => f.write_str("it cannot be reset when it leaves the cell"),
            Self::UnknownIsolation => f.write_str("configuration space does not show what isolates it"),
            Self::Window(window) => write!(f, "it cannot reach memory in {window}, where it would have to"),
            Self::SeveralUnits(other) => write!(f, "its requests may come as {other}, which another unit serves"),
            Self::SharesInterrupts(Some(other)) => write!(f, "{other} of another cell could send its interrupts"),
            Self::SharesInterrupts(None) => f.write_str("it could send interrupts of another cell"),
            Self::NoMessages => f.write_str("it is to have messages, and its unit does not remap interrupts"),
        }
    }
}

/// Devices that stand in the way of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    first: [Option<SourceId>; 4],
    count: u16,
}

impl Others {
    pub(in crate::iommu) fn add(&mut self, device: SourceId) {
        if let Some(free) = self.first.iter_mut().find(|name| name.is_none()) {
            *free = Some(device);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The first four of them.
    pub fn first(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.first.iter().copied().flatten()
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.count
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, device) in self.first().enumerate() {
            write!(f, "{}{device}", if number == 0 { "" } else { ", " })?;
        }
        match usize::from(self.count).saturating_sub(self.first.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Why a device cannot use a table as its cell needs one. Another cell may suit it ([C5](crate::guide::rules#c5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incompatibility {
    /// It cannot be made to snoop, and the cell has devices only that are.
    Snoop,
    /// Memory of the cell cannot be mapped for it.
    Map(MapError),
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snoop => f.write_str("it cannot be made to snoop, as the cell's devices have to be"),
            Self::Map(error) => error.fmt(f),
        }
    }
}
