//! All that one VT-d unit is at a moment. What acts on it is in the folders beside this file.
#![forbid(unsafe_code)]

pub(crate) mod buffer;
pub(crate) mod defect;
pub(crate) mod event;
pub(crate) mod faults;
pub(crate) mod global;
pub(crate) mod progress;
pub(crate) mod protected;
pub(crate) mod queue;
pub(crate) mod reach;
pub(crate) mod stale;

use cofferdam::addr::SourceId;
use rustc_hash::FxHashMap;

use crate::devices::scope::Scope;
use crate::memory::frames::View;
use crate::vtd::config::UnitConfig;
use crate::vtd::formats::capability::Capability;
use crate::vtd::formats::interrupt_entry::InterruptEntry;
use buffer::Buffer;
use defect::Defects;
use event::Message;
use faults::Faults;
use global::Global;
use progress::{InterruptState, RootState};
use protected::Protected;
use queue::{Outstanding, Queue};
use reach::Reach;
use stale::Stale;

/// Where the tables are of a unit that firmware left running.
pub(crate) const FIRMWARE_TABLES: u64 = 0x0800_0000;

#[derive(Debug)]
pub(crate) struct VtdUnit {
    pub(crate) number: usize,
    pub(crate) config: UnitConfig,
    pub(crate) scope: Scope,
    pub(crate) capability: Capability,
    pub(crate) global: Global,
    /// RTADDR as written, and as the last SRTP took it over.
    pub(crate) root_register: u64,
    pub(crate) root: u64,
    /// What has to happen before translation may be switched on (sections 6.6 and 11.4.4.1).
    pub(crate) root_state: RootState,
    /// IRTA, likewise.
    pub(crate) interrupt_register: u64,
    pub(crate) interrupt_table: u64,
    pub(crate) interrupt_state: InterruptState,
    pub(crate) context_command: u64,
    pub(crate) iotlb_command: u64,
    pub(crate) iotlb_address: u64,
    /// When a register-based invalidation is done.
    pub(crate) context_command_at: Option<u64>,
    pub(crate) iotlb_command_at: Option<u64>,
    pub(crate) queue: Queue,
    pub(crate) outstanding: Vec<Outstanding>,
    pub(crate) completion: u32,
    pub(crate) completion_event: Message,
    /// That of page requests, of which there are none.
    pub(crate) page_event: Message,
    pub(crate) faults: Faults,
    pub(crate) protected: Protected,
    pub(crate) protect_at: Option<u64>,
    pub(crate) defects: Defects,
    /// RWBF = 1.
    pub(crate) buffer: Option<Buffer>,
    pub(crate) reach: Reach,
    pub(crate) stale: Stale,
    /// Page table and levels of each domain-id, and how many context entries have it.
    pub(crate) domains: FxHashMap<u16, ((u64, u8), u32)>,
    /// Whether the pages of each domain-id have SNP.
    pub(crate) snooping: FxHashMap<u16, bool>,
    /// The context-cache was invalidated, and the IOTLB not since then.
    pub(crate) context_flushed: bool,
}

impl VtdUnit {
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
            page_event: Message::default(),
            faults,
            protected: Protected::default(),
            protect_at: None,
            defects: Defects::default(),
            buffer: buffers.then(|| Buffer::new(frames)),
            reach: Reach::new(frames),
            stale: Stale::default(),
            domains: FxHashMap::default(),
            snooping: FxHashMap::default(),
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

    /// Translation is on.
    pub(crate) fn translates(&self) -> bool {
        self.global.on(global::TE)
    }

    /// Interrupt remapping is on.
    pub(crate) fn remaps(&self) -> bool {
        self.global.on(global::IRE)
    }

    /// IRTA.EIME as SIRTP took it over.
    pub(crate) fn extended(&self) -> bool {
        self.interrupt_table & 1 << 11 != 0
    }

    /// An entry for interrupts has bits that are reserved in this unit.
    pub(crate) fn reserved(&self, entry: InterruptEntry) -> bool {
        entry.reserved(self.capability.posts_interrupts(), self.capability.haw)
    }

    /// Number of entries (IRTA.S).
    pub(crate) fn interrupt_entries(&self) -> u32 {
        2 << (self.interrupt_table & 0xf)
    }

    pub(crate) fn snoops(&self) -> bool {
        self.capability.view() == View::Snooped
    }

    /// True if the queue is on, or the unit has none.
    pub(crate) fn queue_ready(&self) -> bool {
        !self.capability.has_queue() || self.global.on(global::QIE)
    }

    /// The source behind a requester-id.
    pub(crate) fn source_id(&self, requester: u16) -> SourceId {
        SourceId::from_requester(self.scope.segment, requester)
    }
}
