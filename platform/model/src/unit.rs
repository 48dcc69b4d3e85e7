//! One remapping unit.
#![forbid(unsafe_code)]

mod buffer;
mod capability;
mod change;
mod descriptor;
mod device_tlb;
mod entry;
mod faults;
mod global;
mod invalidate;
mod protected;
mod queue;
mod reach;
mod registers;
mod settle;
mod stale;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use cofferdam::addr::{Iova, SourceId};
pub(crate) use entry::INTERRUPTS;
pub use faults::{Fault, Reason};

use crate::arena::Arena;
use crate::device::Devices;
use crate::journal::{Event, Journal};
use crate::memory::{Memory, View};
use crate::preset::UnitConfig;
use crate::ram::Ram;
use crate::random::Random;
use buffer::Buffer;
use capability::Capability;
use descriptor::{ContextScope, Descriptor, IotlbScope, check_drain};
use device_tlb::Outstanding;
use faults::{Faults, Message, status};
use global::{Command, Global};
use protected::Protected;
use queue::Queue;
pub(crate) use queue::QueueError;
use reach::Reach;
use stale::Stale;

/// How long a global command takes, in nanoseconds of the machine's time.
const COMMAND_NS: u64 = 1_000;
/// How long the fetch of a descriptor takes after the doorbell or the fetch before.
const FETCH_NS: u64 = 50;
/// How long a descriptor takes from its fetch to its effect.
const EFFECT_NS: u64 = 400;

/// Where the tables are of a unit that firmware left running.
const FIRMWARE_TABLES: u64 = 0x0800_0000;

/// What goes wrong with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// These bits of GSTS read as zero, whatever happens.
    StatusStuckLow(u32),
    /// These bits of GSTS read as one.
    StatusStuckHigh(u32),
    /// All registers read as ones, and writes do nothing.
    AllOnes,
    /// The queue fetches nothing any more.
    QueueDead,
    /// The queue stops with IQE at the descriptor that is fetched after that many more.
    QueueErrorAfter(u64),
    /// Each command takes that many nanoseconds longer.
    Slow(u64),
}

#[derive(Debug, Default)]
struct Defects {
    stuck_low: u32,
    stuck_high: u32,
    all_ones: bool,
    queue_dead: bool,
    queue_error_at: Option<u64>,
    slower_ns: u64,
    /// Something was wrong with the unit at some time.
    ever: bool,
}

/// What the units of a machine share.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) arena: Arc<Arena>,
    pub(crate) memory: Memory,
    pub(crate) ram: Ram,
    pub(crate) journal: Journal,
    pub(crate) random: Option<Random>,
    pub(crate) devices: Devices,
}

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) number: usize,
    pub(crate) config: UnitConfig,
    capability: Capability,
    global: Global,
    /// RTADDR as written, and as the last SRTP took it over.
    root_register: u64,
    root: u64,
    /// What has to happen before translation may be switched on (sections 6.6 and 11.4.4.1).
    root_state: RootState,
    interrupt_register: u64,
    interrupt_state: InterruptState,
    context_command: u64,
    iotlb_command: u64,
    iotlb_address: u64,
    /// When a register-based invalidation is done.
    context_command_at: Option<u64>,
    iotlb_command_at: Option<u64>,
    queue: Queue,
    outstanding: Vec<Outstanding>,
    /// Another unit serves some sources of the segment.
    pub(crate) buses_of_others: Vec<u8>,
    completion: u32,
    completion_event: Message,
    faults: Faults,
    protected: Protected,
    protect_at: Option<u64>,
    defects: Defects,
    /// RWBF = 1.
    buffer: Option<Buffer>,
    reach: Reach,
    stale: Stale,
    /// Page table and levels of each domain-id, and how many context entries have it.
    domains: HashMap<u16, ((u64, u8), u32)>,
    /// Whether the pages of each domain-id have SNP.
    snooping: HashMap<u16, bool>,
    /// The context-cache was invalidated, and the IOTLB not since then.
    context_flushed: bool,
}

