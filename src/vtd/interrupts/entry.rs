//! Entry of the interrupt-remapping table (S 9.9, 9.10). 128 bits. For remapped interrupts:
//!
//! | bits | field |
//! |---|---|
//! | 83:82 | SVT, source validation type: 1 by SID and SQ, 2 by the bus range in SID |
//! | 81:80 | SQ, source-id qualifier: how many of the upper bits of the function number are left out |
//! | 79:64 | SID, source identifier: a requester-id, or the first bus and the last |
//! | 63:32 | DST, destination: an APIC id, in 47:40 without extended interrupt mode |
//! | 23:16 | V, vector |
//! | 7:5 | DLM, delivery mode: 0 fixed, 1 lowest priority |
//! | 4 | TM, trigger mode: 1 for level |
//! | 3 | RH, redirection hint: to one of the CPUs |
//! | 2 | DM, destination mode: 1 for logical |
//! | 0 | P, present |
//!
//! For posted ones, what differs:
//!
//! | bits | field |
//! |---|---|
//! | 127:96 | PDAH, posted descriptor address, its bits 63:32 |
//! | 63:38 | PDAL, its bits 31:6 |
//! | 23:16 | VV, virtual vector |
//! | 15 | IM, the mode: 1 |
//! | 14 | URG, urgent |
//!
//! All other bits are 0: FPD, and what software may use.
#![forbid(unsafe_code)]

use crate::interrupt::{Course, Cpus, Delivery, Posting, Route, Senders, Trigger};

const P: u64 = 1;

/// Both halves of an entry: what becomes of interrupts, and whose are taken.
pub(super) fn words(course: Course, senders: Senders, extended: bool) -> [u64; 2] {
    match course {
        Course::Remapped(route) => [remapped(route, extended), upper(senders)],
        Course::Posted(posting) => {
            let [lower, of_address] = posted(posting);
            [lower, upper(senders) | of_address]
        }
    }
}

fn posted(posting: Posting) -> [u64; 2] {
    let address = posting.descriptor().as_u64();
    let urgent = u64::from(posting.is_urgent()) << 14;
    [(address & 0xffff_ffc0) << 32 | u64::from(posting.vector()) << 16 | 1 << 15 | urgent | P, address >> 32 << 32]
}

/// The lower half for a route.
fn remapped(route: Route, extended: bool) -> u64 {
    let (id, logical) = match route.cpus {
        Cpus::Physical(id) => (id, 0),
        Cpus::Logical(set) => (set, 1 << 2),
    };
    let destination = if extended { u64::from(id) << 32 } else { u64::from(id & 0xff) << 40 };
    let delivery = match route.delivery {
        Delivery::Fixed => 0,
        Delivery::LowestPriority => 1 << 5 | 1 << 3,
    };
    let level = u64::from(route.trigger == Trigger::Level) << 4;
    destination | u64::from(route.vector) << 16 | delivery | level | logical | P
}

/// The upper half: whose requests are taken (R56).
fn upper(senders: Senders) -> u64 {
    match senders {
        Senders::Functions { requester, free } => 1 << 18 | u64::from(free & 3) << 16 | u64::from(requester.get()),
        Senders::Buses { first, last } => 2 << 18 | u64::from(first) << 8 | u64::from(last),
    }
}

/// True if the lower half is that of an entry that is present.
pub(super) fn is_present(lower: u64) -> bool {
    lower & P != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Requester;

    #[test]
    fn the_lower_half_says_where_it_goes() {
        let plain = Route::to(0x12, 0x31);
        assert_eq!(remapped(plain, false), 0x1200_0031_0001);
        assert_eq!(remapped(Route::to(0x1234_5678, 0x31), true), 0x1234_5678_0031_0001);
        let level = Route { trigger: Trigger::Level, ..plain };
        assert_eq!(remapped(level, false), 0x1200_0031_0011);
        let one_of = Route { cpus: Cpus::Logical(0x30), delivery: Delivery::LowestPriority, ..plain };
        assert_eq!(remapped(one_of, false), 0x3000_0031_002d);
        let all_of = Route { cpus: Cpus::Logical(0x2_0003), ..plain };
        assert_eq!(remapped(all_of, true), 0x0002_0003_0031_0005);
    }

    #[test]
    fn an_id_beyond_eight_bits_sets_no_reserved_bit() {
        assert_eq!(remapped(Route::to(u32::MAX, 0x31), false), 0xff00_0031_0001);
    }

    #[test]
    fn the_upper_half_says_who_sends_it() {
        let functions = |free| upper(Senders::Functions { requester: Requester::new(0x1f8), free });
        assert_eq!([0, 1, 2, 3].map(functions), [0x4_01f8, 0x5_01f8, 0x6_01f8, 0x7_01f8]);
        assert_eq!(upper(Senders::Buses { first: 2, last: 9 }), 0x8_0209);
    }

    #[test]
    fn an_entry_has_both_halves() {
        let senders = Senders::Functions { requester: Requester::new(0x1f8), free: 0 };
        let plain = Route::to(0x12, 0x31);
        assert_eq!(words(Course::Remapped(plain), senders, false), [remapped(plain, false), upper(senders)]);
        let at = crate::addr::PhysAddr::new_truncate(0x000f_edcb_a987_6540);
        let posting = Posting::of_nobody(at, 0x83);
        let lower = 0xa987_6540_0083_8001;
        assert_eq!(words(Course::Posted(posting), senders, true), [lower, 0x000f_edcb_0004_01f8]);
        assert_eq!(words(Course::Posted(posting.urgent()), senders, true), [lower | 1 << 14, 0x000f_edcb_0004_01f8]);
    }
}
