#![forbid(unsafe_code)]

use crate::addr::Iova;
use crate::pci::Ats;

/// A function that may cache translations itself (S 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceTlb {
    /// Its requester-id.
    pub requester: u16,
    /// That of the physical function whose virtual function it is, or its own again (PFSID).
    pub physical: u16,
    /// How many invalidations the physical function takes at a time: 1 to 32.
    pub queue_depth: u8,
}

impl DeviceTlb {
    pub(crate) fn of(ats: &Ats) -> Self {
        let (requester, physical) = (ats.function.requester(), ats.physical.requester());
        Self { requester, physical, queue_depth: ats.queue_depth }
    }
}

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
