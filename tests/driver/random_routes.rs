//! Random changes of devices and routes over two units, of which some break or are reset: the list is what was committed, each route
//! arrives, and no device sends anything else, whichever index it tries.

use std::collections::BTreeMap;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::interrupt::{CpuSet, Cpus, InterruptTargets, Message, Route, Source, VectorSet};
use cofferdam::iommu::{Edit, Error, Options, UnitState};
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

use super::interrupts::*;
use super::interrupts_withdrawn::pin_message;

const DEVICES: [SourceId; 6] = [
    SourceId::from_requester(0, 0x701),
    SourceId::from_requester(0, 0x708),
    SourceId::from_requester(0, 0x709),
    SourceId::from_requester(0, 0x28),
    SourceId::from_requester(0, 0x2a),
    SourceId::from_requester(0, 0x30),
];

/// Who has which device, and what is routed where.
#[derive(Clone, Default)]
struct Plan {
    owners: BTreeMap<SourceId, CellId>,
    routes: Vec<(Source, CellId, Route)>,
}

impl Plan {
    /// What the driver says, and the devices that it has quarantined.
    fn read(iommu: &Front<&Machine>) -> (Self, Vec<SourceId>) {
        let (mut plan, mut stuck) = (Self::default(), Vec::new());
        iommu
            .assigned(|it| {
                assert_eq!(plan.owners.insert(it.device, it.cell), None);
                stuck.extend(it.quarantined.then_some(it.device));
            })
            .unwrap();
        iommu
            .routes(|it| {
                assert_eq!(plan.route(it.source), None, "twice");
                plan.routes.push((it.source, it.cell, it.course.route().unwrap()));
            })
            .unwrap();
        plan.routes.sort_by_key(|it| format!("{:?}", it.0));
        (plan, stuck)
    }

    fn route(&self, source: Source) -> Option<(CellId, Route)> {
        self.routes.iter().find(|it| it.0 == source).map(|it| (it.1, it.2))
    }

    fn forget(&mut self, device: SourceId) {
        self.routes.retain(|it| !matches!(it.0, Source::Message { device: own, .. } if own == device));
        self.owners.remove(&device);
    }

    fn apply(&mut self, edit: &Edit) {
        match *edit {
            Edit::Assign(device, cell, _) => {
                self.forget(device);
                self.owners.insert(device, cell);
            }
            Edit::Release(device) => self.forget(device),
            Edit::Route(cell, source, route) => {
                self.routes.retain(|it| it.0 != source);
                self.routes.push((source, cell, route));
                self.routes.sort_by_key(|it| format!("{:?}", it.0));
            }
            Edit::Unroute(_, source) => self.routes.retain(|it| it.0 != source),
            Edit::Destroy(cell) => {
                self.routes.retain(|it| it.1 != cell);
                self.owners.retain(|_, owner| *owner != cell);
            }
            _ => {}
        }
    }

    fn check(&self, machine: &Machine, iommu: &Front<&Machine>, what: &str) {
        let (now, _) = Self::read(iommu);
        assert_eq!((&now.owners, &now.routes), (&self.owners, &self.routes), "{what}");
        iommu.audit(|difference| panic!("{what}: {difference}")).unwrap();
        assert_eq!(machine.violations(), [], "{what}");
        assert_eq!(iommu.statistics().table_frames, machine.frames_in_use() as u64, "{what}");
        let place = |route: &Route| match route.cpus {
            Cpus::Physical(id) => (id, u32::from(route.vector)),
            other => panic!("{other:?}"),
        };
        for (source, _, route) in &self.routes {
            let (sender, message) = match *source {
                Source::Message { device, .. } => (device, iommu.message(*source).unwrap()),
                Source::Pin { io_apic, pin } => (IO_APIC, pin_message(iommu.redirection(io_apic, pin).unwrap())),
                Source::Timer { .. } => panic!("none is routed"),
            };
            assert_eq!(send(machine, sender, message, 0), Ok(place(route)), "{what}: {source}");
        }
        for device in DEVICES {
            for handle in 0..24 {
                let message = Message { address: 0xfee0_0018 | handle << 5, data: 0 };
                if let Ok(sent) = send(machine, device, message, 0) {
                    let is_own = |source| matches!(source, Source::Message { device: own, .. } if own == device);
                    let mut own = self.routes.iter().filter(|it| is_own(it.0));
                    assert!(own.any(|it| place(&it.2) == sent), "{what}: {device} sends {sent:?}");
                }
            }
        }
    }
}

struct Cells {
    /// Each with the first of its two CPUs.
    live: Vec<(CellId, u32)>,
    made: u32,
}

impl Cells {
    fn make(&mut self, iommu: &Front<&Machine>, is_root: bool) {
        self.made += 1;
        let first = 2 * (self.made % 100) + 1;
        let cpus = CpuSet::NONE.with(first, first + 1);
        let interrupts = InterruptTargets { cpus, vectors: VectorSet::ALL, flat_ids: 0 };
        let config = CellConfig { interrupts, ..CONFIG };
        let cell = if is_root { iommu.create_root_cell(config) } else { iommu.create_cell(config) };
        self.live.push((cell.unwrap(), first));
    }

    fn of(&self, cell: CellId) -> Option<(CellId, u32)> {
        self.live.iter().copied().find(|it| it.0 == cell)
    }
}

