//! Changes: edits that take effect together, or not at all.
#![forbid(unsafe_code)]

use super::edit::{DeviceConfig, Edit};
use super::error::Error;
use super::front::Iommu;
use super::queries::Remains;
use super::state::Config;
use super::transaction::{self, Committed};
use crate::addr::{IovaRange, Region, Rights, SourceId};
use crate::cell::{CellConfig, CellId};
use crate::hal::Hal;
use crate::interrupt::{Posting, Route, Source};

impl<H: Hal> Iommu<'_, H> {
    /// Makes all edits take effect: as if one came after the other, but only what they amount to reaches the tables, so
    /// that memory which is taken away and granted again just so is not touched. Memory and devices may move from one
    /// cell to another. When it returns, no device reaches what was taken from it, no request to that is under way, and
    /// all that was granted is reached.
    ///
    /// Everything is checked and every frame is got before anything is touched, tables that fit are looked for among
    /// those in use, and each unit gets one batch for what is taken away and, only where it caches what is absent, one
    /// for what is granted. Changes of other cells go on meanwhile.
    ///
    /// If an earlier change failed in a unit that goes on, the unit [needs](super::RemappingUnit::needs_flush) a flush: each change
    /// of a cell that has a device behind it repeats that first, also one that is refused. A change without edits repeats those
    /// of all units. While memory of a cell is [withheld](Self::withheld) and one of its units is out of service, each change of the
    /// cell's memory fails, also one that finds nothing to do, and so does a change without edits: the unit may know another place
    /// for that memory, or more rights.
    ///
    /// # Errors
    ///
    /// An edit cannot be made, or there is no room or no frame: nothing changed, no table and no device. The error is
    /// that of one edit, and names what it is about:
    ///
    /// | edit | errors |
    /// |---|---|
    /// | each that names a cell | [`NoSuchCell`](Error::NoSuchCell) |
    /// | map | [`Map`](Error::Map), [`Overlap`](Error::Overlap), [`Reserved`](Error::Reserved), [`NotOneToOne`](Error::NotOneToOne), [`Full`](Error::Full) |
    /// | unmap any | [`Misaligned`](Error::Misaligned), [`Full`](Error::Full) |
    /// | unmap, protect | [`Misaligned`](Error::Misaligned), [`NotGranted`](Error::NotGranted), [`Full`](Error::Full), [`Map`](Error::Map) for no rights |
    /// | assign | [`NotEnabled`](Error::NotEnabled), [`NoSuchDevice`](Error::NoSuchDevice), [`Busy`](Error::Busy), [`Refused`](Error::Refused), [`Incompatible`](Error::Incompatible), [`Full`](Error::Full), [`Unit`](Error::Unit) if its unit is not on |
    /// | release | [`NotAssigned`](Error::NotAssigned) |
    /// | route, post, keep, unroute | [`Route`](Error::Route), [`Full`](Error::Full), [`Unit`](Error::Unit) if its unit is not on |
    /// | any | [`NoFrame`](Error::NoFrame) |
    ///
    /// If one of the cells is in another change that does not end in time, [`Error::InChange`], which names it: nothing changed.
    /// The root cell is one of them if the change takes memory from it or gives some back.
    ///
    /// Or a unit failed ([`Error::Unit`]): nothing is granted; what was to be taken away is gone from the tables, but a
    /// device behind that unit may still reach it, so the memory must not be used for anything else; the root cell does
    /// not get it before the cell that had it is destroyed. Its devices that were to be released stay listed in their
    /// cell, and so does a cell that was to be destroyed; the call may be repeated. Its devices that were to be
    /// assigned are listed in their new cell if the unit may have let them in; release them.
    ///
    /// Or a device did not answer an invalidation of its device-TLB ([`UnitError::Device`](crate::error::UnitError)).
    /// All that is said of a unit that failed holds for that device alone: all others that were to be released are. It
    /// is quarantined: its context entry blocks it, its ATS and its bus mastering are switched off, it is asked nothing
    /// more, and it stays in its cell until a release succeeds, which needs its answer: reset it before.
    ///
    /// Or a device that was to be released still has requests under way when [`Options::timeout_ns`](super::Options) is
    /// over ([`Error::NotIdle`]): nothing is granted. What was to be taken away is gone, and nothing reaches it; all
    /// other devices that were to be released are. This one stays in its cell, blocked and with its bus mastering off,
    /// and its cell stays, too; the release may be repeated.
    ///
    /// Or it was not reset ([`Error::NotReset`]), and the same holds: it did not answer again when
    /// [`Options::timeout_ns`](super::Options) was over after the 100 ms that a reset takes, or its cell has it reset
    /// and it cannot be any more.
    pub fn commit(&self, edits: &[Edit]) -> Result<Committed, Error> {
        transaction::run(self, edits, None)
    }

    /// As [`commit`](Self::commit), and if that fails, calls `remains` with what is left of it and of earlier changes that failed, as
    /// far as it is about a cell that one of the edits concerns: memory that is [withheld](Self::withheld), devices that could not
    /// be released, and which cells have another coherency than the hypervisor learned last. It is so at that moment: no other
    /// change of these cells comes between.
    ///
    /// The configuration is locked meanwhile: `remains` must not call the front.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit). If another change does not end in time ([`Error::InChange`]), `remains` is not called.
    pub fn commit_reporting(&self, edits: &[Edit], mut remains: impl FnMut(Remains)) -> Result<Committed, Error> {
        transaction::run(self, edits, Some(&mut remains))
    }

    /// Makes a cell without memory or devices. Takes no frames and touches no unit.
    ///
    /// # Errors
    ///
    /// There are as many cells as there can be: [`Error::Full`]. Nothing changed.
    pub fn create_cell(&self, cell: CellConfig) -> Result<CellId, Error> {
        self.locked()?.cells.create(cell)
    }

    /// Makes the root cell, without memory or devices; [`Edit::Map`] and [`Edit::Assign`] give it what the hypervisor's first
    /// guest is to have.
    ///
    /// All its memory is mapped one to one. What another cell maps, the root cell loses in the same change, and has again
    /// when no other cell maps it any more, or after that, by the next change that concerns the root cell and has
    /// [room](crate::limits::Limits::root_regions) and frames for it; a range that is unmapped from the root cell itself does not come back. It keeps
    /// what another cell has by [`Edit::MapShared`] alone. A device that is assigned to another cell leaves the root cell in
    /// the same change. It **never comes back by itself**: when it has left its cell, it is blocked until it is assigned again.
    ///
    /// # Errors
    ///
    /// There is a root cell already, or as many cells as there can be. Or a change of any cell did not end in time
    /// ([`Error::InChange`]): what it grants would not be kept from the new cell.
    pub fn create_root_cell(&self, cell: CellConfig) -> Result<CellId, Error> {
        let Config { root, cells, .. } = &mut *self.between_changes()?;
        if let Some(root) = root.cell() {
            return Err(Error::RootExists(root));
        }
        let id = cells.create(cell)?;
        root.set(id, cells.get_mut(id)?);
        Ok(id)
    }

    /// [`Edit::Map`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn map(&self, cell: CellId, region: Region) -> Result<Committed, Error> {
        self.commit(&[Edit::Map(cell, region)])
    }

    /// [`Edit::MapShared`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn map_shared(&self, cell: CellId, region: Region) -> Result<Committed, Error> {
        self.commit(&[Edit::MapShared(cell, region)])
    }

    /// [`Edit::Unmap`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn unmap(&self, cell: CellId, range: IovaRange) -> Result<Committed, Error> {
        self.commit(&[Edit::Unmap(cell, range)])
    }

    /// [`Edit::UnmapAny`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn unmap_any(&self, cell: CellId, range: IovaRange) -> Result<Committed, Error> {
        self.commit(&[Edit::UnmapAny(cell, range)])
    }

    /// [`Edit::Protect`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn protect(&self, cell: CellId, range: IovaRange, rights: Rights) -> Result<Committed, Error> {
        self.commit(&[Edit::Protect(cell, range, rights)])
    }

    /// [`Edit::Assign`], alone, with the default [`DeviceConfig`].
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn assign(&self, device: SourceId, cell: CellId) -> Result<Committed, Error> {
        self.assign_with(device, cell, DeviceConfig::default())
    }

    /// [`Edit::Assign`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn assign_with(&self, device: SourceId, cell: CellId, config: DeviceConfig) -> Result<Committed, Error> {
        self.commit(&[Edit::Assign(device, cell, config)])
    }

    /// [`Edit::Release`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn release(&self, device: SourceId) -> Result<Committed, Error> {
        self.commit(&[Edit::Release(device)])
    }

    /// [`Edit::Route`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn route(&self, cell: CellId, source: Source, route: Route) -> Result<Committed, Error> {
        self.commit(&[Edit::Route(cell, source, route)])
    }

    /// [`Edit::Post`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn post(&self, cell: CellId, source: Source, posting: Posting) -> Result<Committed, Error> {
        self.commit(&[Edit::Post(cell, source, posting)])
    }

    /// [`Edit::Unroute`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn unroute(&self, cell: CellId, source: Source) -> Result<Committed, Error> {
        self.commit(&[Edit::Unroute(cell, source)])
    }

    /// [`Edit::Destroy`], alone.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn destroy_cell(&self, cell: CellId) -> Result<Committed, Error> {
        self.commit(&[Edit::Destroy(cell)])
    }
}
