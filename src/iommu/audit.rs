//! The live tables next to the configuration.
#![forbid(unsafe_code)]

use heapless::Vec;
use spin::MutexGuard;

use super::devices::Assignment;
use super::{Config, Error, Iommu};
use crate::addr::{Iova, Region, Requester, SourceId};
use crate::audit::{Comparison, Difference, LiveTables, Mode, Reach, Registers, Seen, Target, owned, unowned};
use crate::cell::{Cell, CellId};
use crate::contract::{DomainId, Stage};
use crate::domain::{Coherency, Domain};
use crate::hal::{Deadline, Hal};
use crate::unit::Unit;

/// What an audit went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit<const CELLS: usize> {
    /// How many differences were told.
    pub differences: u64,
    /// Source-ids whose requests are let through at all.
    pub functions: u64,
    /// Those of them that may send requests which they translated themselves: nothing checks where such a request goes, so
    /// they are trusted with all memory.
    pub device_tlbs: u64,
    /// Ranges that they reach.
    pub ranges: u64,
    /// Page tables that were read, once for each source-id that uses them.
    pub tables: u64,
    unsafe_interrupts: Vec<CellId, CELLS>,
    sharing: Vec<CellId, CELLS>,
}

impl<const CELLS: usize> Audit<CELLS> {
    /// The cells that have memory which the root cell may keep ([`Change::map_shared`](super::Change::map_shared)): the only
    /// ones whose memory devices of the root cell may reach.
    pub fn sharing(&self) -> &[CellId] {
        &self.sharing
    }

    /// The cells that allow unsafe interrupts: what their devices can do with interrupts is not looked at, since nothing
    /// holds them back.
    pub fn unsafe_interrupts(&self) -> &[CellId] {
        &self.unsafe_interrupts
    }
}

/// An audit that is under way.
struct Auditor<'a, H, const UNITS: usize, const CELLS: usize, const DEVICES: usize> {
    iommu: &'a Iommu<H, UNITS, CELLS, DEVICES>,
    config: &'a Config<UNITS, CELLS, DEVICES>,
    each: &'a mut dyn FnMut(Difference),
    audit: Audit<CELLS>,
    /// How many page tables may still be read for source-ids that belong to nobody.
    strangers: usize,
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Compares what each source-id reaches by the live tables with what is granted, and calls `each` for every difference;
    /// for none if all is as it should be. Devices of different cells then reach no memory that only another cell owns, and
    /// those of the root cell reach what another cell has only where that cell shares it.
    ///
    /// It starts from the registers of each unit and walks root, context and page tables as the unit does, with bit
    /// definitions of its own, through [`Hal::word_at`]; nothing of the code that writes tables is used. It takes for granted
    /// what the driver knows without the tables: cells with their regions and devices, where firmware's reserved memory is,
    /// each domain's id, and where its table begins. Memory is read as the CPU sees it: what was not written back for a unit
    /// that does not snoop, and what a unit still has cached, is not found. Nor is a pointer to another page table that says
    /// the same, since no device reaches anything else by it.
    ///
    /// Waits until no change is under way, then keeps all others out until it is through. It reads each page table once for
    /// every source-id that uses it, and no more of them than the driver made, however tables are linked. A unit that failed
    /// is compared like any other, so what it did not do is told.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnabled`]; or [`Error::InChange`] if a change did not end in time. Nothing was compared.
    pub fn audit(&self, mut each: impl FnMut(Difference)) -> Result<Audit<CELLS>, Error> {
        let config = self.at_rest()?;
        let (mut unsafe_interrupts, mut sharing) = (Vec::new(), Vec::new());
        for (id, cell) in cells(&config) {
            if cell.config.allow_unsafe_interrupts {
                let _ = unsafe_interrupts.push(id);
            }
            if !config.is_root(id) && cell.regions.parts().any(|(_, shared)| shared) {
                let _ = sharing.push(id);
            }
        }
        let audit =
            Audit { differences: 0, functions: 0, device_tlbs: 0, ranges: 0, tables: 0, unsafe_interrupts, sharing };
        let strangers = page_tables(&config);
        let mut auditor = Auditor { iommu: self, config: &config, each: &mut each, audit, strangers };
        for (index, unit) in self.units.iter().enumerate() {
            auditor.unit(index, unit);
        }
        Ok(auditor.audit)
    }

    /// Tells all that each source-id reaches by the live tables, unit by unit, ascending, ranges as long as can be. Nothing is
    /// told of a unit that has no tables of legacy mode in use: its devices reach nothing, or everything, as
    /// [`audit`](Self::audit) tells; nor of tables that cannot be read.
    ///
    /// # Errors
    ///
    /// As for [`audit`](Self::audit).
    pub fn reach(&self, mut each: impl FnMut(Reach)) -> Result<(), Error> {
        let config = self.at_rest()?;
        let mut strangers = page_tables(&config);
        for (index, unit) in self.units.iter().enumerate() {
            let Some(tables) = self.live_tables(unit) else { continue };
            tables.functions(&mut |seen| {
                if let Seen::Function(requester, target) = seen {
                    let source = requester.in_segment(unit.segment());
                    let device = config.assignments.iter().find(|device| is_from(device, index, requester));
                    let mut own = device.map(|device| frames(domain(&config, device)));
                    let left = own.as_mut().unwrap_or(&mut strangers);
                    tables.walk(source, target, left, &mut |seen| {
                        if let Seen::Run(reach) = seen {
                            each(reach);
                        }
                    });
                }
            });
        }
        Ok(())
    }

    /// Locks the configuration at a moment when no cell is in a change.
    fn at_rest(&self) -> Result<MutexGuard<'_, Config<UNITS, CELLS, DEVICES>>, Error> {
        let mut deadline = Deadline::new(self.hal.now_ns(), self.options.timeout_ns);
        loop {
            let late = deadline.passed(self.hal.now_ns()).is_some();
            let config = self.config.lock();
            if !config.enabled {
                return Err(Error::NotEnabled);
            }
            if !config.cells.iter().flatten().any(|cell| cell.busy) {
                return Ok(config);
            }
            drop(config);
            if late {
                return Err(Error::InChange);
            }
            self.hal.pause();
        }
    }

    /// The tables of a unit that translates by tables of legacy mode.
    fn live_tables(&self, unit: &Unit) -> Option<LiveTables<'_, H>> {
        let registers = Registers::read(&self.hal, unit.window());
        match registers.mode() {
            Mode::Legacy(root) => {
                let host_bits = self.topology.host_address_width();
                Some(LiveTables::new(&self.hal, unit.window(), registers, root, host_bits))
            }
            _ => None,
        }
    }
}

