//! A unit's live tables next to what its devices are granted.
#![forbid(unsafe_code)]

use super::holdings::{Holdings, not_shared};
use crate::addr::{Iova, PhysRange, Region, Requester, SourceId};
use crate::audit::{
    Comparison, Difference, Findings, Ignored, LiveRegisters, LiveTables, LiveTarget, Mode, Reach, Seen,
};
use crate::cell::{Cell, CellId, Reserved};
use crate::contract::{DomainId, Stage};
use crate::domain::{Coherency, Domain};
use crate::hal::Hal;
use crate::iommu::front::Iommu;
use crate::iommu::state::{Assignment, Config, behind};
use crate::topology::{ReservedMemory, UnitIndex};
use crate::unit::Unit;

/// What an audit went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// How many differences were reported.
    pub differences: u64,
    /// Source-ids whose requests are let through at all.
    pub functions: u64,
    /// Those of them that may send requests which they translated themselves: nothing checks where such a request goes, so
    /// they are trusted with all memory.
    pub device_tlbs: u64,
    /// Ranges that they reach.
    pub ranges: u64,
    /// Devices whose interrupts are not remapped, in cells that allow that: they send any interrupt to any CPU.
    pub unremapped: u64,
    /// Devices that nothing isolates from devices of other cells, in cells that allow that.
    pub shared_groups: u64,
    /// Interrupts that are routed and present.
    pub interrupts: u64,
    /// Page tables that were read, once for each source-id that uses them.
    pub tables: u64,
    /// Ranges of memory that devices of a cell may still reach although it was taken from the cell, since a unit has not
    /// confirmed that. No other cell is granted them.
    pub withheld: u64,
    /// Frames of the driver's tables that are not given back, since a unit that failed may still read them.
    pub quarantined_frames: u64,
}

impl Audit {
    /// What the configuration says, before anything is gone through.
    #[inline(never)]
    pub(super) fn of(config: &Config<'_>) -> Self {
        let quarantined_frames = config.quarantined_frames() as u64;
        Self { quarantined_frames, withheld: config.withheld.iter().count() as u64, ..Self::default() }
    }
}

/// An audit that is under way.
pub(super) struct Auditor<'a, 's, H> {
    pub(super) iommu: &'a Iommu<'s, H>,
    pub(super) config: &'a Config<'s>,
    pub(super) findings: Findings<'a>,
    pub(super) audit: Audit,
    /// How many page tables may still be read for source-ids that belong to nobody.
    pub(super) strangers: usize,
}

impl<H: Hal> Auditor<'_, '_, H> {
    /// Reports the functions that no unit serves.
    #[inline(never)]
    pub(super) fn unserved(&mut self) {
        for source in self.iommu.unserved() {
            self.findings.report(Difference::Unserved { source });
        }
    }

    #[inline(never)]
    pub(super) fn units(&mut self) {
        self.iommu.each_unit().for_each(|(unit, index)| self.unit(index, &unit));
    }

    /// Compares what the tables of a unit let its devices do with what the configuration does.
    #[inline(never)]
    fn unit(&mut self, index: UnitIndex, unit: &Unit) {
        let (window, config) = (unit.window(), self.config);
        let registers = LiveRegisters::read(&self.iommu.hal, unit.mapped());
        if registers.mode() != Mode::Unresponsive {
            self.interrupts(index, unit, &registers);
        }
        match registers.mode() {
            Mode::Unresponsive => return self.findings.report(Difference::Unresponsive { unit: window }),
            Mode::Off => return self.findings.report(Difference::NotTranslating { unit: window }),
            _ => {}
        }
        let (found, expected) = (registers.root_table_address(), unit.root());
        if Some(found) != expected.map(|root| root.as_u64()) {
            self.findings.report(Difference::RootTable { unit: window, found, expected });
        }
        match self.iommu.live_tables(unit, registers) {
            Some(tables) => {
                self.tables(index, unit, &tables);
                let is_blocked = |requester| tables.target(requester).is_none();
                behind(&config.devices, index).for_each(|device| self.blocked(device, is_blocked));
            }
            None => behind(&config.devices, index).for_each(|device| self.blocked(device, |_| true)),
        }
    }

