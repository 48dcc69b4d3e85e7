//! Interrupts that come before any access of a change, and changes that fail: what is routed arrives at the old place or the new
//! one, and nobody sends what is not its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cofferdam::addr::SourceId;
use cofferdam::interrupt::{CpuSet, Cpus, InterruptTargets, Message, Route, Source, VectorSet};
use cofferdam::iommu::{Edit, Error, Options, UnitState, Unroutable};
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::watched::{Call, Watched};

use super::interrupts::*;

const DEVICES: [SourceId; 4] = [
    SourceId::from_requester(0, 3 << 3),
    SourceId::from_requester(0, 3 << 3 | 4),
    SourceId::from_requester(0, 4 << 3),
    SourceId::from_requester(0, 0x700),
];
const PIN: Source = Source::Pin { io_apic: 0, pin: 1 };
const MESSAGES: u16 = 4;

/// A CPU and a vector.
type Place = (u32, u32);

type Places = BTreeMap<(SourceId, u16), BTreeSet<Place>>;

/// What is known of the machine: each source with the places where its interrupts may arrive, and whether they have to.
#[derive(Default)]
struct Known {
    may: Places,
    must: BTreeSet<(SourceId, u16)>,
    /// Units are on: before, and when they are off, all arrives that a device sends.
    remaps: bool,
    /// How many interrupts were sent, and how many of them arrived.
    tried: u64,
    arrived: u64,
    /// What each is to be programmed with.
    messages: BTreeMap<(SourceId, u16), Message>,
}

impl Known {
    /// A device sends what it is programmed with, and then anything.
    fn try_out(&mut self, machine: &Machine, random: &mut Random) {
        self.tried += 2;
        let all: Vec<_> = self.messages.iter().collect();
        if !all.is_empty() {
            let (key, message) = all[random.below(all.len() as u64) as usize];
            let came = send(machine, key.0, *message, 0).ok();
            self.arrived += u64::from(came.is_some());
            match came {
                Some(place) => assert!(self.places(*key).contains(&place), "{key:?} arrives at {place:?}"),
                None => assert!(!self.must.contains(key), "{key:?} is lost"),
            }
        }
        let hostile = if random.one_in(8) { IO_APIC } else { DEVICES[random.below(4) as usize] };
        let anything = Message { address: 0xfee0_0000 | random.below(1 << 9) << 2, data: random.below(8) as u32 };
        if let Ok(place) = send(machine, hostile, anything, 0) {
            let own = self.may.iter().filter(|((source, _), _)| *source == hostile);
            assert!(own.flat_map(|(_, places)| places).any(|it| *it == place), "{hostile} reaches {place:?}");
        }
    }

    fn places(&self, key: (SourceId, u16)) -> BTreeSet<Place> {
        self.may.get(&key).cloned().unwrap_or_default()
    }
}

/// What a test knows of cells, devices and routes; the front is asked for nothing of that.
struct Plan {
    cells: [CellId; 2],
    owner: [Option<usize>; 4],
    routes: BTreeMap<(SourceId, u16), Place>,
    /// Devices that could not leave.
    stuck: Vec<SourceId>,
}

/// The CPUs of cell n are 2n and 2n + 1.
fn targets(cell: u32) -> InterruptTargets {
    InterruptTargets { cpus: CpuSet::NONE.with(2 * cell, 2 * cell + 1), vectors: VectorSet::ALL, flat_ids: 0 }
}

fn place(cell: usize, random: &mut Random) -> Place {
    (2 * cell as u32 + random.below(2) as u32, 16 + random.below(240) as u32)
}

impl Plan {
    /// Takes over what a change has left that failed: it is as before, or less.
    fn learn<H: cofferdam::hal::Hal>(&mut self, iommu: &Front<H>, before: &BTreeMap<(SourceId, u16), Place>) {
        self.routes = listed(iommu);
        assert!(self.routes.iter().all(|(key, place)| before.get(key) == Some(place)), "more than before");
        (self.owner, self.stuck) = ([None; 4], Vec::new());
        let list = |it: cofferdam::iommu::AssignedDevice| {
            let number = DEVICES.iter().position(|device| *device == it.device).unwrap();
            self.owner[number] = Some(usize::from(it.cell == self.cells[1]));
            self.stuck.extend(it.quarantined.then_some(it.device));
        };
        iommu.assigned(list).unwrap();
    }

