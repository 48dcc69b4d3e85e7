//! Root entry (S 9.1).
#![forbid(unsafe_code)]

use super::above;

/// Its two halves.
#[derive(Clone, Copy, Debug)]
pub(super) struct RootEntry(pub(super) [u64; 2]);

impl RootEntry {
    /// The context table, if the entry is present (bit 0; the pointer is in 63:12).
    pub(super) fn context_table(self) -> Option<u64> {
        let Self([lower, _]) = self;
        (lower & 1 != 0).then_some(lower & !0xfff)
    }

    /// What is set of the bits that are reserved in a present entry: 11:1, 63:HAW, 127:64.
    pub(super) fn reserved(self, host_bits: u8) -> [u64; 2] {
        let Self([lower, upper]) = self;
        [lower & (0xffe | above(host_bits)), upper]
    }
}
