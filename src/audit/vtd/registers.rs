//! The registers that say how a unit translates, and remaps interrupts (S 11.4.2 to 11.4.5, 11.4.10).
//!
//! | register | bits |
//! |---|---|
//! | CAP, 0x08 | 2:0 ND, 12:8 SAGAW, 21:16 MGAW, 35:34 SSLPS |
//! | ECAP, 0x10 | 2 DT, 6 PT, 7 SC, 52 ADMS |
//! | GSTS, 0x1c | 31 TES, 30 RTPS, 25 IRES, 24 IRTPS, 23 CFIS |
//! | RTADDR, 0x20 | 63:12 RTA, 11:10 TTM, 7 SSIRWE, others reserved |

use super::interrupts::LiveInterrupts;
use crate::addr::PhysAddr;
use crate::hal::{Hal, MappedRegisters};

/// What a unit does to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No unit answers.
    Unresponsive,
    /// Requests are not translated at all.
    Off,
    /// Every request is blocked.
    Abort,
    /// Requests are translated by the root table there.
    Legacy(PhysAddr),
    /// By tables of another kind, or none that a unit can have.
    Unknown,
}

/// What they read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveRegisters {
    pub(super) cap: u64,
    pub(super) ecap: u64,
    pub(super) gsts: u32,
    pub(super) rtaddr: u64,
}

impl LiveRegisters {
    /// Those that are mapped nowhere are as those of a unit that does not answer.
    pub(crate) fn read(hal: &impl Hal, mapped: Option<MappedRegisters>) -> Self {
        let Some(mapped) = mapped else {
            return Self { cap: u64::MAX, ecap: u64::MAX, gsts: u32::MAX, rtaddr: u64::MAX };
        };
        // SAFETY: every unit has this register, in the first page of its window.
        let cap = unsafe { hal.read64(mapped, 0x08) };
        // SAFETY: as above.
        let ecap = unsafe { hal.read64(mapped, 0x10) };
        // SAFETY: as above.
        let gsts = unsafe { hal.read32(mapped, 0x1c) };
        // SAFETY: as above.
        let rtaddr = unsafe { hal.read64(mapped, 0x20) };
        Self { cap, ecap, gsts, rtaddr }
    }

    pub(crate) fn mode(&self) -> Mode {
        if self.gsts == u32::MAX || self.cap == u64::MAX || self.ecap == u64::MAX {
            return Mode::Unresponsive;
        }
        // The root pointer that counts is the one that was set (RTPS).
        if self.gsts >> 30 != 0b11 {
            return Mode::Off;
        }
        match self.rtaddr & 0xfff {
            0 => PhysAddr::try_new(self.rtaddr).map_or(Mode::Unknown, Mode::Legacy),
            0xc00 if self.ecap >> 52 & 1 != 0 => Mode::Abort,
            _ => Mode::Unknown,
        }
    }

    /// True if interrupts are remapped (IRES).
    pub(crate) fn remaps_interrupts(&self) -> bool {
        self.gsts >> 25 & 1 != 0
    }

    /// True if interrupts are remapped by a table that was set, and by nothing else (IRES, IRTPS, CFIS).
    pub(crate) fn remaps_all_interrupts(&self) -> bool {
        self.gsts >> 23 & 0b111 == 0b110
    }

    /// IRTA as it reads, of a unit that has it.
    pub(crate) fn interrupt_table_address(&self, hal: &impl Hal, mapped: Option<MappedRegisters>) -> u64 {
        // SAFETY: every unit that remaps interrupts has this register, in the first page of its window.
        mapped.map_or(u64::MAX, |mapped| unsafe { hal.read64(mapped, 0xb8) })
    }

    /// The table that a value of IRTA leads to.
    pub(crate) fn interrupts(&self, pointer: u64) -> LiveInterrupts {
        LiveInterrupts::at(pointer, self.cap >> 59 & 1 != 0)
    }

    /// RTADDR as it reads.
    pub(crate) fn root_table_address(&self) -> u64 {
        self.rtaddr
    }

    /// Bits of a domain-id (ND).
    pub(super) fn domain_bits(&self) -> u8 {
        4 + 2 * (self.cap & 0b111) as u8
    }

    /// True if page tables may have so many levels (SAGAW).
    pub(super) fn supports_levels(&self, levels: u8) -> bool {
        matches!(levels, 3..=5) && self.cap >> (8 + levels - 2) & 1 != 0
    }

    /// Width of an input address (MGAW).
    pub(super) fn input_bits(&self) -> u8 {
        (self.cap >> 16 & 0x3f) as u8 + 1
    }

