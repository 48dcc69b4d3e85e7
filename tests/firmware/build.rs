//! Builds tables byte by byte, right or wrong. Shares no definition with the driver.

/// A table under construction.
#[derive(Clone)]
pub(crate) struct Builder(Vec<u8>);

/// A DMAR with 39 bits of address width and interrupt remapping.
pub(crate) fn dmar() -> Builder {
    let mut bytes = header(b"DMAR");
    bytes.extend([38, 1]);
    bytes.extend([0; 10]);
    Builder(bytes)
}

/// An IVRS with 48 bits of address width.
pub(crate) fn ivrs() -> Builder {
    let mut bytes = header(b"IVRS");
    bytes.extend((48_u32 << 8 | 1).to_le_bytes());
    bytes.extend([0; 8]);
    Builder(bytes)
}

fn header(signature: &[u8; 4]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend([0; 4]);
    bytes.extend([1, 0]);
    bytes.extend(b"VENDORMACHINE1");
    bytes.extend([0; 12]);
    assert_eq!(bytes.len(), 36);
    bytes
}

impl Builder {
    /// Sets one byte of what there is.
    pub(crate) fn set(mut self, offset: usize, value: u8) -> Self {
        self.0[offset] = value;
        self
    }

    /// Appends bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Appends a structure of the DMAR: its length is filled in.
    pub(crate) fn structure(self, kind: u16, body: &[u8]) -> Self {
        let length = (body.len() + 4) as u16;
        self.raw(&kind.to_le_bytes()).raw(&length.to_le_bytes()).raw(body)
    }

    pub(crate) fn drhd(self, flags: u8, segment: u16, base: u64, scopes: &[Vec<u8>]) -> Self {
        self.sized_drhd(flags, 0, segment, base, scopes)
    }

    pub(crate) fn sized_drhd(self, flags: u8, size: u8, segment: u16, base: u64, scopes: &[Vec<u8>]) -> Self {
        let mut body = vec![flags, size];
        body.extend(segment.to_le_bytes());
        body.extend(base.to_le_bytes());
        body.extend(scopes.concat());
        self.structure(0, &body)
    }

    pub(crate) fn rmrr(self, segment: u16, base: u64, limit: u64, scopes: &[Vec<u8>]) -> Self {
        let mut body = vec![0; 2];
        body.extend(segment.to_le_bytes());
        body.extend(base.to_le_bytes());
        body.extend(limit.to_le_bytes());
        body.extend(scopes.concat());
        self.structure(1, &body)
    }

    /// ATSR (2), SATC (5) or SIDP (6).
    pub(crate) fn listing(self, kind: u16, flags: u8, segment: u16, scopes: &[Vec<u8>]) -> Self {
        let mut body = vec![flags, 0];
        body.extend(segment.to_le_bytes());
        body.extend(scopes.concat());
        self.structure(kind, &body)
    }

    pub(crate) fn rhsa(self, base: u64, proximity: u32) -> Self {
        let mut body = vec![0; 4];
        body.extend(base.to_le_bytes());
        body.extend(proximity.to_le_bytes());
        self.structure(3, &body)
    }

    pub(crate) fn andd(self, number: u8, name: &[u8]) -> Self {
        let mut body = vec![0, 0, 0, number];
        body.extend(name);
        self.structure(4, &body)
    }

    /// An IVHD of type 10h (24 bytes of header), 11h or 40h (40 bytes) at segment 0.
    pub(crate) fn ivhd(self, kind: u8, device: u16, base: u64, entries: &[&[u8]]) -> Self {
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

    pub(crate) fn ivmd(self, kind: u8, flags: u8, device: u16, auxiliary: u16, start: u64, bytes: u64) -> Self {
        let mut body = device.to_le_bytes().to_vec();
        body.extend(auxiliary.to_le_bytes());
        body.extend([0; 8]);
        body.extend(start.to_le_bytes());
        body.extend(bytes.to_le_bytes());
        self.block(kind, flags, &body)
    }

    /// Appends a block of the IVRS: its length is filled in.
    pub(crate) fn block(self, kind: u8, flags: u8, body: &[u8]) -> Self {
        let length = (body.len() + 4) as u16;
        self.raw(&[kind, flags]).raw(&length.to_le_bytes()).raw(body)
    }

    /// The table, with length and checksum right.
    pub(crate) fn table(self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.table_of_length(length)
    }

    /// The table, with this length and a checksum that is right for it.
    pub(crate) fn table_of_length(mut self, length: u32) -> Vec<u8> {
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.0[9] = 0;
        let sum = self.0.iter().take(length as usize).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        self.0[9] = sum.wrapping_neg();
        self.0
    }

    /// Where the next structure will start.
    pub(crate) fn offset(&self) -> u32 {
        self.0.len() as u32
    }
}

/// A device scope with a path of `hops`.
pub(crate) fn scope(kind: u8, id: u8, bus: u8, hops: &[(u8, u8)]) -> Vec<u8> {
    let mut bytes = vec![kind, 6 + 2 * hops.len() as u8, 0, 0, id, bus];
    bytes.extend(hops.iter().flat_map(|&(device, function)| [device, function]));
    bytes
}

/// A PCI function on bus 0.
pub(crate) fn endpoint(device: u8, function: u8) -> Vec<u8> {
    scope(1, 0, 0, &[(device, function)])
}

/// A bridge on bus 0.
pub(crate) fn bridge(device: u8, function: u8) -> Vec<u8> {
    scope(2, 0, 0, &[(device, function)])
}

pub(crate) fn ioapic(id: u8) -> Vec<u8> {
    scope(3, id, 0xf0, &[(0x1f, 0)])
}
