//! Who owns which memory, which CPUs and which device, as the test says: not as any table or configuration does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use cofferdam::addr::SourceId;

/// A test's own number for a cell.
pub type Owner = u32;

#[derive(Debug, Default)]
pub(crate) struct Ownership {
    /// Memory of several owners is there several times.
    pub(crate) memory: Vec<(Range<u64>, Owner)>,
    pub(crate) devices: BTreeMap<SourceId, Owner>,
    /// `None` if nobody looks at interrupts.
    pub(crate) targets: Option<BTreeMap<Owner, Targets>>,
    /// A sender of several owners is there several times.
    pub(crate) senders: Vec<(SourceId, Owner)>,
    /// Where interrupts are posted for whom.
    pub(crate) descriptors: BTreeMap<u64, Owner>,
}

impl Ownership {
    /// The owner of memory that a device reaches, if that is another than the device's. Memory of nobody is not looked at.
    pub(crate) fn crossed(&self, device: SourceId, at: u64) -> Option<Owner> {
        let own = self.devices.get(&device);
        let owners = || self.memory.iter().filter(|(memory, _)| memory.contains(&at)).map(|(_, owner)| owner);
        owners().next().filter(|_| !owners().any(|owner| Some(owner) == own)).copied()
    }

    /// True if a sender's interrupts may be posted to a descriptor.
    pub(crate) fn may_post(&self, sender: SourceId, descriptor: u64) -> bool {
        let owner = self.descriptors.get(&descriptor);
        self.targets.is_none() || self.senders.iter().any(|(other, it)| *other == sender && Some(it) == owner)
    }

    /// True if a message of a sender reaches nobody but CPUs of an owner of its own.
    pub(crate) fn may_send(&self, sender: SourceId, address: u64, data: u32) -> bool {
        let Some(targets) = &self.targets else { return true };
        let mut own = self.senders.iter().filter(|(other, _)| *other == sender).filter_map(|(_, it)| targets.get(it));
        own.any(|own| own.have(address, data))
    }
}

/// CPUs and vectors that interrupts may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The CPUs, by APIC id.
    pub cpus: Vec<RangeInclusive<u32>>,
    /// Their logical ids in the flat model of xAPIC mode. `None` in x2APIC mode, where a set of CPUs is a cluster of 16 and a
    /// bit for each (SDM 3A, section 11.6.2).
    pub flat_ids: Option<u8>,
    /// The vectors.
    pub vectors: RangeInclusive<u8>,
}

impl Targets {
    /// True if they have all CPUs that a message names, and its vector (section 5.1.6). What is no interrupt with a vector is for
    /// nobody, and so is what goes to all CPUs.
    pub fn have(&self, address: u64, data: u32) -> bool {
        let (id, is_logical) = ((address >> 12 & 0xff | address >> 40 << 8) as u32, address & 4 != 0);
        let has = |id: u32| self.cpus.iter().any(|cpus| cpus.contains(&id));
        let cpus = match (is_logical, self.flat_ids) {
            (_, Some(_)) if id >= 0xff => false,
            (_, None) if id == u32::MAX => false,
            (false, _) => has(id),
            (true, Some(flat)) => id != 0 && id & !u32::from(flat) == 0,
            (true, None) => id & 0xffff != 0 && (0..16).all(|bit| id >> bit & 1 == 0 || has((id >> 16) * 16 + bit)),
        };
        cpus && data >> 8 & 7 <= 1 && self.vectors.contains(&(data as u8))
    }
}