    /// One edit that can be made, and what is routed afterwards.
    fn edit(&mut self, random: &mut Random) -> Option<Edit> {
        let number = random.below(4) as usize;
        let (device, index) = (DEVICES[number], random.below(MESSAGES.into()) as u16);
        match (random.below(8), self.owner[number]) {
            (0, None) | (1, None) => {
                let cell = random.below(2) as usize;
                self.owner[number] = Some(cell);
                Some(Edit::Assign(device, self.cells[cell], messages(MESSAGES)))
            }
            (0, Some(_)) => {
                self.owner[number] = None;
                self.routes.retain(|(other, _), _| *other != device);
                Some(Edit::Release(device))
            }
            (1..=5, Some(cell)) => {
                let (cpu, vector) = place(cell, random);
                self.routes.insert((device, index), (cpu, vector));
                Some(Edit::Route(self.cells[cell], of(device, index), Route::to(cpu, vector as u8)))
            }
            (6, Some(cell)) => {
                self.routes.remove(&(device, index))?;
                Some(Edit::Unroute(self.cells[cell], of(device, index)))
            }
            (7, _) => match self.routes.get(&(IO_APIC, 0)).copied() {
                Some((cpu, _)) if random.one_in(2) => {
                    self.routes.remove(&(IO_APIC, 0));
                    Some(Edit::Unroute(self.cells[cpu as usize / 2], PIN))
                }
                routed => {
                    let cell = routed.map_or(random.below(2) as usize, |(cpu, _)| cpu as usize / 2);
                    let (cpu, vector) = place(cell, random);
                    self.routes.insert((IO_APIC, 0), (cpu, vector));
                    Some(Edit::Route(self.cells[cell], PIN, Route::to(cpu, vector as u8)))
                }
            },
            _ => None,
        }
    }
}

/// What each source that is routed is programmed with.
fn programmed<H: cofferdam::hal::Hal>(iommu: &Front<H>, plan: &Plan) -> BTreeMap<(SourceId, u16), Message> {
    let mut all = BTreeMap::new();
    for (device, _) in DEVICES.into_iter().zip(plan.owner).filter(|(_, owner)| owner.is_some()) {
        all.extend((0..MESSAGES).map(|index| ((device, index), iommu.message(of(device, index)).unwrap())));
    }
    if plan.routes.contains_key(&(IO_APIC, 0)) {
        let entry = iommu.redirection(0, 1).unwrap();
        let address = 0xfee0_0010 | (entry >> 49 & 0x7fff) << 5 | (entry >> 11 & 1) << 2;
        all.insert((IO_APIC, 0), Message { address, data: 0 });
    }
    all
}

/// What is routed, by the front's own words.
fn listed<H: cofferdam::hal::Hal>(iommu: &Front<H>) -> BTreeMap<(SourceId, u16), Place> {
    let mut all = BTreeMap::new();
    let list = |it: cofferdam::iommu::RoutedInterrupt| {
        let route = it.course.route().unwrap();
        let Cpus::Physical(cpu) = route.cpus else { unreachable!() };
        let key = match it.source {
            Source::Message { device, index } => (device, index),
            _ => (IO_APIC, 0),
        };
        assert!(all.insert(key, (cpu, route.vector.into())).is_none(), "{key:?} is listed twice");
    };
    iommu.routes(list).unwrap();
    all
}

/// True if an edit takes a source away, so that what it sends may be lost.
fn takes(edit: &Edit, source: SourceId) -> bool {
    match *edit {
        Edit::Release(device) | Edit::Assign(device, ..) => device == source,
        Edit::Unroute(_, Source::Message { device, .. }) => device == source,
        Edit::Unroute(..) => source == IO_APIC,
        _ => false,
    }
}

/// Random units, of which the first may serve the bus of the last device alone.
fn random_units(random: &mut Random) -> Vec<UnitConfig> {
    let all = remapping_presets();
    let mut one = || all[random.below(all.len() as u64) as usize].1.clone();
    let (first, second) = (one(), one());
    if random.one_in(2) { vec![first.serving(&[7]), second] } else { vec![second] }
}

