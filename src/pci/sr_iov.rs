//! The extended capability of SR-IOV (PCIe 6.0, section 9.3.3): which virtual functions a physical one has.
#![forbid(unsafe_code)]

use super::capability::extended_capabilities;
use super::{Above, ConfigSpace, is_there};
use crate::addr::SourceId;

const ID: u16 = 0x10;
const BYTES: u16 = 0x40;
/// Control in bits 15:0; VF Enable is bit 0 (section 9.3.3.3).
const CONTROL: u16 = 0x08;
const ENABLE: u32 = 1;
/// NumVFs in bits 15:0 (section 9.3.3.7).
const COUNT: u16 = 0x10;
/// First VF Offset in bits 15:0, VF Stride in bits 31:16 (sections 9.3.3.9 and 9.3.3.10).
const ROUTING: u16 = 0x14;

/// True if `function` is one of the virtual functions that `physical` has enabled (section 9.2.1.2).
pub(crate) fn is_virtual_function_of(config: &impl ConfigSpace, function: SourceId, physical: SourceId) -> bool {
    if is_there(config, function) || !is_there(config, physical) {
        return false;
    }
    let Some(at) = extended_capabilities(config, physical, ID, BYTES).next() else { return false };
    if config.read(physical, at + CONTROL) & ENABLE == 0 {
        return false;
    }
    let count = config.read(physical, at + COUNT) as u16;
    let routing = config.read(physical, at + ROUTING);
    let (first, stride) = (routing as u16, (routing >> 16) as u16);
    let Some(distance) = function.requester().wrapping_sub(physical.requester()).checked_sub(first) else {
        return false;
    };
    match (count, stride) {
        (0, _) => false,
        (1, _) | (_, 0) => distance == 0,
        _ => distance.is_multiple_of(stride) && distance / stride < count,
    }
}

/// True if a physical function has virtual ones.
pub(crate) fn has_virtual_functions(config: &impl ConfigSpace, physical: SourceId) -> bool {
    let mut capabilities = extended_capabilities(config, physical, ID, BYTES);
    capabilities.any(|at| config.read(physical, at + CONTROL) & ENABLE != 0)
}

/// System Page Size, the six base addresses of virtual functions (sections 9.3.3.13 and 9.3.3.14), Control and NumVFs, in the
/// order in which they are set; and which bits. VF Enable is clear in a function that can be reset alone.
const SET_UP_REGISTERS: [(u16, u32); SET_UP] = [
    (0x20, u32::MAX),
    (0x24, u32::MAX),
    (0x28, u32::MAX),
    (0x2c, u32::MAX),
    (0x30, u32::MAX),
    (0x34, u32::MAX),
    (0x38, u32::MAX),
    (CONTROL, 0xffff & !ENABLE),
    (COUNT, 0xffff),
];

/// How many registers say what virtual functions a physical function is to have.
pub(super) const SET_UP: usize = 9;

/// Calls `each` with the registers that say what virtual functions a function is to have: where they are, and what they hold.
#[inline(never)]
pub(super) fn each_set_up(config: &impl ConfigSpace, physical: SourceId, each: &mut dyn FnMut(u16, u32)) {
    let Some(at) = extended_capabilities(config, physical, ID, BYTES).next() else { return };
    for &(offset, mask) in &SET_UP_REGISTERS {
        each(at + offset, config.read(physical, at + offset) & mask);
    }
}

/// The physical function that has `function` as a virtual one; `function` itself if it is none. `None` if nobody has it.
///
/// Virtual functions may take up further buses, all behind the bridge that their physical function is behind.
pub(crate) fn physical_function(config: &impl ConfigSpace, function: SourceId) -> Option<SourceId> {
    if is_there(config, function) {
        return Some(function);
    }
    let (segment, bus) = (function.segment(), function.bus());
    let lowest = lowest_bus(config, function)?;
    let mut candidates = (lowest..=bus).rev().flat_map(|bus| {
        (0..=u8::MAX).map(move |devfn| SourceId::from_requester(segment, u16::from(bus) << 8 | u16::from(devfn)))
    });
    candidates.find(|physical| is_virtual_function_of(config, function, *physical))
}

/// The lowest bus that the physical function can be on.
#[inline(never)]
fn lowest_bus(config: &impl ConfigSpace, function: SourceId) -> Option<u8> {
    let mut above = Above::of(function);
    above.find(config).ok()?;
    Some(above.iter().map(|bridge| bridge.secondary).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    #[test]
    fn a_physical_function_is_on_the_same_bus_or_an_earlier_one() {
        let physical = function(3);
        let there = (physical, 0, 0x1234_8086);
        let registers = [
            there,
            (physical, 0x100, 0x0001_0010),
            (physical, 0x108, 1),
            (physical, 0x110, 4),
            (physical, 0x114, 0x80 << 16 | 0x100),
        ];
        let config = FewRegisters(&registers);
        let of = |requester| physical_function(&config, SourceId::from_requester(0, requester));
        assert_eq!(of(0x18), Some(physical), "its own");
        for own in [0x118, 0x198, 0x218, 0x298] {
            assert_eq!(of(own), Some(physical), "{own:#x}");
        }
        for other in [0x20, 0x98, 0x318, 0x119] {
            assert_eq!(of(other), None, "{other:#x}");
        }
    }
}
