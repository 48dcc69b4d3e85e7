//! Devices: their configuration space, and the translations that they cache themselves (section 4.1).
#![forbid(unsafe_code)]

use std::collections::HashMap;

use cofferdam::addr::{Rights, SourceId};

use crate::bridge::Bridge;

/// How a device answers an invalidation of its device-TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It drops what it has, and says so after that many nanoseconds.
    After(u64),
    /// It does not answer; the unit gives up after [`GIVES_UP_NS`].
    Never,
    /// It answers as it should, and once more for an invalidation that nobody sent.
    Twice,
}

/// How long a unit waits for a device. (PCI Express allows a minute; no test would wait for that.)
pub const GIVES_UP_NS: u64 = 10_000_000;

/// A page that a device has a translation of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cached {
    pub(crate) page: u64,
    pub(crate) output: u64,
    pub(crate) rights: Rights,
}

#[derive(Debug)]
pub(crate) struct Device {
    config: HashMap<u16, u32>,
    pub(crate) cached: Vec<Cached>,
    pub(crate) answer: Answer,
    /// Invalidations that it takes at a time (Invalidate Queue Depth).
    pub(crate) queue_depth: usize,
}

impl Default for Device {
    fn default() -> Self {
        Self { config: HashMap::new(), cached: Vec::new(), answer: Answer::After(1_000), queue_depth: 32 }
    }
}

/// All devices that a test has said something of.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    functions: HashMap<SourceId, Device>,
    bridges: Vec<Bridge>,
}

impl Devices {
    pub(crate) fn of(&mut self, source: SourceId) -> &mut Device {
        self.functions.entry(source).or_default()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (SourceId, &Device)> {
        self.functions.iter().map(|(source, device)| (*source, device))
    }

    pub(crate) fn add_bridge(&mut self, bridge: Bridge) {
        for (offset, value) in bridge.config() {
            self.set_config(bridge.function, offset, value);
        }
        self.bridges.push(bridge);
    }

    /// The id that a request of `source` carries when it reaches a unit: the topmost bridge has the last word.
    pub(crate) fn requester(&self, source: SourceId) -> SourceId {
        let mut id = source;
        while let Some(renamed) = self.bridges.iter().find_map(|bridge| bridge.renames(id)).filter(|new| *new != id) {
            id = renamed;
        }
        id
    }

    pub(crate) fn set_config(&mut self, function: SourceId, offset: u16, value: u32) {
        self.of(function).config.insert(offset & !3, value);
    }

    /// All ones where there is no function; zero in a register of one that nobody has set.
    pub(crate) fn config(&self, function: SourceId, offset: u16) -> u32 {
        let device = self.functions.get(&function).filter(|device| !device.config.is_empty());
        device.map_or(u32::MAX, |device| device.config.get(&(offset & !3)).copied().unwrap_or(0))
    }
}

impl Device {
    pub(crate) fn lookup(&self, address: u64, right: Rights) -> Option<u64> {
        let hit = self.cached.iter().find(|entry| entry.page == address & !0xfff && entry.rights.contains(right))?;
        Some(hit.output | address & 0xfff)
    }

    /// Drops the translations of all pages from `first` to `last`.
    pub(crate) fn invalidate(&mut self, first: u64, last: u64) {
        self.cached.retain(|entry| entry.page > last || entry.page | 0xfff < first);
    }
}
