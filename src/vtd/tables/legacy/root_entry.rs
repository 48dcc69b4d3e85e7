//! Root entry (S 9.1): one for each bus; leads to the bus's context table. 128 bits, the upper half reserved.
//!
//! | bits | field |
//! |---|---|
//! | 63:12 | CTP, context-table pointer |
//! | 0 | P, present |
#![forbid(unsafe_code)]

use crate::addr::PhysAddr;

const P: u64 = 1;
const CTP: u64 = !0xfff;

/// The lower half of an entry that leads to `context_table`.
pub(in crate::vtd::tables) fn present(context_table: PhysAddr) -> u64 {
    context_table.as_u64() & CTP | P
}

/// The context table that an entry with this lower half leads to.
pub(in crate::vtd::tables) fn context_table(lower: u64) -> Option<PhysAddr> {
    (lower & P != 0).then(|| PhysAddr::new_truncate(lower & CTP))
}

/// Index of the lower half of a bus's entry, in words of the table.
pub(in crate::vtd::tables) fn word(bus: u8) -> usize {
    usize::from(bus) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_holds_pointer_and_present_and_nothing_else() {
        let table = PhysAddr::new(0x000f_ffff_ffff_f000);
        assert_eq!(present(table), 0x000f_ffff_ffff_f001);
        assert_eq!(context_table(present(table)), Some(table));
        assert_eq!(context_table(0x1000), None);
        assert_eq!(word(255), 510);
    }
}
