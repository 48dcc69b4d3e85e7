//! Protected memory regions (sections 3.14 and 11.4.8).
#![forbid(unsafe_code)]

use super::{Board, Unit, global};

/// Granularity of the regions: this many low bits of base and limit are not implemented.
const ALIGNMENT: u32 = 21;

/// No main memory from here up to 4 GiB: interrupt controllers and the units' registers are there.
const HIGHEST_IO: u64 = 0xfec0_0000;
const FOUR_GIB: u64 = 1 << 32;

/// PMEN, and base and limit of the two regions.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    /// EPM in bit 31, PRS in bit 0.
    pub(crate) enable: u32,
    pub(crate) low: (u32, u32),
    pub(crate) high: (u64, u64),
}

impl Protected {
    fn active(&self) -> bool {
        self.enable & 1 != 0
    }

    /// True if DMA to that physical address is blocked.
    pub(crate) fn blocks(&self, address: u64) -> bool {
        let rest = (1_u64 << ALIGNMENT) - 1;
        let within = |base: u64, limit: u64| (base..=limit | rest).contains(&address) && base <= limit;
        self.active() && (within(self.low.0.into(), self.low.1.into()) || within(self.high.0, self.high.1))
    }
}

impl Unit {
    pub(super) fn protect(&mut self, value: u32, board: &mut Board) {
        if !self.capability.has_protected_low() && !self.capability.has_protected_high() {
            return;
        }
        let enable = value >> 31 != 0;
        if self.protected.active() && !enable && !self.global.on(global::TE) {
            board.journal.violation("R12", "protected memory is switched off before translation is on");
        }
        self.protected.enable = value & 1 << 31 | self.protected.enable & 1;
        let io = |base: u64, limit: u64| base <= limit && base < FOUR_GIB && limit >= HIGHEST_IO;
        let (low, high) = (self.protected.low, self.protected.high);
        if enable && (io(low.0.into(), low.1.into()) || io(high.0, high.1)) {
            board.journal.violation("R12", "a protected memory region covers memory-mapped I/O");
        }
        self.protect_at = (!self.defects.protection_stuck).then(|| board.journal.now + self.latency());
    }

    /// PRS follows EPM.
    pub(super) fn protection_follows(&mut self) {
        let enable = self.protected.enable >> 31;
        self.protected.enable = self.protected.enable & 1 << 31 | enable;
        self.protect_at = None;
    }

    pub(super) fn protect_low(&mut self, value: u32, limit: bool, board: &mut Board) {
        if !self.capability.has_protected_low() {
            return;
        }
        self.check_unprotected(board);
        let place = if limit { &mut self.protected.low.1 } else { &mut self.protected.low.0 };
        *place = value & !((1 << ALIGNMENT) - 1);
    }

    pub(super) fn protect_high(&mut self, at: u32, value: u32, limit: bool, board: &mut Board) {
        if !self.capability.has_protected_high() {
            return;
        }
        self.check_unprotected(board);
        let place = if limit { &mut self.protected.high.1 } else { &mut self.protected.high.0 };
        let shift = 8 * (at & 4);
        *place = (*place & !(0xffff_ffff << shift) | u64::from(value) << shift) & !((1 << ALIGNMENT) - 1);
    }

    fn check_unprotected(&self, board: &mut Board) {
        if self.protected.active() {
            board.journal.violation("R12", "a protected memory region is changed while it is enabled");
        }
    }
}