/// Rules 7 and 8: the steps from a new root table to translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RootState {
    /// No SRTP since reset, or since translation was last switched off.
    #[default]
    NotSet,
    /// SRTP done; caches may hold what the last table said.
    Set,
    /// Context-cache invalidated after that.
    ContextFlushed,
    /// And the IOTLB.
    Ready,
}

/// Rule 52: the same for interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum InterruptState {
    #[default]
    NotSet,
    /// SIRTP done; the interrupt-entry-cache may hold what the last table said.
    Set,
    Ready,
}

impl Unit {
    pub(crate) fn new(number: usize, config: UnitConfig, haw: u8, frames: usize) -> Self {
        let capability = Capability { ver: config.version, cap: config.cap, ecap: config.ecap, haw };
        let faults = Faults::new(capability.fault_records());
        let running = config.found_running;
        let mut unit = Self {
            number,
            config,
            capability,
            global: Global::default(),
            root_register: 0,
            root: 0,
            root_state: RootState::default(),
            interrupt_register: 0,
            interrupt_state: InterruptState::default(),
            context_command: 0,
            iotlb_command: 0,
            iotlb_address: 0,
            context_command_at: None,
            iotlb_command_at: None,
            queue: Queue::default(),
            outstanding: Vec::new(),
            buses_of_others: Vec::new(),
            completion: 0,
            completion_event: Message::default(),
            faults,
            protected: Protected::default(),
            protect_at: None,
            defects: Defects::default(),
            buffer: capability.needs_write_buffer_flush().then(|| Buffer::new(frames)),
            reach: Reach::new(frames),
            stale: Stale::default(),
            domains: HashMap::new(),
            snooping: HashMap::new(),
            context_flushed: false,
        };
        if running {
            unit.left_running();
        }
        unit
    }

    /// What firmware left on: an empty queue and a root table without entries, both in memory that is not the driver's.
    fn left_running(&mut self) {
        self.global.status = global::TE | global::SRTP;
        self.root = FIRMWARE_TABLES;
        self.root_register = FIRMWARE_TABLES;
        self.root_state = RootState::Ready;
        if self.capability.has_queue() {
            self.global.status |= global::QIE;
            self.queue.address = FIRMWARE_TABLES + 0x1000;
            (self.queue.head, self.queue.tail) = (0x40, 0x40);
            self.queue.last_was_wait = true;
        }
    }

    /// The word at a physical address, as this unit sees it.
    fn read_memory(&self, address: u64, board: &Board) -> u64 {
        match board.memory.index(address) {
            Some(index) => self.seen(index, board),
            None => board.ram.word(address),
        }
    }

    /// True if requests of this source come to this unit.
    pub(crate) fn answers_for(&self, source: SourceId) -> bool {
        let bus = source.bus();
        let mine = self.config.buses.contains(&bus);
        let rest = self.config.buses.is_empty() && !self.buses_of_others.contains(&bus);
        source.segment() == self.config.segment && (mine || rest)
    }

    pub(crate) fn snoops(&self) -> bool {
        self.capability.view() == View::Snooped
    }

    pub(crate) fn remaps_interrupts(&self) -> bool {
        self.global.on(global::IRE)
    }

    /// True if the queue is on, or the unit has none.
    pub(crate) fn queue_ready(&self) -> bool {
        !self.capability.has_queue() || self.global.on(global::QIE)
    }

    /// True if such a write of a register makes the unit take over a root table.
    pub(crate) fn sets_root(&self, offset: u32, value: u32) -> bool {
        offset == registers::offset::GCMD && value & global::SRTP != 0
    }

    pub(crate) fn suffer(&mut self, defect: Defect) {
        self.defects.ever = true;
        match defect {
            Defect::StatusStuckLow(bits) => self.defects.stuck_low |= bits,
            Defect::StatusStuckHigh(bits) => self.defects.stuck_high |= bits,
            Defect::AllOnes => self.defects.all_ones = true,
            Defect::QueueDead => self.defects.queue_dead = true,
            Defect::QueueErrorAfter(count) => self.defects.queue_error_at = Some(self.queue.fetched + count),
            Defect::Slow(ns) => self.defects.slower_ns = ns,
        }
    }

