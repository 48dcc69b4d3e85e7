//! One remapping unit.
#![forbid(unsafe_code)]

mod buffer;
mod capability;
mod change;
mod check;
mod command;
mod defect;
mod descriptor;
mod device_tlb;
mod entry;
mod faults;
mod global;
mod interrupts;
mod invalidate;
mod protected;
mod queue;
mod reach;
mod register_based;
mod registers;
mod settle;
mod stale;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use cofferdam::addr::{Iova, SourceId};
pub use defect::Defect;
pub(crate) use entry::INTERRUPTS;
pub use faults::{Fault, Reason};

use crate::devices::all::Devices;
use crate::devices::scope::Scope;
use crate::judge::journal::Journal;
use crate::memory::arena::Arena;
use crate::memory::frames::{Memory, View};
use crate::memory::ram::Ram;
use crate::preset::UnitConfig;
use crate::random::Random;
use buffer::Buffer;
use capability::Capability;
use command::{InterruptState, RootState};
use defect::Defects;
use descriptor::Descriptor;
use device_tlb::Outstanding;
use faults::{Faults, Message};
use global::Global;
use protected::Protected;
use queue::Queue;
use reach::Reach;
use stale::Stale;

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
    pub(crate) scope: Scope,
    capability: Capability,
    global: Global,
    /// RTADDR as written, and as the last SRTP took it over.
    root_register: u64,
    root: u64,
    /// What has to happen before translation may be switched on (sections 6.6 and 11.4.4.1).
    root_state: RootState,
    /// IRTA, likewise.
    interrupt_register: u64,
    interrupt_table: u64,
    interrupt_state: InterruptState,
    context_command: u64,
    iotlb_command: u64,
    iotlb_address: u64,
    /// When a register-based invalidation is done.
    context_command_at: Option<u64>,
    iotlb_command_at: Option<u64>,
    queue: Queue,
    outstanding: Vec<Outstanding>,
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

impl Unit {
    pub(crate) fn new(number: usize, config: UnitConfig, scope: Scope, haw: u8, frames: usize) -> Self {
        let capability = Capability { ver: config.version, cap: config.cap, ecap: config.ecap, haw };
        let faults = Faults::new(capability.fault_records());
        let running = config.found_running;
        let buffers = capability.needs_write_buffer_flush() || config.unsaid_write_buffers;
        let mut unit = Self {
            number,
            config,
            scope,
            capability,
            global: Global::default(),
            root_register: 0,
            root: 0,
            root_state: RootState::default(),
            interrupt_register: 0,
            interrupt_table: 0,
            interrupt_state: InterruptState::default(),
            context_command: 0,
            iotlb_command: 0,
            iotlb_address: 0,
            context_command_at: None,
            iotlb_command_at: None,
            queue: Queue::default(),
            outstanding: Vec::new(),
            completion: 0,
            completion_event: Message::default(),
            faults,
            protected: Protected::default(),
            protect_at: None,
            defects: Defects::default(),
            buffer: buffers.then(|| Buffer::new(frames)),
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

    /// The word at a physical address, as this unit sees it.
    fn read_memory(&self, address: u64, board: &Board) -> u64 {
        match board.memory.index(address) {
            Some(index) => self.seen(index, board),
            None => board.ram.word(address),
        }
    }

    pub(crate) fn can_remap_interrupts(&self) -> bool {
        self.capability.remaps_interrupts()
    }

    pub(crate) fn snoops(&self) -> bool {
        self.capability.view() == View::Snooped
    }

    /// True if the queue is on, or nothing can come of it: the unit has none, translates nothing, or has a defect.
    pub(crate) fn queue_ready(&self) -> bool {
        let useless = !self.capability.has_queue() || !self.capability.can_translate() || self.defects.ever;
        useless || self.global.on(global::QIE)
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

    /// The next moment at which something happens by itself.
    pub(crate) fn next_event(&self) -> Option<u64> {
        let command = self.global.command.map(|command| command.due);
        let commands = [command, self.protect_at, self.next_register_command()];
        let queue = [self.queue.fetch_at, self.next_effect(), self.next_answer()];
        commands.into_iter().chain(queue).flatten().min()
    }

    /// True if a cache takes an entry in: always, in the strictest hardware.
    fn fills(board: &mut Board) -> bool {
        board.random.as_mut().is_none_or(|random| random.one_in(2))
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
            self.faults.record(&fault, address, &mut board.journal);
        }
        Err(fault)
    }
}
