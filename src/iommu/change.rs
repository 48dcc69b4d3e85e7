//! Changes: edits that take effect together, or not at all.
#![forbid(unsafe_code)]

use core::fmt;

use heapless::Vec;

use super::{DeviceConfig, Error, Iommu};
use crate::addr::{IovaRange, Region, Rights, SourceId};
use crate::cell::CellId;
use crate::domain::Coherency;
use crate::hal::Hal;
use crate::limits::{self, Full};

/// One edit, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    Map(CellId, Region),
    MapShared(CellId, Region),
    Unmap(CellId, IovaRange),
    Protect(CellId, IovaRange, Rights),
    Assign(CellId, SourceId, DeviceConfig),
    Release(SourceId),
    Destroy(CellId),
}

impl Edit {
    /// The cell that it names.
    pub(super) fn cell(&self) -> Option<CellId> {
        match *self {
            Self::Map(cell, _) | Self::MapShared(cell, _) => Some(cell),
            Self::Unmap(cell, _) | Self::Protect(cell, ..) => Some(cell),
            Self::Assign(cell, ..) | Self::Destroy(cell) => Some(cell),
            Self::Release(_) => None,
        }
    }
}

/// Edits of cells and devices, collected until [`commit`](Self::commit); made by [`Iommu::change`].
///
/// They are taken as if one came after the other, but only what they amount to reaches the tables: memory that is taken
/// away and granted again just so is not touched. Each unit is told once of all that is taken away, and only then is
/// anything granted, so memory and devices may move from one cell to another within a change.
#[must_use = "nothing is changed before it is committed"]
pub struct Change<'i, H, const UNITS: usize, const CELLS: usize, const DEVICES: usize> {
    iommu: &'i Iommu<H, UNITS, CELLS, DEVICES>,
    edits: Vec<Edit, { limits::EDITS }>,
}

/// What a change did beside what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<const CELLS: usize> {
    pub(super) coherency: Vec<(CellId, Coherency), CELLS>,
}

impl<const CELLS: usize> Committed<CELLS> {
    /// The cells whose coherency is another than before, and what it is now: the hypervisor honours WBINVD and guest memory
    /// types in such a cell, or need not any more. A cell that is gone is not among them.
    pub fn coherency_changes(&self) -> &[(CellId, Coherency)] {
        &self.coherency
    }
}

impl<'i, H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Change<'i, H, UNITS, CELLS, DEVICES> {
    fn with(&mut self, edit: Edit) -> Result<&mut Self, Error> {
        let full = Full { what: "edits in this change", capacity: limits::EDITS };
        self.edits.push(edit).map_err(|_| full)?;
        Ok(self)
    }

    /// Grants a cell's devices, present and future, a region of memory, which the
    /// [root cell](Iommu::create_root_cell) loses as long as they have it. How wide addresses may be follows from the
    /// devices: that is checked for those that the cell has, and for others when they are assigned; so is whether requests
    /// to that memory reach a remapping unit at all ([`BridgeWindow`](crate::topology::BridgeWindow)). Which memory can be
    /// mapped at all, [`Region`] tells.
    ///
    /// # Errors
    ///
    /// The change has as many edits as it can ([`EDITS`](limits::EDITS)), as with each of these methods: [`Error::Full`]. Those
    /// that it has stay, so it can be committed or dropped. Whether an edit can be made, only [`commit`](Self::commit) tells.
    pub fn map(&mut self, cell: CellId, region: Region) -> Result<&mut Self, Error> {
        self.with(Edit::Map(cell, region))
    }