    pub(crate) fn heal(&mut self, board: &mut Board) {
        self.defects = Defects { ever: self.defects.ever, ..Defects::default() };
        self.schedule_fetch(board);
    }

    fn latency(&self) -> u64 {
        COMMAND_NS + self.defects.slower_ns
    }

    /// A write of GCMD.
    fn command(&mut self, value: u32, board: &mut Board) {
        for (bit, set) in self.global.write(value, &mut board.journal) {
            self.check_command(bit, set, board);
            match bit {
                // RTPS and IRTPS are cleared at once and set when the command is done.
                global::SRTP | global::SIRTP => self.global.status &= !bit,
                global::WBF => self.global.status |= bit,
                _ => {}
            }
            if let Some(command) = self.global.command.take() {
                self.finish(command, board);
            }
            self.global.command = Some(Command { bit, set, due: board.journal.now + self.latency() });
        }
    }

    fn check_command(&mut self, bit: u32, set: bool, board: &mut Board) {
        if bit == global::SRTP {
            self.check_buffer(true, board);
        }
        let journal = &mut board.journal;
        match (bit, set) {
            (global::SRTP, true) => {
                if self.global.on(global::TE) && self.root == FIRMWARE_TABLES {
                    journal.violation("R69", "a root table is set while the translation that firmware left is on");
                }
                let mode_changes = (self.root ^ self.root_register) >> 10 & 3 != 0;
                if self.global.on(global::TE) && mode_changes && !self.capability.root_table_flushes() {
                    journal.violation("R9", "RTADDR.TTM changes while translation is on");
                }
            }
            (global::TE, true) => match self.root_state {
                RootState::NotSet => journal.violation("R7", "translation is switched on, but no root table was set"),
                RootState::Ready => {}
                _ => journal.violation("R8", "translation is switched on, and caches are not invalidated since SRTP"),
            },
            (global::QIE, true) => {
                self.queue.check_enable(&self.capability, journal);
                if self.faults.stops_queue() || self.faults.status() & 0x73 != 0 {
                    let status = self.faults.status();
                    journal.violation("R16", format_args!("the queue is switched on with FSTS = {status:#x}"));
                }
            }
            (global::QIE, false) => self.queue.check_disable(journal),
            (global::IRE, true) => {
                match self.interrupt_state {
                    InterruptState::NotSet => {
                        journal.violation("R52", "interrupt remapping is switched on, but no table was set");
                    }
                    InterruptState::Set => {
                        let text = "interrupt remapping is switched on, and its cache is not invalidated since SIRTP";
                        journal.violation("R52", text);
                    }
                    InterruptState::Ready => {}
                }
                if !self.global.on(global::QIE) {
                    journal.violation("R61", "interrupt remapping is switched on without the queue");
                }
            }
            (global::CFI, true) => journal.violation("R53", "compatibility format interrupts are let through"),
            _ => {}
        }
        if bit == global::TE && set && !self.capability.can_translate() {
            journal.violation("R4", "translation is switched on in a unit that has no page-table format");
        }
    }

    /// A command is done.
    fn finish(&mut self, command: Command, board: &mut Board) {
        let Command { bit, set, .. } = command;
        match bit {
            global::SRTP => {
                let flushes = self.capability.root_table_flushes();
                self.set_root(board);
                self.root_state = if flushes { RootState::Ready } else { RootState::Set };
            }
            global::WBF => self.flush_buffer(board),
            global::SIRTP => {
                let flushes = self.capability.interrupt_table_flushes();
                self.interrupt_state = if flushes { InterruptState::Ready } else { InterruptState::Set };
            }
            global::IRE if !set => self.interrupt_state = InterruptState::NotSet,
            global::TE if set && !self.capability.can_translate() => return,
            global::TE if set => {
                self.drop_caches(board);
                self.settle_memory(board);
            }
            global::TE if !set => self.root_state = RootState::NotSet,
            global::QIE if !set => {
                self.queue.head = 0;
                self.queue.in_flight.clear();
                self.outstanding.clear();
            }
            _ => {}
        }
        self.global.complete(bit, set);
        if bit == global::QIE && set {
            self.schedule_fetch(board);
        }
        if !self.global.on(global::TE | global::IRE) {
            self.faults.reset_index();
        }
    }

