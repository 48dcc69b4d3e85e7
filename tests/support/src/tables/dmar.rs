//! The DMAR of VT-d (chapter 8).

use super::Table;

/// A DMAR with 39 bits of address width and interrupt remapping.
pub fn dmar() -> Table {
    Table::new(b"DMAR").raw(&[38, 1]).raw(&[0; 10])
}

impl Table {
    /// Appends a structure of the DMAR: its length is filled in.
    pub fn structure(self, kind: u16, body: &[u8]) -> Self {
        let length = (body.len() + 4) as u16;
        self.raw(&kind.to_le_bytes()).raw(&length.to_le_bytes()).raw(body)
    }

    /// A unit with the smallest register set.
    pub fn drhd(self, flags: u8, segment: u16, base: u64, scopes: &[Vec<u8>]) -> Self {
        self.sized_drhd(flags, 0, segment, base, scopes)
    }

    /// A unit with a register set of 2 to the power of `size` pages.
    pub fn sized_drhd(self, flags: u8, size: u8, segment: u16, base: u64, scopes: &[Vec<u8>]) -> Self {
        let mut body = vec![flags, size];
        body.extend(segment.to_le_bytes());
        body.extend(base.to_le_bytes());
        body.extend(scopes.concat());
        self.structure(0, &body)
    }

    /// Reserved memory, from its first to its last byte.
    pub fn rmrr(self, segment: u16, base: u64, limit: u64, scopes: &[Vec<u8>]) -> Self {
        let mut body = vec![0; 2];
        body.extend(segment.to_le_bytes());
        body.extend(base.to_le_bytes());
        body.extend(limit.to_le_bytes());
        body.extend(scopes.concat());
        self.structure(1, &body)
    }

    /// Root ports behind which devices may use ATS; flag 0 has all of the segment.
    pub fn atsr(self, flags: u8, segment: u16, scopes: &[Vec<u8>]) -> Self {
        self.listing(2, flags, segment, scopes)
    }

    /// Devices of the SoC with a cache of their own; flag 0 has it required.
    pub fn satc(self, flags: u8, segment: u16, scopes: &[Vec<u8>]) -> Self {
        self.listing(5, flags, segment, scopes)
    }

    /// Devices with properties.
    pub fn sidp(self, flags: u8, segment: u16, scopes: &[Vec<u8>]) -> Self {
        self.listing(6, flags, segment, scopes)
    }

    /// A structure of flags, a segment and scopes.
    pub fn listing(self, kind: u16, flags: u8, segment: u16, scopes: &[Vec<u8>]) -> Self {
        let mut body = vec![flags, 0];
        body.extend(segment.to_le_bytes());
        body.extend(scopes.concat());
        self.structure(kind, &body)
    }

    /// Which proximity domain a unit is in.
    pub fn rhsa(self, base: u64, proximity: u32) -> Self {
        let mut body = vec![0; 4];
        body.extend(base.to_le_bytes());
        body.extend(proximity.to_le_bytes());
        self.structure(3, &body)
    }

    /// A device of the ACPI namespace.
    pub fn andd(self, number: u8, name: &[u8]) -> Self {
        let mut body = vec![0, 0, 0, number];
        body.extend(name);
        self.structure(4, &body)
    }
}

/// A device scope with a path of `hops`.
pub fn scope(kind: u8, id: u8, bus: u8, hops: &[(u8, u8)]) -> Vec<u8> {
    let mut bytes = vec![kind, 6 + 2 * hops.len() as u8, 0, 0, id, bus];
    bytes.extend(hops.iter().flat_map(|&(device, function)| [device, function]));
    bytes
}

/// A PCI function on bus 0.
pub fn endpoint(device: u8, function: u8) -> Vec<u8> {
    scope(1, 0, 0, &[(device, function)])
}

/// A bridge on bus 0.
pub fn bridge(device: u8, function: u8) -> Vec<u8> {
    scope(2, 0, 0, &[(device, function)])
}

/// An IOAPIC, whose interrupts come from f0:1f.0.
pub fn ioapic(id: u8) -> Vec<u8> {
    scope(3, id, 0xf0, &[(0x1f, 0)])
}
