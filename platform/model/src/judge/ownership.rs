//! Who owns which memory and which device, as the test says: not as any table or configuration does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

use cofferdam::addr::SourceId;

/// A test's own number for a cell.
pub type Owner = u32;

#[derive(Debug, Default)]
pub(crate) struct Ownership {
    /// Memory of several owners is there several times.
    pub(crate) memory: Vec<(Range<u64>, Owner)>,
    pub(crate) devices: BTreeMap<SourceId, Owner>,
}

impl Ownership {
    /// The owner of memory that a device reaches, if that is another than the device's. Memory of nobody is not looked at.
    pub(crate) fn crossed(&self, device: SourceId, at: u64) -> Option<Owner> {
        let own = self.devices.get(&device);
        let owners = || self.memory.iter().filter(|(memory, _)| memory.contains(&at)).map(|(_, owner)| owner);
        owners().next().filter(|_| !owners().any(|owner| Some(owner) == own)).copied()
    }
}
