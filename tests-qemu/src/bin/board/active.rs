//! The active part: each unit is switched on, audited, measured and handed back, while no device reads or writes memory; then the machine
//! is held against what it was before.

use cofferdam::addr::{Iova, Region, Rights, SourceId};
use cofferdam::hal::{Hal, RegisterWindow};
use cofferdam::iommu::{DeviceConfig, Edit, RemappingUnit, UnitState};
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_pc::{Pc, println};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Front, Kind, LIMITS, OwnQueue, Report, Snapshot, Times, Verdict, Words};
use heapless::Vec;

/// All that may stand in the way of a device is allowed: bus masters are off, and no cell lasts.
const CELL: CellConfig = CellConfig {
    allow_unsafe_interrupts: true,
    allow_shared_group: true,
    allow_shared_reserved: true,
    reset: ResetPolicy::Never,
    ..CellConfig::DEFAULT
};
const PAGE: u64 = 4096;

struct Active<'a> {
    pc: &'static Pc,
    report: &'a Report,
    iommu: &'a Front<&'static Pc>,
}

/// What became of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing was changed.
    Untouched,
    /// All is as it was.
    AsBefore,
    /// Something is not, which the report names.
    Changed,
    /// A unit is still on, and functions are kept from memory.
    StillOn,
}

/// Does it all. What of it limits the board, the verdict says.
pub(crate) fn measure(pc: &'static Pc, report: &Report, iommu: &Front<&'static Pc>, verdict: &mut Verdict) -> Outcome {
    let in_use = |unit: &RemappingUnit| unit.found_on || unit.found_queue || unit.found_interrupts.is_some();
    if let Some(unit) = iommu.units().find(in_use) {
        // What its queue is in may be out of reach, and then it could not be handed back.
        verdict.limit(format_args!(
            "nothing is measured: unit {} is in use by somebody; switch that off in set-up (DMA protection before boot)",
            unit.window
        ));
        return Outcome::Untouched;
    }
    let before = match Snapshot::take(pc) {
        Ok(before) => before,
        Err(error) => {
            verdict.limit(format_args!("nothing is measured: {}", error.as_str()));
            return Outcome::Untouched;
        }
    };
    let stopped = before.stop_bus_masters();
    println!("\nMeasuring: {stopped} functions that read and write memory are kept from it meanwhile.");
    let active = Active { pc, report, iommu };
    if let Err(error) = active.enable_and_measure(verdict) {
        verdict.limit(format_args!("not all of it was measured: {}", error.as_str()));
    }
    if let Err(error) = iommu.hand_back() {
        println!("  {error}");
        if active.is_on() {
            verdict.unfit(format_args!("its units cannot be handed back: {error}"));
            println!("  A unit is still on, so functions are kept from memory: switch the machine off.");
            report.expect(false, "units are off again", format_args!("{error}"));
            return Outcome::StillOn;
        }
    }
    active.measure_invalidations(verdict);
    before.restore();
    let mut count = 0_u32;
    for changed in before.changed() {
        println!("  {} {:#x}: {:#x}, now {:#x}", changed.function, changed.offset, changed.before, changed.now);
        count += 1;
    }
    before.free();
    report.expect(count == 0, "functions hold what they held before", format_args!("{count} registers do not"));
    if count == 0 { Outcome::AsBefore } else { Outcome::Changed }
}