    /// Goes through all tables of a unit.
    #[inline(never)]
    fn tables(&mut self, index: UnitIndex, unit: &Unit, tables: &LiveTables<'_, H>) {
        let mut sum = tables.root().as_u64();
        let mut functions = tables.functions();
        while let Some(seen) = functions.next(&mut self.findings) {
            match seen {
                Seen::Function(requester, target) => self.function(index, unit, tables, requester, target),
                Seen::Absent(requester, ignored) => self.absent(index, requester, ignored),
                Seen::ContextTable(table) => sum = sum.wrapping_add(table),
            }
        }
        if sum != unit.table_sum() {
            self.findings.report(Difference::ContextTables { unit: unit.window() });
        }
    }

    /// Tells those of a device's source-ids that are blocked, unless it is quarantined.
    #[inline(never)]
    fn blocked(&mut self, device: &Assignment, is_blocked: impl Fn(Requester) -> bool) {
        if device.quarantined {
            return;
        }
        for &requester in device.requesters.iter().filter(|requester| is_blocked(**requester)) {
            let source = requester.in_segment(device.device.segment());
            self.findings.report(Difference::Blocked { source, cell: device.cell });
        }
    }

    /// Tells what stays in an entry that is not present, unless its device is quarantined: then the rest of the entry stays
    /// until it is released.
    #[inline(never)]
    fn absent(&mut self, unit: UnitIndex, requester: Requester, ignored: Ignored) {
        let is_quarantined = |device: &Assignment| device.quarantined && device.requesters.contains(&requester);
        if !behind(&self.config.devices, unit).any(is_quarantined) {
            ignored.report(&mut self.findings);
        }
    }

    /// Compares a context entry and what is reached by it with what its device is granted, if it is a device's.
    fn function(
        &mut self,
        index: UnitIndex,
        unit: &Unit,
        tables: &LiveTables<'_, H>,
        requester: Requester,
        target: LiveTarget,
    ) {
        self.audit.functions += 1;
        self.audit.device_tlbs += u64::from(target.device_tlb);
        let config = self.config;
        let source = requester.in_segment(unit.segment());
        let device = config.devices.iter().find(|device| is_from(device, index, requester));
        match device {
            Some(device) => self.entry(source, target, device),
            None => self.unassigned(source, target),
        }
        self.reached(tables, source, target, device);
        if let Some(other) = self.sharing_id(index, tables, target) {
            let (other, domain_id) = (other.in_segment(unit.segment()), target.domain_id);
            self.findings.report(Difference::SharedDomainId { source, other, domain_id });
        }
    }

    /// Compares a context entry with the domain that the device is to use.
    #[inline(never)]
    fn entry(&mut self, source: SourceId, target: LiveTarget, device: &Assignment) {
        let expected = self.config.domain_of(device).map(|domain| {
            let Stage::Table { root, levels } = domain.table.stage();
            (root, levels)
        });
        if let Some(expected) = expected.filter(|_| expected != target.table) {
            self.findings.report(Difference::PageTable { source, found: target.table, expected });
        }
        if device.quarantined {
            self.findings.report(Difference::NotBlocked { source, cell: device.cell });
        }
        if target.device_tlb != device.ats.is_some() {
            self.findings.report(Difference::DeviceTlb { source, found: target.device_tlb });
        }
        let expected = device.domain.map_or(0, DomainId::get);
        if target.domain_id != expected {
            let found = target.domain_id;
            self.findings.report(Difference::DomainId { source, found, expected });
        }
    }

    /// Tells of a context entry that is nobody's.
    #[inline(never)]
    fn unassigned(&mut self, source: SourceId, target: LiveTarget) {
        self.findings.report(Difference::UnassignedSource { source });
        if target.device_tlb {
            self.findings.report(Difference::DeviceTlb { source, found: true });
        }
    }

    /// Compares what one source-id reaches with what its device is granted, if it is a device's.
    #[inline(never)]
    fn reached(
        &mut self,
        tables: &LiveTables<'_, H>,
        source: SourceId,
        target: LiveTarget,
        device: Option<&Assignment>,
    ) {
        let (config, iommu) = (self.config, self.iommu);
        let all_reserved = iommu.topology().reserved_memory();
        let reserved = iommu.reserved(device.map_or(0, |device| device.reserved));
        let id = device.map(|device| device.cell);
        let owner = id.and_then(|id| config.cell(id).ok());
        let granted = |at| granted_from(owner, reserved, at);
        let mut comparison = Comparison::new(source, &granted, self.is_to_snoop(device));
        let before = match device {
            Some(device) => frames(config.domain_of(device)),
            None => self.strangers,
        };
        let mut left = before;
        let mut walk = tables.walk(source, target, &mut left, &mut self.findings);
        while let Some(run) = walk.next(&mut left, &mut self.findings) {
            self.audit.ranges += 1;
            comparison.run(&run, &mut self.findings);
            crossings(config, all_reserved, &run, id, &mut self.findings);
            of_the_machine(iommu, &run, &mut self.findings);
        }
        comparison.end(&mut self.findings);
        self.audit.tables += before.wrapping_sub(left) as u64;
        if device.is_none() {
            self.strangers = left;
        }
    }