    /// A write of IQT.
    fn ring(&mut self, tail: u64, board: &mut Board) {
        if !self.capability.has_queue() {
            return board.journal.violation("REG", "a queue register of a unit that has no queue is written");
        }
        let mask = self.queue.descriptor_bytes() - 1;
        self.queue.tail = tail & 0x7fff0;
        if !self.global.on(global::QIE) {
            return;
        }
        if tail >= self.queue.bytes() || tail & 0xf != 0 {
            board.journal.violation("R15", format_args!("IQT := {tail:#x} is outside of the ring"));
            self.queue_error(QueueError::Tail, board);
        } else if tail & mask != 0 {
            board.journal.violation("R15", format_args!("IQT := {tail:#x} is not aligned to a descriptor"));
            self.queue_error(QueueError::TailAlignment, board);
        }
        self.schedule_fetch(board);
    }

    fn schedule_fetch(&mut self, board: &mut Board) {
        let runs = self.global.on(global::QIE)
            && !self.queue.is_empty()
            && !self.faults.stops_queue()
            && !self.defects.queue_dead;
        if runs && self.queue.fetch_at.is_none() {
            self.queue.fetch_at = Some(board.journal.now + FETCH_NS + self.defects.slower_ns);
        }
    }

    fn queue_error(&mut self, error: QueueError, board: &mut Board) {
        self.faults.queue_error = self.faults.queue_error & !0xf | error as u64;
        self.faults.error(status::QUEUE_ERROR, &mut board.journal);
    }

    /// Fetches one descriptor.
    fn fetch(&mut self, now: u64, board: &mut Board) {
        self.queue.fetch_at = None;
        if self.defects.queue_dead || self.faults.stops_queue() || self.queue.is_empty() {
            return;
        }
        if self.defects.queue_error_at == Some(self.queue.fetched) {
            self.defects.queue_error_at = None;
            return self.queue_error(QueueError::Reserved, board);
        }
        let place = self.queue.base() + self.queue.head;
        let wide = self.queue.wide();
        if !wide && self.root >> 10 & 3 != 0 && self.global.on(global::SRTP) {
            return self.queue_error(QueueError::Width, board);
        }
        if wide && !self.capability.scalable() && !self.capability.aborts() {
            return self.queue_error(QueueError::Width, board);
        }
        if !board.memory.index(place).is_some_and(|index| board.memory.is_allocated(index)) {
            board.journal.violation("R14", format_args!("the queue is at {place:#x}, which is no frame of the driver"));
            return self.queue_error(QueueError::Fetch, board);
        }
        // Hardware always snoops the queue (section 11.4.3, ECAP.C).
        let mut words = [0; 4];
        for (offset, word) in (0..self.queue.descriptor_bytes()).step_by(8).zip(&mut words) {
            *word = board.memory.index(place + offset).map_or(0, |index| board.memory.stored(index));
        }
        let slot = (self.queue.head / self.queue.descriptor_bytes()) as u32;
        board.journal.push(Event::Descriptor { unit: self.number, slot, words: [words[0], words[1]] });
        match Descriptor::parse(words, &self.capability, &mut board.journal) {
            Ok(descriptor) => {
                if let Descriptor::DeviceTlb { source, .. } = descriptor {
                    self.check_depth(source, board);
                }
                self.queue.advance();
                self.queue.last_was_wait = matches!(descriptor, Descriptor::Wait { .. });
                self.queue.in_flight.push_back((now + EFFECT_NS, descriptor));
                if !self.queue.is_empty() {
                    self.queue.fetch_at = Some(now + FETCH_NS);
                }
            }
            Err(refused) => self.queue_error(refused.into(), board),
        }
    }

