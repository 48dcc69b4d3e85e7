#![forbid(unsafe_code)]

use super::unlinked::Unlinked;
use super::{Format, Geometry};
use crate::addr::PhysAddr;
use crate::hal::{Frame, Hal, NoFrame};

/// A page table and all its frames, those among them that an edit took out of it and that hardware may still walk.
#[derive(Debug)]
#[must_use = "a table that is dropped keeps its frames"]
pub struct PageTable<F> {
    pub(super) format: F,
    pub(super) geometry: Geometry,
    /// The units that walk it snoop the CPU's caches.
    pub(super) coherent: bool,
    pub(super) root: Frame,
    /// How many frames the root leads to, itself among them.
    pub(super) frames: usize,
    pub(super) unlinked: Unlinked<F>,
    /// How many of the frames are tables of 4 KiB pages.
    pub(super) small: usize,
    pub(super) recent: Option<Recent>,
    /// All that was ever mapped lies in this range: nothing else need be looked at.
    pub(super) span: Option<(u64, u64)>,
}

/// The table of 4 KiB pages that an edit came to last: the next edit, which is often beside it, need not walk there.
///
/// It has an entry that is present, as every table but the root has, and each of its pages can be mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent {
    /// The first address that it covers.
    pub start: u64,
    pub frame: Frame,
}

impl<F: Format> PageTable<F> {
    /// An empty table: it blocks everything.
    ///
    /// # Errors
    ///
    /// There is no frame for it.
    pub fn new(hal: &impl Hal, format: F, geometry: Geometry, coherent: bool) -> Result<Self, NoFrame> {
        let root = Frame::allocate(hal, geometry.output_bits)?;
        let unlinked = Unlinked::NONE;
        let table = Self { format, geometry, coherent, root, frames: 1, unlinked, small: 0, recent: None, span: None };
        table.finish(hal, table.top());
        table.settle(hal);
        Ok(table)
    }

    /// Physical address of the top table.
    pub fn root(&self) -> PhysAddr {
        self.root.base()
    }

    /// Its levels.
    pub fn levels(&self) -> u8 {
        self.geometry.levels
    }

    /// Frames that the root leads to, its own among them.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Frames that nothing leads to any more, and that are not [given back](Self::free_unlinked) yet.
    pub fn unlinked(&self) -> usize {
        self.unlinked.len()
    }
}
