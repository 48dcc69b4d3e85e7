//! Descriptors of the invalidation queue (sections 6.5.2.1 to 6.5.2.9).
#![forbid(unsafe_code)]

use crate::judge::journal::Journal;
use crate::vtd::formats::capability::Capability;

/// What an invalidation of the context-cache reaches (section 6.5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContextScope {
    Global,
    Domain(u16),
    /// Source-id, the number of low function bits that are ignored, and the domain-id.
    Device {
        source: u16,
        mask: u16,
        domain: u16,
    },
}

/// What an invalidation of the IOTLB and the paging-structure caches reaches (section 6.5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IotlbScope {
    Global,
    Domain(u16),
    /// All pages from the first to the last address; `leaf_only` keeps the paging-structure caches (IH = 1).
    Pages {
        domain: u16,
        first: u64,
        last: u64,
        leaf_only: bool,
    },
}

/// What a unit does for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptor {
    Context(ContextScope),
    Iotlb(IotlbScope),
    DeviceTlb {
        source: u16,
        first: u64,
        last: u64,
    },
    /// First interrupt index and how many; all if `None`.
    Interrupts(Option<(u16, u32)>),
    Wait {
        status: Option<(u64, u32)>,
        interrupt: bool,
        /// FN: nothing behind it begins before it is done.
        fence: bool,
    },
}

/// Why a descriptor is refused: see `IQERCD.IQEI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Type,
    Reserved,
}

/// Bits `high:low` set.
const fn bits(high: u32, low: u32) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

/// Mask of source-id bits that a function mask ignores (table 21: bit 2, then 2:1, then 2:0).
fn function_mask(mask: u64) -> u16 {
    match mask & 3 {
        0 => 0,
        1 => 4,
        2 => 6,
        _ => 7,
    }
}

impl ContextScope {
    /// From the fields that descriptor and CCMD have in common; `None` for the reserved granularity.
    pub(crate) fn new(granularity: u64, domain: u16, source: u16, mask: u64, unit: &Capability) -> Option<Self> {
        let domain = domain & ((1_u32 << unit.domain_bits()) - 1) as u16;
        match granularity {
            1 => Some(Self::Global),
            2 => Some(Self::Domain(domain)),
            3 => Some(Self::Device { source, mask: function_mask(mask), domain }),
            _ => None,
        }
    }
}

impl IotlbScope {
    /// From the fields that descriptor and IOTLB registers have in common. `address` has AM in 5:0 and IH in 6.
    /// `None` if the unit has no such granularity or address mask.
    pub(crate) fn new(
        granularity: u64,
        domain: u16,
        address: u64,
        unit: &Capability,
        journal: &mut Journal,
    ) -> Option<Self> {
        let domain = domain & ((1_u32 << unit.domain_bits()) - 1) as u16;
        match granularity {
            1 => Some(Self::Global),
            2 => Some(Self::Domain(domain)),
            3 if !unit.page_selective() => {
                journal.violation("R27", "a page-selective invalidation on a unit that has none");
                None
            }
            3 => {
                let mask = (address & 0x3f) as u8;
                if mask > unit.max_address_mask() {
                    let max = unit.max_address_mask();
                    journal.violation("R27", format_args!("address mask {mask} is above MAMV, {max}"));
                    return None;
                }
                let bytes = 4096_u64.checked_shl(mask.into()).unwrap_or(0);
                let page = address & !0xfff;
                let first = page & !bytes.wrapping_sub(1);
                if page != first {
                    journal.violation("R26", format_args!("address {page:#x} is not aligned to address mask {mask}"));
                }
                let last = first | bytes.wrapping_sub(1);
                Some(Self::Pages { domain, first, last, leaf_only: address & 1 << 6 != 0 })
            }
            _ => None,
        }
    }
}

