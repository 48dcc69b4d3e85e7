//! What goes wrong on purpose: units that fail, devices that do not answer, and memory that runs out.

use cofferdam::error::UnitError;
use cofferdam::hal::{Hal, NoFrame};
use cofferdam::iommu::Error;
use cofferdam::iommu::{UnitState, Unroutable};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, Defect, GIVES_UP_NS, UnitConfig};

use crate::Outcome;
use crate::express::is_express;
use crate::history::History;
use crate::oracle::{Cell, Device, Edit, Facts};
use crate::plan::Plan;
use crate::request::{is_listed, is_quarantined};
use crate::stage::After;
use crate::visible::{BUS_MASTER, COMMAND};

/// So much longer an invalidation takes at most.
pub(crate) const SLOWEST_NS: u64 = 200_000_000;
/// GSTS.WBFS.
const WRITE_BUFFER: u32 = 1 << 27;
/// Where the model has the ATS registers, and Enable there.
const ATS: u16 = 0x144;
const ATS_ENABLE: u32 = 1 << 31;
/// Devices that do not answer at a time: each is waited for twice.
const UNRESPONSIVE: usize = 2;

pub(crate) struct Broken {
    units: Vec<UnitConfig>,
    /// Units with something wrong, or that the driver has given up.
    pub(crate) suspects: Vec<bool>,
    /// Units whose registers read all ones.
    pub(crate) dark: Vec<bool>,
    /// Units with which something was wrong at some time, or with a device behind them.
    pub(crate) ever: Vec<bool>,
    /// Units that a change has failed in: what is left of an entry is not cleared before its unit has forgotten it.
    pub(crate) residues: Vec<bool>,
    /// Units that could not be switched on again after a reset: they stay out of service.
    pub(crate) beyond_repair: Vec<bool>,
    /// Frames that are in no table and that the driver keeps, because a failed unit may reach them.
    pub(crate) kept: usize,
    /// Devices that do not answer; none ever is if nobody has the patience to find out.
    pub(crate) unresponsive: Vec<bool>,
    patient: bool,
}

impl Broken {
    pub(crate) fn new(plan: &Plan) -> Self {
        let unresponsive = vec![false; plan.functions.len()];
        let patient = plan.functions.iter().any(|function| function.ats.is_some());
        let (units, none) = (plan.units.clone(), vec![false; plan.units.len()]);
        let lost: Vec<bool> = (0..units.len()).map(|unit| plan.lost == Some(unit)).collect();
        Self {
            units,
            suspects: lost.clone(),
            dark: lost,
            ever: none.clone(),
            residues: none.clone(),
            beyond_repair: none,
            kept: 0,
            unresponsive,
            patient,
        }
    }

    /// True if no more devices may stop answering.
    pub(crate) fn are_many_unresponsive(&self) -> bool {
        self.unresponsive.iter().filter(|unresponsive| **unresponsive).count() >= UNRESPONSIVE
    }

    /// How long the driver waits for a unit: not long where units fail, but where a device does not answer.
    pub(crate) fn patience(&self) -> u64 {
        if self.patient { (2 * UNRESPONSIVE as u64 + 2) * GIVES_UP_NS } else { 2_000_000 }
    }
}

/// Tables that cells may need at most for what a change is to leave them: in 4 KiB pages, for devices of all kinds.
fn tables_for(after: &After) -> usize {
    let touched = after.pages.iter().zip(&after.touched).filter(|(_, touched)| **touched);
    let extents = touched.flat_map(|(pages, _)| pages.iter());
    (5 + extents.map(|(first, extent)| (extent.end - first) as usize / 512 + 10).sum::<usize>())
        * Limits::DEFAULT.domains
}

