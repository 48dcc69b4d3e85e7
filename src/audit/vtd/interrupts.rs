//! The table of interrupts (S 5.1.3, 9.9), which IRTA_REG leads to (S 11.4.10): 63:12 the table, 11 EIME, 3:0 S, for 2^(S + 1)
//! entries.
//!
//! | bits of an entry | field |
//! |---|---|
//! | 0 | P |
//! | 1 | FPD: concerns faults alone |
//! | 2 | DM: 1 logical |
//! | 3 | RH |
//! | 4 | TM: 1 level |
//! | 7:5 | DLM: 000 fixed, 001 lowest priority; all others are for what no device is to send |
//! | 11:8 | ignored |
//! | 15 | IM: 1 posted |
//! | 14:12, 31:24 | reserved; of a posted one 14 URG, and 37:24 and 7:2 reserved |
//! | 23:16 | V |
//! | 63:32 | DST; without EIME 47:40, others reserved |
//! | 79:64 | SID |
//! | 81:80 | SQ: 01 leaves bit 2 out, 10 bits 2:1, 11 bits 2:0 |
//! | 83:82 | SVT: 00 none, 01 by SID and SQ, 10 by the buses from SID 15:8 to SID 7:0, 11 reserved |
//! | 127:84 | reserved; of a posted one 127:96 bits 63:32 of the descriptor's address, whose bits 31:6 are in 63:38 |
#![forbid(unsafe_code)]

use crate::addr::{PhysAddr, Requester};
use crate::hal::Hal;
use crate::interrupt::{Cpus, Delivery, FoundCourse, Route, Senders, SlotBlock, Trigger};

/// Where a unit's table of interrupts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveInterrupts {
    base: u64,
    entries: u32,
    extended: bool,
    /// The unit can post interrupts (CAP_REG.PI).
    posts: bool,
}

/// An entry that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveInterrupt {
    pub index: u16,
    halves: [u64; 2],
    extended: bool,
    posts: bool,
}

impl LiveInterrupts {
    pub(super) fn at(pointer: u64, posts: bool) -> Self {
        Self { base: pointer & !0xfff, entries: 2 << (pointer & 0xf), extended: pointer >> 11 & 1 != 0, posts }
    }

    /// Calls `each` with the entries that are present. False if part of the table cannot be read.
    pub(crate) fn entries(&self, hal: &impl Hal, mut each: impl FnMut(LiveInterrupt)) -> bool {
        let mut all = (0..self.entries).map(|index| self.entry(hal, index as u16));
        all.all(|entry| entry.map(|entry| entry.into_iter().for_each(&mut each)).is_some())
    }

    /// True if no entry of a block is present, as far as there are any. False if one cannot be read.
    pub(crate) fn has_none_in(&self, hal: &impl Hal, block: SlotBlock) -> bool {
        let mut slots = (0..=u16::MAX).map_while(|index| block.nth(index));
        slots.all(|slot| u32::from(slot) >= self.entries || self.entry(hal, slot) == Some(None))
    }

    /// An entry, if it is present. `None` if it cannot be read, or there are not so many.
    pub(crate) fn entry(&self, hal: &impl Hal, index: u16) -> Option<Option<LiveInterrupt>> {
        if u32::from(index) >= self.entries {
            return None;
        }
        let at = self.base.wrapping_add(u64::from(index) * 16);
        let word = |at: u64| PhysAddr::try_new(at).ok().and_then(|at| hal.word_at(at));
        let (lower, upper) = word(at).zip(word(at.wrapping_add(8)))?;
        let entry = LiveInterrupt { index, halves: [lower, upper], extended: self.extended, posts: self.posts };
        Some((lower & 1 != 0).then_some(entry))
    }
}

impl LiveInterrupt {
    /// Where it goes, if it is one of those that a cell may have, and the entry is one that hardware takes.
    pub(crate) fn route(&self) -> Option<Route> {
        let [lower, upper] = self.halves;
        let reserved = lower & 0xff00_f000 != 0 || upper >> 20 != 0 || upper >> 18 & 0b11 == 0b11;
        let wide = !self.extended && lower >> 32 & 0xffff_00ff != 0;
        let delivery = match lower >> 5 & 0b111 {
            0b000 => Delivery::Fixed,
            0b001 => Delivery::LowestPriority,
            _ => return None,
        };
        if reserved || wide {
            return None;
        }
        let id = if self.extended { (lower >> 32) as u32 } else { (lower >> 40) as u32 & 0xff };
        let cpus = if lower >> 2 & 1 == 0 { Cpus::Physical(id) } else { Cpus::Logical(id) };
        let trigger = if lower >> 4 & 1 == 0 { Trigger::Edge } else { Trigger::Level };
        Some(Route { vector: (lower >> 16) as u8, cpus, delivery, trigger })
    }

    /// Where it is recorded: the descriptor, the vector, and whether it is urgent; if hardware takes such an entry (S 9.10).
    pub(crate) fn posting(&self) -> Option<(PhysAddr, u8, bool)> {
        let [lower, upper] = self.halves;
        let reserved = lower & 0x3f_ff00_30fc != 0 || upper >> 20 & 0xfff != 0 || upper >> 18 & 0b11 == 0b11;
        let descriptor = PhysAddr::try_new(upper >> 32 << 32 | lower >> 32 & 0xffff_ffc0).ok()?;
        (self.posts && lower >> 15 & 1 != 0 && !reserved).then_some((
            descriptor,
            (lower >> 16) as u8,
            lower >> 14 & 1 != 0,
        ))
    }

