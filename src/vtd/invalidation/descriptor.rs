//! Invalidation descriptors of 128 bits (S 6.5.2.1 to 6.5.2.9). The type is in bits 11:9 and 3:0; unused bits are zero.
#![forbid(unsafe_code)]

use super::Invalidation;
use crate::addr::PhysAddr;
use crate::interrupt::SlotBlock;
use crate::invalidation::DeviceTlb;
use crate::vtd::Capabilities;

/// What the queue is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Bits 63:0.
    pub lower: u64,
    /// Bits 127:64.
    pub upper: u64,
}

const _: () = assert!(size_of::<Descriptor>() == 16);

/// What of a unit matters for its descriptors.
#[derive(Clone, Copy)]
pub(in crate::vtd) struct Encoder {
    /// DW and DR, as the unit can (R25).
    drains: u64,
    device_tlb_throttling: bool,
}

impl Encoder {
    pub(in crate::vtd) const fn of(unit: &Capabilities) -> Self {
        let drains = (unit.write_draining as u64) << 6 | (unit.read_draining as u64) << 7;
        Self { drains, device_tlb_throttling: unit.device_tlb_throttling }
    }

    /// The descriptors that have all of them done.
    pub(in crate::vtd) fn encode_all(
        self,
        all: &[Invalidation],
    ) -> impl ExactSizeIterator<Item = Descriptor> + Clone + '_ {
        all.iter().map(move |one| self.encode(*one))
    }

    /// The descriptor that has `invalidation` done.
    ///
    /// Context-cache, S 6.5.2.1: G in 5:4, DID in 31:16, SID in 47:32. IOTLB, S 6.5.2.3: G in 5:4, DW 6, DR 7, DID in
    /// 31:16; AM in 69:64, IH 70, address in 127:76. Device-TLB, S 6.5.2.5: PFSID in 63:52 and 15:12, MIP in 20:16, SID in
    /// 47:32; S 64, address in 127:76. Interrupt entry cache, S 6.5.2.8: G 4, set for a block; IM in 31:27, IIDX in 47:32.
    #[inline]
    pub(in crate::vtd) const fn encode(self, invalidation: Invalidation) -> Descriptor {
        let drains = self.drains;
        let (lower, upper) = match invalidation {
            Invalidation::ContextGlobal => (0x1 | 0b01 << 4, 0),
            Invalidation::ContextDomain(domain_id) => (0x1 | 0b10 << 4 | (domain_id as u64) << 16, 0),
            Invalidation::ContextDevice { requester, domain_id } => {
                (0x1 | 0b11 << 4 | (domain_id as u64) << 16 | (requester.get() as u64) << 32, 0)
            }
            Invalidation::IotlbGlobal => (0x2 | 0b01 << 4 | drains, 0),
            Invalidation::IotlbDomain(domain_id) => (0x2 | 0b10 << 4 | drains | (domain_id as u64) << 16, 0),
            Invalidation::IotlbPages { domain_id, start, mask, leaves_only } => (
                0x2 | 0b11 << 4 | drains | (domain_id as u64) << 16,
                start.as_u64() & !0xfff | (leaves_only as u64) << 6 | (mask & 0x3f) as u64,
            ),
            Invalidation::InterruptsGlobal => (0x4, 0),
            Invalidation::Interrupts(SlotBlock { first, order }) => {
                (0x4 | 1 << 4 | (order as u64 & 0x1f) << 27 | (first as u64) << 32, 0)
            }
            // R34.
            Invalidation::DeviceTlb(device) => (self.device_tlb(device), 0x7fff_ffff_ffff_f001),
            Invalidation::DeviceTlbPages { device, start, mask } => {
                (self.device_tlb(device), sized(start.as_u64() & !0xfff, mask))
            }
        };
        Descriptor { lower, upper }
    }

    /// PFSID is reserved where the unit does not throttle (R23). A depth of 32 is coded as 0.
    const fn device_tlb(self, device: DeviceTlb) -> u64 {
        let physical = if self.device_tlb_throttling { device.physical.get() as u64 } else { 0 };
        0x3 | (physical & 0xf) << 12
            | (device.queue_depth as u64 & 0x1f) << 16
            | (device.requester.get() as u64) << 32
            | (physical >> 4) << 52
    }
}

/// A block of 2^`mask` pages: if there is more than one, S is set, and of the address bits that the block leaves free the
/// highest is clear and all others are set (PCIe 6.0, section 10.2.3.2).
const fn sized(start: u64, mask: u8) -> u64 {
    match mask {
        0 => start,
        _ => start | ((1 << (mask as u32 + 11)) - 1) & !0xfff | 1,
    }
}

/// Wait, S 6.5.2.9: IF 4, SW 5, FN 6, status data in 63:32, status address in 127:66.
impl Descriptor {
    /// When all before it is done, stores `data` at `status`, a multiple of 4.
    pub(in crate::vtd) const fn wait(status: PhysAddr, data: u32) -> Self {
        Self { lower: 0x5 | 1 << 5 | (data as u64) << 32, upper: status.as_u64() & !0b11 }
    }

    /// The same wait, behind which nothing begins before it is done.
    pub(in crate::vtd) const fn fence(self) -> Self {
        Self { lower: self.lower | 1 << 6, ..self }
    }
}

