//! Protected memory regions (sections 3.14 and 11.4.8).
#![forbid(unsafe_code)]

/// Granularity of the regions: this many low bits of base and limit are not implemented.
pub(crate) const ALIGNMENT: u32 = 21;

/// No main memory from here up to 4 GiB: interrupt controllers and the units' registers are there.
pub(crate) const HIGHEST_IO: u64 = 0xfec0_0000;
pub(crate) const FOUR_GIB: u64 = 1 << 32;

/// PMEN, and base and limit of the two regions.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    /// EPM in bit 31, PRS in bit 0.
    pub(crate) enable: u32,
    pub(crate) low: (u32, u32),
    pub(crate) high: (u64, u64),
}

impl Protected {
    pub(crate) fn active(&self) -> bool {
        self.enable & 1 != 0
    }

    /// True if DMA to that physical address is blocked.
    pub(crate) fn blocks(&self, address: u64) -> bool {
        let rest = (1_u64 << ALIGNMENT) - 1;
        let within = |base: u64, limit: u64| (base..=limit | rest).contains(&address) && base <= limit;
        self.active() && (within(self.low.0.into(), self.low.1.into()) || within(self.high.0, self.high.1))
    }
}
