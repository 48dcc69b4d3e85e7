//! One history: a machine, and what happens to it step by step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;

use cofferdam::addr::{Region, SourceId};
use cofferdam::hal::Hal as _;
use cofferdam::interrupt::Message;
use cofferdam::iommu::{Committed, Error, Options, RemappingUnit, UnitDetails, UnitState};
use cofferdam::{CellConfig, Coherency, CoherencyPolicy, Sharing};
use cofferdam_model::Machine;
use cofferdam_support::front::{SMALL, TAKES_OVER, coherency_changes};
use cofferdam_support::random::Random;

use crate::broken::Broken;
use crate::express;
use crate::interrupts::origins;
use crate::lines;
use crate::live::Live;
use crate::oracle::{CELLS, Cell, Device, Edit, Facts, Oracle, Slot};
use crate::pages::{Extent, Pages};
use crate::place::{Sender, for_driver, targets};
use crate::plan::{Function, Plan};
use crate::plug;
use crate::routes::{Held, Routes};
use crate::visible::{BUS_MASTER, COMMAND};
use crate::{Front, Kind, Outcome, Seen};

pub(crate) struct History<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) iommu: Front<'m>,
    pub(crate) oracle: Oracle,
    pub(crate) random: Random,
    pub(crate) done: Outcome,
    /// Page sizes beyond 4 KiB are mapped far and wide.
    pub(crate) large: bool,
    /// Pages of the last edits.
    pub(crate) recent: Vec<u64>,
    /// Source-ids that were blocked since faults were read last.
    pub(crate) blocked: BTreeSet<SourceId>,
    /// Source-ids of which a fault may be recorded or not: a call that was to say so failed.
    pub(crate) unsure: BTreeSet<SourceId>,
    /// Those that are sure again, and were blocked before that.
    unsure_before: BTreeSet<SourceId>,
    /// How many faults of each were read, since its unit was switched on.
    pub(crate) faults_read: BTreeMap<SourceId, u64>,
    /// What sends interrupts, and while the driver makes a change.
    pub(crate) live: &'m RefCell<Live>,
    /// What sources are programmed with: devices for their first message.
    pub(crate) programs: BTreeMap<Sender, Message>,
    /// How many cells were made.
    made: u32,
    /// Frames of queues, root tables and tables of interrupts.
    first_frames: BTreeSet<u64>,
    kind: Kind,
    /// There may be a root cell.
    pub(crate) rooted: bool,
    /// There is what `express.rs` says.
    express: bool,
    /// Each step is told.
    traced: bool,
    /// What is broken on purpose; nothing is, if `None`.
    pub(crate) broken: Option<Broken>,
}

/// What the driver says of a unit, which is nothing of one that is `lost`.
fn facts(unit: &RemappingUnit, lost: bool, remaps: bool) -> Facts {
    let UnitDetails::Vtd(can) = unit.details else { unreachable!() };
    assert_eq!(matches!(unit.state, UnitState::Failed { blocking: false, .. }), lost, "{:?}", unit.state);
    let widths = [(can.three_levels, 39), (can.four_levels, 48), (can.five_levels, 57)];
    let widest = widths.into_iter().filter(|(has, _)| *has).map(|(_, width)| width).max();
    assert_eq!(widest.is_none(), lost);
    Facts {
        input_bits: can.input_bits.min(widest.unwrap_or(0)),
        snoops: can.snoop_control,
        domain_ids: can.domain_ids,
        max_leaf_level: can.max_leaf_level,
        device_tlbs: can.device_tlb && can.queued_invalidation,
        remaps: remaps && !lost,
        lost,
        open: lost,
    }
}