    /// What becomes of what it takes.
    pub(crate) fn course(&self) -> FoundCourse {
        match (self.route(), self.posting()) {
            (Some(route), _) => FoundCourse::Remapped(route),
            (None, Some((descriptor, vector, urgent))) => FoundCourse::Posted { descriptor, vector, urgent },
            (None, None) => FoundCourse::Neither,
        }
    }

    /// True if it goes to one of the CPUs (RH).
    pub(crate) fn goes_to_one(&self) -> bool {
        let [lower, _] = self.halves;
        lower >> 3 & 1 != 0
    }

    /// True if the entry takes requests with this id.
    pub(crate) fn takes(&self, requester: Requester) -> bool {
        let [_, upper] = self.halves;
        let (id, other) = (upper as u16, requester.get());
        match upper >> 18 & 0b11 {
            0b00 => true,
            0b01 => {
                let compared = match upper >> 16 & 0b11 {
                    0b00 => 0xffff,
                    0b01 => 0xfffb,
                    0b10 => 0xfff9,
                    _ => 0xfff8,
                };
                id & compared == other & compared
            }
            0b10 => (id >> 8..=id & 0xff).contains(&(other >> 8)),
            _ => false,
        }
    }

    /// Whose requests it takes, unless it takes all, or hardware refuses it.
    pub(crate) fn senders(&self) -> Option<Senders> {
        let [_, upper] = self.halves;
        let [last, first, ..] = upper.to_le_bytes();
        match upper >> 18 & 0b11 {
            0b01 => {
                Some(Senders::Functions { requester: Requester::new(upper as u16), free: (upper >> 16 & 0b11) as u8 })
            }
            0b10 => Some(Senders::Buses { first, last }),
            _ => None,
        }
    }

    /// True if the CPUs are in x2APIC mode, by the register.
    pub(crate) fn is_extended(&self) -> bool {
        self.extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(lower: u64, upper: u64, extended: bool) -> LiveInterrupt {
        LiveInterrupt { index: 0, halves: [lower, upper], extended, posts: true }
    }

    #[test]
    fn what_no_cell_may_have_and_what_hardware_refuses_is_no_route() {
        let route = Route { cpus: Cpus::Physical(0x12), ..Route::to(0, 0x31) };
        assert_eq!(entry(0x1200_0031_0001, 0x4_01f8, false).route(), Some(route));
        assert_eq!(entry(0x1200_0031_0001, 0x4_01f8, true).route(), Some(Route::to(0x1200, 0x31)));
        for mode in 2..8 {
            assert_eq!(entry(0x1200_0031_0001 | mode << 5, 0x4_01f8, false).route(), None, "delivery mode {mode}");
        }
        for bit in [12, 13, 14, 15, 24, 31, 32, 39, 48, 63] {
            assert_eq!(entry(0x1200_0031_0001 | 1 << bit, 0x4_01f8, false).route(), None, "bit {bit}");
        }
        assert_eq!(entry(0x1200_0031_0001, 0xc_01f8, false).route(), None);
        assert_eq!(entry(0x1200_0031_0001, 0x14_01f8, false).route(), None);
        assert!(entry(0x1200_0031_0f03, 0x4_01f8, false).route().is_some(), "ignored bits and FPD");
    }

    #[test]
    fn who_is_taken_is_said_by_the_upper_half() {
        let takes = |upper, id| entry(1, upper, false).takes(Requester::new(id));
        assert!(takes(0, 0x1f8) && entry(1, 0, false).senders().is_none());
        let functions = Senders::Functions { requester: Requester::new(0x1f8), free: 2 };
        assert_eq!(entry(1, 0x6_01f8, false).senders(), Some(functions));
        assert_eq!(entry(1, 0x8_0209, false).senders(), Some(Senders::Buses { first: 2, last: 9 }));
        assert!(takes(0x4_01f8, 0x1f8) && !takes(0x4_01f8, 0x1fc) && takes(0x5_01f8, 0x1fc) && !takes(0x5_01f8, 0x1fa));
        assert!(takes(0x6_01f8, 0x1fe) && !takes(0x6_01f8, 0x1f9) && takes(0x7_01f8, 0x1ff) && !takes(0x7_01f8, 0x1f0));
        assert_eq!([0x1ff, 0x200, 0x9ff, 0xa00].map(|id| takes(0x8_0209, id)), [false, true, true, false]);
        assert!(!takes(0xc_01f8, 0x1f8));
    }

    #[test]
    fn a_posted_entry_has_a_descriptor_and_no_route() {
        let (lower, upper) = (0xa987_6540_0083_8001, 0x000f_edcb_0004_01f8);
        let at = PhysAddr::new_truncate(0x000f_edcb_a987_6540);
        assert_eq!(entry(lower, upper, false).posting(), Some((at, 0x83, false)));
        assert_eq!(entry(lower | 1 << 14, upper, true).posting(), Some((at, 0x83, true)));
        assert_eq!(entry(lower, upper, false).route(), None);
        let descriptor = FoundCourse::Posted { descriptor: at, vector: 0x83, urgent: false };
        assert_eq!(entry(lower, upper, false).course(), descriptor);
        for bit in [2, 7, 12, 13, 24, 37] {
            assert_eq!(entry(lower | 1 << bit, upper, false).course(), FoundCourse::Neither, "{bit}");
        }
        for bit in [19, 20, 31] {
            assert_eq!(entry(lower, upper | 1 << bit, false).course(), FoundCourse::Neither, "64 + {bit}");
        }
        assert_eq!(entry(lower & !(1 << 15), upper, false).posting(), None);
        let elsewhere = LiveInterrupt { posts: false, ..entry(lower, upper, false) };
        assert_eq!(elsewhere.course(), FoundCourse::Neither, "the unit posts none");
    }
}