    /// As [`map`](Self::map), but the root cell keeps what it has of this memory, with its own rights: a buffer between the
    /// two, for example, or memory that the root cell fills before the cell begins.
    ///
    /// This takes nothing from the root cell and gives it nothing, so it need not have the memory. It loses it all the same
    /// if some cell [maps](Self::map) the same memory for itself. To end the sharing only, unmap the range and map it again
    /// in one change: the cell's own devices go on meanwhile. For the root cell itself this is `map`.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn map_shared(&mut self, cell: CellId, region: Region) -> Result<&mut Self, Error> {
        self.with(Edit::MapShared(cell, region))
    }

    /// Takes a range away from a cell; it may be part of a region, or of several, but is made of whole 4 KiB pages, and all of
    /// it has to be granted.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn unmap(&mut self, cell: CellId, range: IovaRange) -> Result<&mut Self, Error> {
        self.with(Edit::Unmap(cell, range))
    }

    /// Gives a range of a cell other rights, at least one; it may be part of a region, or of several, but is made of whole
    /// 4 KiB pages, and all of it has to be granted.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn protect(&mut self, cell: CellId, range: IovaRange, rights: Rights) -> Result<&mut Self, Error> {
        self.with(Edit::Protect(cell, range, rights))
    }

    /// Gives a device to a cell: it reaches the cell's memory, with the cell's rights, and nothing else. Its interrupts are
    /// not remapped, so the cell has to [allow that](crate::CellConfig::allow_unsafe_interrupts). What else may stand in its
    /// way, [`Iommu::device_info`] tells before.
    ///
    /// Its bus mastering stays as it is, which is off if it was another cell's before: whoever drives it in its new cell
    /// knows best when it may begin, and switches it on.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn assign(&mut self, device: SourceId, cell: CellId) -> Result<&mut Self, Error> {
        self.assign_with(device, cell, DeviceConfig::default())
    }

    /// As [`assign`](Self::assign), with the device configured as it says.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn assign_with(&mut self, device: SourceId, cell: CellId, config: DeviceConfig) -> Result<&mut Self, Error> {
        self.with(Edit::Assign(cell, device, config))
    }

    /// Takes a device away from its cell. It is blocked, unless the change gives it to another.
    ///
    /// Its ATS is switched off, its entry cleared and flushed, its bus mastering switched off, unless it is a bridge, and what
    /// it has under way awaited; then it is reset, as its cell's [`ResetPolicy`](crate::ResetPolicy) says, which takes 100 ms.
    /// All in this order, and before any other cell has it.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn release(&mut self, device: SourceId) -> Result<&mut Self, Error> {
        self.with(Edit::Release(device))
    }

    /// Takes a cell's devices and memory away and forgets it. Its devices are blocked, unless the change gives them to
    /// another cell. Edits that come after this one cannot name the cell.
    ///
    /// # Errors
    ///
    /// No room.
    pub fn destroy(&mut self, cell: CellId) -> Result<&mut Self, Error> {
        self.with(Edit::Destroy(cell))
    }

    /// Makes all edits take effect. When it returns, no device reaches what was taken from it, no request to that is under
    /// way, and all that was granted is reached.
    ///
    /// Everything is checked and every frame is got before anything is touched, tables that fit are looked for among those
    /// in use, and each unit gets one batch for what is taken away and, only where it caches what is absent, one for what
    /// is granted. Changes of other cells go on meanwhile.
    ///
    /// # Errors
    ///
    /// An edit cannot be made, or there is no room or no frame: nothing changed, no table and no device. The error is that of
    /// one edit, and names what it is about:
    ///
    /// | edit | errors |
    /// |---|---|
    /// | each that names a cell | [`NoSuchCell`](Error::NoSuchCell) |
    /// | map | [`Map`](Error::Map), [`Overlap`](Error::Overlap), [`Reserved`](Error::Reserved), [`NotOneToOne`](Error::NotOneToOne), [`Full`](Error::Full) |
    /// | unmap, protect | [`Misaligned`](Error::Misaligned), [`NotGranted`](Error::NotGranted), [`Full`](Error::Full), [`Map`](Error::Map) for no rights |
    /// | assign | [`NotEnabled`](Error::NotEnabled), [`NoSuchDevice`](Error::NoSuchDevice), [`Busy`](Error::Busy), [`Refused`](Error::Refused), [`Incompatible`](Error::Incompatible), [`Full`](Error::Full), [`Unit`](Error::Unit) if its unit is not on |
    /// | release | [`NotAssigned`](Error::NotAssigned) |
    /// | any | [`NoFrame`](Error::NoFrame) |
    ///
    /// If one of the cells is in another change that does not end in time, [`Error::InChange`]: nothing changed.
    ///
    /// Or a unit failed ([`Error::Unit`]): nothing is granted; what was to be taken away is gone from the tables, but a
    /// device behind that unit may still reach it, so the memory must not be used for anything else; the root cell does not
    /// get it before the cell that had it is destroyed. Its devices that were
    /// to be released stay listed in their cell, and so does a cell that was to be destroyed; the call may be repeated. Its
    /// devices that were to be assigned are listed in their new cell if the unit may have let them in; release them.
    ///
    /// Or a device did not answer an invalidation of its device-TLB ([`UnitError::Device`](crate::error::UnitError)). All
    /// that is said of a unit that failed holds for that device alone: all others that were to be released are. It is fenced:
    /// its context entry blocks it, its ATS and its bus mastering are switched off, it is asked nothing more, and it stays in
    /// its cell until a release succeeds, which needs its answer: reset it before.
    ///
    /// Or a device that was to be released still has requests under way when [`Options::timeout_ns`](super::Options) is
    /// over ([`Error::NotIdle`]): nothing is granted. What was to be taken away is gone, and nothing reaches it; all other
    /// devices that were to be released are. This one stays in its cell, blocked and with its bus mastering off, and its cell
    /// stays, too; the release may be repeated.
    ///
    /// Or it was not reset ([`Error::NotReset`]), and the same holds: it did not answer again when [`Options::timeout_ns`](super::Options)
    /// was over after the 100 ms that a reset takes, or its cell has it reset and it cannot be any more.
    pub fn commit(self) -> Result<Committed<CELLS>, Error> {
        self.iommu.commit(&self.edits)
    }
}

