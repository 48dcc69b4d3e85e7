//! The front: one [`Iommu`] is all the remapping units of a machine, and the cells that they keep apart.

mod audit;
mod change;
mod commit;
mod device_info;
mod device_tlb;
mod devices;
mod error;
mod faults;
mod flush;
mod groups;
mod leaving;
mod results;
mod root;
mod stage;
mod windows;

use core::fmt;

use heapless::Vec;
use spin::Mutex;

use crate::cell::{Cell, CellConfig, CellId};
use crate::contract::UnitConfig;
use crate::domain::Coherency;
use crate::firmware::Finding;
use crate::hal::{FrameList, Hal, Window};
use crate::invalidation::Flush;
use crate::limits::{self, Full};
use crate::pci;
use crate::topology::{BridgeWindow, Topology};
use crate::unit::{NotDriven, Unit};

pub use crate::contract::{
    DeviceTlbFeatures, DomainId, Features, InterruptFeatures, MainMemory, TableFormat, UnitState,
};
pub use crate::unit::UnitDetails;

pub use crate::audit::{Difference, Reach};
pub use crate::paging::{Hole, MapError};
pub use audit::Audit;
pub use change::{Change, Committed};
pub use device_info::{DeviceInfo, InputRanges};
pub use device_tlb::{AtsInfo, DeviceConfig, NoDeviceTlb};
use devices::Assignment;
pub use error::{Error, Incompatibility, Others, Refusal};
use root::Root;

/// How the front goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for a unit to confirm something, in nanoseconds. A unit that takes longer is out of service. A clock
    /// that [stands still](Hal::now_ns) ends a wait as well.
    ///
    /// Invalidations that wait for devices have [more time](Self::device_timeout_ns).
    pub timeout_ns: u64,
    /// How long to wait for an invalidation of device-TLBs, or for one behind it in the queue, in nanoseconds; no less than
    /// `timeout_ns` in any case.
    ///
    /// A unit gives a device time to answer, which only the unit knows (VT-d 5.10, section 4.3), and here it does so twice;
    /// then the device is named and fenced. If this is over before, it is the unit that is out of service. Devices that die
    /// together may each take that long.
    pub device_timeout_ns: u64,
    /// Where main memory is, if that is known: protected by registers while a unit that firmware left on is taken over, where
    /// the unit has no better way.
    pub memory: Option<MainMemory>,
    /// How many descriptors the queue of each unit has room for; rounded up to a power of two from 256 to 2^15. At most half
    /// of them are in use. A queue takes a frame for every 128 of them.
    pub queue_slots: u16,
}

impl Options {
    /// One second: far more than any unit needs, far less than anybody waits. Three minutes for device-TLBs: PCI Express lets
    /// a device answer within a minute and a half. No memory is known. And the smallest queue, which has room for the calls of
    /// more than a dozen CPUs at a time.
    pub const DEFAULT: Self =
        Self { timeout_ns: 1_000_000_000, device_timeout_ns: 180_000_000_000, memory: None, queue_slots: 256 };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One remapping unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemappingUnit {
    /// Its registers.
    pub window: Window,
    /// Its PCI segment.
    pub segment: u16,
    /// What it can do, less what does not work on this machine.
    pub features: Features,
    /// What its vendor's registers say, with all that is particular to the vendor.
    pub details: UnitDetails,
    /// What it does to the requests of its devices.
    pub state: UnitState,
    /// Firmware had left it translating when it was last switched on.
    pub found_on: bool,
    /// Its devices could reach all memory for a moment when it was switched on, although firmware had left it translating.
    pub gap: bool,
}

/// What was done since the units were switched on, and what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Descriptors submitted to all units, waits among them.
    pub descriptors: u64,
    /// Wait descriptors submitted.
    pub waits: u64,
    /// Writes of a queue's tail register.
    pub doorbells: u64,
    /// How often units told that a device had answered an invalidation which nobody had asked it for (FSTS_REG.ICE).
    pub completion_errors: u64,
    /// Edits of page and context tables that a unit had to be told nothing of, since it cannot have cached what was not
    /// present: one for each unit and each range or device.
    pub flushes_avoided: u64,
    /// The longest time that a change waited for a unit, in nanoseconds, failed waits among them.
    pub longest_wait_ns: u64,
    /// Faults of devices that are not among [`Iommu::faults_by_device`].
    pub other_faults: u64,
    /// Frames in use for root, context and page tables and queues.
    pub table_frames: u64,
}

