//! The header that every function has (PCI 3.0, section 6.1).
#![forbid(unsafe_code)]

use super::ConfigSpace;
use crate::addr::SourceId;

/// The register with the header type in bits 23:16 (section 6.2.1); bit 7 of it says that the device has other functions.
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

/// The functions that a device may have, by its first: eight, if that says that there are others, it alone, or none.
pub(crate) fn functions_of(config: &impl ConfigSpace, first: SourceId) -> impl Iterator<Item = SourceId> {
    let count = match is_there(config, first) {
        false => 0,
        true if has_other_functions(config, first) => 8,
        true => 1,
    };
    (0..count).map(move |function| SourceId::from_requester(first.segment(), first.requester() | function))
}

/// All functions of a segment that answer with a vendor.
pub(crate) fn functions_in(config: &impl ConfigSpace, segment: u16) -> impl Iterator<Item = SourceId> {
    let devices = (0..=u16::MAX).step_by(8).map(move |requester| SourceId::from_requester(segment, requester));
    devices.flat_map(|first| functions_of(config, first)).filter(|function| is_there(config, *function))
}

/// True if the device of function 0 has others.
pub(super) fn has_other_functions(config: &impl ConfigSpace, first: SourceId) -> bool {
    config.read(first, TYPE) & 1 << 23 != 0
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    #[test]
    fn a_device_has_one_function_unless_it_says_up_to_eight() {
        let first = function(3);
        let count = |registers: &[_]| functions_of(&FewRegisters(registers), first).count();
        let there = (first, 0, 0x1234_8086);
        assert_eq!([count(&[]), count(&[there]), count(&[there, (first, TYPE, 1 << 23)])], [0, 1, 8]);
    }
}