/// Device-TLB, S 6.5.2.5: MIP in 20:16, SID in 47:32.
impl Descriptor {
    /// If it is one, which requester it is for, and how many it takes at a time.
    pub(in crate::vtd) const fn device_tlb(self) -> Option<(u16, u32)> {
        let depth = match (self.lower >> 16) as u32 & 0x1f {
            0 => 32,
            depth => depth,
        };
        if self.lower & 0xe0f == 0x3 { Some(((self.lower >> 32) as u16, depth)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Iova;
    use crate::addr::Requester;
    use crate::vtd::capabilities::tests::QEMU;

    const PLAIN: Capabilities = Capabilities { write_draining: false, read_draining: false, ..QEMU };

    #[test]
    fn each_field_is_where_the_specification_has_it() {
        let of = |invalidation| {
            let descriptor = Encoder::of(&PLAIN).encode(invalidation);
            (descriptor.lower, descriptor.upper)
        };
        assert_eq!(of(Invalidation::ContextGlobal), (0x11, 0));
        assert_eq!(of(Invalidation::ContextDomain(0x1234)), (0x1234_0021, 0));
        let device = Invalidation::ContextDevice { requester: Requester::new(0xabcd), domain_id: 0x1234 };
        assert_eq!(of(device), (0xabcd_1234_0031, 0));
        assert_eq!(of(Invalidation::IotlbGlobal), (0x12, 0));
        assert_eq!(of(Invalidation::IotlbDomain(0x1234)), (0x1234_0022, 0));
        let pages = |leaves_only| {
            let start = Iova::new(0x5555_6000);
            of(Invalidation::IotlbPages { domain_id: 0x1234, start, mask: 9, leaves_only })
        };
        assert_eq!(pages(false), (0x1234_0032, 0x5555_6009));
        assert_eq!(pages(true), (0x1234_0032, 0x5555_6049));
        assert_eq!(of(Invalidation::InterruptsGlobal), (0x4, 0));
        let block = Invalidation::Interrupts(SlotBlock { first: 0xabcc, order: 2 });
        assert_eq!(of(block), (0xabcc_1000_0014, 0));
        let wait = Descriptor::wait(PhysAddr::new(0x7008), 0xdead_beef);
        assert_eq!((wait.lower, wait.upper), (0xdead_beef_0000_0025, 0x7008));
        assert_eq!((wait.fence().lower, wait.fence().upper), (0xdead_beef_0000_0065, 0x7008));
        let target = |lower| Descriptor { lower, upper: 0 }.device_tlb();
        assert_eq!(target(0xabcd_0000_0003), Some((0xabcd, 32)));
        assert_eq!(target(0xf00f_abcd_001f_f003), Some((0xabcd, 31)));
        assert_eq!([0xabcd_0000_0203, wait.lower, 0x13].map(target), [None, None, Some((0, 32))]);
    }

    #[test]
    fn the_size_of_a_block_in_a_device_is_coded_in_its_address() {
        let device = DeviceTlb { requester: Requester::new(0xabcd), physical: Requester::new(0x1239), queue_depth: 31 };
        let of = |invalidation, device_tlb_throttling| {
            let descriptor = Encoder::of(&Capabilities { device_tlb_throttling, ..PLAIN }).encode(invalidation);
            (descriptor.lower, descriptor.upper)
        };
        let all = Invalidation::DeviceTlb(device);
        assert_eq!(of(all, false), (0xabcd_001f_0003, 0x7fff_ffff_ffff_f001));
        assert_eq!(of(all, true), (0x1230_abcd_001f_9003, 0x7fff_ffff_ffff_f001));
        let most = DeviceTlb { queue_depth: 32, ..device };
        assert_eq!(of(Invalidation::DeviceTlb(most), false).0, 0xabcd_0000_0003);
        let pages = |start, mask| {
            let start = Iova::new(start);
            let (lower, upper) = of(Invalidation::DeviceTlbPages { device, start, mask }, false);
            assert_eq!(lower, 0xabcd_001f_0003);
            upper
        };
        assert_eq!(pages(0x7000, 0), 0x7000);
        assert_eq!(pages(0x6000, 1), 0x6001);
        assert_eq!(pages(0x4000, 2), 0x5001);
        assert_eq!(pages(0x20_0000, 9), 0x2f_f001);
        assert_eq!(pages(0, 51), 0x3fff_ffff_ffff_f001);
        assert_eq!(pages(1 << 63, 51), 0xbfff_ffff_ffff_f001);
    }

    #[test]
    fn draining_is_asked_for_where_the_unit_can() {
        let lower = |write_draining, read_draining| {
            let unit = Capabilities { write_draining, read_draining, ..QEMU };
            let pages = Invalidation::IotlbPages { domain_id: 0, start: Iova::new(0), mask: 0, leaves_only: false };
            [Invalidation::IotlbGlobal, Invalidation::IotlbDomain(0), pages]
                .map(|invalidation| Encoder::of(&unit).encode(invalidation).lower & 0xc0)
        };
        assert_eq!(lower(false, false), [0; 3]);
        assert_eq!(lower(true, false), [0x40; 3]);
        assert_eq!(lower(false, true), [0x80; 3]);
    }
}
