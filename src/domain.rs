//! A domain: one page table, with the attributes that were fixed when it was made and its id on the units that use it.

pub(crate) mod attributes;
mod table;

use crate::addr::{IovaRange, Region, Rights};
use crate::contract::{DomainId, Translation};
use crate::hal::{FrameList, Hal, NoFrame};
use crate::paging::{Change, MapError, Prealloc};
pub(crate) use attributes::Attributes;
pub use attributes::Coherency;
pub(crate) use table::Table;

/// A page table in use by at least one device.
#[derive(Debug)]
#[must_use = "a domain that is dropped keeps its frames"]
pub(crate) struct Domain {
    /// Its domain-id: the same on each unit that uses it, and no other domain's there ([R38](crate::guide::rules#r38)).
    pub id: DomainId,
    /// The generation of its cell, in which no other domain has this id.
    pub owner: u32,
    pub attributes: Attributes,
    pub table: Table,
    /// A unit may know of it.
    pub published: bool,
    /// It may lack memory that its cell has: all its devices were to leave it or had just come to it, they are blocked, and there
    /// was no frame to split a page of which a part was to go. No other device is given it.
    pub incomplete: bool,
    /// Frames for the edits of the change that is under way.
    pub prealloc: Prealloc,
}

impl Domain {
    /// A domain that maps nothing.
    pub(crate) fn new(hal: &impl Hal, id: DomainId, owner: u32, attributes: Attributes) -> Result<Self, NoFrame> {
        let table = Table::new(hal, &attributes)?;
        Ok(Self { id, owner, attributes, table, published: false, incomplete: false, prealloc: Prealloc::none() })
    }

    /// Maps a region, in a domain that no unit knows yet.
    #[inline(never)]
    pub(crate) fn fill(&mut self, hal: &impl Hal, region: Region) -> Result<(), MapError> {
        let prealloc = self.table.prepare_map(hal, region)?;
        let _ = self.table.map(hal, region, prealloc);
        // SAFETY: no unit knows of the table yet, so none has cached any of it.
        unsafe { self.table.free_unlinked(hal) };
        Ok(())
    }

    /// Takes a range from the page table, except for these rights. What the change that is under way has joined comes apart
    /// without a frame. If there is none to split another page, all of it goes: devices may reach less than they are granted,
    /// but not more.
    #[inline(never)]
    pub(crate) fn revoke_or_more(&mut self, hal: &impl Hal, range: IovaRange, but_for: Option<Rights>) -> Change {
        let needs_none = self.table.splits_without_frames(hal, range);
        let prepared = if needs_none { Ok(Prealloc::none()) } else { self.table.prepare_edit(hal, range) };
        match (prepared, but_for) {
            (Ok(prealloc), Some(rights)) => self.table.protect(hal, range, rights, prealloc),
            (Ok(prealloc), None) => self.table.unmap(hal, range, prealloc),
            (Err(_), _) => {
                self.incomplete = true;
                self.table.unmap(hal, range, Prealloc::none())
            }
        }
    }

    /// What edits of the change that is under way were promised.
    pub(crate) fn take_prealloc(&mut self) -> Prealloc {
        core::mem::replace(&mut self.prealloc, Prealloc::none())
    }

    /// The part of it for an edit of `range`.
    pub(crate) fn prealloc_for_edit(&mut self, hal: &impl Hal, range: IovaRange) -> Prealloc {
        self.prealloc.split_off(hal, self.attributes.geometry.tables_to_edit(range))
    }

    /// The part of it for mapping `region`.
    pub(crate) fn prealloc_for_map(&mut self, hal: &impl Hal, region: Region) -> Prealloc {
        self.prealloc.split_off(hal, self.attributes.geometry.tables_to_map(region).unwrap_or_default())
    }

    /// All its frames, for the platform once no unit reaches them.
    pub(crate) fn into_frames(mut self, hal: &impl Hal) -> FrameList {
        self.take_prealloc().free(hal);
        self.table.into_frames(hal)
    }

    /// What a context entry says to lead here.
    pub(crate) fn translation(&self, device_tlb: bool) -> Translation {
        Translation { stage: self.table.stage(), domain: self.id, device_tlb }
    }
}