impl<'m> History<'m> {
    pub(crate) fn new(
        plan: &Plan,
        machine: Seen<'m>,
        live: &'m RefCell<Live>,
        memory: &'m mut [MaybeUninit<u64>],
        mut random: Random,
        kind: Kind,
        traced: bool,
    ) -> Self {
        let rooted = !kind.breaks || random.one_in(2);
        let broken = kind.breaks.then(|| Broken::new(plan));
        let timeout_ns = broken.as_ref().map_or(TAKES_OVER.timeout_ns, |broken| broken.patience());
        let options = Options { timeout_ns, device_timeout_ns: timeout_ns, ..TAKES_OVER };
        let iommu = Front::new(machine, options);
        let machine = machine.machine;
        iommu.probe_acpi(memory, &SMALL, &plan.table(machine), |finding| panic!("{finding}")).unwrap();
        if let Some(x2apic) = plan.x2apic {
            iommu.remap_interrupts(&lines::io_apics(&plan.lines), x2apic).unwrap();
        }
        let enabled = iommu.enable();
        assert_eq!(enabled.is_err(), plan.lost.is_some(), "{enabled:?}");
        // ECAP.IR.
        let remaps = |index: usize| plan.x2apic.is_some() && plan.units[index].ecap >> 3 & 1 == 1;
        let facts_of = |(index, unit)| facts(&unit, plan.lost == Some(index), remaps(index));
        let units: Vec<Facts> = iommu.units().enumerate().map(facts_of).collect();
        // Devices that share a source-id reach what is reserved for any of them.
        let is_for = |function: &Function, owners: &[SourceId]| {
            let users = plan.functions.iter().filter(|other| owners.contains(&other.id));
            users.flat_map(|other| &other.requesters).any(|id| function.requesters.contains(id))
        };
        let reserved = |function: &Function| {
            let memory = plan.reserved.iter().find(|(.., owners)| is_for(function, owners));
            memory.map(|(first, last, _)| (*first, *last))
        };
        let device = |function: &Function| Device {
            id: function.id,
            unit: function.unit,
            cell: None,
            tlb: false,
            stuck: false,
            pulled_out: function.id == plug::LATE,
            kind: (function.plugged || express::says_what_it_is(function.id)).then_some(0),
            came_as: None,
            lost_ats: false,
            reserved: reserved(function),
            loose: Vec::new(),
            master: (function.plugged || plan.express.is_some() && express::has_command(function.id)).then_some(true),
            noted: BTreeSet::new(),
            function: function.clone(),
        };
        let large = units.iter().filter(|unit| !unit.lost).all(|unit| unit.max_leaf_level > 1);
        let devices: Vec<Device> = plan.functions.iter().map(device).collect();
        *live.borrow_mut() = Live::new(random.word(), origins(&devices, &plan.lines, plan.units.len()), traced);
        let (messages, held) = (vec![0; devices.len()], vec![Held::default(); plan.lines.len()]);
        let oracle = Oracle {
            units,
            cells: vec![None; CELLS],
            gone: Vec::new(),
            devices,
            lines: plan.lines.clone(),
            routes: Routes { messages, lines: held, ..Routes::default() },
            x2apic: plan.x2apic,
            muted: BTreeSet::new(),
            peers: BTreeSet::new(),
            moved: BTreeSet::new(),
        };
        let (recent, blocked) = (vec![0], BTreeSet::new());
        let first_frames = machine.snapshot().into_iter().map(|(address, _)| address).collect();
        let done = Outcome { lost: u64::from(plan.lost.is_some()), ..Outcome::default() };
        Self {
            machine,
            iommu,
            oracle,
            random,
            done,
            large,
            recent,
            blocked,
            unsure: BTreeSet::new(),
            unsure_before: BTreeSet::new(),
            faults_read: BTreeMap::new(),
            live,
            programs: BTreeMap::new(),
            made: 0,
            first_frames,
            kind,
            rooted,
            express: plan.express.is_some(),
            traced,
            broken,
        }
    }