/// True if this requester of a unit is the device's.
fn is_from(device: &Assignment, unit: usize, requester: Requester) -> bool {
    device.unit == unit && device.requesters.contains(&requester)
}

/// How many tables there are in a domain's page table.
fn frames(domain: Option<&Domain>) -> usize {
    domain.map_or(0, |domain| domain.table.frames())
}

/// The same for all domains together.
fn page_tables<const UNITS: usize, const CELLS: usize, const DEVICES: usize>(
    config: &Config<UNITS, CELLS, DEVICES>,
) -> usize {
    cells(config).flat_map(|(_, cell)| &cell.domains).map(|domain| frames(Some(domain))).fold(0, usize::saturating_add)
}

fn cells<const UNITS: usize, const CELLS: usize, const DEVICES: usize>(
    config: &Config<UNITS, CELLS, DEVICES>,
) -> impl Iterator<Item = (CellId, &Cell)> {
    (0..).zip(&config.cells).filter_map(|(index, cell)| {
        let cell = cell.as_ref()?;
        Some((CellId { index, generation: cell.generation }, cell))
    })
}

fn domain<'c, const UNITS: usize, const CELLS: usize, const DEVICES: usize>(
    config: &'c Config<UNITS, CELLS, DEVICES>,
    device: &Assignment,
) -> Option<&'c Domain> {
    config.cell(device.cell).ok()?.domains.iter().find(|domain| Some(domain.id) == device.domain)
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Auditor<'_, H, UNITS, CELLS, DEVICES> {
    fn tell(&mut self, difference: Difference) {
        self.audit.differences += 1;
        (self.each)(difference);
    }

    fn unit(&mut self, index: usize, unit: &Unit) {
        let (window, expected) = (unit.window(), unit.root());
        let registers = Registers::read(&self.iommu.hal, window);
        let mode = registers.mode();
        match mode {
            Mode::Silent => return self.tell(Difference::Silent { unit: window }),
            Mode::Off => return self.tell(Difference::NotTranslating { unit: window }),
            _ => {}
        }
        let found = registers.root_table_address();
        if Some(found) != expected.map(|root| root.as_u64()) {
            self.tell(Difference::RootTable { unit: window, found, expected });
        }
        let config = self.config;
        let served = || config.assignments.iter().filter(|device| device.unit == index);
        let Mode::Legacy(root) = mode else {
            return served().for_each(|device| self.blocked(device, |_| true));
        };
        let host_bits = self.iommu.topology.host_address_width();
        let tables = LiveTables::new(&self.iommu.hal, window, registers, root, host_bits);
        let mut sum = root.as_u64();
        tables.functions(&mut |seen| match seen {
            Seen::Function(requester, target) => {
                let source = requester.in_segment(unit.segment());
                let device = config.assignments.iter().find(|device| is_from(device, index, requester));
                self.function(&tables, source, target, device);
                let same_id = |(_, other): &(Requester, Target)| other.domain_id == target.domain_id;
                let mut users = served().flat_map(|device| &device.requesters);
                let first = users.find_map(|&user| tables.target(user).map(|it| (user, it)).filter(same_id));
                if let Some((other, _)) = first.filter(|(_, it)| it.table != target.table) {
                    let other = other.in_segment(unit.segment());
                    self.tell(Difference::SharedDomainId { source, other, domain_id: target.domain_id });
                }
            }
            Seen::Absent(requester, difference) => {
                // The rest of its entry stays until it is released.
                let is_fenced = |device: &Assignment| device.fenced && device.requesters.contains(&requester);
                if !served().any(is_fenced) {
                    self.tell(difference);
                }
            }
            Seen::ContextTable(table) => sum = sum.wrapping_add(table),
            Seen::Wrong(difference) => self.tell(difference),
            Seen::Run(_) => {}
        });
        if sum != unit.table_sum() {
            self.tell(Difference::ContextTables { unit: window });
        }
        served().for_each(|device| self.blocked(device, |requester| tables.target(requester).is_none()));
    }

    /// Tells those of a device's source-ids that are blocked, unless it is fenced.
    fn blocked(&mut self, device: &Assignment, is_blocked: impl Fn(Requester) -> bool) {
        if device.fenced {
            return;
        }
        for &requester in device.requesters.iter().filter(|requester| is_blocked(**requester)) {
            let source = requester.in_segment(device.device.segment());
            self.tell(Difference::Blocked { source, cell: device.cell });
        }
    }

    /// Compares what one source-id reaches with what its device is granted, if it is a device's.
    fn function(&mut self, tables: &LiveTables<'_, H>, source: SourceId, target: Target, device: Option<&Assignment>) {
        self.audit.functions += 1;
        self.audit.device_tlbs += u64::from(target.device_tlb);
        let (iommu, config) = (self.iommu, self.config);
        let owner = device.and_then(|device| config.cell(device.cell).ok());
        let reserved = device.zip(owner).map_or(0, |(device, cell)| iommu.reserved_of(device.device, &cell.config));
        let granted = || {
            let regions = owner.map(|cell| cell.regions.as_slice()).unwrap_or_default();
            regions.iter().copied().chain(iommu.reserved_in(reserved))
        };
        let from = |at: Iova| {
            let ending_there = granted().filter(|region| region.input.last() >= at);
            ending_there.min_by_key(|region| region.input.start())
        };
        let domain = device.and_then(|device| domain(config, device));
        let enforced = domain.is_some_and(|domain| domain.attributes.coherency == Coherency::Enforced);
        let forbidden = device.is_some_and(|device| iommu.topology.snoop_forbidden(&iommu.hal, device.device));

        let mut comparison = Comparison::new(source, &from, enforced && !forbidden);
        let mut left = match device {
            Some(device) => {
                self.entry(source, target, device, domain);
                frames(domain)
            }
            None => {
                self.tell(Difference::Stranger { source });
                if target.device_tlb {
                    self.tell(Difference::DeviceTlb { source, found: true });
                }
                self.strangers
            }
        };
        let before = left;
        tables.walk(source, target, &mut left, &mut |seen| match seen {
            Seen::Run(run) => {
                self.audit.ranges += 1;
                comparison.run(run, &mut |difference| self.tell(difference));
                self.crossings(run, device, owner, iommu.reserved_in(reserved));
            }
            Seen::Wrong(difference) => self.tell(difference),
            _ => {}
        });
        comparison.end(&mut |difference| self.tell(difference));
        self.audit.tables += before.wrapping_sub(left) as u64;
        if device.is_none() {
            self.strangers = left;
        }
    }

    /// Compares a context entry with the domain that the device is to use.
    fn entry(&mut self, source: SourceId, target: Target, device: &Assignment, domain: Option<&Domain>) {
        let expected = domain.map(|domain| {
            let Stage::Table { root, levels } = domain.table.stage();
            (root, levels)
        });
        if let Some(expected) = expected.filter(|_| expected != target.table) {
            self.tell(Difference::PageTable { source, found: target.table, expected });
        }
        if device.fenced {
            self.tell(Difference::NotFenced { source, cell: device.cell });
        }
        if target.device_tlb != device.ats.is_some() {
            self.tell(Difference::DeviceTlb { source, found: target.device_tlb });
        }
        let expected = device.domain.map_or(0, DomainId::get);
        if target.domain_id != expected {
            let found = target.domain_id;
            self.tell(Difference::DomainId { source, found, expected });
        }
    }

    /// Tells what of a run belongs to another cell and not to this one. Nothing belongs to the root cell that another cell
    /// has for itself, whatever the root cell was granted.
    fn crossings(
        &mut self,
        run: Reach,
        device: Option<&Assignment>,
        cell: Option<&Cell>,
        reserved: impl Iterator<Item = Region> + Clone,
    ) {
        let granted = cell.map(|cell| cell.regions.as_slice()).unwrap_or_default();
        let cell = device.map(|device| device.cell);
        let is_root = cell.is_some_and(|cell| self.config.is_root(cell));
        for (owner, other) in cells(self.config).filter(|(id, _)| Some(*id) != cell) {
            for (region, shared) in other.regions.parts() {
                let granted = if is_root && !shared { &[] } else { granted };
                let own = granted.iter().copied().chain(reserved.clone()).map(|region| owned(&region));
                for memory in unowned(owned(&run.region), owned(&region), own) {
                    self.tell(Difference::Crosses { source: run.source, cell, owner, memory });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PhysAddr, Rights};
    use crate::cell::CellConfig;
    use crate::hal::fake::Fake;
    use crate::iommu::Options;
    use crate::iommu::devices::State;

    const START: u64 = 0x1000_0000;

    /// One to one, so many pages of 64 KiB behind `START`.
    fn region(first: u64, count: u64) -> Region {
        let start = START + (first << 16);
        Region::new(Iova::new(start), PhysAddr::new(start), count << 16, Rights::all()).unwrap()
    }

    #[test]
    fn what_the_root_cell_is_granted_does_not_excuse_what_its_devices_reach() {
        let iommu: Iommu<Fake, 1, 4, 4> = Iommu::new(Fake::new(1), Options::DEFAULT);
        let root = iommu.create_root_cell(CellConfig::DEFAULT).unwrap();
        let [cell, sharer] = [(); 2].map(|()| iommu.create_cell(CellConfig::DEFAULT).unwrap());
        iommu.map(root, region(0, 16)).unwrap();
        iommu.map(cell, region(3, 2)).unwrap();
        iommu.map_shared(sharer, region(8, 2)).unwrap();
        let mut config = iommu.config.lock();
        // As if nothing had been taken from either.
        for id in [root, sharer] {
            let regions = &mut config.cell_mut(id).unwrap().regions;
            regions.clear();
            regions.insert(region(0, 16), true).unwrap();
        }
        let source = SourceId::new(0, 0, 1, 0).unwrap();
        let told_of = |id| {
            let device = Assignment {
                device: source,
                cell: id,
                unit: 0,
                domain: Some(DomainId::FIRST),
                requesters: Vec::new(),
                ats: None,
                fenced: false,
                windows: 0,
                state: State::Staying,
            };
            let mut told = std::vec::Vec::new();
            let (unsafe_interrupts, sharing) = (Vec::new(), Vec::new());
            let audit = Audit {
                differences: 0,
                functions: 0,
                device_tlbs: 0,
                ranges: 0,
                tables: 0,
                unsafe_interrupts,
                sharing,
            };
            let mut each = |difference| told.push(difference);
            let mut auditor = Auditor { iommu: &iommu, config: &config, each: &mut each, audit, strangers: 0 };
            let run = Reach { source, region: region(0, 16), snoop: true };
            auditor.crossings(run, Some(&device), config.cell(id).ok(), core::iter::empty());
            told
        };
        let crosses = Difference::Crosses { source, cell: Some(root), owner: cell, memory: owned(&region(3, 2)) };
        assert_eq!(told_of(root), [crosses], "but for what is shared with it");
        assert_eq!(told_of(sharer), [], "two cells may be granted the same");
    }
}
