//! Devices: their configuration space, and the translations that they cache themselves (section 4.1).
#![forbid(unsafe_code)]

use std::collections::HashMap;

use cofferdam::addr::{Rights, SourceId};

use crate::bridge::Bridge;
use crate::late::{BUS_MASTER, COMMAND, DEVICE_STATUS, ENDPOINT, Late, LateWrite, PENDING};
use crate::peers::{ACS_HEADER, ACS_REGISTERS};
use crate::reset::{self, Reset};

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

/// Where the ATS extended capability of a device is that has one (PCI Express 6.0, section 10.5.1): the header, then
/// capability and control register in one word.
const ATS_HEADER: u16 = 0x140;
const ATS_REGISTERS: u16 = ATS_HEADER + 4;
/// E of the control register, and with STU all of it that can be written.
const ATS_ENABLE: u32 = 1 << 31;
const ATS_WRITABLE: u32 = ATS_ENABLE | 0x1f << 16;

/// A device's ATS control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ats {
    /// E = 1.
    On,
    /// E = 0, and since then the device-TLB was not emptied.
    Off,
    /// E = 0, and the device-TLB is empty.
    Done,
}

#[derive(Debug)]
pub(crate) struct Device {
    config: HashMap<u16, u32>,
    pub(crate) cached: Vec<Cached>,
    pub(crate) answer: Answer,
    /// Invalidations that it takes at a time (Invalidate Queue Depth).
    pub(crate) queue_depth: usize,
    /// It did not answer when it was asked last.
    pub(crate) silent: bool,
    /// For a device that has the capability. One without uses its device-TLB whenever a test says so.
    pub(crate) ats: Option<Ats>,
    /// It has the PCI Express capability.
    express: bool,
    late: Vec<LateWrite>,
    /// How it can be reset, and how long that takes.
    reset: Option<(Reset, u64)>,
    /// It is in reset: when that began, and when it answers again.
    in_reset: Option<(u64, u64)>,
    pub(crate) resets: u32,
}

impl Default for Device {
    fn default() -> Self {
        let answer = Answer::After(1_000);
        let (config, cached, late) = (HashMap::new(), Vec::new(), Vec::new());
        Self {
            config,
            cached,
            answer,
            queue_depth: 32,
            silent: false,
            ats: None,
            express: false,
            late,
            reset: None,
            in_reset: None,
            resets: 0,
        }
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
        let device = self.of(function);
        device.config.insert(offset & !3, value);
        if device.ats.is_some() && offset & !3 == ATS_REGISTERS {
            device.ats = Some(if value & ATS_ENABLE != 0 { Ats::On } else { Ats::Off });
        }
    }

    /// Gives a function a vendor and the ATS capability.
    pub(crate) fn add_ats(&mut self, function: SourceId, queue_depth: usize) {
        let device = self.of(function);
        device.queue_depth = queue_depth;
        device.ats = Some(Ats::Done);
        let depth = queue_depth as u32 % 32;
        for (offset, value) in [(0, 0x0001_8086), (0x100, 0x1400_0000 | 1 << 16), (ATS_HEADER, 1 << 16 | 0xf)] {
            device.config.entry(offset).or_insert(value);
        }
        device.config.insert(ATS_REGISTERS, 1 << 5 | depth);
    }

    /// Gives a function the PCI Express capability of an endpoint, and makes it a bus master.
    pub(crate) fn add_express(&mut self, function: SourceId) {
        let device = self.of(function);
        device.express = true;
        device.config.extend(ENDPOINT);
    }

    /// Has a function be reset in one way more, which takes that long.
    pub(crate) fn add_reset(&mut self, function: SourceId, reset: Reset, takes: u64) {
        let device = self.of(function);
        device.reset = Some((reset, takes));
        match reset {
            Reset::Express => drop(device.config.insert(reset::EXPRESS_CAPABILITIES, reset::EXPRESS_CAN)),
            Reset::Features => {
                for (offset, value) in [(0, 0x0004_8086), (COMMAND, 1 << 20 | BUS_MASTER | 2), (0x34, 0)] {
                    device.config.entry(offset).or_insert(value);
                }
                let next = device.config.insert(0x34, reset::FEATURES.into()).unwrap_or(0) & 0xff;
                device.config.insert(reset::FEATURES, reset::FEATURES_HEADER | next << 8);
            }
        }
    }

    /// True if a write of the driver resets a function.
    pub(crate) fn starts_reset(&self, function: SourceId, offset: u16, value: u32) -> bool {
        let device = self.functions.get(&function);
        match (device.and_then(|device| device.reset), offset & !3) {
            (Some((Reset::Express, _)), reset::EXPRESS_CONTROL) => value & reset::EXPRESS_START != 0,
            (Some((Reset::Features, _)), reset::FEATURES_CONTROL) => value & reset::FEATURES_START != 0,
            _ => false,
        }
    }

