//! The header that every function has (PCI 3.0, section 6.1).
#![forbid(unsafe_code)]

use super::ConfigSpace;
use crate::addr::SourceId;

/// The register with the header type in bits 23:16 (section 6.2.1); bit 7 of it says that the device has other functions.
const TYPE: u16 = 0x0c;
const HAS_OTHERS: u32 = 1 << 23;

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

/// The functions that a device may have, by its first: it alone, or eight, if it says that there are others, or does not answer.
/// Firmware or a hypervisor may hide the first function and leave others (PCI 3.0, section 3.2.2.3.4, has every device with it).
pub(crate) fn functions_of(config: &impl ConfigSpace, first: SourceId) -> impl Iterator<Item = SourceId> {
    functions_if(config, first, is_there(config, first))
}

/// The same where it is known whether the first of them `answers`.
pub(super) fn functions_if(
    config: &impl ConfigSpace,
    first: SourceId,
    answers: bool,
) -> impl Iterator<Item = SourceId> {
    let is_alone = answers && config.read(first, TYPE) & HAS_OTHERS == 0;
    let count = if is_alone { 1 } else { 8 };
    (0..count).map(move |function| SourceId::from_requester(first.segment(), first.requester() | function))
}

/// The first functions of the devices that a bus may have.
pub(super) fn devices_on(segment: u16, bus: u8) -> impl Iterator<Item = SourceId> {
    (0..32).map(move |device| SourceId::from_requester(segment, u16::from(bus) << 8 | device << 3))
}

/// The functions of a bus that answer with a vendor. On a bus other than 0 where no device answers as function 0, others than
/// function 0 are looked for in the first device alone, the only one below a port.
pub(crate) fn functions_on(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = SourceId> {
    let is_used = bus == 0 || devices_on(segment, bus).any(|first| is_there(config, first));
    let devices = devices_on(segment, bus).filter(move |first| is_used || first.device() == 0);
    devices.flat_map(|first| functions_of(config, first)).filter(|function| is_there(config, *function))
}

/// The functions of a segment that answer with a vendor, as [`functions_on`] finds them.
pub(crate) fn functions_in(config: &impl ConfigSpace, segment: u16) -> impl Iterator<Item = SourceId> {
    (0..=u8::MAX).flat_map(move |bus| functions_on(config, segment, bus))
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    #[test]
    fn a_device_has_one_function_if_it_says_so_or_up_to_eight() {
        let first = function(3);
        let count = |registers: &[_]| functions_of(&FewRegisters(registers), first).count();
        let there = (first, 0, 0x1234_8086);
        assert_eq!([count(&[]), count(&[there]), count(&[there, (first, TYPE, 1 << 23)])], [8, 1, 8]);
    }

    #[test]
    fn functions_without_the_first_are_found_on_a_bus_in_use() {
        let of = |requester| SourceId::from_requester(0, requester);
        let found = |there: &[u16], bus| {
            let registers: Vec<_> = there.iter().map(|requester| (of(*requester), 0, 0x1234_8086)).collect();
            functions_on(&FewRegisters(&registers), 0, bus).map(|it| it.requester()).collect::<Vec<_>>()
        };
        assert_eq!(found(&[0x301, 0x307], 3), [0x301, 0x307], "the first device of a bus");
        assert_eq!(found(&[0x308, 0x312], 3), [0x308, 0x312], "another answers");
        assert_eq!(found(&[0x312], 3), [], "nobody looks there");
        assert_eq!(found(&[0x300], 4), []);
    }
}