    pub(crate) fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.traced {
            crate::tell(format_args!("{}: {what}", self.done.steps));
        }
    }

    /// Does something, counted as one step or more.
    pub(crate) fn step(&mut self) {
        match self.random.below(64) {
            _ if self.oracle.slots().next().is_none() => self.create(),
            0 => self.create(),
            1 => self.read_faults(),
            2 => self.mute(),
            3 => self.look_at_coherency(),
            4 => {
                self.tell(format_args!("settle"));
                self.machine.settle();
            }
            5 | 9 if self.broken.is_some() => self.break_or_mend(),
            6 if self.random.one_in(4) => self.sleep(),
            8 if self.express => self.make_bus_master(),
            7 if self.express && self.random.one_in(3) => self.open_or_isolate(),
            10 => self.plug(),
            11 if self.express && self.random.one_in(4) => self.reset_port(),
            12 if self.random.one_in(3) => self.isolate(),
            6..28 => self.change(),
            28..46 if self.kind.audits => self.change(),
            46..52 if self.remaps() => self.interrupt(),
            _ => self.dma(),
        }
    }

    /// Fails if the driver broke a rule, or if frames are gone that are in no table, or if what is in the tables is not what
    /// it ought to be.
    pub(crate) fn look(&mut self) {
        // Where something is broken, a cell may have less than is left for it: `check_alone` looks then.
        if self.broken.is_none() {
            self.oracle.say_owners(self.machine);
        }
        let violations = self.machine.violations();
        assert!(violations.is_empty(), "the driver broke rules of the hardware");
        let (held, in_tables) = self.frames();
        let kept = self.broken.as_ref().map_or(0, |broken| broken.kept);
        assert_eq!(held, in_tables + kept, "frames that the driver holds, and those in tables or kept back on purpose");
        // The root cell of a unit that failed gets less than others give back.
        for slot in self.oracle.slots().filter(|slot| !self.oracle.cell(*slot).short) {
            assert_eq!(self.listed(slot), self.oracle.cell(slot).pages.unshared(), "what the driver lists for a cell");
        }
        self.look_at_all();
        self.look_at_routes();
        if self.kind.audits {
            self.audit();
        }
    }

    /// The pages that the driver lists for a cell, which does not say whether others have them, too.
    pub(crate) fn listed(&self, slot: Slot) -> Pages {
        let mut pages = Pages::default();
        let add = |region: Region| {
            let first = region.input.start().as_u64() >> 12;
            let end = (region.input.last().as_u64() >> 12) + 1;
            let output = region.output.as_u64() >> 12;
            pages.add(first, Extent { end, output, rights: region.rights, shared: false });
        };
        self.iommu.regions(self.oracle.cell(slot).id, add).unwrap();
        pages
    }

    /// What is in the driver's tables but root tables, which refer to a new table at most: a unit that is slow may still
    /// write to the frames of its queue.
    pub(crate) fn tables(&self) -> Vec<(u64, Vec<u64>)> {
        let mut all = self.machine.snapshot();
        all.retain(|(address, _)| !self.first_frames.contains(address));
        all
    }

    /// Frames that the driver holds, and those of them that are in tables and queues.
    pub(crate) fn frames(&self) -> (usize, usize) {
        (self.machine.frames_in_use(), self.iommu.statistics().table_frames as usize)
    }

    fn create(&mut self) {
        self.done.steps += 1;
        let coherency = match self.random.below(8) {
            0 => CoherencyPolicy::Enforced,
            1 => CoherencyPolicy::NotEnforced,
            _ => CoherencyPolicy::PerDevice,
        };
        let sharing = if self.random.one_in(3) { Sharing::FewestTables } else { Sharing::ByAttributes };
        let slot = (0..CELLS).find(|slot| self.oracle.cells[*slot].is_none()).unwrap_or_default();
        let x2apic = self.oracle.x2apic.unwrap_or_default();
        let targets = targets(self.made, slot, x2apic, &mut self.random);
        let config = CellConfig {
            interrupts: for_driver(&targets),
            allow_unsafe_interrupts: !self.random.one_in(10),
            allow_unknown_isolation: true,
            coherency,
            sharing,
            ..CellConfig::DEFAULT
        };
        let is_root = self.rooted && self.oracle.root().is_none() && self.random.one_in(3);
        let free = (0..CELLS).find(|slot| self.oracle.cells[*slot].is_none());
        let made = if is_root { self.iommu.create_root_cell(config) } else { self.iommu.create_cell(config) };
        self.tell(format_args!("create {config:?}, root {is_root}: {made:?}"));
        match (made, free) {
            (Ok(id), Some(slot)) => {
                let (pages, whole) = (Pages::default(), is_root.then(Pages::default));
                // What devices of others may still reach is withheld from a new root cell as well; and what those behind a unit
                // may that came back from a sleep, until it has flushed their device-TLBs, which are all that may have it.
                let is_owed = self.iommu.units().any(|unit| unit.needs_flush);
                let short = is_root && (is_owed || self.oracle.devices.iter().any(|device| !device.loose.is_empty()));
                self.made += 1;
                self.oracle.cells[slot] = Some(Cell {
                    id,
                    config,
                    number: self.made,
                    targets,
                    pages,
                    whole,
                    learned: Coherency::Enforced,
                    narrowest: None,
                    short,
                    has_spoiled_table: false,
                    may_withhold: false,
                    was_to_share: Vec::new(),
                });
            }
            (Err(Error::Full(_)), None) => {}
            (result, free) => panic!("{result:?} with a free place {free:?}"),
        }
    }

    /// Faults that are read are those of devices that were blocked, and none is lost unless that is reported.
    fn read_faults(&mut self) {
        self.done.steps += 1;
        self.tell(format_args!("read faults"));
        let unsure = &self.unsure | &self.unsure_before;
        let (mut seen, mut last) = (BTreeSet::new(), String::new());
        let log = self.iommu.faults(|fault| {
            if !self.blocked.contains(&fault.source) && !unsure.contains(&fault.source) {
                last = fault.to_string();
            }
            *self.faults_read.entry(fault.source).or_default() += 1;
            seen.insert(fault.source);
        });
        let is_known = |id: &&SourceId| !unsure.contains(*id);
        let unknown: Vec<_> = seen.iter().filter(is_known).filter(|id| !self.blocked.contains(id)).collect();
        assert!(unknown.is_empty(), "a fault of a device that was not blocked, or is muted: {last}");
        let is_read = |id: &&SourceId| {
            self.oracle.devices.iter().any(|device| {
                let unit = device.function.meets;
                let is_dark = self.broken.as_ref().is_some_and(|broken| broken.dark[unit]);
                device.function.carries == **id && !is_dark && !self.oracle.units[unit].open
            })
        };
        let read: BTreeSet<SourceId> = self.blocked.iter().filter(is_read).copied().collect();
        let missing: Vec<_> = read.iter().filter(is_known).filter(|id| !seen.contains(id)).collect();
        assert!(log.overflowed || missing.is_empty(), "{read:?} were blocked, {seen:?} are read");
        self.blocked.retain(|id| !read.contains(id));
        self.unsure_before.retain(|id| self.blocked.contains(id));
    }

    /// Somebody lets a device master the bus, as a guest or the hypervisor does.
    fn make_bus_master(&mut self) {
        self.done.steps += 1;
        let index = self.random.index(self.oracle.devices.len());
        let device = &mut self.oracle.devices[index];
        // One that is quarantined is left alone.
        if device.master.is_some() && !device.stuck {
            let command = self.machine.config_read(device.id, COMMAND);
            self.machine.set_config(device.id, COMMAND, command | BUS_MASTER);
            device.master = Some(true);
        }
    }

    fn mute(&mut self) {
        self.done.steps += 1;
        let (index, muted) = (self.random.below(self.oracle.devices.len() as u64) as usize, self.random.one_in(2));
        let device = &self.oracle.devices[index];
        self.tell(format_args!("mute {} {muted}", device.id));
        let requesters = device.function.requesters.clone();
        let result = self.iommu.mute(device.id, muted);
        match result {
            Ok(()) => {
                // What was blocked meanwhile is recorded, or is not.
                let settled = requesters.iter().filter(|id| self.unsure.remove(id) && self.blocked.contains(id));
                self.unsure_before.extend(settled);
            }
            Err(_) => self.unsure.extend(requesters),
        }
        match (result, &self.broken) {
            (Ok(()), _) if muted => self.oracle.muted.extend(&device.function.requesters),
            (Ok(()), _) => self.oracle.muted.retain(|id| !device.function.requesters.contains(id)),
            (Err(Error::Unit(_)), _) if self.oracle.requesters_of(index).any(|unit| self.oracle.units[unit].lost) => {}
            (Err(Error::Unit(error)), Some(_)) if device.function.split || self.may_fail_alone(device.unit, error) => {
                self.quarantine_unresponsive(|_| false);
            }
            (Err(error), _) => panic!("{error}"),
        }
    }

    fn look_at_coherency(&mut self) {
        self.done.steps += 1;
        for slot in self.oracle.slots() {
            self.oracle.check_coherency(slot, self.iommu.coherency(self.oracle.cell(slot).id).unwrap());
        }
    }

    pub(crate) fn change(&mut self) {
        let edits = self.edits();
        if self.broken.is_some() {
            return self.change_broken(&edits);
        }
        self.done.steps += 1;
        let staged = self.oracle.stage(&edits);
        let before = (staged.is_err() && self.random.one_in(4)).then(|| self.machine.snapshot());
        self.tell(format_args!("{edits:x?}, refused: {:?}", staged.as_ref().err()));
        let result = self.request(&edits, staged.as_ref().ok());
        match (result, staged) {
            (Ok(committed), Ok(after)) => self.commit(&after, &committed),
            (Ok(_), Err(why)) => panic!("{edits:x?}: made, although {why}"),
            (Err(Error::Unit(_)), Err(_)) if self.oracle.names_lost(&edits) => {}
            (Err(Error::Unit(error)), _) => panic!("{edits:x?}: {error}"),
            (Err(error), Ok(after)) if self.oracle.may_refuse(&edits, &after, error) => {}
            (Err(error), Ok(_)) => panic!("{edits:x?}: {error}"),
            (Err(_), Err(_)) => {}
        }
        if let Some(before) = before {
            assert!(self.machine.snapshot() == before, "{edits:x?}: refused, but tables changed");
        }
        self.look();
    }

    pub(crate) fn commit(&mut self, after: &crate::stage::After, committed: &Committed) {
        self.done.commits += 1;
        self.done.routed += self.oracle.routed_behind(after).count() as u64;
        self.forget_programs(after);
        let arrived = self.oracle.devices.iter().zip(&after.arrives).filter(|(_, arrives)| **arrives);
        for device in arrived.map(|(device, _)| device) {
            self.done.virtual_ones += u64::from(express::is_virtual(device.id));
            self.done.physical_ones += u64::from(device.id == express::PHYSICAL && device.reserved.is_some());
        }
        let ids: Vec<_> = self.oracle.slots().map(|slot| self.oracle.cell(slot).id).collect();
        let reported = coherency_changes(&self.iommu, committed, &ids);
        let iommu = &self.iommu;
        self.oracle.commit(after, &reported, |cell| iommu.coherency(cell).unwrap());
    }

    /// All cells go, and all units: every frame is back.
    pub(crate) fn end(mut self) -> Outcome {
        self.machine.check();
        if self.broken.is_some() {
            return self.end_broken();
        }
        for slot in self.oracle.slots().collect::<Vec<_>>() {
            self.done.steps += 1;
            let after = self.oracle.stage(&[Edit::Destroy(slot)]).unwrap();
            let committed = self.iommu.destroy_cell(self.oracle.cell(slot).id).unwrap();
            self.commit(&after, &committed);
        }
        self.look_at_routes();
        (0..8).for_each(|_| self.interrupt());
        let recent = std::mem::take(&mut self.recent);
        for index in 0..self.oracle.devices.len() {
            self.done.steps += 1;
            let page = self.random.of(&recent);
            self.dma_at(index, page << 12, index % 2 == 0);
        }
        self.machine.check();
        let is_lost = self.oracle.units.iter().any(|unit| unit.lost);
        assert_eq!(self.iommu.disable().is_err(), is_lost, "one that is lost is an error");
        assert_eq!(self.machine.frames_in_use(), 0, "frames are left");
        self.done
    }
}
