//! The memory windows of a bridge (PCI-to-PCI bridge 1.2, section 3.2.5; PCIe 6.0, section 7.5.1.3): requests to addresses in
//! them go to what is behind it, wherever they come from.
//!
//! | register | bits | field |
//! |---|---|---|
//! | 0x20 | 15:4, 31:20 | bits 31:20 of the first and of the last address of the memory window |
//! | 0x24 | 15:4, 31:20 | the same of the prefetchable one; 3:0 is 1 if that has addresses of 64 bits |
//! | 0x28, 0x2c | 31:0 | bits 63:32 of its first and of its last address, if it has |
//! | 0x3c | 19 | VGA Enable of Bridge Control: 0xa0000 to 0xbffff is a window, too |
#![forbid(unsafe_code)]

use super::ConfigSpace;
use crate::addr::{Iova, IovaRange, SourceId};

const COMMAND: u16 = 0x04;
/// Memory Space Enable: without it a bridge has no windows.
const MEMORY: u32 = 1 << 1;
const WINDOW: u16 = 0x20;
const PREFETCHABLE: u16 = 0x24;
const UPPER: [u16; 2] = [0x28, 0x2c];
const HAS_UPPER: u32 = 1;
const BRIDGE_CONTROL: u16 = 0x3c;
const VGA: u32 = 1 << 19;
const VGA_FIRST: Iova = Iova::new(0xa_0000);
const VGA_BYTES: u64 = 0x2_0000;

/// A bridge's windows that are open: the memory window, the prefetchable one, and that of VGA.
pub(crate) fn windows(config: &impl ConfigSpace, bridge: SourceId) -> [Option<IovaRange>; 3] {
    if config.read(bridge, COMMAND) & MEMORY == 0 {
        return [None; 3];
    }
    let has_vga = config.read(bridge, BRIDGE_CONTROL) & VGA != 0;
    let vga = IovaRange::new(VGA_FIRST, VGA_BYTES).filter(|_| has_vga);
    let prefetchable = config.read(bridge, PREFETCHABLE);
    let upper = if prefetchable & 0xf == HAS_UPPER { UPPER.map(|at| config.read(bridge, at)) } else { [0; 2] };
    [window(config.read(bridge, WINDOW), [0; 2]), window(prefetchable, upper), vga]
}

/// Whole MiB; none if the first is above the last.
fn window(register: u32, [upper_first, upper_last]: [u32; 2]) -> Option<IovaRange> {
    let first = u64::from(upper_first) << 32 | u64::from(register & 0xfff0) << 16;
    let last = u64::from(upper_last) << 32 | u64::from(register & 0xfff0_0000) | 0xf_ffff;
    IovaRange::new(Iova::new(first), last.checked_sub(first)?.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    fn all(registers: &[(u16, u32)]) -> [Option<(u64, u64)>; 3] {
        let registers: Vec<_> = registers.iter().map(|(at, value)| (function(1), *at, *value)).collect();
        let ends = |range: IovaRange| (range.start().as_u64(), range.last().as_u64());
        windows(&FewRegisters(&registers), function(1)).map(|window| window.map(ends))
    }

    fn of(registers: &[(u16, u32)]) -> [Option<(u64, u64)>; 2] {
        let [memory, prefetchable, vga] = all(registers);
        assert_eq!(vga, None);
        [memory, prefetchable]
    }

    /// F19: addresses of VGA are a window where the bridge forwards them.
    #[test]
    fn vga_enable_opens_the_addresses_of_vga() {
        let vga = (0x3c, 0x0008_0000);
        assert_eq!(all(&[(COMMAND, 0x0010_0006), (0x20, 1 << 4), vga])[2], Some((0xa_0000, 0xb_ffff)));
        assert_eq!(all(&[(COMMAND, 0x0010_0004), vga])[2], None, "memory is not enabled");
    }

    #[test]
    fn a_window_is_whole_mib_from_its_base_to_its_limit() {
        let open = (COMMAND, 0x0010_0006);
        let both = [open, (0x20, 0x8ff0_8000), (0x24, 0x1fff_0001), (0x28, 0x40), (0x2c, 0x41)];
        assert_eq!(of(&both), [Some((0x8000_0000, 0x8fff_ffff)), Some((0x40_0000_0000, 0x41_1fff_ffff))]);
        let narrow = [open, (0x20, 0x8010_8010), (0x24, 0x9000_9000), (0x28, 0x40), (0x2c, 0x41)];
        assert_eq!(of(&narrow), [Some((0x8010_0000, 0x801f_ffff)), Some((0x9000_0000, 0x900f_ffff))], "of 32 bits");
        let none = [open, (0x20, 0x7ff0_8000), (0x24, 0x1fff_0001), (0x28, 0x40), (0x2c, 0x3f)];
        assert_eq!(of(&none), [None; 2]);
        assert_eq!(of(&[(COMMAND, 0x0010_0005), (0x20, 0x8ff0_8000)]), [None; 2], "they are not enabled");
        let all = [open, (0x20, 1 << 4), (0x24, 0xfff0_0001), (0x28, 0), (0x2c, u32::MAX)];
        assert_eq!(of(&all), [None, Some((0, u64::MAX - 1))]);
    }
}
