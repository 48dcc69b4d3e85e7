//! Function Level Reset: by the PCI Express capability (PCIe 6.0, section 6.6.2), or by Advanced Features of conventional PCI
//! (an ECN to PCI 3.0; capability 0x13).

use heapless::Vec;

use super::capability::capability;
use super::{ConfigSpace, acs, express, header, resizable, sr_iov};
use crate::addr::SourceId;
use crate::hal::Hal;

/// How long a function may take; nobody may look at its configuration space before that (PCIe 6.0, section 6.6.2).
pub(crate) const RESET_NS: u64 = 100_000_000;

/// Device Capabilities: Function Level Reset, bit 28 (section 7.5.3.3); Device Control: Initiate Function Level Reset, bit 15
/// (section 7.5.3.4).
const EXPRESS_CAPABILITIES: u16 = 0x04;
const EXPRESS_CAN: u32 = 1 << 28;
const EXPRESS_CONTROL: u16 = 0x08;
const EXPRESS_CONTROL_2: u16 = 0x28;
const EXPRESS_RESET: u32 = 1 << 15;

/// Advanced Features: Transactions Pending and Function Level Reset of its capabilities, bits 24 and 25 of the first word.
/// Initiate FLR is bit 0 of the second one.
const FEATURES: u8 = 0x13;
const FEATURES_CAN: u32 = 3 << 24;
const FEATURES_CONTROL: u16 = 0x04;
const FEATURES_RESET: u32 = 1;
/// Transactions Pending of its status: bit 8 of the second word.
const FEATURES_PENDING: u32 = 1 << 8;

/// Command; cache line size and latency timer; six base addresses; that of the ROM; interrupt line.
const HEADER: [u16; 10] = [CACHE_LINE, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30, 0x3c, COMMAND];
/// Device Control and Device Control 2, control of Access Control Services, and what is above; sizes of base addresses, and what
/// virtual functions are to have.
const SAVED: usize = 3 + HEADER.len() + 2 * resizable::MAX + sr_iov::SET_UP;
const COMMAND: u16 = 0x04;
const CACHE_LINE: u16 = 0x0c;

/// The register of a function that says that it has sent requests which are not answered yet, if one does. One that is gone
/// says nothing, nor does one of conventional PCI without Advanced Features.
pub(crate) fn pending(config: &impl ConfigSpace, function: SourceId) -> Option<&'static str> {
    if express::transactions_pending(config, function) {
        return Some("Device Status");
    }
    let at = capability(config, function, FEATURES)?;
    let register = config.read(function, at + FEATURES_CONTROL);
    (register != u32::MAX && register & FEATURES_PENDING != 0).then_some("AF Status")
}

/// The capability by which a function can be reset, and where it is.
enum Capability {
    Express(u16),
    Features(u16),
}

impl Capability {
    fn of(config: &impl ConfigSpace, function: SourceId) -> Option<Self> {
        if header::is_bridge(config, function) || sr_iov::has_virtual_functions(config, function) {
            return None;
        }
        let express = express::capability_at(config, function);
        if let Some(at) = express.filter(|at| config.read(function, at + EXPRESS_CAPABILITIES) & EXPRESS_CAN != 0) {
            return Some(Self::Express(at));
        }
        let at = capability(config, function, FEATURES)?;
        (config.read(function, at) & FEATURES_CAN == FEATURES_CAN).then_some(Self::Features(at))
    }
}

/// A reset of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) function: SourceId,
    /// What kind of function it is, if it said so.
    identity: Option<[u32; 2]>,
    /// The register that starts it, and what is written there.
    at: u16,
    start: u32,
    /// Registers that are to be as they were, Command last.
    saved: Vec<(u16, u32), SAVED>,
}

impl Reset {
    /// Notes how a function can be reset, and what its registers hold. Nothing is noted if it cannot be reset, or only with
    /// others: a bridge, or a function with virtual functions; or if it is gone by then, and what was read is nothing.
    #[inline(never)]
    pub(crate) fn prepare(slot: &mut Option<Self>, config: &impl ConfigSpace, function: SourceId) {
        let Some(capability) = Capability::of(config, function) else { return };
        let (at, start) = match capability {
            // Status, in the upper half, is cleared by writing 1.
            Capability::Express(at) => {
                let control = config.read(function, at + EXPRESS_CONTROL) & 0x7fff;
                (at + EXPRESS_CONTROL, control | EXPRESS_RESET)
            }
            Capability::Features(at) => (at + FEATURES_CONTROL, FEATURES_RESET),
        };
        let reset =
            slot.insert(Self { function, identity: header::identity(config, function), at, start, saved: Vec::new() });
        if let Capability::Express(_) = capability {
            reset.save_express(config);
        }
        if let Some((at, value)) = acs::control(config, function) {
            reset.save(at, value);
        }
        // Base addresses come after their sizes.
        resizable::each_size(config, function, resizable::OWN, &mut |at, value| reset.save(at, value));
        resizable::each_size(config, function, resizable::VIRTUAL, &mut |at, value| reset.save(at, value));
        sr_iov::each_set_up(config, function, &mut |at, value| reset.save(at, value));
        reset.save_header(config);
        if header::is_gone(config, function) {
            *slot = None;
        }
    }

