//! The two lists of capabilities (PCI 3.0, section 6.7; PCIe 6.0, section 7.6.3).
#![forbid(unsafe_code)]

use super::ConfigSpace;
use crate::addr::SourceId;

/// Status in bits 31:16; bit 4 of it says that there are capabilities (PCI 3.0, section 6.2.3).
const STATUS: u16 = 0x04;
const CAPABILITIES: u32 = 1 << 20;
/// Where the first capability is, in bits 7:0.
const FIRST: u16 = 0x34;
/// Where the first extended capability is, if there is any.
const FIRST_EXTENDED: u16 = 0x100;

/// Where a capability is. At most 48 steps: there is no room for more in 192 bytes.
pub(super) fn capability(config: &impl ConfigSpace, function: SourceId, id: u8) -> Option<u16> {
    if config.read(function, STATUS) & CAPABILITIES == 0 {
        return None;
    }
    let mut at = (config.read(function, FIRST) & 0xfc) as u16;
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let [found, next, ..] = config.read(function, at).to_le_bytes();
        if found == id {
            return Some(at);
        }
        at = u16::from(next & 0xfc);
    }
    None
}

/// Where each extended capability with this number is that leaves room for `bytes`. At most 960 steps: there is no room
/// for more in 3,840 bytes.
///
/// A header has the number in bits 15:0 and where the next one is in bits 31:20, of which the lowest two are ignored.
pub(super) fn extended_capabilities(
    config: &impl ConfigSpace,
    function: SourceId,
    id: u16,
    bytes: u16,
) -> impl Iterator<Item = u16> {
    let mut next = FIRST_EXTENDED;
    let headers = (0..960).map_while(move |_| {
        let at = next;
        if at < FIRST_EXTENDED {
            return None;
        }
        let header = config.read(function, at);
        next = (header >> 20) as u16 & 0xffc;
        (header != 0 && header != u32::MAX).then_some((at, header))
    });
    headers.filter(move |(at, header)| *header as u16 == id && at + bytes <= 4096).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    fn header(id: u16, next: u16) -> u32 {
        u32::from(id) | 1 << 16 | u32::from(next) << 20
    }

    fn found(registers: &[(u16, u32)], id: u16, bytes: u16) -> Vec<u16> {
        let registers: Vec<_> = registers.iter().map(|(at, value)| (function(1), *at, *value)).collect();
        extended_capabilities(&FewRegisters(&registers), function(1), id, bytes).take(10_000).collect()
    }

    #[test]
    fn extended_capabilities_are_found_wherever_they_are() {
        let list = [(0x100, header(1, 0x140)), (0x140, header(0xf, 0xffc)), (0xffc, header(0xf, 0))];
        assert_eq!(found(&list, 1, 4), [0x100]);
        assert_eq!(found(&list, 0xf, 4), [0x140, 0xffc]);
        assert_eq!(found(&list, 0xf, 8), [0x140], "the last one would pass the end");
        assert_eq!(found(&list, 2, 4), []);
        assert_eq!(
            found(&[(0x100, header(1, 0x142)), (0x140, header(2, 0))], 2, 4),
            [0x140],
            "the low bits are ignored"
        );
    }

    #[test]
    fn a_list_that_loops_or_leads_nowhere_ends() {
        assert_eq!(found(&[(0x100, header(1, 0x100))], 2, 4), []);
        assert_eq!(found(&[(0x100, header(1, 0x200)), (0x200, header(2, 0x100))], 3, 4), []);
        assert_eq!(found(&[(0x100, header(1, 0x100))], 1, 4).len(), 960);
        assert_eq!(
            found(&[(0x100, header(1, 0x40)), (0x40, header(2, 0))], 2, 4),
            [],
            "that is no extended capability"
        );
        assert_eq!(found(&[(0x100, u32::MAX)], 0xffff, 4), []);
        assert_eq!(found(&[(0x100, 0)], 0, 4), []);
        assert_eq!(extended_capabilities(&FewRegisters(&[]), function(1), 0xffff, 4).next(), None, "no function");
    }
}
