//! A function: its configuration space, and what it does with what is written there.
#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use crate::devices::acs;
use crate::devices::endpoint::{BUS_MASTER, COMMAND, DEVICE_STATUS, ENDPOINT, PENDING};
use crate::devices::late::{Late, LateWrite};
use crate::devices::reset::{self, Reset};
use crate::devices::tlb::{self, Ats, DeviceTlb};

#[derive(Debug, Default)]
pub(crate) struct Function {
    config: FxHashMap<u16, u32>,
    pub(crate) tlb: DeviceTlb,
    /// It has the PCI Express capability.
    express: bool,
    pulled_out: bool,
    /// It has Access Control Services.
    acs: Option<acs::Layout>,
    late: Vec<LateWrite>,
    /// How it can be reset, and how long that takes.
    reset: Option<(Reset, u64)>,
    /// It is in reset: when that began, and when it answers again.
    in_reset: Option<(u64, u64)>,
    pub(crate) resets: u32,
}

impl Function {
    /// True if it is there: a test has set one of its registers, or given it a capability, and has not pulled it out.
    pub(crate) fn is_there(&self) -> bool {
        !self.config.is_empty() && !self.pulled_out
    }

    /// It is gone, and answers nothing any more.
    pub(crate) fn pull_out(&mut self) {
        self.pulled_out = true;
        self.tlb.answer = tlb::Answer::Never;
        self.tlb.unresponsive = false;
        self.tlb.ats = self.tlb.ats.map(|_| Ats::Done);
        self.tlb.cached.clear();
        self.late.clear();
    }

    /// The bus that it is on is reset: nothing is left of what was set, or was to be done.
    pub(crate) fn reset_with_bus(&mut self) {
        self.late.clear();
        self.tlb.unresponsive = false;
        self.forget();
        // Bus numbers and windows of a bridge.
        if self.read(0x0c) >> 16 & 0x7f == 1 {
            self.config.extend([0x18, 0x20, 0x24, 0x28, 0x2c].map(|offset| (offset, 0)));
        }
    }

    /// It has forgotten what it was to do.
    pub(crate) fn cut_power(&mut self) {
        self.tlb.cached.clear();
        self.tlb.ats = self.tlb.ats.map(|_| Ats::Done);
        self.late.clear();
        for (offset, bit) in [(tlb::REGISTERS, tlb::ENABLE), (COMMAND, BUS_MASTER)] {
            self.config.entry(offset).and_modify(|value| *value &= !bit);
        }
    }

    pub(crate) fn set_config(&mut self, offset: u16, value: u32) {
        self.config.insert(offset & !3, value);
        if self.tlb.ats.is_some() && offset & !3 == tlb::REGISTERS {
            self.tlb.ats = Some(Ats::set_by(value));
        }
    }

    /// Gives it a vendor and the ATS capability.
    pub(crate) fn add_ats(&mut self, queue_depth: usize) {
        self.tlb.queue_depth = queue_depth;
        self.tlb.ats = Some(Ats::Done);
        let depth = queue_depth as u32 % 32;
        for (offset, value) in [(0, 0x0001_8086), (0x100, 0x1400_0000 | 1 << 16), (tlb::HEADER, tlb::FIRST_VERSION)] {
            self.config.entry(offset).or_insert(value);
        }
        self.config.insert(tlb::REGISTERS, 1 << 5 | depth);
    }

    /// Gives it the PCI Express capability of an endpoint, and makes it a bus master.
    pub(crate) fn add_express(&mut self) {
        self.express = true;
        self.config.extend(ENDPOINT);
    }

    /// Gives it Access Control Services that can do this much; an extended capability behind all that it has.
    pub(crate) fn add_acs(&mut self, capability: u16, layout: acs::Layout) {
        self.acs = Some(layout);
        self.add_extended(acs::ID, acs::HEADER);
        self.config.insert(acs::REGISTERS, capability.into());
    }

    /// What Access Control Services are set to, if it has them.
    pub(crate) fn acs_control(&self) -> Option<u32> {
        Some(match self.acs? {
            acs::Layout::Usual => self.read(acs::REGISTERS) >> 16,
            acs::Layout::Wide => self.read(acs::WIDE_CONTROL),
        })
    }

    /// What a register holds after a write to it, as far as Access Control Services are concerned. What is not in the capability
    /// cannot be switched on; a wide capability register can still be written, as firmware does once.
    fn after_acs_write(&self, offset: u16, value: u32) -> u32 {
        let capability = self.read(acs::REGISTERS) & 0xffff;
        match (self.acs, offset & !3) {
            (Some(acs::Layout::Usual), acs::REGISTERS) => value & capability << 16 | capability,
            (Some(acs::Layout::Wide), acs::REGISTERS) => value & 0xffff,
            (Some(acs::Layout::Wide), acs::WIDE_CONTROL) => value & capability,
            _ => value,
        }
    }

    /// Appends an extended capability at an offset; a function without any other gets a vendor and an empty first one.
    pub(crate) fn add_extended(&mut self, id: u16, at: u16) {
        self.config.entry(0).or_insert(0x0003_8086);
        self.config.entry(0x100).or_insert(1 << 16);
        let mut last = 0x100;
        while let Some(next) = self.next_extended(last) {
            last = next;
        }
        *self.config.entry(last).or_default() |= u32::from(at) << 20;
        self.config.insert(at, 1 << 16 | u32::from(id));
    }

    /// Where it has an extended capability.
    fn extended(&self, id: u16) -> Option<u16> {
        let mut at = 0x100;
        while *self.config.get(&at)? as u16 != id {
            at = self.next_extended(at)?;
        }
        Some(at)
    }

