//! Invalidation of what a unit and its devices have cached (S 6.5).

pub(super) mod descriptor;
pub(super) mod list;
pub(super) mod queue;
#[cfg(any(test, feature = "internals"))]
pub(crate) mod queue_alone;
pub(super) mod register_based;
use super::sync;
#[cfg(test)]
mod tests;

use crate::addr::{Iova, Requester};
use crate::interrupt::SlotBlock;
use crate::invalidation::DeviceTlb;

/// What a unit can invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalidation {
    /// All of the context-cache.
    ContextGlobal,
    /// What the context-cache has with this domain-id; 0 for what was not present.
    ContextDomain(u16),
    /// What the context-cache has of one function, cached with this domain-id.
    ContextDevice {
        /// The function.
        requester: Requester,
        /// As for [`ContextDomain`](Self::ContextDomain).
        domain_id: u16,
    },
    /// All of the IOTLB and all paging-structure caches.
    IotlbGlobal,
    /// What they have of one domain-id.
    IotlbDomain(u16),
    /// What they have of one domain-id for a block of pages.
    IotlbPages {
        /// The domain-id.
        domain_id: u16,
        /// Where the block begins: a multiple of its size.
        start: Iova,
        /// The block has 2^`mask` pages.
        mask: u8,
        /// Keep the paging-structure caches.
        leaves_only: bool,
    },
    /// All of the interrupt-entry-cache.
    InterruptsGlobal,
    /// What it has of a block of entries.
    Interrupts(SlotBlock),
    /// All that a device-TLB has.
    DeviceTlb(DeviceTlb),
    /// What it has for a block of pages.
    DeviceTlbPages {
        /// The device.
        device: DeviceTlb,
        /// Where the block begins: a multiple of its size.
        start: Iova,
        /// The block has 2^`mask` pages, 2^51 at most.
        mask: u8,
    },
}

/// A batch has many.
const _: () = assert!(size_of::<Invalidation>() == 16);
