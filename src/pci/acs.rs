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

use super::capability::extended_capabilities;
use super::{ConfigSpace, functions_of, is_there};
use crate::addr::SourceId;
use crate::hal::Hal;

const ID: u16 = 0x0d;
const BYTES: u16 = 8;
/// Capability in bits 15:0, Control in bits 31:16.
const REGISTERS: u16 = 0x04;
/// Bits 0, 2, 3 and 4.
const ISOLATING: u32 = 0x1d;
/// Bits 5 and 6.
const OPENING: u32 = 0x60;

/// Where the registers of a function are, and what is in them: capability, control.
fn registers(config: &impl ConfigSpace, function: SourceId) -> Option<(u16, u32, u32)> {
    let at = extended_capabilities(config, function, ID, BYTES).next()? + REGISTERS;
    let both = config.read(function, at);
    Some((at, both & 0xffff, both >> 16))
}

/// Where the control register of a function is, and the word that sets it as it is.
pub(super) fn control(config: &impl ConfigSpace, function: SourceId) -> Option<(u16, u32)> {
    registers(config, function).map(|(at, _, on)| (at, on << 16))
}

/// True if a function has the capability, and all that it can of what isolates is on: what the capability of a port or of a
/// function leaves out is always so, or does not concern it (section 7.7.11.2).
pub(crate) fn isolates(config: &impl ConfigSpace, function: SourceId) -> bool {
    registers(config, function).is_some_and(|(_, can, on)| on & can & ISOLATING == can & ISOLATING && on & OPENING == 0)
}

/// Switches on what isolates, in all functions of a segment that have it, except those of a device beyond the eighth.
pub(crate) fn isolate_all(hal: &impl Hal, segment: u16) {
    for first in (0..=u16::MAX).step_by(8).map(|requester| SourceId::from_requester(segment, requester)) {
        for function in functions_of(hal, first).filter(|function| is_there(hal, *function)) {
            let Some((at, can, on)) = registers(hal, function) else { continue };
            let wanted = on & !OPENING | can & ISOLATING;
            if wanted != on {
                // SAFETY: the register is the function's own, and its lower half is read-only. What is switched on lets
                // requests pass by the root complex alone, where a remapping unit looks at them.
                unsafe { hal.config_write(function, at, wanted << 16) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;

    #[test]
    fn a_function_isolates_if_all_it_has_is_on_and_nothing_opens_it() {
        let with = |register| {
            let registers =
                [(function(1), 0, 0x1234_8086), (function(1), 0x100, 0x0001_000d), (function(1), 0x104, register)];
            isolates(&FewRegisters(&registers), function(1))
        };
        assert!(with(0x001d_001d) && with(0x001f_005f) && with(0x000c_000c), "with others, and with what there is");
        for off in [0, 2, 3, 4] {
            assert!(!with(0x001d_001d & !(1 << (16 + off))), "bit {off}");
        }
        assert!(!with(0x003d_007d) && !with(0x005d_007d), "egress control, translated requests");
        assert!(with(0), "it can nothing, since nothing concerns it");
        assert!(!isolates(&FewRegisters(&[(function(1), 0, 0x1234_8086)]), function(1)), "no capability");
        assert!(!isolates(&FewRegisters(&[]), function(1)), "no function");
    }
}
