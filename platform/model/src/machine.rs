//! The machine: what the driver sees of it through the seam, and what a test sees of it.

pub(crate) mod config;
mod dmar;
mod seam;
mod state;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam::addr::{Iova, PhysAddr, SourceId};
use cofferdam::hal::Window;

use crate::board::Board;
use crate::devices::all::Devices;
use crate::devices::bridge::{Bridge, BridgeKind};
use crate::devices::late::{Late, LateWrite};
use crate::devices::peers;
use crate::devices::reset::Reset;
use crate::devices::scope::Scope;
use crate::devices::tlb::Answer;
use crate::fault::Fault;
use crate::judge::journal::Journal;
use crate::judge::violation::Violation;
use crate::memory::arena::Arena;
use crate::memory::frames::Memory;
use crate::memory::ram::Ram;
use crate::random::Random;
use crate::unit::{Defect, INTERRUPTS, Unit, UnitConfig};
use config::Config;
use state::State;

/// Where the registers of the first unit are, and how far apart the units' registers are.
const REGISTERS_BASE: u64 = 0xfed9_0000;
const REGISTERS_STEP: u64 = 0x1_0000;

/// A machine with remapping units, for a driver to run on.
///
/// It is a [`Hal`](cofferdam::hal::Hal); share it by reference or in an [`Arc`]. When it is dropped, it fails the test
/// (it panics) if the driver broke a rule and nobody took the [`violations`](Self::take_violations), or if the driver
/// left something undone that [`settle`](Self::settle) finds.
pub struct Machine {
    arena: Arc<Arena>,
    windows: Vec<Window>,
    host_address_width: u8,
    /// Loads since time last moved on for them.
    loads: AtomicU64,
    state: Mutex<State>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("windows", &self.windows).finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that has just come out of reset.
    pub fn new(config: Config) -> Self {
        let arena = Arc::new(Arena::new(config.frames_base, config.frames));
        let mut configs = config.units;
        for (number, unit) in (0..).zip(&mut configs) {
            if unit.base == 0 {
                unit.base = REGISTERS_BASE + number * REGISTERS_STEP;
            }
        }
        let scopes: Vec<(u16, &[u8])> = configs.iter().map(|unit| (unit.segment, unit.buses.as_slice())).collect();
        let scopes = Scope::all(&scopes);
        let units = (0..).zip(configs).zip(scopes);
        let units: Vec<Unit> = units
            .map(|((number, unit), scope)| Unit::new(number, unit, scope, config.host_address_width, config.frames))
            .collect();
        let windows = units.iter().map(|unit| unit.window()).collect();
        let all_snoop = units.iter().all(Unit::snoops);
        let random = config.seed.map(Random::new);
        let memory = Memory::new(Arc::clone(&arena), config.frames, all_snoop, random.is_some());
        let forgiven = units.iter().flat_map(|unit| unit.config().forgives.iter().copied()).collect();
        let journal = Journal::new(forgiven);
        let board = Board {
            arena: Arc::clone(&arena),
            memory,
            ram: Ram::default(),
            journal,
            random,
            devices: Devices::default(),
        };
        let state = State { units, board, next_event: u64::MAX, abandoned: false };
        let host_address_width = config.host_address_width;
        Self { arena, windows, host_address_width, loads: AtomicU64::new(0), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the registers of the units are, in the order of the configuration.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The DMAR table that firmware would give: the units with what they serve, and an IOAPIC with id 0 as ff:00.0 where
    /// interrupts can be remapped. No reserved memory.
    pub fn dmar(&self) -> Vec<u8> {
        let state = self.state();
        let units: Vec<&UnitConfig> = state.units.iter().map(Unit::config).collect();
        let interrupts = state.units.iter().any(Unit::can_remap_interrupts);
        dmar::table(&units, self.host_address_width, interrupts)
    }

    /// A device reads memory. Nothing is read if a page of it is refused.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn dma_read(&self, source: SourceId, address: Iova, buffer: &mut [u8]) -> Result<(), Fault> {
        self.state().transfer_in(address, buffer, |state, at| state.dma(source, at, false))
    }

    /// A device writes memory. Nothing is written if a page of it is refused. A write of 4 bytes to the interrupt range
    /// (0xFEEx_xxxx) is an interrupt request and not translated (section 3.15): see [`interrupt`](Self::interrupt).
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn dma_write(&self, source: SourceId, address: Iova, bytes: &[u8]) -> Result<(), Fault> {
        let state = &mut *self.state();
        match <[u8; 4]>::try_from(bytes) {
            Ok(data) if INTERRUPTS.contains(&address.as_u64()) => {
                state.interrupt(source, address.as_u64(), u32::from_le_bytes(data)).map(drop)
            }
            _ => state.transfer_out(address, bytes, |state, at| state.dma(source, at, true)),
        }
    }

    /// A device, an IOAPIC or an HPET sends an interrupt request. Returns the message that the interrupt controllers get,
    /// in compatibility format, with bits 31:8 of the destination in bits 63:40 of the address.
    ///
    /// # Errors
    ///
    /// Interrupt remapping blocks it, and why.
    pub fn interrupt(&self, source: SourceId, address: u32, data: u32) -> Result<(u64, u32), Fault> {
        self.state().interrupt(source, address.into(), data)
    }

    /// A device with a device-TLB reads memory: at the physical address that it has cached, or else asks for.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn ats_read(&self, source: SourceId, address: Iova, buffer: &mut [u8]) -> Result<(), Fault> {
        self.state().transfer_in(address, buffer, |state, at| state.ats(source, at, false))
    }

