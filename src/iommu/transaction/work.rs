//! What one change works with.
#![forbid(unsafe_code)]

use super::outcomes::{Outcomes, UnitWork};
use crate::hal::FrameList;
use crate::limits::List;

/// What a change works with while others may have the lock. There is one for each change that may run at a time.
#[derive(Debug)]
pub(in crate::iommu) struct Work<'s> {
    pub(super) outcomes: Outcomes<'s>,
    /// Frames for tables that lead to page tables.
    pub(super) frames: FrameList,
    /// Frames of page tables that no entry leads to any more.
    pub(super) freed: FrameList,
}

impl<'s> Work<'s> {
    pub(in crate::iommu) fn new(units: List<'s, UnitWork>) -> Self {
        Self { outcomes: Outcomes::new(units), frames: FrameList::new(), freed: FrameList::new() }
    }
}
