//! A page table of whichever format.

use super::attributes::{Attributes, Coherency};
use crate::addr::{IovaRange, Region, Rights};
use crate::contract::{Stage, TableFormat};
use crate::hal::{FrameList, Hal, NoFrame};
use crate::paging::{Change, MapError, PageTable, Prealloc};
use crate::vtd::SecondStage;

/// A page table and all its frames.
#[derive(Debug)]
#[must_use = "a table that is dropped keeps its frames"]
pub(crate) enum Table {
    SecondStage(PageTable<SecondStage>),
}

/// The match on the format, for a call that all answer alike.
macro_rules! of_format {
    ($table:ident in $self:ident => $call:expr) => {
        match $self {
            Self::SecondStage($table) => $call,
        }
    };
}

impl Table {
    /// An empty table: it blocks everything.
    pub(crate) fn new(hal: &impl Hal, attributes: &Attributes) -> Result<Self, NoFrame> {
        let Attributes { geometry, coherency, coherent_walks, .. } = *attributes;
        match attributes.format {
            TableFormat::SecondStage => {
                let format = SecondStage { snoop: coherency == Coherency::Enforced };
                PageTable::new(hal, format, geometry, coherent_walks).map(Self::SecondStage)
            }
        }
    }

    /// What a device's entry says to lead here.
    pub(crate) fn stage(&self) -> Stage {
        of_format!(table in self => Stage::Table { root: table.root(), levels: table.levels() })
    }

    /// Frames in use.
    pub(crate) fn frames(&self) -> usize {
        of_format!(table in self => table.frames())
    }

    /// [`PageTable::prepare_map`].
    pub(crate) fn prepare_map(&self, hal: &impl Hal, region: Region) -> Result<Prealloc, MapError> {
        of_format!(table in self => table.prepare_map(hal, region))
    }

    /// [`PageTable::prepare_edit`].
    pub(crate) fn prepare_edit(&self, hal: &impl Hal, range: IovaRange) -> Result<Prealloc, NoFrame> {
        of_format!(table in self => table.prepare_edit(hal, range))
    }

    /// [`PageTable::splits_without_frames`].
    pub(crate) fn splits_without_frames(&self, hal: &impl Hal, range: IovaRange) -> bool {
        of_format!(table in self => table.splits_without_frames(hal, range))
    }

    /// [`PageTable::map`].
    pub(crate) fn map(&mut self, hal: &impl Hal, region: Region, prealloc: Prealloc) -> Change {
        of_format!(table in self => table.map(hal, region, prealloc))
    }

    /// [`PageTable::unmap`].
    pub(crate) fn unmap(&mut self, hal: &impl Hal, range: IovaRange, prealloc: Prealloc) -> Change {
        of_format!(table in self => table.unmap(hal, range, prealloc))
    }

    /// [`PageTable::protect`].
    pub(crate) fn protect(&mut self, hal: &impl Hal, range: IovaRange, rights: Rights, prealloc: Prealloc) -> Change {
        of_format!(table in self => table.protect(hal, range, rights, prealloc))
    }

    /// Frames that nothing leads to any more, and that are not [given back](Self::free_unlinked) yet.
    pub(crate) fn unlinked(&self) -> usize {
        of_format!(table in self => table.unlinked())
    }

    /// [`PageTable::free_unlinked`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn free_unlinked(&mut self, hal: &impl Hal) {
        // SAFETY: passed on from the caller.
        of_format!(table in self => unsafe { table.free_unlinked(hal) });
    }

    /// [`PageTable::into_frames`].
    pub(crate) fn into_frames(self, hal: &impl Hal) -> FrameList {
        of_format!(table in self => table.into_frames(hal))
    }
}