/// All remapping units of a machine, and its cells.
///
/// Until [`enable`](Self::enable) nothing is touched. From then on a device reaches nothing but what the cell that it is
/// assigned to was granted; a device without a cell reaches nothing.
///
/// May be shared between CPUs: changes of the same cell come one after the other, those of different cells wait for their
/// units at the same time, and reading faults waits for none of them.
///
/// A value is large, about 240 KiB with the default capacities: keep it in a static, where [`probe_dmar`](Self::probe_dmar)
/// completes it with 3 KiB of stack. [`commit`](Change::commit) takes most, 10 KiB.
pub struct Iommu<
    H,
    const UNITS: usize = { limits::UNITS },
    const CELLS: usize = { limits::CELLS },
    const DEVICES: usize = { limits::DEVICES },
> {
    hal: H,
    topology: Topology,
    options: Options,
    units: Vec<Unit, UNITS>,
    /// Taken before any unit's queue.
    config: Mutex<Config<UNITS, CELLS, DEVICES>>,
}

/// What is committed.
#[derive(Debug)]
struct Config<const UNITS: usize, const CELLS: usize, const DEVICES: usize> {
    enabled: bool,
    cells: [Option<Cell>; CELLS],
    cells_made: u32,
    root: Option<Root>,
    assignments: Vec<Assignment, DEVICES>,
    /// Those that matter to them; what no assignment has a bit for is out of date.
    windows: [Option<BridgeWindow>; limits::WINDOWS],
    /// What each unit is going to be told by the change that has the lock; empty else.
    flushes: Vec<Flush, UNITS>,
    /// Frames that a failed unit may still reach: never given back.
    lost: FrameList,
}

impl<const UNITS: usize, const CELLS: usize, const DEVICES: usize> Config<UNITS, CELLS, DEVICES> {
    fn cell(&self, id: CellId) -> Result<&Cell, Error> {
        let cell = self.cells.get(usize::from(id.index)).and_then(Option::as_ref);
        cell.filter(|cell| cell.generation == id.generation).ok_or(Error::NoSuchCell(id))
    }

    fn create_cell(&mut self, cell: CellConfig) -> Result<CellId, Error> {
        let free = self.cells.iter_mut().enumerate().find(|(_, cell)| cell.is_none());
        let (index, slot) = free.ok_or(Full { what: "cells", capacity: CELLS })?;
        let index = u16::try_from(index).map_err(|_| Full { what: "cells", capacity: usize::from(u16::MAX) })?;
        self.cells_made = self.cells_made.wrapping_add(1);
        *slot = Some(Cell::new(self.cells_made, cell));
        Ok(CellId { index, generation: self.cells_made })
    }

    fn cell_mut(&mut self, id: CellId) -> Result<&mut Cell, Error> {
        cell_mut(&mut self.cells, id)
    }
}

