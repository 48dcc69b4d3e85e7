//! Root, context and second-stage paging entries (sections 9.1, 9.3 and 9.8).
#![forbid(unsafe_code)]

use crate::vtd::formats::capability::Capability;

/// The interrupt address range, where DMA is a message (section 3.15).
pub(crate) const INTERRUPTS: std::ops::RangeInclusive<u64> = 0xfee0_0000..=0xfeef_ffff;

/// Address bits 63:12.
const ADDRESS: u64 = !0xfff;

/// Address bits from the host address width on, which are reserved in all entries.
fn above(width: u8) -> u64 {
    u64::MAX.checked_shl(width.into()).unwrap_or(0)
}

/// Section 9.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RootEntry(pub(crate) [u64; 2]);

impl RootEntry {
    pub(crate) fn present(self) -> bool {
        self.0[0] & 1 != 0
    }

    pub(crate) fn context_table(self) -> u64 {
        self.0[0] & ADDRESS
    }

    pub(crate) fn reserved(self, unit: &Capability) -> bool {
        self.0[0] & (0xffe | above(unit.haw)) != 0 || self.0[1] != 0
    }
}

/// TT of a context entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Translation {
    /// 00: untranslated requests through the tables, all others blocked.
    Untranslated,
    /// 01: the same, and requests of a device-TLB.
    DeviceTlb,
    /// 10: untranslated requests as they are.
    PassThrough,
}

/// Section 9.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ContextEntry(pub(crate) [u64; 2]);

impl ContextEntry {
    pub(crate) fn present(self) -> bool {
        self.0[0] & 1 != 0
    }

    pub(crate) fn if_present(self) -> Option<Self> {
        self.present().then_some(self)
    }

    /// What hardware makes of it: of an entry that is not present, FPD alone counts.
    pub(crate) fn effect(self) -> Self {
        self.if_present().unwrap_or(Self([self.0[0] & 2, 0]))
    }

    /// FPD: faults of this source are not recorded.
    pub(crate) fn faults_disabled(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// TT as far as the unit supports it.
    pub(crate) fn translation(self, unit: &Capability) -> Option<Translation> {
        match self.0[0] >> 2 & 3 {
            0 => Some(Translation::Untranslated),
            1 if unit.has_device_tlb() => Some(Translation::DeviceTlb),
            2 if unit.passes_through() => Some(Translation::PassThrough),
            _ => None,
        }
    }

    pub(crate) fn table(self) -> u64 {
        self.0[0] & ADDRESS
    }

    /// Levels of the page table: AW plus two, supported or not.
    pub(crate) fn levels(self) -> u8 {
        (self.0[1] & 7) as u8 + 2
    }

    pub(crate) fn domain(self) -> u16 {
        (self.0[1] >> 8) as u16
    }

    /// What all entries of one domain-id have in common: page table and levels, or none where requests pass through.
    pub(crate) fn format(self) -> (u64, u8) {
        if self.0[0] >> 2 & 3 == 2 { (0, 0) } else { (self.table(), self.levels()) }
    }

    /// True if a bit is set that is reserved in a unit of these capabilities.
    pub(crate) fn reserved(self, unit: &Capability) -> bool {
        let pass_through = self.translation(unit) == Some(Translation::PassThrough);
        let address = if pass_through { 0 } else { above(unit.haw) };
        let domain = 0xffff & !((1_u64 << unit.domain_bits()) - 1);
        self.0[0] & (0xff0 | address) != 0 || self.0[1] & (0x80 | domain << 8 | u64::MAX << 24) != 0
    }
}

/// Section 9.8, with the second-stage I/O read and write bits off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageEntry(pub(crate) u64);

impl PageEntry {
    pub(crate) fn readable(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// SNP.
    pub(crate) fn snoops(self) -> bool {
        self.0 & 1 << 11 != 0
    }

    /// The same entry with no more rights than these, as a cache has it.
    pub(crate) fn with_rights(self, rights: u64) -> Self {
        Self(self.0 & (!3 | rights))
    }

    /// R or W: what is neither is not present.
    pub(crate) fn present(self) -> bool {
        self.0 & 3 != 0
    }

    pub(crate) fn address(self) -> u64 {
        self.0 & 0x000f_ffff_ffff_f000
    }

    /// True if the entry maps a page, at that level.
    pub(crate) fn leaf(self, level: u8) -> bool {
        level == 1 || level <= 3 && self.0 & 0x80 != 0
    }

    /// Tables 41 to 47.
    pub(crate) fn reserved(self, level: u8, unit: &Capability) -> bool {
        let mut reserved = 1 << 62 | above(unit.haw) & 0x000f_ffff_ffff_ffff;
        if self.leaf(level) {
            reserved |= (page_bytes(level) - 1) & ADDRESS;
            if !unit.snoop_control() {
                reserved |= 1 << 11;
            }
            if !unit.leaf(level) {
                reserved |= 1 << 7;
            }
        } else {
            reserved |= 1 << 11 | 1 << 7;
        }
        self.0 & reserved != 0
    }
}

/// Bytes that one entry of that level covers.
pub(crate) fn page_bytes(level: u8) -> u64 {
    1 << (12 + 9 * (u32::from(level) - 1))
}

/// Index into a table of that level.
pub(crate) fn index(address: u64, level: u8) -> u64 {
    address >> (12 + 9 * (u32::from(level) - 1)) & 0x1ff
}
