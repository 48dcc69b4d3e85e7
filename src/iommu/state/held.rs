#![forbid(unsafe_code)]

use crate::interrupt::{Senders, SlotBlock};

/// Slots of one source, and whose requests their entries take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::iommu) struct Held {
    pub(in crate::iommu) block: SlotBlock,
    pub(in crate::iommu) senders: Senders,
}