/// One history: how many interrupts were sent, and how many of them arrived.
fn history(seed: u64, fails: bool, changes: u32) -> [u64; 2] {
    let mut random = Random::new(seed ^ 0x5eed);
    let units = random_units(&mut random);
    let count = units.len();
    let machine = machine(units);
    let known = RefCell::new((Known::default(), Random::new(seed)));
    let before = |_: Call, machine: &Machine| {
        let (known, random) = &mut *known.borrow_mut();
        if known.remaps && random.one_in(3) {
            known.try_out(machine, random);
        }
    };
    let hal = Watched::new(&machine, before);
    let iommu = front(&hal, &machine.dmar(), Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    known.borrow_mut().0.remaps = true;
    let cells = [0, 1].map(|n| iommu.create_cell(CellConfig { interrupts: targets(n), ..CONFIG }).unwrap());
    let mut plan = Plan { cells, owner: [None; 4], routes: BTreeMap::new(), stuck: Vec::new() };
    let mut owed = Places::new();
    for _ in 0..changes {
        let (owner, before) = (plan.owner, plan.routes.clone());
        let edits: Vec<Edit> = (0..=random.below(3)).filter_map(|_| plan.edit(&mut random)).collect();
        let mut broken = None;
        if fails && random.one_in(8) {
            let defect = if random.one_in(4) { Defect::QueueDead } else { Defect::QueueErrorAfter(random.below(3)) };
            let unit = random.below(count as u64) as usize;
            machine.break_unit(unit, defect);
            broken = Some(unit);
        }
        // A unit may know what it has not confirmed to have forgotten.
        let mut may = owed.clone();
        for (key, place) in before.iter().chain(&plan.routes) {
            may.entry(*key).or_default().insert(*place);
        }
        known.borrow_mut().0.may = may.clone();
        let stays = |key: &&(SourceId, u16)| plan.routes.contains_key(key) && !edits.iter().any(|it| takes(it, key.0));
        known.borrow_mut().0.must = before.keys().filter(stays).copied().collect();
        let was_owed = std::mem::take(&mut owed);
        match iommu.commit(&edits) {
            Ok(_) => assert_eq!(listed(&iommu), plan.routes, "{edits:?}"),
            Err(Error::Unit(_)) if broken.is_some() || !was_owed.is_empty() => {
                plan.learn(&iommu, &before);
                owed = may;
            }
            Err(Error::Route { source: PIN, reason: Unroutable::Taken(_) }) if !was_owed.is_empty() => {
                (plan.owner, plan.routes) = (owner, before.clone());
                owed = was_owed;
            }
            Err(error) => panic!("{edits:?}: {error}"),
        }
        broken.into_iter().for_each(|unit| machine.mend_unit(unit));
        let is_out = iommu.units().any(|unit| unit.state != UnitState::On);
        if is_out || random.one_in(50) {
            // The machine sleeps, and wakes with the tables that it had.
            known.borrow_mut().0.remaps = false;
            (0..count).for_each(|unit| machine.reset_unit(unit));
            iommu.enable().unwrap();
            known.borrow_mut().0.remaps = true;
            // What failed before is still to be repeated, for device-TLBs; until then a pin that was cut stays where it was.
            iommu.commit(&[]).unwrap();
            owed.clear();
        }
        if !plan.stuck.is_empty() {
            // It repeats the flush, and who could not leave does.
            let releases: Vec<_> = plan.stuck.drain(..).map(Edit::Release).collect();
            iommu.commit(&releases).unwrap();
            plan.learn(&iommu, &before);
        }
        if !owed.is_empty() && random.one_in(2) {
            // A pin that was cut is free for any cell by then.
            iommu.commit(&[]).unwrap();
            owed.clear();
        }
        let messages = programmed(&iommu, &plan);
        let (known, look) = &mut *known.borrow_mut();
        known.may = owed.clone();
        for (key, place) in &plan.routes {
            known.may.entry(*key).or_default().insert(*place);
        }
        known.must = plan.routes.keys().copied().collect();
        known.messages = messages;
        (0..4).for_each(|_| known.try_out(&machine, look));
    }
    iommu.commit(&[]).unwrap();
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    for cell in cells {
        known.borrow_mut().0.must.clear();
        iommu.destroy_cell(cell).unwrap();
    }
    known.borrow_mut().0.remaps = false;
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
    machine.settle();
    machine.check();
    let (known, _) = &*known.borrow();
    [known.tried, known.arrived]
}

/// Histories with as many interrupts as `COFFERDAM_STEPS` says, or half a million.
fn histories(first: u64, fails: bool) {
    let wanted = std::env::var("COFFERDAM_STEPS").ok().map_or(500_000, |steps| steps.parse().unwrap());
    let ([mut tried, mut arrived], mut seeds) = ([0, 0], first..);
    while tried < wanted {
        let seed = seeds.next().unwrap();
        let ran = std::panic::catch_unwind(|| history(seed, fails, 150));
        let [sent, came] = ran.unwrap_or_else(|_| panic!("history {seed}"));
        (tried, arrived) = (tried + sent, arrived + came);
    }
    println!("{tried} interrupts in {} histories, of which {arrived} arrived", seeds.start - first);
    assert!(arrived > tried / 16, "{arrived} of {tried}");
}

#[test]
fn an_interrupt_at_any_moment_goes_to_the_old_place_or_the_new_one() {
    histories(0, false);
}

#[test]
fn a_change_that_fails_routes_nothing_more_than_before() {
    histories(1 << 32, true);
}