    /// A device with a device-TLB writes memory.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn ats_write(&self, source: SourceId, address: Iova, bytes: &[u8]) -> Result<(), Fault> {
        self.state().transfer_out(address, bytes, |state, at| state.ats(source, at, true))
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

    /// Gives a function the PCI Express capability of an endpoint, with Device Control and Status at 0x68, and makes it a bus
    /// master.
    pub fn add_express(&self, function: SourceId) {
        self.state().board.devices.of(function).add_express();
    }

    /// Has a device write so many nanoseconds later; `late` says where the write is until then. The device is one with
    /// the PCI Express capability.
    pub fn write_late(&self, source: SourceId, address: Iova, bytes: &[u8], after_ns: u64, late: Late) {
        let state = &mut *self.state();
        let due = state.board.journal.now + after_ns;
        let write = LateWrite { due, late, address: address.as_u64(), bytes: bytes.to_vec() };
        state.board.devices.of(source).write_late(write);
        state.plan();
    }

    /// Lets time pass.
    pub fn pass(&self, ns: u64) {
        self.state().tick(ns);
    }

    /// Reads the memory of cells, or of the driver, as the CPU sees it.
    pub fn peek(&self, address: PhysAddr, buffer: &mut [u8]) {
        self.state().board.fetch(address.as_u64(), buffer);
    }

    /// Writes the memory of cells.
    pub fn poke(&self, address: PhysAddr, bytes: &[u8]) {
        self.state().board.ram.write(address.as_u64(), bytes);
    }

    /// Flips bits of a word of the driver's frames as a defect of the memory would: whoever reads it finds them flipped, and
    /// the model takes no notice. Flip them back before the driver stores to that word again, or the model finds a store
    /// that did not come through the seam.
    pub fn flip(&self, word: PhysAddr, bits: u64) {
        if let Some(index) = self.arena.index(word.as_u64()) {
            self.arena.set(index, self.arena.get(index) ^ bits);
        }
    }

    /// Frames that the driver holds.
    pub fn frames_in_use(&self) -> usize {
        self.state().board.memory.in_use()
    }

    /// The address of each frame that the driver holds, and the words in it, as the CPU sees them.
    pub fn snapshot(&self) -> Vec<(u64, Vec<u64>)> {
        self.state().board.memory.snapshot(self.arena.address(0))
    }

    /// Lets the next `count` allocations succeed and all later ones fail; `None` lifts the limit.
    pub fn allow_allocations(&self, count: Option<u64>) {
        self.state().board.memory.allocations_left = count;
    }

