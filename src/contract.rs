//! What the front and a unit say to each other, whoever made the unit: no register, no bit.
#![forbid(unsafe_code)]

use core::fmt;
use core::num::NonZeroU16;

use crate::addr::PhysAddr;
use crate::error::UnitError;
use crate::hal::PairStore;
use crate::paging::Geometry;

/// The id of a domain on its units: what they tag cached translations with. Never 0, which units keep for what is not
/// present, and for what is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(NonZeroU16);

impl DomainId {
    /// The lowest id.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The id with this number; `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The format of the page tables that a unit walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableFormat {
    /// Second-stage tables of Intel VT-d.
    SecondStage,
}

/// What a unit supports of device-TLBs (ATS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceTlbFeatures {
    /// The unit counts the invalidations that a physical function and its virtual functions have under way together, so
    /// each invalidation names the physical function.
    pub throttled: bool,
}

/// What a unit supports of interrupt remapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterruptFeatures {
    /// Interrupts can go to CPUs with APIC ids above 255 (x2APIC mode).
    pub extended: bool,
    /// Interrupts are remapped in x2APIC mode only.
    pub extended_only: bool,
    /// Interrupts can be [posted](crate::interrupt::Posting).
    pub posted: bool,
}

/// What a unit can do, less what does not work on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// The size of its page tables and the pages in them; `None` if the unit translates nothing.
    pub geometry: Option<Geometry>,
    /// Their format.
    pub format: TableFormat,
    /// How many domain-ids there are, 0 among them.
    pub domain_ids: u32,
    /// DMA can be made to snoop the CPU's caches, whatever the device asks for.
    pub snoop_control: bool,
    /// The unit snoops the CPU's caches when it reads its tables.
    pub coherent_walks: bool,
    /// The unit may cache that something is not present.
    pub caches_absent: bool,
    /// What is stored into a table may stand in a write buffer until that is flushed.
    pub write_buffer: bool,
    /// Device-TLBs, if devices may have them.
    pub device_tlbs: Option<DeviceTlbFeatures>,
    /// Interrupt remapping, if there is any.
    pub interrupts: Option<InterruptFeatures>,
}

impl Features {
    /// Those of a unit that can do nothing.
    pub(crate) const NONE: Self = Self {
        geometry: None,
        format: TableFormat::SecondStage,
        domain_ids: 0,
        snoop_control: false,
        coherent_walks: false,
        caches_absent: false,
        write_buffer: false,
        device_tlbs: None,
        interrupts: None,
    };
}

/// Where the requests of a device go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    pub stage: Stage,
    /// Used for no other table on this unit.
    pub domain: DomainId,
    /// Translation requests and translated ones are let through, too.
    pub device_tlb: bool,
}

/// What translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// One page table: its top, and its levels.
    Table { root: PhysAddr, levels: u8 },
}

/// What a unit does to the requests of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// It was not switched on yet, or was handed back: devices reach what firmware lets them reach.
    Off,
    /// It translates, and its registers show that: devices reach what their cells were granted, and nothing else.
    On,
    /// It failed, and takes no change any more.
    Failed {
        /// Why.
        error: UnitError,
        /// True if it translates with the driver's tables all the same, as its registers show: what they did not grant stays
        /// blocked. False if that was never confirmed, or is not so any more: **its devices may reach all memory**, that of
        /// other units' cells among it.
        blocking: bool,
    },
}

/// In what state a unit was found when it was last switched on, and what followed from that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Somebody had left translation on.
    pub translating: bool,
    /// The same for a queue.
    pub queue: bool,
    /// The same for its fault event.
    pub fault_event: bool,
    /// It had left interrupt remapping on, by this table.
    pub interrupts: Option<TableOfInterrupts>,
    /// Devices were neither translated nor kept out of memory for a moment, although translation had been on.
    pub gap: bool,
}

/// A table by which a unit remaps interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOfInterrupts {
    /// Where it is.
    pub address: PhysAddr,
    /// How many entries it has.
    pub entries: u32,
    /// It is for CPUs in x2APIC mode.
    pub extended: bool,
}

/// Counts of one unit since it was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitCounts {
    pub descriptors: u64,
    pub waits: u64,
    pub doorbells: u64,
    pub completion_errors: u64,
    pub flushes_avoided: u64,
    pub longest_wait_ns: u64,
    pub other_faults: u64,
    pub frames: u32,
}

/// How a unit is driven: the part of the front's options that concerns it, and what it may address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitConfig {
    /// The machine's host address width: the unit's tables and its queue lie below 2^`host_bits`.
    pub host_bits: u8,
    pub timeout_ns: u64,
    pub device_timeout_ns: u64,
    pub queue_slots: u16,
    /// The highest level of a table whose entries are pages.
    pub max_leaf_level: u8,
    /// So many device-TLBs there may be behind it.
    pub device_tlbs: usize,
    /// How it remaps interrupts, if it is to.
    pub interrupts: Option<InterruptConfig>,
}

/// How units remap interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterruptConfig {
    /// There are 2^`order` interrupts, 1 to 16.
    pub order: u8,
    /// The CPUs are in x2APIC mode.
    pub extended: bool,
    /// Entries change at once.
    pub pairs: PairStore,
}

/// Where main memory ends, below 4 GiB and above: what is kept out of devices' reach while a unit is taken over.
///
/// Memory starts at 0 and at 4 GiB. Neither part may reach into memory-mapped I/O: hardware leaves open what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MainMemory {
    /// The first address behind the memory below 4 GiB.
    pub low_end: PhysAddr,
    /// The first address behind the memory above 4 GiB; anything up to 4 GiB if there is none.
    pub high_end: PhysAddr,
}
