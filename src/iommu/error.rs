#![forbid(unsafe_code)]

mod brief;
mod code;
mod owner;
mod refusal;
mod unblocked;
mod unroutable;

use core::fmt;

use crate::addr::{Iova, IovaRange, PhysRange, Region, SourceId};
use crate::cell::{CellId, RegionError};
use crate::error::UnitError;
use crate::firmware;
use crate::hal::{NoFrame, RegisterWindow};
use crate::interrupt::Source;
use crate::limits::Full;
use crate::paging::MapError;
use crate::topology::BridgeWindow;

pub(super) use brief::{Asleep, NoSuchCell, StaysLocked};
pub use owner::Owner;
pub use refusal::{Incompatibility, NoDeviceTlb, Others, Refusal};
pub use unblocked::Unblocked;
pub use unroutable::{NotRemapped, Unroutable};

/// Why a call of the front failed. The translation is as it was before, unless it is an [`Error::Unit`],
/// [`Error::NotIdle`] or [`Error::NotReset`], whose call says what is left. [`Iommu::commit_reporting`] names it, and the front
/// lists it: [`Iommu::withheld`], [`Iommu::assigned`], [`Iommu::regions`], [`Iommu::coherency_changes`], and
/// [`needs_flush`](super::RemappingUnit) of each unit.
///
/// [`Iommu::commit_reporting`]: super::Iommu::commit_reporting
/// [`Iommu::withheld`]: super::Iommu::withheld
/// [`Iommu::assigned`]: super::Iommu::assigned
/// [`Iommu::regions`]: super::Iommu::regions
/// [`Iommu::coherency_changes`]: super::Iommu::coherency_changes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The firmware's table cannot be used.
    Firmware(firmware::TableError),
    /// A remapping unit failed, or cannot be used.
    Unit(UnitError),
    /// This unit is of a kind that the driver does not know.
    UnknownUnit(RegisterWindow),
    /// The region cannot be mapped.
    Map(MapError),
    /// A capacity is used up.
    Full(Full),
    /// No frames for page or context tables, or none that the units can address.
    NoFrame(NoFrame),
    /// The front knows its units already.
    Probed,
    /// The front knows of no unit: no firmware's table was read yet.
    NotProbed,
    /// All units are on, but devices are left that nothing blocks.
    Unblocked(Unblocked),
    /// The units are not switched on, and not even [prepared](super::Iommu::prepare); or, for a device-TLB, that alone.
    NotEnabled,
    /// No unit with these registers is out of service.
    InService(RegisterWindow),
    /// The machine is to sleep, or does: [`Iommu::resume`](crate::Iommu::resume) comes first. Nothing changed.
    Asleep,
    /// Part of the table by which this unit was found remapping interrupts cannot be read: [`Hal::word_at`](crate::hal::Hal::word_at)
    /// does not give it.
    Unreadable(RegisterWindow),
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
    /// Another change did not end in time.
    InChange {
        /// A cell that it is about, which this one is about as well, or a device of which it resets. `None` if there are as many
        /// changes as there can be, or the configuration stays locked: by a closure that calls the front although it runs under
        /// that lock.
        cell: Option<CellId>,
    },
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
    /// Another may reach this memory, so the cell is not granted it.
    Owned {
        /// The first part of it that is not free.
        memory: PhysRange,
        /// Who may reach it.
        owner: Owner,
    },
    /// One of the cell's devices uses this memory, which firmware reserves for it.
    Reserved(Region),
    /// One of the cell's devices cannot reach memory there: its requests do not pass a unit.
    Window(BridgeWindow),
    /// The cell is granted nothing from this address on.
    NotGranted(Iova),
    /// No interrupt has this vector: those below 16 are of the CPU's exceptions.
    Vector(u8),
    /// An interrupt is not routed.
    Route {
        /// What sends it.
        source: Source,
        /// Why.
        reason: Unroutable,
    },
    /// Interrupts are not remapped on this machine.
    NotRemapped(NotRemapped),
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
            Self::NotProbed => f.write_str("the front knows of no remapping unit yet"),
            Self::Unblocked(unblocked) => unblocked.fmt(f),
            Self::InService(unit) => write!(f, "no unit {unit} is out of service"),
            Self::Unreadable(unit) => {
                write!(f, "part of the table of interrupts that unit {unit} has cannot be read (Hal::word_at)")
            }
            Self::Asleep => f.write_str("the machine is to sleep, and was not resumed (Iommu::resume)"),
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
            Self::InChange { cell: Some(cell) } => write!(f, "another change of {cell} did not end in time"),
            Self::InChange { cell: None } => {
                f.write_str("the configuration, or all slots for changes, were in use for too long")
            }
            Self::NotOneToOne(region) => write!(f, "{region} is not one to one, as all memory of the root cell is"),
            Self::RootExists(cell) => write!(f, "{cell} is the root cell already"),
            Self::Misaligned(range) => write!(f, "{range} is not made of whole 4 KiB pages"),
            Self::Overlap(region) => write!(f, "the cell has {region} there already"),
            Self::Owned { memory, owner } => write!(f, "{memory} is not free: {owner}"),
            Self::Reserved(region) => write!(f, "firmware reserves {region} for a device of the cell"),
            Self::Window(window) => write!(f, "a device of the cell cannot reach memory in {window}"),
            Self::NotGranted(at) => write!(f, "the cell is granted nothing at {at}"),
            Self::Vector(vector) => write!(f, "{vector} is the vector of an exception, and no interrupt's"),
            Self::Route { source, reason } => write!(f, "{source}: {reason}"),
            Self::NotRemapped(reason) => write!(f, "interrupts are not remapped: {reason}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<firmware::TableError> for Error {
    fn from(error: firmware::TableError) -> Self {
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
