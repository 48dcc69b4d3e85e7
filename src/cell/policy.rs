#![forbid(unsafe_code)]

use crate::domain::{Attributes, Coherency};

/// Which page tables the devices of a cell are given, as far as their DMA can be made to snoop the CPU's caches.
///
/// Whether a table enforces snooping is fixed when it is made ([C1](crate::guide::rules#c1)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoherencyPolicy {
    /// Every table enforces snooping: a device for which that cannot be is refused, and the cell is always coherent.
    Enforced,
    /// No table does, also where it could be.
    NotEnforced,
    /// Where a device can be made to snoop, its table enforces it. The cell is coherent as long as it has no other device.
    #[default]
    PerDevice,
}

impl CoherencyPolicy {
    /// What a table for a device is to be like; `None` if the cell cannot have the device.
    pub(crate) fn wanted(self, can_enforce: bool) -> Option<Coherency> {
        match (self, can_enforce) {
            (Self::Enforced, false) => None,
            (Self::Enforced | Self::PerDevice, true) => Some(Coherency::Enforced),
            (Self::NotEnforced, _) | (Self::PerDevice, false) => Some(Coherency::NotEnforced),
        }
    }
}

/// Whether a device is reset when it leaves its cell (Function Level Reset, by PCI Express or by Advanced Features).
///
/// What a cell has had a device do, it may still do in its next cell, as soon as that switches bus mastering on: to
/// addresses that mean something else there. A reset makes it forget. It takes 100 ms, for all devices of a change at a time.
///
/// Afterwards the device has its base addresses, their sizes and the rest of its header as before, with bus mastering off, and
/// what its virtual functions are to have; of its other capabilities only Device Control, Device Control 2 and Access Control
/// Services. Interrupts (MSI, MSI-X), power management,
/// error reporting and the like are up to its next driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetPolicy {
    /// If it can be. A bridge cannot, nor can a function while it has virtual functions, which it would take with it.
    #[default]
    IfPossible,
    /// A device that cannot be is refused; one that cannot be any more when it is to leave stays, blocked. One that is not there
    /// any more has nothing to be reset.
    Required,
    /// Whoever gives it to another cell resets it before.
    Never,
}

/// When devices of a cell share a page table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// When each would be given one just like it. What a cell's coherency is then follows from the devices that it has, in
    /// whatever order they came: when the last device that cannot be made to snoop has left, the cell is coherent again.
    #[default]
    ByAttributes,
    /// Whenever a device can use a table that is there, if only with smaller pages, or without snooping enforced. A cell has
    /// the fewest tables then, but its coherency depends on which of them were there when a device came.
    FewestTables,
}

impl Sharing {
    /// True if a device that would be given a table like `own`, and that could be made to snoop or not, uses one that is
    /// like `other`.
    pub(crate) fn shares(self, own: &Attributes, can_enforce: bool, other: &Attributes) -> bool {
        match self {
            Self::ByAttributes => other.serves(own),
            Self::FewestTables => {
                let geometry = own.geometry.at_most(other.geometry);
                let coherency = other.coherency;
                other.serves(&Attributes { geometry, coherency, ..*own })
                    && (can_enforce || coherency == Coherency::NotEnforced)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attributes::tests::{SNOOPED, geometry};

    const PLAIN: Attributes = Attributes { coherency: Coherency::NotEnforced, ..SNOOPED };

    #[test]
    fn a_policy_says_what_a_table_is_like_and_who_gets_none() {
        use Coherency::{Enforced, NotEnforced};
        let wanted = |policy: CoherencyPolicy| [true, false].map(|can_enforce| policy.wanted(can_enforce));
        assert_eq!(wanted(CoherencyPolicy::Enforced), [Some(Enforced), None]);
        assert_eq!(wanted(CoherencyPolicy::NotEnforced), [Some(NotEnforced), Some(NotEnforced)]);
        assert_eq!(wanted(CoherencyPolicy::PerDevice), [Some(Enforced), Some(NotEnforced)]);
    }

    #[test]
    fn a_table_that_is_just_like_it_is_shared_by_either_policy() {
        for sharing in [Sharing::ByAttributes, Sharing::FewestTables] {
            assert!(sharing.shares(&SNOOPED, true, &SNOOPED) && sharing.shares(&PLAIN, false, &PLAIN));
            assert!(!sharing.shares(&PLAIN, false, &SNOOPED), "it cannot be made to snoop");
            for other in [
                Attributes { reserved: 1, ..PLAIN },
                Attributes { geometry: geometry(3, 3, 39), ..PLAIN },
                Attributes { geometry: geometry(5, 3, 57), ..PLAIN },
                Attributes { coherent_walks: true, ..PLAIN },
            ] {
                assert!(!sharing.shares(&PLAIN, false, &other), "{other:?}");
            }
        }
    }

    #[test]
    fn only_for_fewest_tables_one_that_can_do_less_is_shared() {
        let small = Attributes { geometry: geometry(4, 1, 48), ..PLAIN };
        let narrow = Attributes { geometry: geometry(4, 3, 39), ..SNOOPED };
        for other in [PLAIN, small, narrow] {
            assert!(Sharing::FewestTables.shares(&SNOOPED, true, &other), "{other:?}");
            assert!(!Sharing::ByAttributes.shares(&SNOOPED, true, &other), "{other:?}");
        }
        assert!(!Sharing::FewestTables.shares(&small, false, &PLAIN), "with pages that its unit cannot have");
    }
}
