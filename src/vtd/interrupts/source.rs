//! What is programmed into a source so that its requests name an entry of the table (S 5.1.5), in remappable format.
#![forbid(unsafe_code)]

use crate::interrupt::{Message, Route, Trigger};

/// Of a device, for a block of entries that begins at `first`: the n-th message of MSI adds n to the data (S 5.1.5.2). Address
/// bits 31:20 are 0xFEE, 19:5 bits 14:0 of the index, 4 the format, 3 that there is a sub-handle, 2 bit 15 of the index.
pub(in crate::vtd) const fn message(first: u16) -> Message {
    let index = first as u64;
    Message { address: 0xfee0_0000 | (index & 0x7fff) << 5 | 1 << 4 | 1 << 3 | (index >> 15) << 2, data: 0 }
}

/// Of a pin of an IOAPIC (S 5.1.5.1): index 14:0 in 63:49, the format in 48, the trigger mode in 15, index 15 in 11, the vector in
/// 7:0, which the IOAPIC compares with that of an EOI. The pin's mask (16) and polarity (13) are left 0, and are up to the caller.
pub(in crate::vtd) fn redirection(slot: u16, route: Route) -> u64 {
    let index = u64::from(slot);
    let level = u64::from(route.trigger == Trigger::Level) << 15;
    (index & 0x7fff) << 49 | 1 << 48 | level | (index >> 15) << 11 | u64::from(route.vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_entry_and_leaves_the_data_to_the_device() {
        assert_eq!(message(0), Message { address: 0xfee0_0018, data: 0 });
        assert_eq!(message(0x1235), Message { address: 0xfee2_46b8, data: 0 });
        assert_eq!(message(0xffff), Message { address: 0xfeef_fffc, data: 0 });
    }

    #[test]
    fn a_pin_names_its_entry_and_has_its_vector_and_trigger() {
        assert_eq!(redirection(0x8001, Route::to(3, 0x41)), 0x0003_0000_0000_0841);
        let level = Route { trigger: Trigger::Level, ..Route::to(3, 0x41) };
        assert_eq!(redirection(2, level), 0x0005_0000_0000_8041);
    }
}
