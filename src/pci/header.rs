//! The header that every function has (PCI 3.0, section 6.1).
#![forbid(unsafe_code)]

use super::ConfigSpace;
use crate::addr::SourceId;

/// The register with the header type in bits 23:16 (section 6.2.1).
const TYPE: u16 = 0x0c;

/// Command and Status (section 6.2.2).
const COMMAND: u16 = 0x04;

/// The register with the class in bits 31:8: base class, class, interface (section 6.2.1).
const CLASS: u16 = 0x08;
/// Base class of display controllers; base class and class of USB host controllers (PCI Code and ID Assignment 1.11).
const DISPLAY: u32 = 0x03;
/// Base class of bridges.
const BRIDGE: u32 = 0x06;
const USB: u32 = 0x0c03;

/// True for a display controller, or a USB host controller of any kind.
pub(crate) fn is_display_or_usb(config: &impl ConfigSpace, function: SourceId) -> bool {
    let class = config.read(function, CLASS) >> 16;
    class >> 8 == DISPLAY || class == USB
}

/// True if a function answers with a vendor. A virtual function does not: its vendor is that of its physical function.
pub(crate) fn is_there(config: &impl ConfigSpace, function: SourceId) -> bool {
    config.read(function, 0) as u16 != u16::MAX
}

/// What a function is: its vendor and device, and its class and revision. `None` if it does not say that: it is virtual, not there,
/// or in a reset.
pub(crate) fn identity(config: &impl ConfigSpace, function: SourceId) -> Option<[u32; 2]> {
    let id = config.read(function, 0);
    (!matches!(id as u16, 1 | u16::MAX)).then(|| [id, config.read(function, CLASS)])
}

/// True if nothing of a function answers, virtual or not, as after it was pulled out. A function that is reset is silent for as
/// long as that takes.
pub(crate) fn is_gone(config: &impl ConfigSpace, function: SourceId) -> bool {
    config.read(function, COMMAND) == u32::MAX
}

/// True for the header of a bridge, type 1.
pub(crate) fn is_bridge(config: &impl ConfigSpace, function: SourceId) -> bool {
    (config.read(function, TYPE) >> 16) & 0x7f == 1
}

/// True for a bridge of any kind by its header or its base class: a host bridge, or one that is not transparent, has the
/// header of an endpoint.
pub(crate) fn is_any_bridge(config: &impl ConfigSpace, function: SourceId) -> bool {
    is_bridge(config, function) || config.read(function, CLASS) >> 24 == BRIDGE
}

/// The functions that a device may have, by its first.
///
/// Always eight, whatever function 0 says: it may be a cell's, and what it says of itself (bit 7 of the header type, or nothing at
/// all) hides no other. A device of conventional PCI may answer for all eight alike (PCI 3.0, section 3.2.2.3.4). Then each number
/// belongs to its group and to no other device, so that changes nothing.
pub(crate) fn functions_of(first: SourceId) -> impl Iterator<Item = SourceId> {
    (0..8).map(move |function| SourceId::from_requester(first.segment(), first.requester() | function))
}

/// The first functions of the devices that a bus may have.
pub(super) fn devices_on(segment: u16, bus: u8) -> impl Iterator<Item = SourceId> {
    (0..32).map(move |device| SourceId::from_requester(segment, u16::from(bus) << 8 | device << 3))
}

/// The functions of a bus that answer with a vendor. On a bus other than 0 where no device answers as function 0, others than
/// function 0 are looked for in the first device alone, the only one below a port.
pub(crate) fn functions_on(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = SourceId> {
    FunctionSearch { config, segment, next: u32::from(bus) << 8, end: (u32::from(bus) + 1) << 8, are_behind: false }
}

/// The same for a bus that a bridge leads to: there is a device, whether or not one answers as function 0.
pub(crate) fn functions_behind(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = SourceId> {
    FunctionSearch { config, segment, next: u32::from(bus) << 8, end: (u32::from(bus) + 1) << 8, are_behind: true }
}

/// The functions of a segment that answer with a vendor, as [`functions_on`] finds them.
pub(crate) fn functions_in(config: &impl ConfigSpace, segment: u16) -> impl Iterator<Item = SourceId> {
    FunctionSearch { config, segment, next: 0, end: 1 << 16, are_behind: false }
}

/// The functions of some buses that answer with a vendor. Adapters of iterators would be a copy of all this for each user.
struct FunctionSearch<'c, C> {
    config: &'c C,
    segment: u16,
    /// By their requester-ids: the one to be looked at next, and the end.
    next: u32,
    end: u32,
    /// A bridge leads to them, so all devices are looked at.
    are_behind: bool,
}

impl<C: ConfigSpace> FunctionSearch<'_, C> {
    fn is_used(&self, bus: u8) -> bool {
        bus == 0 || self.are_behind || devices_on(self.segment, bus).any(|first| is_there(self.config, first))
    }
}

impl<C: ConfigSpace> Iterator for FunctionSearch<'_, C> {
    type Item = SourceId;

    #[inline(never)]
    fn next(&mut self) -> Option<SourceId> {
        while self.next < self.end {
            let function = SourceId::from_requester(self.segment, self.next as u16);
            self.next += 1;
            let is_second_device = function.requester() as u8 == 8;
            if is_second_device && !self.is_used(function.bus()) {
                self.next = (self.next | 0xff) + 1;
            } else if is_there(self.config, function) {
                return Some(function);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::FewRegisters;
    use super::*;

    #[test]
    fn functions_without_the_first_are_found_on_a_bus_in_use() {
        let of = |requester| SourceId::from_requester(0, requester);
        let found = |there: &[u16], bus| {
            let registers: Vec<_> = there.iter().map(|requester| (of(*requester), 0, 0x1234_8086)).collect();
            functions_on(&FewRegisters(&registers), 0, bus).map(|it| it.requester()).collect::<Vec<_>>()
        };
        assert_eq!(found(&[0x300, 0x307], 3), [0x300, 0x307], "function 0 does not say that it has company");
        assert_eq!(found(&[0x301, 0x307], 3), [0x301, 0x307], "the first device of a bus");
        assert_eq!(found(&[0x308, 0x312], 3), [0x308, 0x312], "another answers");
        assert_eq!(found(&[0x312], 3), [], "nobody looks there");
        assert_eq!(found(&[0x300], 4), []);
    }
}
