//! What goes wrong on purpose: units that fail, and memory that runs out.

use cofferdam::iommu::Error;
use cofferdam::limits;
use cofferdam::vtd::UnitState;
use cofferdam_model::{Defect, UnitConfig};

use crate::Outcome;
use crate::history::History;
use crate::oracle::{After, Edit, Slot, is_listed};
use crate::plan::Plan;

/// GSTS.WBFS.
const WRITE_BUFFER: u32 = 1 << 27;

pub(crate) struct Broken {
    units: Vec<UnitConfig>,
    /// Units with something wrong, or that the driver has given up.
    pub(crate) suspects: Vec<bool>,
    /// Frames that are in no table and that the driver keeps, because a failed unit may reach them.
    pub(crate) kept: usize,
    /// Changes that a unit failed in, and that found no frame.
    failed: u64,
    starved: u64,
}

impl Broken {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { units: plan.units.clone(), suspects: vec![false; plan.units.len()], kept: 0, failed: 0, starved: 0 }
    }
}

/// Tables that cells may need at most for what a change is to leave them: in 4 KiB pages, for devices of all kinds.
fn tables_for(after: &After) -> usize {
    let touched = after.pages.iter().zip(&after.touched).filter(|(_, touched)| **touched);
    let extents = touched.flat_map(|(pages, _)| pages.iter());
    (5 + extents.map(|(first, extent)| (extent.end - first) as usize / 512 + 10).sum::<usize>()) * limits::DOMAINS
}

