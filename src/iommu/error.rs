#![forbid(unsafe_code)]

use core::fmt;

use super::NoDeviceTlb;
use crate::addr::{Iova, IovaRange, Region, SourceId};
use crate::cell::{CellId, RegionError};
use crate::error::UnitError;
use crate::firmware;
use crate::hal::{NoFrame, Window};
use crate::limits::Full;
use crate::paging::MapError;
use crate::topology::BridgeWindow;

/// Why a device is not given to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its interrupts are not remapped, and the cell does not allow that.
    UnsafeInterrupts,
    /// Firmware reserves this memory for it, which it would have to reach in every cell; but this cell has memory at the
    /// same input addresses, and not [the same](crate::CellConfig::allow_identical_reserved).
    ReservedMemory(Region),
    /// The firmware's table names no unit for it, and part of the table could not be read: the unit that takes all the rest
    /// may not be its own.
    UncertainUnit,
    /// It is not to have a device-TLB, but does not work without: firmware says so, or it caches memory by CXL.cache.
    NeedsDeviceTlb,
    /// It is to have a device-TLB, but cannot.
    NoDeviceTlb(NoDeviceTlb),
    /// Its requests cannot be told from those of this device, which belongs to another cell, stays where it was, or needs
    /// another page table.
    SharesRequester(SourceId),
    /// Its requests may reach these devices without passing a remapping unit, or theirs may reach it, and they belong to
    /// other cells ([`Group`](crate::topology::Group)).
    SharesGroup(Others),
    /// It cannot be reset, as its cell has it when it leaves.
    NoReset,
    /// Configuration space does not show it, so nobody can tell what its group is, and the cell does not allow that.
    UnknownIsolation,
    /// The cell has memory, or firmware reserves some for it, where its requests do not pass a unit.
    Window(BridgeWindow),
    /// Its requests may pass this source-id's unit, which is not its own.
    SeveralUnits(SourceId),
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
            Self::UncertainUnit => f.write_str("the table names no unit for it, and part of the table was lost"),
            Self::NeedsDeviceTlb => f.write_str("it does not work without a device-TLB, which it is not to have"),
            Self::NoDeviceTlb(reason) => write!(f, "it cannot have a device-TLB: {reason}"),
            Self::SharesRequester(other) => write!(f, "its requests cannot be told from those of {other}"),
            Self::SharesGroup(others) => {
                write!(f, "nothing isolates it from {others}, which another cell has")
            }
            Self::NoReset => f.write_str("it cannot be reset when it leaves the cell"),
            Self::UnknownIsolation => f.write_str("configuration space does not tell what isolates it"),
            Self::Window(window) => write!(f, "it cannot reach memory in {window}, where it would have to"),
            Self::SeveralUnits(other) => write!(f, "its requests may come as {other}, which another unit serves"),
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
    pub(super) fn add(&mut self, device: SourceId) {
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

/// Why a device cannot use a table as its cell needs one. Another cell may suit it (C5).
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

/// Why a call of the front failed. The translation is as it was before, unless it is an [`Error::Unit`],
/// [`Error::NotIdle`] or [`Error::NotReset`], whose call says what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The firmware's table cannot be used.
    Firmware(firmware::Error),
    /// A remapping unit failed, or cannot be used.
    Unit(UnitError),
    /// This unit is of a kind that the driver does not know.
    UnknownUnit(Window),
    /// The region cannot be mapped.
    Map(MapError),
    /// A capacity is used up.
    Full(Full),
    /// No frames for page or context tables, or none that the units can address.
    NoFrame(NoFrame),
    /// The front knows its units already.
    Probed,
    /// The units are not switched on.
    NotEnabled,
    /// There is no such cell.
    NoSuchCell(CellId),
    /// No remapping unit serves the device.
    NoSuchDevice(SourceId),
    /// The device belongs to no cell.
    NotAssigned(SourceId),
    /// The device belongs to this cell already.
    Busy {
        /// The device.
        device: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// The device may not be given to this cell.
    Refused {
        /// The device.
        device: SourceId,
        /// Why.
        reason: Refusal,
    },
    /// The device was taken from its cell and is blocked, but still has requests under way that it sent before. It stays
    /// listed in its cell until a release finds it at rest.
    NotIdle {
        /// The device.
        device: SourceId,
        /// The register of its PCI Express capability that says so.
        register: &'static str,
        /// The bit of it.
        bit: &'static str,
        /// How long was waited, in nanoseconds: less than the limit if the platform's clock stood still.
        waited_ns: u64,
    },
    /// The device was taken from its cell and is blocked, but was not reset: it does not answer any more, or cannot be reset
    /// any more although its cell has it. It stays listed in its cell until a release succeeds.
    NotReset {
        /// The device.
        device: SourceId,
        /// How long was waited, in nanoseconds; 0 if it cannot be reset.
        waited_ns: u64,
    },
    /// Another change of one of these cells did not end in time.
    InChange,
    /// The device cannot use a table as this cell needs one: it may suit another cell, or the cell without that memory.
    Incompatible {
        /// The device.
        device: SourceId,
        /// Why.
        reason: Incompatibility,
    },
    /// The root cell's memory is mapped one to one, and this is not.
    NotOneToOne(Region),
    /// This cell is the root cell already.
    RootExists(CellId),
    /// The range is not made of whole 4 KiB pages.
    Misaligned(IovaRange),
    /// The cell has a region there already.
    Overlap(Region),
    /// One of the cell's devices uses this memory, which firmware reserves for it.
    Reserved(Region),
    /// One of the cell's devices cannot reach memory there: its requests do not pass a unit.
    Window(BridgeWindow),
    /// The cell is granted nothing from this address on.
    NotGranted(Iova),
    /// No interrupt has this vector: those below 16 are of the CPU's exceptions.
    Vector(u8),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(error) => error.fmt(f),
            Self::Unit(error) => error.fmt(f),
            Self::UnknownUnit(unit) => write!(f, "unit {unit}: AMD-Vi, which is not driven yet"),
            Self::Map(error) => error.fmt(f),
            Self::Full(full) => full.fmt(f),
            Self::NoFrame(reason) => reason.fmt(f),
            Self::Probed => f.write_str("the front knows its remapping units already"),
            Self::NotEnabled => f.write_str("the remapping units are not switched on"),
            Self::NoSuchCell(cell) => write!(f, "there is no {cell}"),
            Self::NoSuchDevice(device) => write!(f, "no remapping unit serves {device}"),
            Self::NotAssigned(device) => write!(f, "{device} belongs to no cell"),
            Self::Busy { device, cell } => write!(f, "{device} belongs to {cell} already"),
            Self::Refused { device, reason } => write!(f, "{device} is refused: {reason}"),
            Self::Incompatible { device, reason } => write!(f, "{device} does not fit this cell: {reason}"),
            Self::NotIdle { device, register, bit, waited_ns } => {
                write!(f, "{device}: {register}.{bit} did not clear within {} ms", waited_ns / 1_000_000)
            }
            Self::NotReset { device, waited_ns } => {
                write!(f, "{device} was not reset within {} ms", waited_ns / 1_000_000)
            }
            Self::InChange => f.write_str("another change of the same cell did not end in time"),
            Self::NotOneToOne(region) => write!(f, "{region} is not one to one, as all memory of the root cell is"),
            Self::RootExists(cell) => write!(f, "{cell} is the root cell already"),
            Self::Misaligned(range) => write!(f, "{range} is not made of whole 4 KiB pages"),
            Self::Overlap(region) => write!(f, "the cell has {region} there already"),
            Self::Reserved(region) => write!(f, "firmware reserves {region} for a device of the cell"),
            Self::Window(window) => write!(f, "a device of the cell cannot reach memory in {window}"),
            Self::NotGranted(at) => write!(f, "the cell is granted nothing at {at}"),
            Self::Vector(vector) => write!(f, "{vector} is the vector of an exception, and no interrupt's"),
        }
    }
}

impl core::error::Error for Error {}

impl From<firmware::Error> for Error {
    fn from(error: firmware::Error) -> Self {
        Self::Firmware(error)
    }
}

impl From<UnitError> for Error {
    fn from(error: UnitError) -> Self {
        Self::Unit(error)
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoFrame(reason) => Self::NoFrame(reason),
            error => Self::Map(error),
        }
    }
}

impl From<NoFrame> for Error {
    fn from(reason: NoFrame) -> Self {
        Self::NoFrame(reason)
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl From<RegionError> for Error {
    fn from(error: RegionError) -> Self {
        match error {
            RegionError::Overlap(region) => Self::Overlap(region),
            RegionError::NotGranted(at) => Self::NotGranted(at),
            RegionError::Full(full) => Self::Full(full),
        }
    }
}
