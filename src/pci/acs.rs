//! The extended capability of Access Control Services (PCIe 6.0, sections 6.12 and 7.7.11): what has the requests of one
//! function go up to the root complex, past the remapping unit, and not straight to another.
//!
//! | bit of Capability, and of Control | field |
//! |---|---|
//! | 0 | Source Validation: no request passes with another's source-id |
//! | 2 | P2P Request Redirect |
//! | 3 | P2P Completion Redirect |
//! | 4 | Upstream Forwarding |
//! | 5 | P2P Egress Control: requests to some peers are not redirected |
//! | 6 | Direct Translated P2P: requests that say they are translated are not redirected |
//! | 7 | Capability: has the following; Control: I/O Request Blocking |
//! | 9:8 | Control: requests to memory of the port itself are redirected if 2 (DSP Memory Target Access) |
//! | 11:10 | Control: so are those to memory of the upstream port (USP Memory Target Access) |
//! | 12 | Control: and those to addresses behind the upstream port that no downstream port has (Unclaimed Request Redirect) |

use super::capability::extended_capabilities;
use super::{ConfigSpace, PortType, functions_on, port_type};
use crate::addr::SourceId;
use crate::hal::Hal;

const ID: u16 = 0x0d;
const BYTES: u16 = 8;
/// Capability in bits 15:0, Control in bits 31:16.
const REGISTERS: u16 = 0x04;
/// Bits 0, 2, 3 and 4.
const ISOLATING: u32 = 0x1d;
const SOURCE_VALIDATION: u32 = 1;
/// Bits 5 and 6.
const OPENING: u32 = 0x60;
/// Bit 7 of Capability.
const ENHANCED: u32 = 1 << 7;
/// What is switched on of that: in any port, and in a downstream port alone.
const ENHANCED_PORT: u32 = 2 << 8 | 1 << 7;
const ENHANCED_DOWNSTREAM: u32 = 1 << 12 | 2 << 10;
/// All bits of what is enhanced.
const ENHANCED_CONTROL: u32 = 0x1f80;

const WIDE_VENDOR: u16 = 0x8086;
/// Root ports of Intel's 100 and 200 series, and of the mobile chipsets of the same years, have two registers of 32 bits: Control
/// is behind Capability (known from Linux, drivers/pci/quirks.c). First and last device id.
const WIDE: [(u16, u16); 5] =
    [(0x9d10, 0x9d1b), (0xa110, 0xa11f), (0xa167, 0xa16a), (0xa290, 0xa29f), (0xa2e7, 0xa2ee)];
const WIDE_CONTROL: u16 = 0x08;

/// What is in the registers of a function.
struct AccessControl {
    /// Where Control is.
    at: u16,
    /// Both registers are in one word.
    shared: bool,
    can: u32,
    on: u32,
}

impl AccessControl {
    fn of(config: &impl ConfigSpace, function: SourceId) -> Option<Self> {
        let header = extended_capabilities(config, function, ID, BYTES).next()?;
        let first = config.read(function, header + REGISTERS);
        let id = config.read(function, 0);
        let (vendor, device) = (id as u16, (id >> 16) as u16);
        if vendor == WIDE_VENDOR && WIDE.iter().any(|(first, last)| (*first..=*last).contains(&device)) {
            let at = header + WIDE_CONTROL;
            return Some(Self { at, shared: false, can: first & 0xffff, on: config.read(function, at) & 0xffff });
        }
        Some(Self { at: header + REGISTERS, shared: true, can: first & 0xffff, on: first >> 16 })
    }

    /// The word that sets Control to this. It has Capability as it reads: some bits of it can be written once.
    fn word(&self, control: u32) -> u32 {
        if self.shared { self.can | control << 16 } else { control }
    }

    /// What Control is to be.
    fn wanted(&self, kind: Option<PortType>) -> u32 {
        let enhanced = match kind {
            _ if self.can & ENHANCED == 0 => self.on & ENHANCED_CONTROL,
            Some(PortType::Root) => ENHANCED_PORT,
            Some(PortType::Downstream) => ENHANCED_PORT | ENHANCED_DOWNSTREAM,
            _ => self.on & ENHANCED_CONTROL,
        };
        self.on & !OPENING & !ENHANCED_CONTROL | self.can & ISOLATING | enhanced
    }
}

/// What a port has to have (sections 6.12.1.1 and 7.7.11.2): without it, the capability says nothing about what the port does.
fn required(kind: Option<PortType>) -> u32 {
    match kind {
        Some(PortType::Downstream) => ISOLATING,
        Some(PortType::Root) => SOURCE_VALIDATION,
        _ => 0,
    }
}

