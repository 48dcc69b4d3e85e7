#![forbid(unsafe_code)]

use crate::addr::Iova;

/// What a unit can be asked to forget (S 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// All of the context-cache.
    ContextGlobal,
    /// What the context-cache has of one function, cached with this domain-id.
    ContextDevice {
        /// The function.
        requester: u16,
        /// The domain-id of its entry; 0 if that was not present.
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

impl Invalidation {
    /// True if `other` is done, too, when this is done.
    pub(super) fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::ContextGlobal, Self::ContextGlobal | Self::ContextDevice { .. })
            | (Self::IotlbGlobal, Self::IotlbGlobal | Self::IotlbDomain(_) | Self::IotlbPages { .. }) => true,
            (Self::IotlbDomain(id), Self::IotlbPages { domain_id, .. }) => id == domain_id,
            (
                Self::IotlbPages { domain_id, start, mask, leaves_only },
                Self::IotlbPages {
                    domain_id: other_id,
                    start: other_start,
                    mask: other_mask,
                    leaves_only: other_leaves,
                },
            ) => {
                let block = |at: Iova| at.as_u64() >> 12 >> mask;
                domain_id == other_id
                    && other_mask <= mask
                    && block(start) == block(other_start)
                    && (!leaves_only || other_leaves)
            }
            _ => self == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(domain_id: u16, page: u64, mask: u8, leaves_only: bool) -> Invalidation {
        Invalidation::IotlbPages { domain_id, start: Iova::new(page << 12), mask, leaves_only }
    }

    #[test]
    fn what_is_wider_covers_what_is_narrower_and_nothing_else() {
        use Invalidation::*;
        let device = |requester, domain_id| ContextDevice { requester, domain_id };
        let covered = [
            (ContextGlobal, device(3, 7)),
            (IotlbGlobal, IotlbDomain(7)),
            (IotlbGlobal, pages(7, 1, 0, false)),
            (IotlbDomain(7), pages(7, 1, 0, false)),
            (pages(7, 8, 3, false), pages(7, 9, 0, true)),
            (pages(7, 8, 3, true), pages(7, 9, 0, true)),
            (pages(7, 0, 52, false), pages(7, 9, 0, false)),
        ];
        for (wide, narrow) in covered {
            assert!(wide.covers(narrow) && wide.covers(wide) && narrow.covers(narrow), "{wide:?} {narrow:?}");
            assert!(!narrow.covers(wide), "{narrow:?} {wide:?}");
        }
        let apart = [
            (ContextGlobal, IotlbGlobal),
            (device(3, 7), device(4, 7)),
            (device(3, 7), device(3, 0)),
            (IotlbDomain(7), IotlbDomain(8)),
            (IotlbDomain(7), pages(8, 1, 0, false)),
            (pages(7, 8, 3, false), pages(8, 9, 0, false)),
            (pages(7, 8, 3, false), pages(7, 16, 0, false)),
            (pages(7, 8, 3, true), pages(7, 9, 0, false)),
        ];
        for (one, other) in apart {
            assert!(!one.covers(other) && !other.covers(one), "{one:?} {other:?}");
        }
    }
}