impl History<'_> {
    fn has_failed(&self) -> Vec<bool> {
        self.iommu.units().map(|unit| unit.state != UnitState::On).collect()
    }

    pub(crate) fn break_or_mend(&mut self) {
        let failed = self.has_failed();
        let Some(broken) = &mut self.broken else { return };
        let unit = self.random.below(failed.len() as u64) as usize;
        if broken.suspects[unit] {
            self.machine.mend_unit(unit);
            // What the driver has given up stays so.
            broken.suspects[unit] = failed[unit];
            return;
        }
        if !self.random.one_in(4) {
            return;
        }
        let config = &broken.units[unit];
        let (queue, buffer) = (config.ecap >> 1 & 1 == 1, config.cap >> 4 & 1 == 1);
        let slow = Defect::Slow(self.random.of(&[500, 20_000, 300_000, 5_000_000]));
        let defect = match self.random.below(12) {
            0..2 => slow,
            2 if buffer => Defect::StatusStuckHigh(WRITE_BUFFER),
            3..5 if queue => Defect::QueueDead,
            _ if queue => Defect::QueueErrorAfter(self.random.below(6)),
            3..5 => Defect::RegistersDead,
            5..9 => Defect::RegistersRefuse,
            _ => Defect::RegistersCoarse,
        };
        broken.suspects[unit] = true;
        self.tell(format_args!("unit {unit}: {defect:?}"));
        self.machine.break_unit(unit, defect);
    }

    /// Makes a change that may fail in any way.
    pub(crate) fn change_broken(&mut self, edits: &[Edit]) {
        let before = self.tables();
        // From no frame at all on until there are enough, or with just some.
        let (first, every) = (self.random.below(10), self.random.one_in(8));
        let limits: Vec<Option<u64>> = match self.random.below(6) {
            0 if every => (0..64).map(Some).chain([None]).collect(),
            0 => vec![Some(first), None],
            _ => vec![None],
        };
        for limit in limits {
            self.steps += 1;
            let failed = self.has_failed();
            let (_, in_tables) = self.frames();
            self.machine.allow_allocations(limit);
            let result = self.oracle.request(&self.iommu, edits);
            self.machine.allow_allocations(None);
            let staged = self.oracle.stage(edits);
            let refused = staged.as_ref().err();
            self.tell(format_args!("{edits:x?}, frames {limit:?}: {:?}, refused: {refused:?}", result.as_ref().err()));
            let changed = match (result, staged) {
                (Ok(committed), Ok(after)) => {
                    self.oracle.commit(&after, committed.coherency_changes());
                    true
                }
                (Ok(_), Err(why)) => panic!("{edits:x?}: made, although {why}"),
                (Err(Error::OutOfFrames), _) if limit.is_some() => {
                    assert!(self.tables() == before, "{edits:x?}, frames {limit:?}: tables changed");
                    self.broken.iter_mut().for_each(|broken| broken.starved += 1);
                    self.try_some();
                    continue;
                }
                (Err(Error::Unit(error)), Ok(after)) => {
                    let suspects = self.broken.as_ref().map(|broken| broken.suspects.clone()).unwrap_or_default();
                    assert!(suspects.contains(&true), "{edits:x?}: {error}, but no unit is broken");
                    // A unit that is known to be out of service is found before anything is touched.
                    let devices = self.oracle.devices.iter().zip(&after.arrives);
                    let refused = devices.into_iter().any(|(device, arrives)| *arrives && failed[device.unit]);
                    if !refused {
                        self.broken.iter_mut().for_each(|broken| broken.failed += 1);
                        let most = tables_for(&after);
                        self.fail(&after, &suspects);
                        let (held, now) = self.frames();
                        let Some(broken) = &mut self.broken else { return };
                        let kept = held.checked_sub(now).expect("tables are frames that the driver holds");
                        assert!(
                            kept >= broken.kept && kept - broken.kept <= in_tables + most,
                            "{edits:x?}: {kept} are kept"
                        );
                        broken.kept = kept;
                    }
                    !refused
                }
                (Err(Error::Full(_)), Ok(_)) if self.oracle.may_be_full(edits) => false,
                (Err(error), Ok(_)) => panic!("{edits:x?}: {error}"),
                (Err(Error::Unit(error)), Err(why)) => panic!("{edits:x?}: {error}, although {why}"),
                (Err(_), Err(_)) => false,
            };
            assert!(changed || self.tables() == before, "{edits:x?}: refused, but tables changed");
            break;
        }
        self.look();
        self.try_some();
    }

    fn fail(&mut self, after: &After, suspects: &[bool]) {
        let cells: Vec<_> = self.oracle.cells.iter().map(|cell| cell.as_ref().map(|cell| cell.id)).collect();
        let (iommu, machine) = (&self.iommu, self.machine);
        self.oracle.fail(after, suspects, |device, cell| {
            suspects[device.unit] && cells[cell].is_some_and(|cell| is_listed(iommu, machine, device.id, cell))
        });
    }

    /// Some accesses at once, where something has just gone wrong.
    fn try_some(&mut self) {
        (0..4).for_each(|_| self.dma());
    }

    /// All cells go that can; what is left are those with devices behind units that the driver has given up.
    pub(crate) fn end_broken(mut self) -> Outcome {
        for unit in 0..self.oracle.units.len() {
            self.machine.mend_unit(unit);
        }
        let failed = self.has_failed();
        if let Some(broken) = &mut self.broken {
            broken.suspects.clone_from(&failed);
        }
        for slot in self.oracle.slots().collect::<Vec<Slot>>() {
            let stuck = self.oracle.devices.iter().any(|device| device.cell == Some(slot) && failed[device.unit]);
            self.change_broken(&[Edit::Destroy(slot)]);
            assert_eq!(
                self.oracle.cells[slot].is_some(),
                stuck,
                "a cell goes unless it has devices behind a failed unit"
            );
        }
        (0..64).for_each(|_| self.dma());
        let result = self.iommu.disable();
        let Some(Broken { kept, failed: changes, starved, .. }) = self.broken else { unreachable!() };
        let units = failed.iter().filter(|failed| **failed).count() as u64;
        if units == 0 {
            result.unwrap();
            assert_eq!(self.machine.frames_in_use(), kept, "frames are left that no failed unit can reach");
        } else {
            assert!(result.is_err());
        }
        assert!(self.machine.violations().is_empty(), "the driver broke rules of the hardware");
        Outcome { steps: self.steps, kept: kept as u64, failed: changes, starved, units }
    }
}