    /// Lets happen what is due by `now`.
    pub(crate) fn run(&mut self, now: u64, board: &mut Board) {
        if let Some(command) = self.global.command.filter(|command| command.due <= now) {
            self.global.command = None;
            self.finish(command, board);
        }
        if self.protect_at.is_some_and(|at| at <= now) {
            self.protection_follows();
        }
        self.run_register_commands(now, board);
        loop {
            let fetch = self.queue.fetch_at.filter(|at| *at <= now);
            let effect = self.next_effect().filter(|at| *at <= now);
            let answer = self.next_answer().filter(|at| *at <= now);
            match [fetch, effect, answer].into_iter().flatten().min() {
                None => break,
                Some(at) if answer == Some(at) => self.receive(at, board),
                Some(at) if fetch == Some(at) => self.fetch(at, board),
                Some(at) => {
                    if let Some((_, descriptor)) = self.queue.in_flight.pop_front() {
                        self.execute(descriptor, at, board);
                    }
                }
            }
        }
    }

    /// When the oldest descriptor takes effect. A wait is done only when all devices have answered.
    fn next_effect(&self) -> Option<u64> {
        let (at, descriptor) = self.queue.in_flight.front()?;
        let waits = matches!(descriptor, Descriptor::Wait { .. }) && !self.outstanding.is_empty();
        (!waits).then_some(*at)
    }