fn random_edits(random: &mut Random, cells: &Cells, after: &mut Plan) -> Vec<Edit> {
    let mut edits = Vec::new();
    for _ in 0..=random.below(5) {
        let device = DEVICES[random.below(6) as usize];
        let mut to = cells.live[random.below(cells.live.len() as u64) as usize];
        if let Some(owner) = after.owners.get(&device).filter(|_| !random.one_in(8)) {
            to = cells.of(*owner).unwrap_or(to);
        }
        let pin = Source::Pin { io_apic: 0, pin: random.below(3) as u8 };
        let message = of(device, random.below(3) as u16);
        let source = if random.one_in(3) { pin } else { message };
        let owner = after.route(source).map(|it| it.0);
        let route = |first| Route::to(first, 16 + (first * 7 % 240) as u8);
        let edit = match random.below(10) {
            0 | 1 => Edit::Assign(device, to.0, messages(1 + random.below(9) as u16)),
            2 => Edit::Release(device),
            3 if random.one_in(3) => Edit::Destroy(to.0),
            4 => Edit::Unroute(owner.unwrap_or(to.0), source),
            _ => {
                let (cell, first) = owner.and_then(|cell| cells.of(cell)).unwrap_or(to);
                Edit::Route(cell, source, route(first + random.below(2) as u32))
            }
        };
        after.apply(&edit);
        edits.push(edit);
    }
    edits
}

fn break_one(random: &mut Random, machine: &Machine) {
    let unit = random.below(2) as usize;
    match random.below(3) {
        0 => machine.reset_unit(unit),
        1 => machine.break_unit(unit, Defect::QueueDead),
        _ => machine.break_unit(unit, Defect::QueueErrorAfter(random.below(5))),
    }
}

/// All units are on and sound again, and what was quarantined is released.
fn recover(machine: &Machine, iommu: &Front<&Machine>) {
    for unit in 0..2 {
        machine.mend_unit(unit);
        if states(iommu)[unit] != UnitState::On {
            machine.reset_unit(unit);
        }
    }
    iommu.enable().unwrap();
    machine.take_violations();
    iommu.commit(&[]).unwrap();
    for device in Plan::read(iommu).1 {
        iommu.release(device).unwrap();
    }
}

fn run(name: &str, unit: UnitConfig, seed: u64) -> u32 {
    let machine = machine([unit.clone().serving(&[7]), unit]);
    let limits = Limits { interrupts: 64, lines: 4, ..Limits::DEFAULT };
    let iommu = Front::new(&machine, Options::default());
    iommu.probe_acpi(memory(&limits).leak(), &limits, &machine.dmar(), |_| ()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.add_alias(DEVICES[1], SourceId::from_requester(0, 0x70c).into()).unwrap();
    iommu.enable().unwrap();
    let mut random = Random::new(seed);
    let mut cells = Cells { live: Vec::new(), made: 0 };
    if seed % 2 == 1 {
        cells.make(&iommu, true);
    }
    let mut broke = 0;
    let mut plan = Plan::default();
    for step in 0..1000 {
        while cells.live.len() < 3 {
            cells.make(&iommu, false);
        }
        let before = plan.clone();
        let mut after = plan.clone();
        let edits = random_edits(&mut random, &cells, &mut after);
        let breaks = random.one_in(5);
        if breaks {
            break_one(&mut random, &machine);
        }
        let what = format!("{name}, seed {seed}, step {step}: {edits:?}");
        match iommu.commit(&edits) {
            Ok(_) => plan = after,
            Err(Error::Unit(_)) if breaks => {
                broke += 1;
                let (left, _) = Plan::read(&iommu);
                assert!(left.routes.iter().all(|it| before.routes.contains(it)), "{what}: more than before");
            }
            Err(error) => assert!(!matches!(error, Error::Unit(_)), "{what}: {error}"),
        }
        if breaks {
            recover(&machine, &iommu);
            plan = Plan::read(&iommu).0;
        }
        let try_out = |cell| [Edit::Map(cell, region(0, 0, PAGE, Rights::READ)), Edit::Unmap(cell, range(0, PAGE))];
        cells.live.retain(|it| iommu.commit(&try_out(it.0)).map(drop) != Err(Error::NoSuchCell(it.0)));
        plan.check(&machine, &iommu, &what);
    }
    for (cell, _) in &cells.live {
        iommu.destroy_cell(*cell).unwrap();
    }
    // All slots and all lines are free.
    cells.make(&iommu, false);
    let (cell, first) = *cells.live.last().unwrap();
    iommu.assign_with(DEVICES[3], cell, messages(64)).unwrap();
    iommu.release(DEVICES[3]).unwrap();
    for pin in 0..4 {
        iommu.route(cell, Source::Pin { io_apic: 0, pin }, Route::to(first, 0x41)).unwrap();
    }
    iommu.destroy_cell(cell).unwrap();
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
    machine.abandon();
    broke
}

#[test]
fn random_changes_of_routes_leave_what_was_committed_and_nothing_else() {
    for (number, (name, unit)) in remapping_presets().into_iter().enumerate() {
        let broke: u32 = (0..3).map(|seed| run(name, unit.clone(), 1000 * number as u64 + seed)).sum();
        assert!(broke > 20, "{name}: only {broke} changes failed");
    }
}