impl Active<'_> {
    /// Devices that firmware reserves memory for have it all the time, as in a root cell.
    fn enable_and_measure(&self, verdict: &mut Verdict) -> Result<(), Words> {
        let mut usable = Vec::<RegisterWindow, { LIMITS.units }>::new();
        // There is room for all of them.
        self.units().for_each(|unit| _ = usable.push(unit.window));
        // A unit that failed before fails here as well, and all others go on.
        if let Err(error) = self.iommu.prepare() {
            println!("  {error}");
        }
        let root = self.iommu.create_root_cell(CELL)?;
        for function in self.pc.functions() {
            if self.has_reserved(function)
                && let Err(error) = self.iommu.assign(function, root)
            {
                println!("  {error}");
            }
        }
        let unblocked = self.iommu.enable()?;
        for unit in self.iommu.units().filter(|unit| usable.contains(&unit.window)) {
            if let UnitState::Failed { error, .. } = unit.state {
                verdict.unfit(format_args!("a unit cannot be switched on: {error}"));
            }
        }
        println!("  units that can be are on; {unblocked}");
        let audit = self.iommu.audit(|difference| println!("  {difference}"))?;
        if self.iommu.units().count() == self.units().count() {
            self.report.expect(audit.differences == 0, "the live tables are as granted", format_args!("{audit:?}"));
        }
        self.units().try_for_each(|unit| self.measure_calls(unit.window))
    }

    fn units(&self) -> impl Iterator<Item = RemappingUnit> {
        self.iommu.units().filter(|unit| !matches!(unit.state, UnitState::Failed { .. }))
    }

    /// True if a unit goes by the driver's tables, or may do so.
    fn is_on(&self) -> bool {
        self.iommu.units().any(|unit| matches!(unit.state, UnitState::On | UnitState::Failed { blocking: true, .. }))
    }

    fn has_reserved(&self, function: SourceId) -> bool {
        self.iommu.topology().reserved(self.iommu.hal(), function).next().is_some()
    }

    /// What the driver's own calls take, for a device behind the unit, and for one with a device-TLB.
    fn measure_calls(&self, window: RegisterWindow) -> Result<(), Words> {
        let memory = self.pc.allocate_block(PAGE, PAGE).ok_or_else(|| Words::new(format_args!("no memory")))?;
        let page = Region::new(Iova::new(memory.base().as_u64()), memory.base(), PAGE, Rights::all())
            .ok_or_else(|| Words::new(format_args!("no region of a block")))?;
        [false, true].into_iter().try_for_each(|device_tlb| {
            let cell = self.iommu.create_cell(CELL)?;
            let measured = self.measure_cell(cell, window, page, device_tlb);
            // Also if that failed: nothing is handed back while a cell has a device.
            self.iommu.destroy_cell(cell)?;
            measured
        })
    }

    fn measure_cell(&self, cell: CellId, window: RegisterWindow, page: Region, device_tlb: bool) -> Result<(), Words> {
        let config = DeviceConfig { device_tlb, ..DeviceConfig::default() };
        let mut candidates = self.candidates(window, device_tlb);
        let Some(device) = candidates.find(|it| self.iommu.assign_with(*it, cell, config).is_ok()) else {
            let kind = if device_tlb { "device with a device-TLB" } else { "device" };
            println!("  unit {window}: no call is measured with a {kind}, since a cell can have none from behind it");
            return Ok(());
        };
        let (mut unmapped, mut released) = (Times::default(), Times::default());
        for _ in 0..Times::MOST {
            self.iommu.commit(&[Edit::MapShared(cell, page)])?;
            unmapped.note(self.took(Edit::Unmap(cell, page.input))?);
        }
        let what = if device_tlb { "call: unmap of a page, with a device-TLB" } else { "call: unmap of a page" };
        self.note(window, what, &mut unmapped);
        if !device_tlb {
            for _ in 0..Times::MOST {
                released.note(self.took(Edit::Release(device))?);
                self.iommu.assign_with(device, cell, config)?;
            }
            self.note(window, "call: release of a device", &mut released);
        }
        Ok(())
    }

    /// Devices behind the unit that a cell may have for a moment.
    fn candidates(&self, window: RegisterWindow, device_tlb: bool) -> impl Iterator<Item = SourceId> {
        self.pc.functions().filter(move |function| {
            let info =
                self.iommu.device_info(*function).ok().filter(|info| info.unit == window && info.refusal.is_none());
            info.is_some_and(|info| info.ats.is_ok() || !device_tlb) && !self.has_reserved(*function)
        })
    }

    /// How many nanoseconds a change of one edit takes.
    fn took(&self, edit: Edit) -> Result<u64, Words> {
        let begun = self.pc.now_ns();
        self.iommu.commit(&[edit])?;
        Ok(self.pc.now_ns().saturating_sub(begun))
    }

    fn note(&self, window: RegisterWindow, what: &str, times: &mut Times) {
        let Some(record) = times.record(window.base.as_u64(), what) else { return };
        if let Record::Measured { times, min_ns, median_ns, max_ns, .. } = record {
            println!("  {what}: {min_ns} ns at least, {median_ns} ns for half of {times}, {max_ns} ns at most");
        }
        self.report.tell(record);
    }

    /// What invalidations take by themselves, on units that are off.
    fn measure_invalidations(&self, verdict: &mut Verdict) {
        for unit in self.units() {
            println!("  unit {}:", unit.window);
            match OwnQueue::start(self.pc, unit.window) {
                Err(error) => verdict.limit(format_args!("{}", error.as_str())),
                Ok(None) => println!("  it has no invalidation queue"),
                Ok(Some(queue)) => {
                    if let Err(error) = self.measure_each(unit.window, queue) {
                        verdict.limit(format_args!("{}", error.as_str()));
                    }
                }
            }
        }
    }

    fn measure_each(&self, window: RegisterWindow, mut queue: OwnQueue) -> Result<(), Words> {
        let measured = Kind::ALL.iter().try_for_each(|kind| {
            match queue.measure(*kind, Times::MOST)? {
                Some(mut times) => self.note(window, kind.words(), &mut times),
                None => println!("  {}: the unit has none", kind.words()),
            }
            Ok(())
        });
        queue.stop().and(measured)
    }
}