    /// Resets a function: it forgets what it was to do, and what was set. False if it has requests under way.
    pub(crate) fn reset(&mut self, function: SourceId, now: u64) -> bool {
        let device = self.of(function);
        let at_rest = device.late.iter().all(|write| write.late != Late::UnderWay);
        device.late.retain(|write| write.late == Late::UnderWay);
        device.cached.clear();
        device.ats = device.ats.map(|_| Ats::Done);
        device.config.iter_mut().for_each(|(offset, value)| *value = reset::after(*offset, *value));
        let takes = device.reset.map_or(0, |(_, takes)| takes);
        device.in_reset = Some((now, now.saturating_add(takes)));
        device.resets += 1;
        at_rest
    }

    /// True if a function does not answer at this moment because of a reset; then also, whether nobody may ask it.
    pub(crate) fn in_reset(&self, function: SourceId, now: u64) -> Option<bool> {
        let (began, until) = self.functions.get(&function)?.in_reset?;
        let early = now < began.saturating_add(reset::TAKES_NS);
        (early || now < until).then_some(early)
    }

    /// Gives a function Access Control Services that can do this much; an extended capability behind all that it has.
    pub(crate) fn add_acs(&mut self, function: SourceId, capability: u16) {
        let device = self.of(function);
        device.config.entry(0).or_insert(0x0003_8086);
        let last = if device.config.contains_key(&ATS_HEADER) { ATS_HEADER } else { 0x100 };
        let header = device.config.entry(last).or_insert(1 << 16);
        *header = *header & 0xf_ffff | u32::from(ACS_HEADER) << 20;
        device.config.insert(ACS_HEADER, 1 << 16 | 0xd);
        device.config.insert(ACS_REGISTERS, capability.into());
    }

    pub(crate) fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.bridges.iter()
    }

    pub(crate) fn write_late(&mut self, source: SourceId, write: LateWrite) {
        self.of(source).late.push(write);
    }

    /// When the next late write is due.
    pub(crate) fn next_late(&self) -> Option<u64> {
        self.functions.values().flat_map(|device| &device.late).map(|write| write.due).min()
    }

    /// Takes a write that is due; those that their device may not send any more are forgotten.
    pub(crate) fn take_late(&mut self, now: u64) -> Option<(SourceId, LateWrite)> {
        self.functions.iter_mut().find_map(|(source, device)| {
            let master = device.config.get(&COMMAND).is_some_and(|command| command & BUS_MASTER != 0);
            device.late.retain(|write| write.due > now || write.late == Late::UnderWay || master);
            let due = device.late.iter().position(|write| write.due <= now)?;
            Some((*source, device.late.remove(due)))
        })
    }

    /// A write of the driver. `Some` with the new value of E if it changes that.
    pub(crate) fn write_config(&mut self, function: SourceId, offset: u16, value: u32) -> Option<bool> {
        let device = self.of(function);
        let (Some(_), ATS_REGISTERS) = (device.ats, offset & !3) else {
            // The upper half is Status, which does not take what is written.
            let is_command = (device.express || device.reset.is_some()) && offset & !3 == COMMAND;
            let value = if is_command { device.register(offset) & !0xffff | value & 0xffff } else { value };
            // What is not in the capability cannot be switched on.
            let is_acs = device.config.contains_key(&ACS_HEADER) && offset & !3 == ACS_REGISTERS;
            let capability = device.register(offset) & 0xffff;
            let value = if is_acs { value & capability << 16 | capability } else { value };
            self.set_config(function, offset, value);
            return None;
        };
        let old = device.config.get(&ATS_REGISTERS).copied().unwrap_or(0);
        let new = old & !ATS_WRITABLE | value & ATS_WRITABLE;
        device.config.insert(ATS_REGISTERS, new);
        let on = new & ATS_ENABLE != 0;
        if (old & ATS_ENABLE != 0) == on {
            return None;
        }
        device.ats = Some(if on { Ats::On } else { Ats::Off });
        Some(on)
    }

    /// All ones where there is no function; zero in a register of one that nobody has set.
    pub(crate) fn config(&self, function: SourceId, offset: u16) -> u32 {
        let device = self.functions.get(&function).filter(|device| !device.config.is_empty());
        device.map_or(u32::MAX, |device| device.register(offset))
    }
}

impl Device {
    fn register(&self, offset: u16) -> u32 {
        let under_way = || self.late.iter().any(|write| write.late == Late::UnderWay);
        let pending = match (offset & !3, self.reset) {
            (DEVICE_STATUS, _) if self.express && under_way() => PENDING,
            (reset::FEATURES_CONTROL, Some((Reset::Features, _))) if under_way() => reset::FEATURES_PENDING,
            _ => 0,
        };
        self.config.get(&(offset & !3)).copied().unwrap_or(0) | pending
    }

    pub(crate) fn lookup(&self, address: u64, right: Rights) -> Option<u64> {
        let hit = self.cached.iter().find(|entry| entry.page == address & !0xfff && entry.rights.contains(right))?;
        Some(hit.output | address & 0xfff)
    }

    /// It was told to drop all that it has, and did.
    pub(crate) fn emptied(&mut self) {
        if self.ats == Some(Ats::Off) {
            self.ats = Some(Ats::Done);
        }
    }

    /// Drops the translations of all pages from `first` to `last`.
    pub(crate) fn invalidate(&mut self, first: u64, last: u64) {
        self.cached.retain(|entry| entry.page > last || entry.page | 0xfff < first);
    }
}