    /// True if an entry at this level may map a page (SSLPS).
    pub(super) fn supports_page(&self, level: u8) -> bool {
        match level {
            1 => true,
            2 => self.cap >> 34 & 1 != 0,
            3 => self.cap >> 35 & 1 != 0,
            _ => false,
        }
    }

    /// True if there are device-TLBs (DT).
    pub(super) fn device_tlb(&self) -> bool {
        self.ecap >> 2 & 1 != 0
    }

    /// True if requests may be passed through (PT).
    pub(super) fn pass_through(&self) -> bool {
        self.ecap >> 6 & 1 != 0
    }

    /// True if SNP is no reserved bit (SC).
    pub(super) fn snoop_control(&self) -> bool {
        self.ecap >> 7 & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Feature = fn(&LiveRegisters) -> bool;

    const UNIT: LiveRegisters = LiveRegisters { cap: 0, ecap: 0, gsts: 0b11 << 30, rtaddr: 0 };

    #[test]
    fn a_unit_does_what_its_registers_say() {
        assert_eq!(LiveRegisters { rtaddr: 0x5000, ..UNIT }.mode(), Mode::Legacy(PhysAddr::new(0x5000)));
        for unresponsive in [
            LiveRegisters { cap: u64::MAX, ..UNIT },
            LiveRegisters { ecap: u64::MAX, ..UNIT },
            LiveRegisters { gsts: u32::MAX, ..UNIT },
        ] {
            assert_eq!(unresponsive.mode(), Mode::Unresponsive);
        }
        for gsts in [0, 1 << 31, 1 << 30, !(1 << 31), !(1 << 30)] {
            assert_eq!(LiveRegisters { gsts, ..UNIT }.mode(), Mode::Off, "{gsts:#x}");
        }
        for (rtaddr, ecap, mode) in [
            (0x5c00, 1 << 52, Mode::Abort),
            (0x5c00, 0, Mode::Unknown),
            (0x5c00, !(1 << 52), Mode::Unknown),
            (0x5400, 1 << 52, Mode::Unknown),
            (0x5c80, 1 << 52, Mode::Unknown),
            (1 << 52, 1 << 52, Mode::Unknown),
        ] {
            assert_eq!(LiveRegisters { rtaddr, ecap, ..UNIT }.mode(), mode, "{rtaddr:#x}, {ecap:#x}");
        }
    }

    #[test]
    fn widths_are_those_that_the_unit_says() {
        let bits = |cap| (LiveRegisters { cap, ..UNIT }.domain_bits(), LiveRegisters { cap, ..UNIT }.input_bits());
        assert_eq!(bits(0), (4, 1));
        assert_eq!(bits(1 | 38 << 16), (6, 39));
        assert_eq!(bits(6 | 47 << 16), (16, 48));
        assert_eq!(bits(!(0b111 | 0x3f << 16)), (4, 1), "no other bits");
    }

    #[test]
    fn each_feature_is_in_its_own_bit() {
        for (levels, bit) in [(3, 9), (4, 10), (5, 11)] {
            let unit = |cap| LiveRegisters { cap, ..UNIT };
            assert!(
                unit(1 << bit).supports_levels(levels) && !unit(!(1 << bit)).supports_levels(levels),
                "{levels} levels"
            );
        }
        for levels in [2, 6] {
            assert!(!LiveRegisters { cap: u64::MAX, ..UNIT }.supports_levels(levels), "{levels} levels: reserved");
        }
        for (level, bit) in [(2, 34), (3, 35)] {
            let unit = |cap| LiveRegisters { cap, ..UNIT };
            assert!(unit(1 << bit).supports_page(level) && !unit(!(1 << bit)).supports_page(level), "level {level}");
        }
        assert!(UNIT.supports_page(1) && !LiveRegisters { cap: u64::MAX, ..UNIT }.supports_page(4));
        assert!(LiveRegisters { gsts: 1 << 25, ..UNIT }.remaps_interrupts());
        assert!(!LiveRegisters { gsts: !(1 << 25), ..UNIT }.remaps_interrupts());
        for gsts in 0..8 {
            assert_eq!(LiveRegisters { gsts: !0 << 26 | gsts << 23, ..UNIT }.remaps_all_interrupts(), gsts == 0b110);
        }
        let features: [(Feature, u32); 3] =
            [(LiveRegisters::device_tlb, 2), (LiveRegisters::pass_through, 6), (LiveRegisters::snoop_control, 7)];
        for (feature, bit) in features {
            let unit = |ecap| LiveRegisters { ecap, ..UNIT };
            assert!(feature(&unit(1 << bit)) && !feature(&unit(!(1 << bit))), "bit {bit}");
        }
    }
}
