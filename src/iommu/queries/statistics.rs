//! The state of the units, what was done, and what is in use.
#![forbid(unsafe_code)]

use crate::cell::CellId;
use crate::contract::{Features, TableOfInterrupts, UnitState};
use crate::domain::Coherency;
use crate::hal::{Hal, RegisterWindow};
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::unit::UnitDetails;

/// One remapping unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemappingUnit {
    /// Its registers.
    pub window: RegisterWindow,
    /// Its PCI segment.
    pub segment: u16,
    /// What it can do, less what does not work on this machine.
    pub features: Features,
    /// What its vendor's registers say, with all that is particular to the vendor.
    pub details: UnitDetails,
    /// What it does to the requests of its devices, by its registers as they are now.
    pub state: UnitState,
    /// A flush of it failed, and was not repeated yet: devices behind it may still reach what was taken from their cells. A
    /// change of one of these cells repeats it first, and so does a change without edits ([`Iommu::commit`]).
    pub needs_flush: bool,
    /// Somebody else had it translating: when it was looked at, or when it was last switched on. So it is of all that was found.
    pub found_on: bool,
    /// Its queue was on.
    pub found_queue: bool,
    /// Its fault event was not masked: whoever had it was sent faults.
    pub found_fault_event: bool,
    /// It was remapping interrupts, by this table, which is not the driver's. The driver's followed it
    /// without a gap if there was to be one, for CPUs in the same mode; otherwise remapping was switched off then.
    pub found_interrupts: Option<TableOfInterrupts>,
    /// Its devices could reach all memory for a moment when it was switched on, although it had been translating.
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
    /// How often units reported that a device had answered an invalidation which nobody had sent (FSTS_REG.ICE).
    pub completion_errors: u64,
    /// Edits of page and context tables for which a unit had nothing to invalidate, since it cannot have cached what was not
    /// present: one for each unit and each range or device.
    pub flushes_avoided: u64,
    /// The longest time that a change waited for a unit, in nanoseconds, failed waits among them.
    pub longest_wait_ns: u64,
    /// Faults of devices that are not among [`Iommu::faults_by_device`].
    pub other_faults: u64,
    /// Frames in use for root, context and page tables and queues.
    pub table_frames: u64,
}

impl<H: Hal> Iommu<'_, H> {
    /// The units, in the order of the firmware's table.
    pub fn units(&self) -> impl Iterator<Item = RemappingUnit> + '_ {
        self.each_unit().map(|(unit, _)| RemappingUnit {
            window: unit.window(),
            segment: unit.segment(),
            features: *unit.features(),
            details: unit.details(),
            state: unit.state(&self.hal),
            needs_flush: unit.needs_full_flush(),
            found_on: unit.found().translating,
            found_queue: unit.found().queue,
            found_fault_event: unit.found().fault_event,
            found_interrupts: unit.found().interrupts,
            gap: unit.found().gap,
        })
    }

    /// Whether DMA of a cell's devices can leave the CPU's caches behind: it can, if any table in use now does not
    /// enforce snooping, whatever the units could do and whatever was in use before ([C3](crate::guide::rules#c3)).
    ///
    /// # Errors
    ///
    /// There is no such cell.
    pub fn coherency(&self, cell: CellId) -> Result<Coherency, Error> {
        Ok(self.locked()?.cell(cell)?.coherency())
    }

    /// What was done, and what is in use.
    pub fn statistics(&self) -> Statistics {
        let config = self.config.lock();
        let domains = config.cells.iter().flat_map(|(_, cell)| &cell.domains);
        let page_tables = domains.map(|domain| (domain.table.frames() + domain.table.unlinked()) as u64).sum();
        let mut statistics = Statistics { table_frames: page_tables, ..Statistics::default() };
        for counts in self.each_unit().map(|(unit, _)| unit.counts()) {
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