    /// Lets a unit go wrong, in addition to what is wrong with it already.
    pub fn break_unit(&self, unit: usize, defect: Defect) {
        if let Some(unit) = self.state().units.get_mut(unit) {
            unit.suffer(defect);
        }
    }

    /// Takes all [`Defect`]s of a unit away.
    pub fn mend_unit(&self, unit: usize) {
        let state = &mut *self.state();
        if let Some(unit) = state.units.get_mut(unit) {
            unit.heal(&mut state.board);
        }
        state.plan();
    }

    /// Sets the 32-bit configuration register at `offset` of a PCI function. All others of it then read as zero, and
    /// those of functions without any as all ones.
    pub fn set_config(&self, function: SourceId, offset: u16, value: u32) {
        self.state().board.devices.of(function).set_config(offset, value);
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

    /// Gives a function Access Control Services that can do as much as the bits of `capability` say, all of it off; call it
    /// after [`add_ats`](Self::add_ats).
    pub fn add_acs(&self, function: SourceId, capability: u16) {
        self.state().board.devices.of(function).add_acs(capability);
    }

    /// True if a request of `from` to memory of `to` is passed on there, as configuration space is now, before it comes to a
    /// unit. (Such a request is in the hands of the devices: [`dma_write`](Self::dma_write) asks the units about each.)
    pub fn reaches(&self, from: SourceId, to: SourceId) -> bool {
        peers::reaches(&self.state().board.devices, from, to)
    }

    /// Puts a bridge there, with its registers in configuration space: the requests and interrupts of devices on `buses`, of
    /// which the first is its secondary bus, carry another id from now on if it is one to conventional PCI. Device-TLBs are not
    /// for devices behind such a one.
    pub fn add_bridge(&self, function: SourceId, kind: BridgeKind, buses: RangeInclusive<u8>) {
        self.state().board.devices.add_bridge(Bridge { function, kind, buses });
    }

    /// Opens the memory windows of a bridge, from the first to the last address of whole MiB: that for memory below 4 GiB, and
    /// the prefetchable one. One whose first address is above its last is closed.
    pub fn set_windows(&self, bridge: SourceId, memory: (u64, u64), prefetchable: (u64, u64)) {
        for (offset, value) in Bridge::windows(memory, prefetchable) {
            self.set_config(bridge, offset, value);
        }
    }

    /// The bridge that takes a request of a device to this address for what is behind it, so that it reaches no unit.
    pub fn taken_by(&self, from: SourceId, address: u64) -> Option<SourceId> {
        peers::taken_by(&self.state().board.devices, from, address)
    }

    /// Messages that units and devices have sent so far and that got through: address and data.
    pub fn messages(&self) -> Vec<(u64, u32)> {
        self.state().board.journal.messages.clone()
    }

    /// The rules that the driver has broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.state().board.journal.violations.clone()
    }

    /// The same, and forgets them, so that the machine may be dropped.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.state().board.journal.violations)
    }

    /// Drops the machine without a check, and returns the rules that were broken up to now.
    pub fn abandon(self) -> Vec<Violation> {
        self.state().abandoned = true;
        self.take_violations()
    }

    /// The last `lines` things that happened, one a line.
    pub fn journal(&self, lines: usize) -> String {
        self.state().board.journal.text(lines)
    }

    /// Looks for what a driver has left undone that says it is done: caches that still hold what memory does not say
    /// any more, tables that are not written back. Each becomes a violation. Call it after an operation of the driver
    /// has returned; units that had a [`Defect`] are left out.
    pub fn settle(&self) {
        let state = &mut *self.state();
        let board = &mut state.board;
        state.units.iter_mut().for_each(|unit| unit.settle(board));
    }

    /// [`settle`](Self::settle)s, and fails the test if the driver broke a rule.
    ///
    /// # Panics
    ///
    /// With the violations and the journal before each.
    pub fn check(&self) {
        self.settle();
        let violations = self.take_violations();
        let report: String = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "the driver broke rules of the hardware:\n{report}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test fails already; this may be why.
            self.settle();
            self.violations().iter().for_each(|violation| eprintln!("{violation}"));
        } else if !self.state().abandoned {
            self.check();
        }
    }
}
