#![forbid(unsafe_code)]

use crate::addr::Iova;

/// What a unit can be asked to forget (S 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// All of the context-cache.
    ContextGlobal,
    /// What the context-cache has with this domain-id; 0 for what was not present.
    ContextDomain(u16),
    /// What the context-cache has of one function, cached with this domain-id.
    ContextDevice {
        /// The function.
        requester: u16,
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
}
