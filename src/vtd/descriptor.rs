//! Invalidation descriptors of 128 bits (S 6.5.2.1 to 6.5.2.9). The type is in bits 11:9 and 3:0; unused bits are zero.
#![forbid(unsafe_code)]

use super::Capabilities;
use crate::addr::{Iova, PhysAddr};

/// What the queue is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Bits 63:0.
    pub lower: u64,
    /// Bits 127:64.
    pub upper: u64,
}

const _: () = assert!(size_of::<Descriptor>() == 16);

/// Context-cache, S 6.5.2.1: G in 5:4, DID in 31:16, SID in 47:32.
impl Descriptor {
    /// All of the context cache.
    pub(super) const fn context_global() -> Self {
        Self { lower: 0x1 | 0b01 << 4, upper: 0 }
    }

    /// The entry of one function, cached with this domain-id.
    pub(super) const fn context_device(requester: u16, domain_id: u16) -> Self {
        Self { lower: 0x1 | 0b11 << 4 | (domain_id as u64) << 16 | (requester as u64) << 32, upper: 0 }
    }
}

/// IOTLB, S 6.5.2.3: G in 5:4, DW 6, DR 7, DID in 31:16; AM in 69:64, IH 70, address in 127:76. Draining as the unit can
/// (R25).
impl Descriptor {
    /// All of the IOTLB and all paging-structure caches.
    pub(super) const fn iotlb_global(unit: &Capabilities) -> Self {
        Self { lower: 0x2 | 0b01 << 4 | drains(unit), upper: 0 }
    }

    /// What is cached with this domain-id.
    pub(super) const fn iotlb_domain(unit: &Capabilities, domain_id: u16) -> Self {
        Self { lower: 0x2 | 0b10 << 4 | drains(unit) | (domain_id as u64) << 16, upper: 0 }
    }

    /// What is cached with this domain-id for the 2^`mask` pages from `start`, which is aligned to them. `leaves_only`
    /// keeps the paging-structure caches.
    pub(super) const fn iotlb_pages(
        unit: &Capabilities,
        domain_id: u16,
        start: Iova,
        mask: u8,
        leaves_only: bool,
    ) -> Self {
        Self {
            lower: 0x2 | 0b11 << 4 | drains(unit) | (domain_id as u64) << 16,
            upper: start.as_u64() & !0xfff | (leaves_only as u64) << 6 | (mask & 0x3f) as u64,
        }
    }
}

const fn drains(unit: &Capabilities) -> u64 {
    (unit.write_draining as u64) << 6 | (unit.read_draining as u64) << 7
}

/// Wait, S 6.5.2.9: IF 4, SW 5, FN 6, status data in 63:32, status address in 127:66.
impl Descriptor {
    /// When all before it is done, stores `data` at `status`, a multiple of 4.
    pub(super) const fn wait(status: PhysAddr, data: u32) -> Self {
        Self { lower: 0x5 | 1 << 5 | (data as u64) << 32, upper: status.as_u64() & !0b11 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vtd::capabilities::tests::QEMU;

    #[test]
    fn each_field_is_where_the_specification_has_it() {
        let plain = Capabilities { write_draining: false, read_draining: false, ..QEMU };
        let pair = |descriptor: Descriptor| (descriptor.lower, descriptor.upper);
        assert_eq!(pair(Descriptor::context_global()), (0x11, 0));
        assert_eq!(pair(Descriptor::context_device(0xabcd, 0x1234)), (0xabcd_1234_0031, 0));
        assert_eq!(pair(Descriptor::iotlb_global(&plain)), (0x12, 0));
        assert_eq!(pair(Descriptor::iotlb_domain(&plain, 0x1234)), (0x1234_0022, 0));
        let pages = |leaves| Descriptor::iotlb_pages(&plain, 0x1234, Iova::new(0x5555_6000), 9, leaves);
        assert_eq!(pair(pages(false)), (0x1234_0032, 0x5555_6009));
        assert_eq!(pair(pages(true)), (0x1234_0032, 0x5555_6049));
        assert_eq!(pair(Descriptor::wait(PhysAddr::new(0x7008), 0xdead_beef)), (0xdead_beef_0000_0025, 0x7008));
    }

    #[test]
    fn draining_is_asked_for_where_the_unit_can() {
        let lower = |write_draining, read_draining| {
            let unit = Capabilities { write_draining, read_draining, ..QEMU };
            [
                Descriptor::iotlb_global(&unit).lower,
                Descriptor::iotlb_domain(&unit, 0).lower,
                Descriptor::iotlb_pages(&unit, 0, Iova::new(0), 0, false).lower,
            ]
            .map(|lower| lower & 0xc0)
        };
        assert_eq!(lower(false, false), [0; 3]);
        assert_eq!(lower(true, false), [0x40; 3]);
        assert_eq!(lower(false, true), [0x80; 3]);
    }
}
