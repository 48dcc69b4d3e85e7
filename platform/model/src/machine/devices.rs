//! Which devices there are, and what they can do.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use cofferdam::addr::SourceId;

use crate::devices::acs::Layout;
use crate::devices::bridge::{Bridge, BridgeKind};
use crate::devices::reset::Reset;
use crate::devices::tlb::Answer;
use crate::machine::assembly::Machine;

impl Machine {
    /// Sets the 32-bit configuration register at `offset` of a PCI function. All others of it then read as zero, and
    /// those of functions without any as all ones.
    pub fn set_config(&self, function: SourceId, offset: u16, value: u32) {
        self.state().board.devices.of(function).set_config(offset, value);
    }

    /// Gives a function the PCI Express capability of an endpoint, with Device Control and Status at 0x68, and makes it a bus
    /// master.
    pub fn add_express(&self, function: SourceId) {
        self.state().board.devices.of(function).add_express();
    }

    /// Gives a function the ATS capability, with room for that many invalidations at a time (1 to 32). It uses its
    /// device-TLB only while ATS is switched on, and requests that a test has it translate are untranslated otherwise.
    pub fn add_ats(&self, function: SourceId, queue_depth: usize) {
        self.state().board.devices.of(function).add_ats(queue_depth);
    }

    /// How a device answers invalidations from now on, and how many it takes at a time (1 to 32).
    pub fn set_device_tlb(&self, source: SourceId, answer: Answer, queue_depth: usize) {
        let state = &mut *self.state();
        let device = &mut state.board.devices.of(source).tlb;
        device.answer = answer;
        device.queue_depth = queue_depth;
    }

    /// Gives a function Access Control Services that can do as much as the bits of `capability` say, all of it off; call it
    /// after [`add_ats`](Self::add_ats).
    pub fn add_acs(&self, function: SourceId, capability: u16) {
        self.state().board.devices.of(function).add_acs(capability, Layout::Usual);
    }

    /// The same for a root port whose registers have 32 bits each, Capability and then Control. Firmware has left Capability
    /// open, so that a write changes it.
    pub fn add_wide_acs(&self, port: SourceId, capability: u16) {
        self.state().board.devices.of(port).add_acs(capability, Layout::Wide);
    }

    /// Appends an extended capability of a function, of version 1, behind all that it has; its registers are zero until they
    /// are [set](Self::set_config).
    pub fn add_extended(&self, function: SourceId, id: u16, at: u16) {
        self.state().board.devices.of(function).add_extended(id, at);
    }

    /// Has a function of [`add_express`](Self::add_express), or a conventional one, be reset in this way, which takes that many
    /// nanoseconds; nobody may look at it for 100 ms.
    pub fn add_reset(&self, function: SourceId, reset: Reset, takes_ns: u64) {
        self.state().board.devices.of(function).add_reset(reset, takes_ns);
    }

    /// How often a function was reset.
    pub fn resets(&self, function: SourceId) -> u32 {
        self.state().board.devices.of(function).resets
    }

    /// Puts a bridge there, with its registers in configuration space: the requests and interrupts of devices on `buses`, of
    /// which the first is its secondary bus, carry another id from now on if it is one to conventional PCI. Device-TLBs are not
    /// for devices behind such a one.
    pub fn add_bridge(&self, function: SourceId, kind: BridgeKind, buses: RangeInclusive<u8>) {
        self.state().board.devices.add_bridge(Bridge { function, kind, buses });
    }

    /// Pulls a function out while it is in use: its configuration space reads as all ones, it answers no invalidation, and sends
    /// nothing by itself.
    pub fn pull_out(&self, function: SourceId) {
        self.state().board.devices.of(function).pull_out();
    }

    /// Puts a function there that nothing is said of yet, in the place of one that was pulled out.
    pub fn plug_in(&self, function: SourceId) {
        self.state().board.devices.replace(function);
    }

    /// Resets the secondary bus of a bridge, and so all that is behind it: bus numbers, windows and Access Control Services of
    /// bridges are lost, and of all others what a reset takes.
    pub fn reset_bus(&self, bridge: SourceId) {
        self.state().board.devices.reset_behind(bridge);
    }

    /// True if a device has not answered the last invalidation that was sent to it: of one that was pulled out, since then.
    pub fn is_unresponsive(&self, source: SourceId) -> bool {
        self.state().board.devices.of(source).tlb.unresponsive
    }

    /// The bridges that were put there.
    pub fn bridges(&self) -> Vec<SourceId> {
        self.state().board.devices.bridges().map(|bridge| bridge.function).collect()
    }

    /// Opens the memory windows of a bridge, from the first to the last address of whole MiB: that for memory below 4 GiB, and
    /// the prefetchable one. One whose first address is above its last is closed.
    pub fn set_windows(&self, bridge: SourceId, memory: (u64, u64), prefetchable: (u64, u64)) {
        for (offset, value) in Bridge::windows(memory, prefetchable) {
            self.set_config(bridge, offset, value);
        }
    }
}