impl Descriptor {
    /// Reads the descriptor of these words (of 128 or 256 bits).
    pub(crate) fn parse(words: [u64; 4], unit: &Capability, journal: &mut Journal) -> Result<Self, Refused> {
        let [low, high, ..] = words;
        let kind = low & 0xf | low >> 5 & 0x70;
        let reserved = |journal: &mut Journal, mask_low: u64, mask_high: u64| {
            if low & mask_low != 0 || high & mask_high != 0 || words[2] != 0 || words[3] != 0 {
                journal.violation("R25b", format_args!("descriptor {low:#x} {high:#x} has reserved bits set"));
                return Err(Refused::Reserved);
            }
            Ok(())
        };
        let domain = (low >> 16) as u16;
        match kind {
            1 => {
                reserved(journal, bits(63, 50) | bits(15, 12) | bits(8, 6), u64::MAX)?;
                ContextScope::new(low >> 4 & 3, domain, (low >> 32) as u16, low >> 48, unit)
                    .map(Self::Context)
                    .ok_or(Refused::Reserved)
            }
            2 => {
                reserved(journal, bits(63, 32) | bits(15, 12) | bits(8, 8), bits(11, 7))?;
                check_drain(low >> 7 & 1 != 0, low >> 6 & 1 != 0, unit, journal);
                IotlbScope::new(low >> 4 & 3, domain, high, unit, journal).map(Self::Iotlb).ok_or(Refused::Reserved)
            }
            3 if unit.has_device_tlb() => {
                // PFSID is reserved without throttling.
                let physical = if unit.throttles_device_tlb() { 0 } else { bits(63, 52) | bits(15, 12) };
                reserved(journal, bits(51, 48) | bits(31, 21) | bits(8, 4) | physical, bits(11, 1))?;
                if high & !0xffe == !0xffe {
                    journal.violation("R34", "a global device-TLB invalidation has bit 63 of its address clear");
                }
                let (first, last) = device_tlb_range(high);
                Ok(Self::DeviceTlb { source: (low >> 32) as u16, first, last })
            }
            4 if unit.remaps_interrupts() => {
                reserved(journal, bits(63, 48) | bits(26, 12) | bits(8, 5), u64::MAX)?;
                let mask = (low >> 27 & 0x1f) as u8;
                if low & 0x10 == 0 {
                    return Ok(Self::Interrupts(None));
                }
                if mask > unit.max_index_mask() {
                    journal.violation("R55", format_args!("index mask {mask} is above MHMV"));
                    return Err(Refused::Reserved);
                }
                Ok(Self::Interrupts(Some(((low >> 32) as u16, 1 << mask))))
            }
            5 => {
                let drain = if unit.drains_page_requests() { 0 } else { bits(7, 7) };
                reserved(journal, bits(31, 12) | bits(8, 8) | drain, bits(1, 0))?;
                let status = (low >> 5 & 1 != 0).then_some((high & bits(63, 2), (low >> 32) as u32));
                Ok(Self::Wait { status, interrupt: low >> 4 & 1 != 0, fence: low >> 6 & 1 != 0 })
            }
            _ => {
                journal.violation("R25b", format_args!("the unit has no descriptor of type {kind:#x}"));
                Err(Refused::Type)
            }
        }
    }
}

/// R25: draining is asked for where the unit offers it. From major version 2 on it always happens (section 6.5.2.3).
pub(crate) fn check_drain(reads: bool, writes: bool, unit: &Capability, journal: &mut Journal) {
    if unit.major() < 2 && (unit.drains_reads() && !reads || unit.drains_writes() && !writes) {
        journal.violation("R25", "an IOTLB invalidation without the draining that the unit offers");
    }
}

/// Range of a device-TLB invalidation: with S set, the number of ones from bit 12 up codes the size (PCI Express
/// specification, Address Translation Services; global: section 6.5.3.3).
fn device_tlb_range(high: u64) -> (u64, u64) {
    let address = high & !0xfff;
    if high & 1 == 0 {
        return (address, address | 0xfff);
    }
    let ones = (address >> 12).trailing_ones();
    let bytes = 8192_u64.checked_shl(ones).unwrap_or(0);
    // All of 62:12 set: everything (bit 63 is clear then).
    if ones >= 51 || bytes == 0 {
        return (0, u64::MAX);
    }
    let first = address & !(bytes - 1);
    (first, first | (bytes - 1))
}