/// Where the control register of a function is, and the word that sets it as it is.
pub(super) fn control(config: &impl ConfigSpace, function: SourceId) -> Option<(u16, u32)> {
    AccessControl::of(config, function).map(|registers| (registers.at, registers.word(registers.on)))
}

/// True if a function has the capability, and all that it can of what isolates is on: what the capability of a root port or of
/// an endpoint's function leaves out is always so, or does not concern it (section 7.7.11.2).
pub(crate) fn isolates(config: &impl ConfigSpace, function: SourceId) -> bool {
    AccessControl::of(config, function).is_some_and(|AccessControl { can, on, .. }| {
        on & can & ISOLATING == can & ISOLATING
            && on & OPENING == 0
            && required(port_type(config, function)) & !can == 0
    })
}

/// Switches on what isolates, in all functions of a segment that have it, except those of a device beyond the eighth.
pub(crate) fn isolate_all(hal: &impl Hal, segment: u16) {
    (0..=u8::MAX).for_each(|bus| isolate_bus(hal, segment, bus));
}

/// The same for the functions of a bus.
pub(crate) fn isolate_bus(hal: &impl Hal, segment: u16, bus: u8) {
    for function in functions_on(hal, segment, bus) {
        let Some(registers) = AccessControl::of(hal, function) else { continue };
        let wanted = registers.wanted(port_type(hal, function));
        if wanted != registers.on {
            // SAFETY: the register is the function's own, and Capability beside it is written as it is. What is switched on
            // lets requests pass by the root complex alone, where a remapping unit looks at them.
            unsafe { hal.config_write(function, registers.at, registers.word(wanted)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    /// A function of this kind, if it has the PCI Express capability.
    fn with(kind: Option<u32>, register: u32) -> bool {
        let express = kind.map_or(0, |kind| 0x10 | kind << 20);
        let registers = [
            (function(1), 0, 0x1234_8086),
            (function(1), 0x04, 1 << 20),
            (function(1), 0x34, 0x40),
            (function(1), 0x40, express),
            (function(1), 0x100, 0x0001_000d),
            (function(1), 0x104, register),
        ];
        isolates(&FewRegisters(&registers), function(1))
    }

    #[test]
    fn a_function_isolates_if_all_it_has_is_on_and_nothing_opens_it() {
        let alone = |register| with(None, register);
        assert!(alone(0x001d_001d) && alone(0x001f_005f) && alone(0x000c_000c), "with others, and with what there is");
        for off in [0, 2, 3, 4] {
            assert!(!alone(0x001d_001d & !(1 << (16 + off))), "bit {off}");
        }
        assert!(!alone(0x003d_007d) && !alone(0x005d_007d), "egress control, translated requests");
        assert!(alone(0), "it can nothing, since nothing concerns it");
        assert!(!isolates(&FewRegisters(&[(function(1), 0, 0x1234_8086)]), function(1)), "no capability");
        assert!(!isolates(&FewRegisters(&[]), function(1)), "no function");
    }

    /// F9: a port whose capability lacks what each has to have does not isolate.
    #[test]
    fn a_port_has_to_have_what_isolates() {
        const ROOT: Option<u32> = Some(4);
        const DOWNSTREAM: Option<u32> = Some(6);
        assert!(with(ROOT, 0x001d_001d) && with(DOWNSTREAM, 0x001d_001d) && with(ROOT, 0x0001_0001));
        assert!(!with(ROOT, 0) && !with(DOWNSTREAM, 0) && !with(ROOT, 0x000c_000c));
        for left_out in [0, 2, 3, 4] {
            let can = 0x1d & !(1 << left_out);
            assert!(!with(DOWNSTREAM, can << 16 | can), "bit {left_out}");
        }
    }

    /// F19: what is enhanced redirects requests to the ports' own memory, where a port has it.
    #[test]
    fn enhanced_control_redirects_what_is_for_the_ports_themselves() {
        let wanted = |kind, can, on| AccessControl { at: 0, shared: true, can, on }.wanted(kind);
        assert_eq!(wanted(Some(PortType::Root), 0x1d, 0), 0x1d);
        assert_eq!(wanted(Some(PortType::Root), 0x9d, 0), 0x29d);
        assert_eq!(wanted(Some(PortType::Downstream), 0x9d, 0x0560), 0x1a9d);
        assert_eq!(wanted(None, 0x8c, 0), 0x0c, "an endpoint has none of it");
    }
}