impl History<'_> {
    pub(crate) fn has_failed(&self) -> Vec<bool> {
        self.iommu.units().map(|unit| unit.state != UnitState::On).collect()
    }

    pub(crate) fn break_or_mend(&mut self) {
        if self.broken.as_ref().is_some_and(|broken| broken.patient) && self.random.one_in(2) {
            return self.silence();
        }
        if self.random.one_in(8) {
            return self.pull_out();
        }
        if self.random.one_in(2) && self.forget_one() {
            return;
        }
        let failed = self.has_failed();
        let Some(broken) = &mut self.broken else { return };
        let unit = self.random.below(failed.len() as u64) as usize;
        if broken.suspects[unit] {
            self.machine.mend_unit(unit);
            broken.dark[unit] = false;
            let failed = self.has_failed();
            // What the driver has given up stays so.
            self.broken.iter_mut().for_each(|broken| broken.suspects[unit] = failed[unit]);
            return;
        }
        let vanishes = self.random.one_in(8);
        if !vanishes && !self.random.one_in(4) {
            return;
        }
        let config = &broken.units[unit];
        let (queue, buffer) = (config.ecap >> 1 & 1 == 1, config.cap >> 4 & 1 == 1);
        let slow = Defect::Slow(self.random.of(&[500, 20_000, 300_000, 5_000_000, SLOWEST_NS]));
        let defect = match self.random.below(12) {
            0..2 => slow,
            _ if vanishes => Defect::AllOnes,
            2 if buffer => Defect::StatusStuckHigh(WRITE_BUFFER),
            3..5 if queue => Defect::QueueDead,
            _ if queue => Defect::QueueErrorAfter(self.random.below(6)),
            3..5 => Defect::RegistersDead,
            5..9 => Defect::RegistersRefuse,
            _ => Defect::RegistersCoarse,
        };
        (broken.suspects[unit], broken.ever[unit]) = (true, true);
        broken.dark[unit] = defect == Defect::AllOnes;
        self.done.vanished += u64::from(broken.dark[unit]);
        self.tell(format_args!("unit {unit}: {defect:?}"));
        self.machine.break_unit(unit, defect);
    }

    /// A device is pulled out while its cell has it: one with ATS does not answer any more, and nothing is known of its registers.
    fn pull_out(&mut self) {
        let index = self.random.index(self.oracle.devices.len());
        let Some(broken) = &mut self.broken else { return };
        let device = &mut self.oracle.devices[index];
        let many = device.function.ats.is_some() && broken.are_many_unresponsive();
        if is_express(device.id) || device.function.grouped || device.pulled_out || many {
            return;
        }
        (device.pulled_out, device.master) = (true, None);
        if device.function.ats.take().is_some() {
            (broken.unresponsive[index], broken.ever[device.unit]) = (true, true);
        }
        self.done.pulled_out += 1;
        self.machine.pull_out(device.id);
        self.live.borrow_mut().origins[index].is_there = false;
        let id = self.oracle.devices[index].id;
        self.tell(format_args!("{id} is pulled out"));
    }

    /// A device does not answer any more, or does again.
    fn silence(&mut self) {
        let index = self.random.below(self.oracle.devices.len() as u64) as usize;
        let Some(broken) = &mut self.broken else { return };
        let Some(depth) = self.oracle.devices[index].function.ats else { return };
        let unresponsive = !broken.unresponsive[index] && !broken.are_many_unresponsive();
        broken.unresponsive[index] = unresponsive;
        broken.ever[self.oracle.devices[index].unit] = true;
        let answer = if unresponsive { Answer::Never } else { Answer::After(1_000) };
        self.machine.set_device_tlb(self.oracle.devices[index].id, answer, depth);
        self.tell(format_args!("{}: {answer:?}", self.oracle.devices[index].id));
    }

    /// Makes a change that may fail in any way.
    pub(crate) fn change_broken(&mut self, edits: &[Edit]) {
        let mut before = self.tables();
        // From no frame at all on until there are enough, or with just some.
        let (first, every) = (self.random.below(10), self.random.one_in(8));
        let limits: Vec<Option<u64>> = match self.random.below(6) {
            0 if every => (0..64).map(Some).chain([None]).collect(),
            0 => vec![Some(first), None],
            _ => vec![None],
        };
        for limit in limits {
            self.done.steps += 1;
            let failed = self.has_failed();
            let (_, in_tables) = self.frames();
            self.machine.allow_allocations(limit);
            self.confirm_routes();
            let staged = self.oracle.stage(edits);
            let result = self.request(edits, staged.as_ref().ok());
            self.machine.allow_allocations(None);
            let refused = staged.as_ref().err();
            self.tell(format_args!("{edits:x?}, frames {limit:?}: {:?}, refused: {refused:?}", result.as_ref().err()));
            let changed = match (result, staged) {
                (Ok(committed), Ok(mut after)) => {
                    if limit.is_some() || failed.contains(&true) {
                        self.let_root_wait(&mut after);
                    }
                    self.commit(&after, &committed);
                    true
                }
                (Ok(_), Err(why)) => panic!("{edits:x?}: made, although {why}"),
                (Err(Error::NoFrame(NoFrame::NoneLeft)), _) if limit.is_some() => {
                    let quarantined = self.quarantine_unresponsive(|_| false);
                    assert!(quarantined || self.tables() == before, "{edits:x?}, frames {limit:?}: tables changed");
                    before = self.tables();
                    self.done.starved += 1;
                    self.look();
                    self.try_some();
                    continue;
                }
                (Err(Error::Unit(error)), Ok(after)) => {
                    let told = self.may_fail(error, &after);
                    assert!(told, "{edits:x?}: {error}, but no unit is broken, and no such device");
                    // A unit that is known to be out of service is found before anything is touched.
                    let devices = self.oracle.devices.iter().zip(&after.arrives);
                    let refused = devices.into_iter().any(|(device, arrives)| *arrives && failed[device.unit])
                        || self.oracle.routed_behind(&after).any(|unit| failed[unit]);
                    if !refused {
                        let of = |cell: &Option<Cell>| cell.as_ref().map(|cell| cell.pages.clone());
                        let before: Vec<_> = self.oracle.cells.iter().map(of).collect();
                        self.fail(&after, error);
                        self.look_at_withheld(&before, &after, error);
                        let cells = self.oracle.cells.iter_mut().zip(&after.touched).filter(|(_, touched)| **touched);
                        let cells = cells.filter_map(|(cell, _)| cell.as_mut());
                        cells.for_each(|cell| cell.has_spoiled_table |= limit.is_some());
                        let most = in_tables + tables_for(&after);
                        let (held, now) = self.frames();
                        let Some(broken) = &mut self.broken else { return };
                        let kept = held.checked_sub(now).expect("tables are frames that the driver holds");
                        assert!(kept >= broken.kept && kept - broken.kept <= most, "{edits:x?}: {kept} are kept");
                        broken.kept = kept;
                    }
                    !refused
                }
                (Err(error), Ok(after)) if self.oracle.may_refuse(edits, &after, error) => false,
                // Lines become free as a change begins, and behind this unit no change finds that it has confirmed anything.
                (Err(Error::Route { reason: Unroutable::Taken(_), .. }), Ok(_))
                    if self.oracle.routes_behind(edits, &failed) =>
                {
                    false
                }
                (Err(error), Ok(_)) => panic!("{edits:x?}: {error}"),
                (Err(Error::Unit(_)), Err(_)) if self.oracle.names_lost(edits) => false,
                // It is found before that for which the edits are refused.
                (Err(Error::Unit(_)), Err(_)) if self.oracle.routes_behind(edits, &failed) => false,
                (Err(Error::Unit(error)), Err(why)) => panic!("{edits:x?}: {error}, although {why}"),
                (Err(_), Err(_)) => false,
            };
            // A change that is refused repeats a flush that failed before, which a device may not answer.
            let quarantined = !changed && self.quarantine_unresponsive(|_| false);
            assert!(changed || quarantined || self.tables() == before, "{edits:x?}: refused, but tables changed");
            break;
        }
        self.look();
        self.try_some();
        self.sleep_on_what_is_owed();
    }

    /// What others give back waits if the driver had no frames for it, or if a unit is out of service behind which the root cell
    /// has a device.
    fn let_root_wait(&self, after: &mut After) {
        let Some((root, waiting)) = self.oracle.root_that_waits(after) else { return };
        if self.listed(root) == waiting.unshared() {
            after.pages[root] = waiting;
        }
    }

    /// True if a unit or a device is broken in a way that may lead to this error.
    fn may_fail(&self, error: UnitError, after: &After) -> bool {
        let Some(broken) = &self.broken else { return false };
        let UnitError::Device { requester, .. } = error else { return self.names_suspect(error) };
        let named = self.oracle.devices.iter().position(|device| requester == device.id.into());
        named.is_some_and(|index| broken.unresponsive[index] && (self.oracle.devices[index].tlb || after.tlbs[index]))
    }

    /// True if a call may end so that is about one unit and no cell.
    pub(crate) fn may_fail_alone(&self, unit: usize, error: UnitError) -> bool {
        let Some(broken) = &self.broken else { return false };
        let UnitError::Device { requester, .. } = error else { return broken.suspects[unit] };
        let mut devices = self.oracle.devices.iter().zip(&broken.unresponsive);
        devices.any(|(device, unresponsive)| requester == device.id.into() && *unresponsive && device.tlb)
    }

    /// Devices that do not answer are quarantined, if they were asked: those that have a device-TLB, or that `arrives` names.
    /// False if there are none.
    pub(crate) fn quarantine_unresponsive(&mut self, arrives: impl Fn(usize) -> bool) -> bool {
        let Some(broken) = &self.broken else { return false };
        let mut any = false;
        for index in 0..broken.unresponsive.len() {
            let device = &self.oracle.devices[index];
            let has_tlb = device.tlb || arrives(index);
            if broken.unresponsive[index] && has_tlb && self.is_given_up(device) {
                any |= !device.stuck;
                self.oracle.quarantine(index, broken.suspects[device.unit]);
            }
        }
        any
    }

    /// True if the driver has found that a device does not answer. It switches ATS off then, unless the device was pulled out.
    fn is_given_up(&self, device: &Device) -> bool {
        if !device.pulled_out && !device.lost_ats {
            return self.machine.config_read(device.id, ATS) & ATS_ENABLE == 0;
        }
        // Nothing is known of that if the unit does not work either.
        let is_suspect = self.broken.as_ref().is_some_and(|broken| broken.suspects[device.unit]);
        self.machine.is_unresponsive(device.id) && (!is_suspect || is_quarantined(&self.iommu, device.id))
    }

    fn fail(&mut self, after: &After, error: UnitError) {
        self.forget_programs(after);
        let Some(broken) = &self.broken else { return };
        match error {
            UnitError::Device { .. } => self.done.unanswered += 1,
            _ => self.done.failed += 1,
        }
        let (suspects, unresponsive) = (broken.suspects.clone(), broken.unresponsive.clone());
        let masters: Vec<_> = self.oracle.devices.iter().map(|device| device.master).collect();
        // One that arrives is switched on last.
        self.quarantine_unresponsive(|index| after.arrives[index] && after.tlbs[index]);
        let cells: Vec<_> = self.oracle.cells.iter().map(|cell| cell.as_ref().map(|cell| cell.id)).collect();
        let iommu = &self.iommu;
        self.oracle.fail(after, &suspects, &unresponsive, |device, cell| {
            cells[cell].is_some_and(|cell| is_listed(iommu, device.id, cell))
        });
        // What was let in and taken back was stopped, and what was never asked was not.
        let arrived = self.oracle.devices.iter_mut().zip(masters).zip(&after.arrives).filter(|(_, arrives)| **arrives);
        for ((device, before), _) in arrived {
            let found = self.machine.config_read(device.id, COMMAND) & BUS_MASTER != 0;
            let known = if device.cell.is_none() { before } else { device.master };
            device.master = known.map(|master| master && found);
        }
        let Some(broken) = &mut self.broken else { return };
        broken.residues.iter_mut().zip(&suspects).for_each(|(residue, suspect)| *residue |= suspect);
        // What is withheld from the root cell follows from when the unit failed.
        if let Some(root) = self.oracle.root().and_then(|root| self.oracle.cells[root].as_mut()) {
            root.short = true;
        }
        let stuck = self.oracle.devices.iter().filter(|device| device.stuck);
        stuck.for_each(|device| broken.residues[device.unit] = true);
    }

    /// Some accesses at once, where something has just gone wrong.
    pub(crate) fn try_some(&mut self) {
        (0..4).for_each(|_| self.dma());
    }

    /// True if a device has something cached, as the driver knows it, and does not answer.
    fn has_silent(&self) -> bool {
        let Some(broken) = &self.broken else { return false };
        self.oracle.devices.iter().zip(&broken.unresponsive).any(|(device, silent)| *silent && device.tlb)
    }

    /// All cells go that can; what is left are those with devices behind units that the driver has given up.
    pub(crate) fn end_broken(mut self) -> Outcome {
        for unit in 0..self.oracle.units.len() {
            self.machine.mend_unit(unit);
        }
        let failed = self.has_failed();
        if let Some(broken) = &mut self.broken {
            broken.dark.fill(false);
            broken.suspects.clone_from(&failed);
            let devices = broken.unresponsive.iter_mut().zip(&self.oracle.devices);
            devices.for_each(|(unresponsive, device)| *unresponsive &= device.function.ats.is_none());
        }
        for device in self.oracle.devices.iter().filter(|device| device.function.ats.is_some()) {
            self.machine.set_device_tlb(device.id, Answer::After(1_000), device.function.ats.unwrap_or(1));
        }
        for slot in self.oracle.slots().collect::<Vec<_>>() {
            // Another kind that came in a device's place does not answer for it, and is quarantined for that: one of this cell, or of the
            // root cell, which gets what this one gives back.
            if self.has_silent() {
                self.change_broken(&[Edit::Destroy(slot)]);
            }
            // A change that was made in a sleep between may have ended it.
            if self.oracle.cells[slot].is_none() {
                continue;
            }
            // A sleep after the last one may have brought a unit back.
            let failed = self.has_failed();
            let mut devices = self.oracle.devices.iter().filter(|device| device.cell == Some(slot));
            let has_device = devices.any(|device| failed[device.unit]);
            let lines = || self.oracle.lines_behind(&failed);
            let stays = has_device || lines().any(|line| line.cell == Some(slot));
            // One of the cells of such a line has it, cut off, and none if nothing of the change was made that was to route it.
            let may_stay = stays || lines().any(|line| line.perhaps.contains(&slot));
            let sleeps = self.done.sleeps;
            self.change_broken(&[Edit::Destroy(slot)]);
            let is_there = self.oracle.cells[slot].is_some();
            assert!(is_there || !stays, "a cell is gone that has devices or lines behind a failed unit");
            assert!(!is_there || may_stay, "a cell goes unless it has devices or lines behind a failed unit");
            // What failed once to leave it is still there, and its unit is as it was unless that slept.
            if stays && self.done.sleeps == sleeps {
                self.change_broken(&[Edit::Destroy(slot)]);
                assert!(
                    self.oracle.cells[slot].is_some(),
                    "a cell is gone, and no unit has confirmed more than before"
                );
            }
        }
        (0..64).for_each(|_| self.dma());
        let states: Vec<UnitState> = self.iommu.units().map(|unit| unit.state).collect();
        let result = self.iommu.disable();
        let Some(Broken { kept, .. }) = self.broken else { unreachable!() };
        let units = failed.iter().filter(|failed| **failed).count() as u64;
        // One that could not be switched on again, but did not fail for ever, has no devices that could not be released.
        let is_out = |(state, unit): (UnitState, &Facts)| matches!(state, UnitState::Failed { .. }) && !unit.open;
        let is_left = |device: &Device| device.cell.is_some();
        let has_to_fail = states.into_iter().zip(&self.oracle.units).any(is_out);
        if has_to_fail || self.oracle.devices.iter().any(is_left) {
            assert!(result.is_err());
        } else if result.is_ok() {
            assert_eq!(self.machine.frames_in_use(), kept, "frames are left that no failed unit can reach");
        } else {
            // One that was reset is handed back, unless it failed when it was to be switched on again.
            assert!(self.oracle.units.iter().any(|unit| unit.open), "{result:?}");
        }
        assert!(self.machine.violations().is_empty(), "the driver broke rules of the hardware");
        Outcome { kept: kept as u64, units, ..self.done }
    }
}