impl<H, const UNITS: usize, const CELLS: usize, const DEVICES: usize> fmt::Debug
    for Change<'_, H, UNITS, CELLS, DEVICES>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("edits", &self.edits).finish_non_exhaustive()
    }
}

/// Changes of one edit.
impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// A change without edits yet. It holds no lock: other changes may come between, and are taken into account when this one
    /// is committed. One that is dropped changes nothing.
    pub fn change(&self) -> Change<'_, H, UNITS, CELLS, DEVICES> {
        Change { iommu: self, edits: Vec::new() }
    }

    /// [`Change::map`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn map(&self, cell: CellId, region: Region) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::Map(cell, region)])
    }

    /// [`Change::map_shared`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn map_shared(&self, cell: CellId, region: Region) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::MapShared(cell, region)])
    }

    /// [`Change::unmap`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn unmap(&self, cell: CellId, range: IovaRange) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::Unmap(cell, range)])
    }

    /// [`Change::protect`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn protect(&self, cell: CellId, range: IovaRange, rights: Rights) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::Protect(cell, range, rights)])
    }

    /// [`Change::assign`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn assign(&self, device: SourceId, cell: CellId) -> Result<Committed<CELLS>, Error> {
        self.assign_with(device, cell, DeviceConfig::default())
    }

    /// [`Change::assign_with`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn assign_with(&self, device: SourceId, cell: CellId, config: DeviceConfig) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::Assign(cell, device, config)])
    }

    /// [`Change::release`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn release(&self, device: SourceId) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::Release(device)])
    }

    /// [`Change::destroy`], alone.
    ///
    /// # Errors
    ///
    /// As for [`Change::commit`].
    pub fn destroy_cell(&self, cell: CellId) -> Result<Committed<CELLS>, Error> {
        self.commit(&[Edit::Destroy(cell)])
    }
}
