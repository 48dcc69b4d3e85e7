//! Functions whose requests carry the id of another function of their device: errors of the devices, as data.
#![forbid(unsafe_code)]

use super::{ConfigSpace, functions_of};
use crate::addr::SourceId;

/// Vendor, device id, and the function whose id their requests may carry (known from Linux, drivers/pci/quirks.c).
const ALIASES: [(u16, u16, u16); 23] = [
    // Ricoh: card readers and FireWire.
    (0x1180, 0xe476, 0),
    (0x1180, 0xe832, 0),
    // Glenfly: graphics and its audio.
    (0x6766, 0x3d40, 0),
    (0x6766, 0x3d41, 0),
    // Marvell 88SE91xx, 88SE92xx and others, by whoever sells them: SATA.
    (0x1b4b, 0x9120, 1),
    (0x1b4b, 0x9123, 1),
    (0x1b4b, 0x9125, 1),
    (0x1b4b, 0x9128, 1),
    (0x1b4b, 0x9130, 1),
    (0x1b4b, 0x9170, 1),
    (0x1b4b, 0x9172, 1),
    (0x1b4b, 0x917a, 1),
    (0x1b4b, 0x9182, 1),
    (0x1b4b, 0x9183, 1),
    (0x1b4b, 0x91a0, 1),
    (0x1b4b, 0x9215, 1),
    (0x1b4b, 0x9220, 1),
    (0x1b4b, 0x9230, 1),
    (0x1b4b, 0x9235, 1),
    (0x1103, 0x0642, 1),
    (0x1103, 0x0645, 1),
    (0x1c28, 0x0122, 1),
    // JMicron: card readers.
    (0x197b, 0x2392, 1),
];

/// The function whose id the requests of this one may carry beside its own.
pub(crate) fn alias(config: &impl ConfigSpace, function: SourceId) -> Option<SourceId> {
    let id = config.read(function, 0);
    let known = ALIASES.iter().find(|(vendor, device, _)| id == u32::from(*device) << 16 | u32::from(*vendor));
    let own = |number: u16| SourceId::from_requester(function.segment(), function.requester() & !7 | number);
    known.map(|(.., number)| own(*number)).filter(|alias| *alias != function)
}

/// The functions of the same device whose requests may carry the id of this one.
pub(crate) fn functions_with_alias(config: &impl ConfigSpace, id: SourceId) -> impl Iterator<Item = SourceId> {
    let first = SourceId::from_requester(id.segment(), id.requester() & !7);
    functions_of(first).filter(move |function| alias(config, *function) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    /// F8: a device that is known for it has the id of another of its functions.
    #[test]
    fn a_known_device_uses_another_functions_id() {
        let (first, second) = (function(3), SourceId::from_requester(0, 3 << 3 | 1));
        for (id, expected) in [(0x9123_1b4b, Some(second)), (0xe832_1180, None), (0x9123_8086, None)] {
            let registers = [(first, 0, id)];
            assert_eq!(alias(&FewRegisters(&registers), first), expected, "{id:#x}");
            let sharing: Vec<_> = functions_with_alias(&FewRegisters(&registers), second).collect();
            assert_eq!(sharing, expected.map(|_| first).into_iter().collect::<Vec<_>>());
        }
        assert_eq!(alias(&FewRegisters(&[(second, 0, 0x9123_1b4b)]), second), None, "it is that function");
    }
}