    /// True if snooping is to be enforced for a device.
    #[inline(never)]
    fn is_to_snoop(&self, device: Option<&Assignment>) -> bool {
        let Some(device) = device else { return false };
        let domain = self.config.domain_of(device);
        domain.is_some_and(|domain| domain.attributes.coherency == Coherency::Enforced)
            && !self.iommu.topology().snoop_forbidden(&self.iommu.hal, device.device)
    }

    /// The first requester of the unit's devices whose context entry has the domain-id of this one, if it has another page
    /// table.
    #[inline(never)]
    fn sharing_id(&self, unit: UnitIndex, tables: &LiveTables<'_, H>, target: LiveTarget) -> Option<Requester> {
        for &requester in behind(&self.config.devices, unit).flat_map(|device| &device.requesters) {
            if let Some(other) = tables.target(requester).filter(|other| other.domain_id == target.domain_id) {
                return (other.table != target.table).then_some(requester);
            }
        }
        None
    }
}

/// The lowest region of a cell, or of reserved memory, that ends at an input address or above it.
#[inline(never)]
pub(super) fn granted_from(cell: Option<&Cell<'_>>, reserved: Reserved<'_>, at: Iova) -> Option<Region> {
    let mut lowest = cell.and_then(|cell| cell.regions.from(at));
    for region in reserved.iter().filter(|region| region.input.last() >= at) {
        if lowest.is_none_or(|other| region.input.start() < other.input.start()) {
            lowest = Some(region);
        }
    }
    lowest
}

/// Reports what of a run another cell has, unless both cells share it. Nothing is looked at of what its own cell was granted
/// for itself: that excuses nothing.
#[inline(never)]
fn crossings(
    config: &Config<'_>,
    all_reserved: &[ReservedMemory],
    run: &Reach,
    id: Option<CellId>,
    findings: &mut Findings<'_>,
) {
    let Some(reached) = run.region.outputs() else { return };
    for (owner, _) in config.cells.iter().filter(|(other, _)| Some(*other) != id) {
        for theirs in Holdings::of(config, all_reserved, owner) {
            let mut left = reached.intersection(theirs.memory);
            while let Some(part) = left {
                let crossed = if theirs.shared { not_shared(config, all_reserved, id, part) } else { left };
                let Some(memory) = crossed else { break };
                report_crossing(findings, run.source, id, owner, memory);
                left = part.above(memory);
            }
        }
    }
}

/// Reports what of a run is no cell's: registers of units, and the platform's own memory.
#[inline(never)]
fn of_the_machine<H: Hal>(iommu: &Iommu<'_, H>, run: &Reach, findings: &mut Findings<'_>) {
    let (Some(reached), source) = (run.region.outputs(), run.source) else { return };
    for unit in iommu.topology().units().iter().map(|unit| unit.window) {
        if let Some(memory) = unit.memory().and_then(|registers| registers.intersection(reached)) {
            findings.report(Difference::ReachesRegisters { source, unit, memory });
        }
    }
    if let Some(memory) = iommu.hal.own_memory(reached) {
        findings.report(Difference::ReachesPlatform { source, memory });
    }
}

// Its stack is free again before the next part is looked at.
#[inline(never)]
fn report_crossing(
    findings: &mut Findings<'_>,
    source: SourceId,
    cell: Option<CellId>,
    owner: CellId,
    memory: PhysRange,
) {
    findings.report(Difference::CrossesCells { source, cell, owner, memory });
}

/// True if this requester of a unit is the device's.
pub(super) fn is_from(device: &Assignment, unit: UnitIndex, requester: Requester) -> bool {
    device.unit == unit && device.requesters.contains(&requester)
}

/// How many tables there are in a domain's page table.
pub(super) fn frames(domain: Option<&Domain>) -> usize {
    domain.map_or(0, |domain| domain.table.frames())
}

#[cfg(test)]
mod tests;
