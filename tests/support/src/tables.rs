//! Firmware's tables, byte by byte, right or wrong. Shares no definition with the driver.
#![forbid(unsafe_code)]

mod dmar;
mod ivrs;
mod machine;

pub use dmar::{bridge, dmar, endpoint, ioapic, scope};
pub use ivrs::ivrs;
pub use machine::{of_machine, of_machine_with};

/// A table under construction.
#[derive(Clone, Debug)]
pub struct Table(Vec<u8>);

impl Table {
    /// A header without anything behind it.
    fn new(signature: &[u8; 4]) -> Self {
        let mut bytes = signature.to_vec();
        bytes.extend([0; 4]);
        bytes.extend([1, 0]);
        bytes.extend(b"VENDORMACHINE1");
        bytes.extend([0; 12]);
        assert_eq!(bytes.len(), 36);
        Self(bytes)
    }

    /// Sets one byte of what there is.
    pub fn set(mut self, offset: usize, value: u8) -> Self {
        self.0[offset] = value;
        self
    }

    /// Appends bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// The table, with length and checksum right.
    pub fn table(self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.table_of_length(length)
    }

    /// The table, with this length and a checksum that is right for it.
    pub fn table_of_length(mut self, length: u32) -> Vec<u8> {
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.0[9] = 0;
        let sum = self.0.iter().take(length as usize).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        self.0[9] = sum.wrapping_neg();
        self.0
    }

    /// Where the next structure will start.
    pub fn offset(&self) -> u32 {
        self.0.len() as u32
    }
}
