//! The capability of message-signalled interrupts (PCI Local Bus Specification 3.0, section 6.8.1).
//!
//! | bits of the first word | field |
//! |---|---|
//! | 16 | MSI Enable |
//! | 19:17 | Multiple Message Capable: 2^n messages, up to 32 |
//! | 22:20 | Multiple Message Enable, likewise |
//! | 23 | the address has 64 bits: its upper half is the third word, and the data is in the fourth; or else in the third |

use super::capability::capability;
use crate::addr::SourceId;
use crate::hal::Hal;

const ID: u8 = 0x05;
const ENABLE: u32 = 1 << 16;
const WIDE: u32 = 1 << 23;
/// 32 messages.
const MOST: u32 = 5;

/// Has a function send its interrupts by writing this there: 2^`order` different ones at most, which it tells apart in the lowest bits
/// of the data. False if it has no such capability, or no room for the address: then it sends none as messages.
pub(crate) fn program_msi(hal: &impl Hal, function: SourceId, (address, data): (u64, u32), order: u8) -> bool {
    let Some(at) = capability(hal, function, ID).filter(|at| *at <= 0xf0) else { return false };
    let first = hal.config_read(function, at) & !ENABLE;
    let write = |offset: u16, value: u32| {
        // SAFETY: the registers are of the function's capability. What it sends by them is an interrupt, which its unit takes or not.
        unsafe { hal.config_write(function, at + offset, value) }
    };
    // None is sent with half of an address.
    write(0, first);
    let (low, high) = (address as u32, (address >> 32) as u32);
    if first & WIDE == 0 && high != 0 {
        return false;
    }
    write(4, low);
    if first & WIDE == 0 {
        write(8, data);
    } else {
        write(8, high);
        write(12, data);
    }
    let capable = match first >> 17 & 0b111 {
        capable @ 0..=MOST => capable,
        _ => 0,
    };
    let enabled = capable.min(order.into());
    write(0, first & !(0b111 << 20) | enabled << 20 | ENABLE);
    true
}

#[cfg(test)]
mod tests {
    use cofferdam_model::{Config, Machine, UnitConfig};

    use super::*;
    use crate::hal::on_model::{OnModel, source};

    const FUNCTION: SourceId = SourceId::from_requester(0, 8);
    const AT: u16 = 0x60;

    /// A machine whose function has the capability with this first word.
    fn with_capability(first: u32) -> OnModel {
        let machine = Machine::new(Config::new([UnitConfig::server()]));
        for (offset, value) in [(0, 0x1234_8086), (4, 1 << 20), (0x34, AT.into()), (AT, first | 0x05)] {
            machine.set_config(source(FUNCTION), offset, value);
        }
        OnModel(machine)
    }

    fn words(machine: &OnModel) -> [u32; 4] {
        [0, 4, 8, 12].map(|offset| machine.config_read(FUNCTION, AT + offset))
    }

    #[test]
    fn address_and_data_stand_where_the_width_has_them() {
        let wide = with_capability(WIDE | 0b011 << 17);
        assert!(program_msi(&wide, FUNCTION, (0x1_fee0_0018, 0x21), 2));
        assert_eq!(words(&wide), [0x05 | WIDE | 0b011 << 17 | 2 << 20 | ENABLE, 0xfee0_0018, 1, 0x21]);
        let narrow = with_capability(0b001 << 17);
        assert!(program_msi(&narrow, FUNCTION, (0xfee0_0018, 0x21), 5));
        assert_eq!(words(&narrow)[..3], [0x05 | 0b001 << 17 | 1 << 20 | ENABLE, 0xfee0_0018, 0x21]);
    }

    #[test]
    fn what_a_function_cannot_send_is_not_switched_on() {
        let narrow = with_capability(ENABLE);
        assert!(!program_msi(&narrow, FUNCTION, (0x1_fee0_0018, 0), 0));
        assert_eq!(words(&narrow), [0x05, 0, 0, 0], "and what was on is off");
        let reserved = with_capability(0b111 << 17);
        assert!(program_msi(&reserved, FUNCTION, (0xfee0_0018, 0), 5));
        assert_eq!(words(&reserved)[0], 0x05 | 0b111 << 17 | ENABLE, "one message");
        assert!(!program_msi(&reserved, SourceId::from_requester(0, 16), (0xfee0_0018, 0), 0), "nobody is there");
    }
}
