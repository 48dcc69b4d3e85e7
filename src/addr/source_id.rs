#![forbid(unsafe_code)]

use core::fmt;

/// Who a request comes from: PCI segment, bus, device and function (VT-d 5.10, section 3.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    segment: u16,
    requester: u16,
}

impl SourceId {
    /// The function `function` (0 to 7) of device `device` (0 to 31); `None` if one is larger than that.
    pub const fn new(segment: u16, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self { segment, requester: (bus as u16) << 8 | (device as u16) << 3 | function as u16 })
    }

    /// The source with this 16-bit requester-id: bus in bits 15:8, device in 7:3, function in 2:0.
    pub const fn from_requester(segment: u16, requester: u16) -> Self {
        Self { segment, requester }
    }

    /// The PCI segment group.
    pub const fn segment(self) -> u16 {
        self.segment
    }

    /// The 16-bit requester-id.
    pub const fn requester(self) -> u16 {
        self.requester
    }

    /// The bus.
    pub const fn bus(self) -> u8 {
        (self.requester >> 8) as u8
    }

    /// The device number, 0 to 31.
    pub const fn device(self) -> u8 {
        (self.requester >> 3) as u8 & 0x1f
    }

    /// The function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.requester as u8 & 7
    }

    /// Device and function as one byte, as they index a context table.
    pub const fn devfn(self) -> u8 {
        self.requester as u8
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, bus, device, function) = (self.segment, self.bus(), self.device(), self.function());
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceId({self})")
    }
}

/// The part of a source-id that a unit sees, since all its devices are in one segment: bus in bits 15:8, device in 7:3,
/// function in 2:0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester(u16);

impl Requester {
    /// The requester with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device and function as one byte, as they index a context table.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }

    /// The source-id in a segment.
    pub const fn in_segment(self, segment: u16) -> SourceId {
        SourceId::from_requester(segment, self.0)
    }
}

impl From<SourceId> for Requester {
    fn from(source: SourceId) -> Self {
        Self(source.requester())
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bus, device, function) = (self.bus(), self.devfn() >> 3, self.devfn() & 7);
        write!(f, "{bus:02x}:{device:02x}.{function}")
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requester({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_where_pci_has_them() {
        let id = SourceId::new(1, 0x3a, 0x1f, 7).unwrap();
        assert_eq!(id.requester(), 0x3aff);
        assert_eq!((id.segment(), id.bus(), id.device(), id.function(), id.devfn()), (1, 0x3a, 0x1f, 7, 0xff));
        assert_eq!(SourceId::from_requester(1, 0x3aff), id);
        assert_eq!(id.to_string(), "0001:3a:1f.7");
    }

    #[test]
    fn a_part_out_of_range_is_refused() {
        assert_eq!(SourceId::new(0, 0, 32, 0), None);
        assert_eq!(SourceId::new(0, 0, 0, 8), None);
    }
}
