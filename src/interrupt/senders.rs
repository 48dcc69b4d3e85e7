//! Whose requests an interrupt's entry takes, so that no device speaks for another (R56).
#![forbid(unsafe_code)]

use crate::addr::Requester;
use crate::topology::{Renamed, Requesters};

/// The requester-ids that an entry takes, in the few forms that units can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Senders {
    /// This one; and those of the same device that differ from it in the upper `free` bits, 0 to 3, of the function number.
    Functions { requester: Requester, free: u8 },
    /// All of these buses.
    Buses { first: u8, last: u8 },
}

impl Senders {
    /// Those of a device's messages; `None` if it has no source-id.
    pub(crate) fn of(requesters: &Requesters) -> Option<Self> {
        match requesters.renamed() {
            Some(Renamed::As(bridge)) => Some(Self::Functions { requester: bridge.into(), free: 0 }),
            Some(Renamed::OfBuses(first, last)) => Some(Self::Buses { first, last }),
            None => Self::covering(requesters.ids().iter().map(|&source| source.into())),
        }
    }

    /// The narrowest that takes the first of these, and those that differ from it in the function alone. An id of another device, by
    /// which some send their DMA, is left out: the entry would take all between the two.
    fn covering(mut all: impl Iterator<Item = Requester>) -> Option<Self> {
        let first = all.next()?;
        let differing = all.map(|other| other.get() ^ first.get()).filter(|bits| *bits < 8);
        let free = match differing.fold(0, |all, bits| all | bits) {
            0 => 0,
            4 => 1,
            2 | 6 => 2,
            _ => 3,
        };
        Some(Self::Functions { requester: first, free })
    }

    /// True if an entry takes what has this requester-id.
    pub(crate) fn takes(self, other: Requester) -> bool {
        match self {
            Self::Functions { requester, free } => {
                // The third bit first, then the second, and then the first.
                let ignored = 0b111 & !(0b111_u16 >> free);
                (requester.get() ^ other.get()) & !ignored == 0
            }
            Self::Buses { first, last } => (first..=last).contains(&other.bus()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covering(all: &[u16]) -> Option<Senders> {
        Senders::covering(all.iter().map(|id| Requester::new(*id)))
    }

    fn functions(requester: u16, free: u8) -> Option<Senders> {
        Some(Senders::Functions { requester: Requester::new(requester), free })
    }

    #[test]
    fn the_narrowest_form_is_chosen_that_takes_all() {
        assert_eq!(covering(&[0x1f8]), functions(0x1f8, 0));
        assert_eq!(covering(&[0x1f8, 0x1fc]), functions(0x1f8, 1));
        assert_eq!(covering(&[0x1f9, 0x1fd, 0x1fb]), functions(0x1f9, 2));
        assert_eq!(covering(&[0x1f8, 0x1fa]), functions(0x1f8, 2));
        assert_eq!(covering(&[0x1f8, 0x1f9]), functions(0x1f8, 3));
        assert_eq!(covering(&[0x1f8, 0x1f0, 0x300]), functions(0x1f8, 0), "of another device");
        assert_eq!(covering(&[0x1f8, 0x1f0, 0x1fc]), functions(0x1f8, 1));
        assert_eq!(covering(&[]), None);
    }

    #[test]
    fn all_functions_are_taken_that_it_was_made_for() {
        for ids in [[0x1f8, 0x1fc, 0x1f8], [0x1f8, 0x1fa, 0x1fc], [0x1f8, 0x1f9, 0x1ff]] {
            let all = covering(&ids).unwrap();
            assert!(ids.iter().all(|id| all.takes(Requester::new(*id))), "{ids:x?}");
        }
    }

    #[test]
    fn no_other_device_and_no_other_bit_is_taken() {
        let takes = |senders: Option<Senders>, id| senders.unwrap().takes(Requester::new(id));
        assert!(!takes(functions(0x1f8, 0), 0x1fc) && takes(functions(0x1f8, 1), 0x1fc));
        assert!(!takes(functions(0x1f8, 1), 0x1fa) && takes(functions(0x1f8, 2), 0x1fe));
        assert!(!takes(functions(0x1f8, 2), 0x1f9) && takes(functions(0x1f8, 3), 0x1ff));
        assert!(!takes(functions(0x1f8, 3), 0x1f0) && !takes(functions(0x1f8, 3), 0x2f8));
        let buses = Some(Senders::Buses { first: 1, last: 2 });
        assert_eq!([0xff, 0x100, 0x2ff, 0x300].map(|id| takes(buses, id)), [false, true, true, false]);
    }
}