    fn save(&mut self, at: u16, value: u32) {
        let _ = self.saved.push((at, value));
    }

    #[inline(never)]
    fn save_express(&mut self, config: &impl ConfigSpace) {
        self.save(self.at, self.start & !EXPRESS_RESET);
        if let Some(control) = express::express_register(config, self.function, EXPRESS_CONTROL_2) {
            let second = self.at - EXPRESS_CONTROL + EXPRESS_CONTROL_2;
            self.save(second, control & 0xffff);
        }
    }

    #[inline(never)]
    fn save_header(&mut self, config: &impl ConfigSpace) {
        for at in HEADER {
            let value = config.read(self.function, at);
            // No bit of Status is cleared, and no self-test started.
            self.save(at, if at == COMMAND || at == CACHE_LINE { value & 0xffff } else { value });
        }
    }

    /// True if the function can be reset, and no other with it.
    #[inline(never)]
    pub(crate) fn is_possible(config: &impl ConfigSpace, function: SourceId) -> bool {
        Capability::of(config, function).is_some()
    }

    /// True if another kind of function answers in its place now.
    pub(crate) fn is_of_another(&self, config: &impl ConfigSpace) -> bool {
        self.identity.zip(header::identity(config, self.function)).is_some_and(|(noted, now)| noted != now)
    }

    /// Begins it. The function is to be blocked, and no bus master any more.
    pub(crate) fn begin(&self, hal: &impl Hal) {
        // SAFETY: the function is to be reset, which its capability says that it can. All other bits are as they were.
        unsafe { hal.config_write(self.function, self.at, self.start) };
    }

    /// True if the function answers again, [`RESET_NS`] after it began.
    pub(crate) fn is_done(&self, hal: &impl Hal) -> bool {
        // A root complex may answer for a function that asks for more time: with vendor 1 (PCIe 6.0, section 2.3.2).
        hal.config_read(self.function, COMMAND) != u32::MAX && hal.config_read(self.function, 0) as u16 != 1
    }

    /// Sets its registers as they were, except those that say what it sends and when. Another function in its place has its own.
    pub(crate) fn restore(&self, hal: &impl Hal) {
        if self.is_of_another(hal) {
            return;
        }
        for &(at, value) in &self.saved {
            // SAFETY: the function had this value there before it was reset.
            unsafe { hal.config_write(self.function, at, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    fn saved(registers: &[(SourceId, u16, u32)]) -> Reset {
        let mut slot = None;
        Reset::prepare(&mut slot, &FewRegisters(registers), function(1));
        slot.unwrap()
    }

    #[test]
    fn neither_status_nor_self_test_is_among_what_is_written_back() {
        let registers =
            [(0, 0x1234_8086), (COMMAND, 0xf910_0007), (CACHE_LINE, 0xc000_4010), (0x10, 0xfebf_0000), (0x34, 0x40)];
        let features = [(0x40, FEATURES_CAN | u32::from(FEATURES)), (0x44, 0)];
        let registers: Vec<_, 8> =
            registers.into_iter().chain(features).map(|(at, it)| (function(1), at, it)).collect();
        let reset = saved(&registers);
        for saved in [(COMMAND, 0x0007), (CACHE_LINE, 0x4010), (0x10, 0xfebf_0000)] {
            assert!(reset.saved.contains(&saved), "{:x?}", reset.saved);
        }
        assert_eq!((reset.at, reset.start, reset.saved.last()), (0x44, 1, Some(&(COMMAND, 0x0007))));
    }

    /// F19: sizes are set before the base addresses, and what virtual functions are to have is set without VF Enable.
    #[test]
    fn sizes_come_before_base_addresses() {
        let registers = [
            (0, 0x1234_8086),
            (COMMAND, 0x0010_0007),
            (0x10, 0xfebf_0000),
            (0x34, 0x40),
            (0x40, FEATURES_CAN | u32::from(FEATURES)),
            (0x100, 0x2000_0000 | 1 << 16 | 0x15),
            (0x108, 2 << 5 | 5 << 8),
            (0x110, 7 << 8 | 2),
            (0x200, 0x3000_0000 | 1 << 16 | 0x24),
            (0x208, 1 << 5 | 6 << 8),
            (0x300, 1 << 16 | 0x10),
            (0x308, 0x0001_0018),
            (0x310, 0x0007_0004),
            (0x320, 0x10),
            (0x324, 0xe000_0004),
            (0x338, 9),
        ];
        let registers: Vec<_, 16> = registers.into_iter().map(|(at, it)| (function(1), at, it)).collect();
        let saved = saved(&registers).saved;
        let place =
            |of: (u16, u32)| saved.iter().position(|it| *it == of).unwrap_or_else(|| panic!("{of:x?}: {saved:x?}"));
        let order = [
            (0x108, 2 << 5 | 5 << 8),
            (0x110, 7 << 8 | 2),
            (0x208, 1 << 5 | 6 << 8),
            (0x320, 0x10),
            (0x324, 0xe000_0004),
            (0x338, 9),
            (0x308, 0x18),
            (0x310, 4),
            (0x10, 0xfebf_0000),
            (COMMAND, 7),
        ];
        assert!(order.map(place).is_sorted(), "{saved:x?}");
    }
}