    fn next_answer(&self) -> Option<u64> {
        self.outstanding.iter().map(|outstanding| outstanding.due).min()
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next_event(&self) -> Option<u64> {
        let command = self.global.command.map(|command| command.due);
        let commands = [command, self.protect_at, self.context_command_at, self.iotlb_command_at];
        let queue = [self.queue.fetch_at, self.next_effect(), self.next_answer()];
        commands.into_iter().chain(queue).flatten().min()
    }

    fn execute(&mut self, descriptor: Descriptor, now: u64, board: &mut Board) {
        match descriptor {
            Descriptor::Context(scope) => self.invalidate_context(scope, board),
            Descriptor::Iotlb(scope) => self.invalidate_iotlb(scope, board),
            Descriptor::DeviceTlb { source, first, last } => self.send(source, first, last, now, board),
            Descriptor::Interrupts(scope) => {
                self.flush_buffer(board);
                if scope.is_none() && self.interrupt_state == InterruptState::Set {
                    self.interrupt_state = InterruptState::Ready;
                }
            }
            Descriptor::Wait { status, interrupt } => {
                if let Some((address, value)) = status {
                    self.write_status(address, value, board);
                }
                if interrupt && self.completion == 0 {
                    self.completion = 1;
                    self.completion_event.raise(&mut board.journal);
                }
            }
        }
    }

    /// R24: a device may ask again at once, so nothing stale may be left to answer with.
    fn check_device_tlb(&self, source: u16, first: u64, last: u64, board: &mut Board) {
        if !self.global.on(global::TE) {
            return board.journal.violation("R24", "a device-TLB invalidation while translation is off");
        }
        let domain = self.current(source, board).domain();
        let leaves = self.stale.leaves.get(&domain).into_iter().flatten();
        let stale = self.stale.contexts.contains_key(&source)
            || self.stale.residues.iter().any(|residue| residue.source == source)
            || self.stale.tables.values().any(|table| table.touches(domain, first, last))
            || leaves.into_iter().any(|(start, leaf)| *start <= last && leaf.last >= first);
        if stale {
            board.journal.violation("R24", "a device-TLB invalidation before that of the IOTLB");
        }
    }

    /// A coherent write of 32 bits (section 6.5.2.9).
    fn write_status(&mut self, address: u64, value: u32, board: &mut Board) {
        board.journal.push(Event::Status { address, value });
        match board.memory.index(address).filter(|index| board.memory.is_allocated(*index)) {
            Some(index) => {
                let shift = 8 * (address & 4);
                let old = board.memory.stored(index);
                board.memory.set(index, old & !(0xffff_ffff << shift) | u64::from(value) << shift);
            }
            None => {
                board
                    .journal
                    .violation("R18", format_args!("a status write to {address:#x}, no live frame of the driver"));
            }
        }
    }

    /// SRTP: another root table, which has to translate alike if translation is on (section 6.6).
    fn set_root(&mut self, board: &mut Board) {
        let old = std::mem::replace(&mut self.root, self.root_register);
        self.unlink_root(old, board);
        self.link_root(board);
        let stale = &self.stale.contexts;
        if stale.iter().any(|(source, entry)| entry.unwrap_or_default() != self.current(*source, board)) {
            board.journal.violation("R9", "a root table is set while translation is on, and it translates differently");
        }
        if self.capability.root_table_flushes() {
            self.drop_caches(board);
        }
    }

    /// True if a cache takes an entry in: always, in the strictest hardware.
    fn fills(board: &mut Board) -> bool {
        board.random.as_mut().is_none_or(|random| random.one_in(2))
    }

    /// CCMD with ICC set (section 11.4.6.1).
    fn start_context_command(&mut self, board: &mut Board) {
        if self.context_command_at.is_some() || self.iotlb_command_at.is_some() {
            board.journal.violation("R2", "CCMD is written while an invalidation is pending");
        }
        self.check_register_based(board);
        self.context_command_at = Some(board.journal.now + self.latency());
    }

    /// IOTLB with IVT set (section 11.4.6.3).
    fn start_iotlb_command(&mut self, board: &mut Board) {
        if self.context_command_at.is_some() || self.iotlb_command_at.is_some() {
            board.journal.violation("R2", "IOTLB is written while an invalidation is pending");
        }
        self.check_register_based(board);
        self.iotlb_command_at = Some(board.journal.now + self.latency());
    }

    /// R5: never while the queue is on, and not from major version 6 on (sections 6.5 and 6.5.1).
    fn check_register_based(&mut self, board: &mut Board) {
        if self.global.on(global::QIE) {
            board.journal.violation("R5", "an invalidation through registers while the queue is on");
        }
        if self.capability.major() >= 6 {
            board.journal.violation("R5", "an invalidation through registers, which this version does not have");
        }
    }

    fn run_register_commands(&mut self, now: u64, board: &mut Board) {
        // With the queue on, an invalidation through registers never completes; from version 6 on it does nothing.
        if self.global.on(global::QIE) {
            return;
        }
        let works = self.capability.major() < 6 && self.root >> 10 & 3 == 0;
        if self.context_command_at.is_some_and(|at| at <= now) {
            self.context_command_at = None;
            let value = self.context_command;
            let (granularity, domain, source) = (value >> 61 & 3, value as u16, (value >> 16) as u16);
            let scope = ContextScope::new(granularity, domain, source, value >> 32, &self.capability);
            let done = scope.filter(|_| works);
            if let Some(scope) = done {
                self.invalidate_context(scope, board);
            }
            let actual = if done.is_some() { granularity } else { 0 };
            self.context_command = value & !(1 << 63 | 3 << 59) | actual << 59;
        }
        if self.iotlb_command_at.is_some_and(|at| at <= now) {
            self.iotlb_command_at = None;
            let value = self.iotlb_command;
            let (granularity, domain) = (value >> 60 & 3, (value >> 32) as u16);
            check_drain(value >> 49 & 1 != 0, value >> 48 & 1 != 0, &self.capability, &mut board.journal);
            let scope = IotlbScope::new(granularity, domain, self.iotlb_address, &self.capability, &mut board.journal);
            let done = scope.filter(|_| works);
            if let Some(scope) = done {
                self.invalidate_iotlb(scope, board);
            }
            let actual = if done.is_some() { granularity } else { 0 };
            self.iotlb_command = value & !(1 << 63 | 3 << 57) | actual << 57;
        }
    }

    /// A DMA request of a device, within one page.
    pub(crate) fn request(
        &mut self,
        source: SourceId,
        address: u64,
        write: bool,
        board: &mut Board,
    ) -> Result<u64, Fault> {
        let (reason, recorded) = match self.translate(source, address, write, board) {
            Ok(output) if !self.protected.blocks(output) => return Ok(output),
            Ok(_) => (Reason::Protected, false),
            Err(failed) => failed,
        };
        let fault = Fault { source, address: Iova::new(address), write, reason };
        if recorded {
            self.faults.record(&fault, &mut board.journal);
        }
        Err(fault)
    }
}
