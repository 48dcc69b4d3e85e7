//! The IVRS of AMD-Vi.

use super::Table;

/// An IVRS with 48 bits of address width.
pub fn ivrs() -> Table {
    Table::new(b"IVRS").raw(&(48_u32 << 8 | 1).to_le_bytes()).raw(&[0; 8])
}

impl Table {
    /// An IVHD of type 10h (24 bytes of header), 11h or 40h (40 bytes) at segment 0.
    pub fn ivhd(self, kind: u8, device: u16, base: u64, entries: &[&[u8]]) -> Self {
        let mut body = device.to_le_bytes().to_vec();
        body.extend(0x40_u16.to_le_bytes());
        body.extend(base.to_le_bytes());
        body.extend([0; 8]);
        if kind != 0x10 {
            body.extend(0x1234_5678_9abc_def0_u64.to_le_bytes());
            body.extend([0; 8]);
        }
        body.extend(entries.concat());
        self.block(kind, 0, &body)
    }

    /// Reserved memory, or memory that no unit translates.
    pub fn ivmd(self, kind: u8, flags: u8, device: u16, auxiliary: u16, start: u64, bytes: u64) -> Self {
        let mut body = device.to_le_bytes().to_vec();
        body.extend(auxiliary.to_le_bytes());
        body.extend([0; 8]);
        body.extend(start.to_le_bytes());
        body.extend(bytes.to_le_bytes());
        self.block(kind, flags, &body)
    }

    /// Appends a block of the IVRS: its length is filled in.
    pub fn block(self, kind: u8, flags: u8, body: &[u8]) -> Self {
        let length = (body.len() + 4) as u16;
        self.raw(&[kind, flags]).raw(&length.to_le_bytes()).raw(body)
    }
}