/// As [`Config::cell_mut`], but borrows the cells alone.
fn cell_mut(cells: &mut [Option<Cell>], id: CellId) -> Result<&mut Cell, Error> {
    let cell = cells.get_mut(usize::from(id.index)).and_then(Option::as_mut);
    cell.filter(|cell| cell.generation == id.generation).ok_or(Error::NoSuchCell(id))
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// A front that knows of no unit yet. It may be the value of a static, and [`probe_dmar`](Self::probe_dmar) completes it
    /// there: a hypervisor's stacks are small.
    pub const fn new(hal: H, options: Options) -> Self {
        let config = Config {
            enabled: false,
            cells: [const { None }; CELLS],
            cells_made: 0,
            root: None,
            assignments: Vec::new(),
            windows: [None; limits::WINDOWS],
            flushes: Vec::new(),
            lost: FrameList::new(),
        };
        Self { hal, topology: Topology::EMPTY, options, units: Vec::new(), config: Mutex::new(config) }
    }

    /// Looks at the units of `topology`; writes nothing. Once for a front, before anything else.
    ///
    /// # Errors
    ///
    /// A unit is none that this driver can drive ([`Error::UnknownUnit`]), does not answer, or shows what no unit can be
    /// ([`Error::Unit`]); or there are more than `UNITS` ([`Error::Full`]); or it is not the first call that succeeds
    /// ([`Error::Probed`]). The front is as it was.
    pub fn probe(&mut self, topology: Topology) -> Result<(), Error> {
        if !self.units.is_empty() {
            return Err(Error::Probed);
        }
        self.topology = topology;
        self.probe_units()
    }

    /// Reads a DMAR table as [`Topology::from_dmar`] does, and [probes](Self::probe) its units, all where the front lies: a
    /// topology is too large for a small stack.
    ///
    /// # Errors
    ///
    /// Those of [`Topology::from_dmar`] and of [`probe`](Self::probe). The front is as it was.
    pub fn probe_dmar(&mut self, dmar: &[u8], report: impl FnMut(Finding)) -> Result<(), Error> {
        if !self.units.is_empty() {
            return Err(Error::Probed);
        }
        self.topology.read_dmar(dmar, &self.hal, report)?;
        self.probe_units()
    }

    fn probe_units(&mut self) -> Result<(), Error> {
        let Options { timeout_ns, device_timeout_ns, queue_slots, .. } = self.options;
        let host_bits = self.topology.host_address_width();
        let config = UnitConfig { host_bits, timeout_ns, device_timeout_ns, queue_slots };
        let found = self.topology.units().iter().try_for_each(|info| {
            let unit = Unit::probe(&self.hal, info, config).map_err(|reason| match reason {
                NotDriven::UnknownKind => Error::UnknownUnit(info.window),
                NotDriven::Failed(error) => Error::Unit(error),
            })?;
            self.units.push(unit).map_err(|_| Full { what: "remapping units", capacity: UNITS })?;
            Ok(())
        });
        if found.is_err() {
            self.units.clear();
            self.topology.clear();
            return found;
        }
        let flushes = &mut self.config.get_mut().flushes;
        while flushes.len() < self.units.len() && flushes.push(Flush::default()).is_ok() {}
        Ok(())
    }

    /// [`new`](Self::new) and [`probe`](Self::probe) in one, where the stack has room for the value some times over.
    ///
    /// # Errors
    ///
    /// Those of [`probe`](Self::probe).
    pub fn discover(hal: H, topology: Topology, options: Options) -> Result<Self, Error> {
        let mut iommu = Self::new(hal, options);
        iommu.probe(topology)?;
        Ok(iommu)
    }

    /// Switches all units on. Every device is blocked from then on.
    ///
    /// A unit that firmware left on goes on with firmware's tables until all is ready; [`RemappingUnit::gap`] tells if its
    /// devices could reach memory for a moment then.
    ///
    /// Access Control Services are switched on in all ports and functions that have them, so that no two devices reach each
    /// other without passing a unit, where that can be had ([`Group`](crate::topology::Group)). They stay on afterwards.
    ///
    /// # Errors
    ///
    /// Units failed, cannot be used, or found no frames; the error is that of the first. All others are on and can be used,
    /// and [`units`](Self::units) tells the state of each. Devices behind a unit that did not come up are refused, **but may
    /// not be blocked**: until it translates they may reach all memory. So a caller who wants no such device on the machine
    /// stops here; one who goes on has to keep their bus mastering off. May be repeated.
    pub fn enable(&mut self) -> Result<(), Error> {
        for (index, segment) in self.units.iter().map(Unit::segment).enumerate() {
            if self.units.iter().position(|unit| unit.segment() == segment) == Some(index) {
                pci::isolate_all(&self.hal, segment);
            }
        }
        let mut result = Ok(());
        for unit in &mut self.units {
            result = result.and(unit.start_invalidation(&self.hal));
        }
        for unit in &mut self.units {
            // One that has failed by now says only that.
            result = result.and(unit.start_translation(&self.hal, self.options.memory));
        }
        self.config.get_mut().enabled = true;
        Ok(result?)
    }

    /// Switches all units off and gives their frames back, once no device has a cell: **from then on every device reaches
    /// all memory**, but for the regions that firmware had protected by registers, which are protected again.
    ///
    /// Only that is given back. Where firmware had left translation or a queue on, it stays off, since what became of their
    /// memory is not known; no unit sends fault events. Cells stay, and [`enable`](Self::enable) may follow.
    ///
    /// # Errors
    ///
    /// A device still has a cell: nothing changed. Or units failed, before or now; the error is that of the first. They
    /// keep their frames, and block what they blocked; all others are off.
    pub fn disable(&mut self) -> Result<(), Error> {
        let config = self.config.get_mut();
        if let Some(left) = config.assignments.first() {
            return Err(Error::Busy { device: left.device, cell: left.cell });
        }
        config.enabled = false;
        let mut result = Ok(());
        for unit in &mut self.units {
            result = result.and(unit.stop(&self.hal));
        }
        Ok(result?)
    }

    /// The units, in the order of the firmware's table.
    pub fn units(&self) -> impl Iterator<Item = RemappingUnit> + '_ {
        self.units.iter().map(|unit| RemappingUnit {
            window: unit.window(),
            segment: unit.segment(),
            features: *unit.features(),
            details: unit.details(),
            state: unit.state(),
            found_on: unit.found().translating,
            gap: unit.found().gap,
        })
    }

    /// What the firmware's table says.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The platform that the front works on.
    pub fn hal(&self) -> &H {
        &self.hal
    }

    /// Makes a cell without memory or devices. Takes no frames and touches no unit.
    ///
    /// # Errors
    ///
    /// There are `CELLS` cells already: [`Error::Full`]. Nothing changed.
    pub fn create_cell(&self, cell: CellConfig) -> Result<CellId, Error> {
        self.config.lock().create_cell(cell)
    }

    /// Whether DMA of a cell's devices can leave the CPU's caches behind: it can, if any table in use now does not
    /// enforce snooping, whatever the units could do and whatever was in use before (C3).
    ///
    /// # Errors
    ///
    /// There is no such cell.
    pub fn coherency(&self, cell: CellId) -> Result<Coherency, Error> {
        Ok(self.config.lock().cell(cell)?.coherency())
    }

    /// What was done, and what is in use.
    pub fn statistics(&self) -> Statistics {
        let config = self.config.lock();
        let domains = config.cells.iter().flatten().flat_map(|cell| &cell.domains);
        let page_tables = domains.map(|domain| (domain.table.frames() + domain.table.unlinked()) as u64).sum();
        let mut statistics = Statistics { table_frames: page_tables, ..Statistics::default() };
        for counts in self.units.iter().map(Unit::counts) {
            statistics.descriptors += counts.descriptors;
            statistics.waits += counts.waits;
            statistics.doorbells += counts.doorbells;
            statistics.completion_errors += counts.completion_errors;
            statistics.flushes_avoided += counts.flushes_avoided;
            statistics.longest_wait_ns = statistics.longest_wait_ns.max(counts.longest_wait_ns);
            statistics.other_faults += counts.other_faults;
            statistics.table_frames += u64::from(counts.frames);
        }
        statistics
    }
}

impl<H, const UNITS: usize, const CELLS: usize, const DEVICES: usize> fmt::Debug for Iommu<H, UNITS, CELLS, DEVICES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iommu").field("units", &self.units).field("config", &self.config).finish_non_exhaustive()
    }
}