    /// Where the extended capability behind the one at an offset is.
    fn next_extended(&self, at: u16) -> Option<u16> {
        let next = (self.config.get(&at)? >> 20) as u16;
        (next > at).then_some(next)
    }

    /// Has it be reset in one way more, which takes that long.
    pub(crate) fn add_reset(&mut self, reset: Reset, takes: u64) {
        self.reset = Some((reset, takes));
        match reset {
            Reset::Express => drop(self.config.insert(reset::EXPRESS_CAPABILITIES, reset::EXPRESS_CAN)),
            Reset::Features => {
                for (offset, value) in [(0, 0x0004_8086), (COMMAND, 1 << 20 | BUS_MASTER | 2), (0x34, 0)] {
                    self.config.entry(offset).or_insert(value);
                }
                let next = self.config.insert(0x34, reset::FEATURES.into()).unwrap_or(0) & 0xff;
                self.config.insert(reset::FEATURES, reset::FEATURES_HEADER | next << 8);
            }
        }
    }

    /// Zero in a register that nobody has set.
    /// A register in configuration space: all ones where it is not there.
    pub(crate) fn shown(&self, offset: u16) -> u32 {
        if self.is_there() { self.read(offset) } else { u32::MAX }
    }

    pub(crate) fn read(&self, offset: u16) -> u32 {
        let under_way = || self.late.iter().any(|write| write.late == Late::UnderWay);
        let pending = match (offset & !3, self.reset) {
            (DEVICE_STATUS, _) if self.express && under_way() => PENDING,
            (reset::FEATURES_CONTROL, Some((Reset::Features, _))) if under_way() => reset::FEATURES_PENDING,
            _ => 0,
        };
        self.config.get(&(offset & !3)).copied().unwrap_or(0) | pending
    }

    /// A write of the driver. `Some` with the new value of E if it changes that.
    pub(crate) fn write(&mut self, offset: u16, value: u32) -> Option<bool> {
        let (Some(_), tlb::REGISTERS) = (self.tlb.ats, offset & !3) else {
            // The upper half is Status, which does not take what is written.
            let is_command = (self.express || self.reset.is_some()) && offset & !3 == COMMAND;
            let value = if is_command { self.read(offset) & !0xffff | value & 0xffff } else { value };
            self.set_config(offset, self.after_acs_write(offset, value));
            return None;
        };
        let old = self.config.get(&tlb::REGISTERS).copied().unwrap_or(0);
        let new = old & !tlb::WRITABLE | value & tlb::WRITABLE;
        self.config.insert(tlb::REGISTERS, new);
        let (was_on, on) = (old & tlb::ENABLE != 0, new & tlb::ENABLE != 0);
        if was_on == on {
            return None;
        }
        self.tlb.ats = Some(Ats::set_by(new));
        Some(on)
    }

    /// True if a write of the driver resets it.
    pub(crate) fn starts_reset(&self, offset: u16, value: u32) -> bool {
        match (self.reset, offset & !3) {
            (Some((Reset::Express, _)), reset::EXPRESS_CONTROL) => value & reset::EXPRESS_START != 0,
            (Some((Reset::Features, _)), reset::FEATURES_CONTROL) => value & reset::FEATURES_START != 0,
            _ => false,
        }
    }

    /// It is reset: it forgets what it was to do, and what was set. False if it has requests under way.
    pub(crate) fn reset(&mut self, now: u64) -> bool {
        let at_rest = self.late.iter().all(|write| write.late != Late::UnderWay);
        self.late.retain(|write| write.late == Late::UnderWay);
        self.forget();
        let takes = self.reset.map_or(0, |(_, takes)| takes);
        self.in_reset = Some((now, now.saturating_add(takes)));
        self.resets += 1;
        at_rest
    }

    /// What was set is as after a reset, and its device-TLB is empty.
    fn forget(&mut self) {
        self.tlb.cached.clear();
        self.tlb.ats = self.tlb.ats.map(|_| Ats::Done);
        self.config.iter_mut().for_each(|(offset, value)| *value = reset::after(*offset, *value));
        for id in [reset::SR_IOV].into_iter().chain(reset::RESIZABLE) {
            let Some(at) = self.extended(id) else { continue };
            let registers = self.config.iter_mut().filter(|(offset, _)| (at..at + 0x40).contains(*offset));
            registers.for_each(|(offset, value)| *value = reset::after_in(id, offset - at, *value));
        }
    }

    /// `Some` if it does not answer at this moment because of a reset: true then if nobody may access it.
    pub(crate) fn in_reset(&self, now: u64) -> Option<bool> {
        let (began, until) = self.in_reset?;
        let early = now < began.saturating_add(reset::TAKES_NS);
        (early || now < until).then_some(early)
    }

    pub(crate) fn write_late(&mut self, write: LateWrite) {
        self.late.push(write);
    }

    /// When its next late write is due.
    pub(crate) fn next_late(&self) -> Option<u64> {
        self.late.iter().map(|write| write.due).min()
    }

    /// Takes a write that is due, and forgets those that it may not send any more.
    pub(crate) fn take_late(&mut self, now: u64) -> Option<LateWrite> {
        let master = self.config.get(&COMMAND).is_some_and(|command| command & BUS_MASTER != 0);
        self.late.retain(|write| write.due > now || write.late == Late::UnderWay || master);
        let due = self.late.iter().position(|write| write.due <= now)?;
        Some(self.late.remove(due))
    }
}
