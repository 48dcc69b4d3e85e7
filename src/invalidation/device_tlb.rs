#![forbid(unsafe_code)]

use crate::addr::Requester;
use crate::pci::Ats;

/// A function that may cache translations itself (VT-d 5.10, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceTlb {
    /// Its requester-id.
    pub requester: Requester,
    /// That of the physical function whose virtual function it is, or its own again.
    pub physical: Requester,
    /// How many invalidations the physical function takes at a time: 1 to 32.
    pub queue_depth: u8,
}

impl DeviceTlb {
    pub(crate) fn of(ats: &Ats) -> Self {
        let (requester, physical) = (ats.function.into(), ats.physical.into());
        Self { requester, physical, queue_depth: ats.queue_depth }
    }
}
