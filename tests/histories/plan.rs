//! A random machine: which units it has, what they can do, and where its devices are.

use std::ops::RangeInclusive;

use cofferdam::addr::SourceId;
use cofferdam_model::{BridgeKind, Config, Defect, Machine, UnitConfig};
use cofferdam_support::machine::{behind_write_buffers, function, presets};
use cofferdam_support::random::Random;
use cofferdam_support::tables::{endpoint, of_machine, of_machine_with};

use crate::express;
use crate::lines::{self, Line};
use crate::plug;

/// How large a machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) units: u64,
    pub(crate) buses: u8,
    pub(crate) devices: usize,
    /// Frames of the driver: enough for all that a history can map.
    pub(crate) frames: usize,
}

/// A function that does DMA.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) id: SourceId,
    /// Index of its unit.
    pub(crate) unit: usize,
    /// The source-ids that its requests may carry, and the one that they do.
    pub(crate) requesters: Vec<SourceId>,
    pub(crate) carries: SourceId,
    /// Index of the unit that its requests meet: another one than its own only if it is `split`.
    pub(crate) meets: usize,
    /// It is the machine's bridge, or behind it: nothing isolates these from each other.
    pub(crate) grouped: bool,
    /// They are behind several units, so that no cell is given the function.
    pub(crate) split: bool,
    /// It can have a device-TLB, which takes so many invalidations at a time.
    pub(crate) ats: Option<usize>,
    /// Another may take its place: it says what it is.
    pub(crate) plugged: bool,
    /// What `ats` was at first.
    pub(crate) born_with_ats: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) units: Vec<UnitConfig>,
    /// The buses of each unit; the last has all the rest.
    buses: Vec<Vec<u8>>,
    /// The functions behind it cannot be distinguished.
    bridge: Option<(SourceId, BridgeKind, RangeInclusive<u8>)>,
    pub(crate) functions: Vec<Function>,
    /// There is what `express.rs` says, with ARI or without.
    pub(crate) express: Option<bool>,
    /// Memory that firmware reserves for devices: its first and last page, and the devices: on bus 0, or the physical function.
    pub(crate) reserved: Vec<(u64, u64, Vec<SourceId>)>,
    /// A unit whose registers read all ones when the driver looks for it.
    pub(crate) lost: Option<usize>,
    /// Interrupts are remapped, with the CPUs in x2APIC mode or not; nobody remaps them if `None`.
    pub(crate) x2apic: Option<bool>,
    /// What sends interrupts besides devices.
    pub(crate) lines: Vec<Line>,
    /// Of the model's caches.
    pub(crate) seed: Option<u64>,
}

impl Plan {
    /// Every preset has its turn as a machine's first unit; every second machine has none but random units.
    pub(crate) fn new(number: u64, random: &mut Random, size: Size) -> Self {
        let presets = presets();
        let count = if random.one_in(2) { 1 } else { random.between(2, size.units) as usize };
        let mut names = Vec::new();
        let mut units = Vec::new();
        for index in 0..count {
            let wanted = number / 2 % presets.len() as u64;
            let choice = if index == 0 { wanted } else { random.below(presets.len() as u64) };
            let (name, unit) = presets[choice as usize].clone();
            if number % 2 == 1 || index > 0 && random.one_in(2) {
                let unit = any_unit(unit, random);
                names.push(format!("version {:x}, CAP {:#x}, ECAP {:#x}", unit.version, unit.cap, unit.ecap));
                units.push(unit);
            } else {
                names.push(name.to_owned());
                units.push(unit);
            }
        }
        // Bus 0 is the last unit's, which reserved memory is for. A unit without a bus would be one that takes all the rest.
        let mut buses: Vec<Vec<u8>> = (0..count - 1).map(|index| vec![size.buses + index as u8]).collect();
        buses.push(vec![0]);
        (1..size.buses).for_each(|bus| buses[random.below(count as u64) as usize].push(bus));
        let last = size.buses - 1;
        let kind = random.of(&[BridgeKind::ExpressToPci, BridgeKind::Conventional]);
        let bridge = random.one_in(2).then(|| (function(0, 0x1e), kind, random.between(1, last.into()) as u8..=last));
        // Two units share bus 0: a function of it is behind the first.
        let named = (count > 1 && random.one_in(3)).then(|| function(0, 4));
        let express = random.one_in(2).then(|| random.one_in(2));
        let mut functions = functions(&buses, named, bridge.as_ref(), express.is_some(), size.devices, random);
        let with_ats = |function: &Function| {
            function.id != plug::LATE && function.requesters.len() == 1 && !function.is_behind(bridge.as_ref())
        };
        for function in functions.iter_mut().filter(|function| with_ats(function)) {
            function.ats = random.one_in(2).then(|| random.of(&[1, 2, 7, 32]));
        }
        let may_be_plugged =
            |it: &Function| !it.grouped && !it.split && !express::is_express(it.id) && it.id != plug::LATE;
        for function in functions.iter_mut().filter(|function| may_be_plugged(function)) {
            function.plugged = function.ats.is_some() || random.one_in(2);
            function.born_with_ats = function.ats;
        }
        let physical_ats = functions.iter().find(|function| function.id == express::PHYSICAL).and_then(|it| it.ats);
        for function in functions.iter_mut().filter(|function| express::is_virtual(function.id)) {
            function.ats = function.ats.and(physical_ats);
        }
        // Beside all memory of cells, or in the middle of it.
        let first = random.of(&[0x3_0000, 0x6_0100, 0x6_4300]);
        let count = random.between(1, 2) as usize;
        let mut devices: Vec<_> =
            functions.iter().rev().skip(functions.len() - 2).take(count).map(|function| function.id).collect();
        let physical = express.filter(|_| random.one_in(2)).map(|_| express::PHYSICAL);
        let mut reserved = Vec::new();
        if random.one_in(3) {
            devices.extend(physical);
            reserved.push((first, first + random.below(700), devices));
        } else if let Some(physical) = physical {
            reserved.push((first + 0x400, first + 0x400 + random.below(700), vec![physical]));
        }
        buses.pop();
        units.iter_mut().zip(&buses).for_each(|(unit, buses)| *unit = unit.clone().serving(buses));
        if let (Some(named), Some(first)) = (named, units.first_mut()) {
            names.push(format!("{named} behind the first"));
            *first = first.clone().serving_functions(&[(named.bus(), named.requester() as u8)]);
        }
        let lost = (units.len() > 1 && random.one_in(6)).then(|| random.index(units.len()));
        names.extend(lost.map(|unit| format!("unit {unit} lost")));
        let can = |bit: u32| {
            let there = units.iter().enumerate().filter(move |(index, _)| lost != Some(*index));
            there.map(move |(_, unit)| unit.ecap >> bit & 1 == 1)
        };
        // ECAP.IR, ECAP.EIM.
        let is_extended = can(3).zip(can(4)).all(|(remaps, extended)| remaps && extended);
        let x2apic = (can(3).any(|can| can) && !random.one_in(4)).then(|| is_extended && random.one_in(2));
        names.extend(x2apic.map(|x2apic| format!("interrupts remapped, x2APIC mode: {x2apic}")));
        let lines = lines::of_machine(units.len(), size.buses);
        let seed = (!random.one_in(2)).then(|| random.word());
        let name = names.join(" + ");
        Self { name, size, units, buses, bridge, functions, express, reserved, lost, x2apic, lines, seed }
    }

    pub(crate) fn machine(&self) -> Machine {
        let machine =
            Machine::new(Config { seed: self.seed, frames: self.size.frames, ..Config::new(self.units.clone()) });
        self.lost.into_iter().for_each(|unit| machine.break_unit(unit, Defect::AllOnes));
        if let Some((function, kind, buses)) = self.bridge.clone() {
            machine.add_bridge(function, kind, buses);
        }
        self.express.into_iter().for_each(|ari| express::add(&machine, ari));
        for function in &self.functions {
            function.ats.into_iter().for_each(|depth| express::add_ats(&machine, function.id, depth));
            if function.plugged {
                plug::set_up(&machine, function.id, 0);
            }
        }
        self.express.into_iter().for_each(|_| express::add_virtual_ones(&machine));
        machine
    }

    /// What firmware says of it: devices behind all root ports may use ATS.
    pub(crate) fn table(&self, machine: &Machine) -> Vec<u8> {
        let buses: Vec<&[u8]> = self.buses.iter().map(Vec::as_slice).collect();
        let table = match self.x2apic {
            None => of_machine(machine, &buses),
            Some(_) => of_machine_with(machine, &buses, &lines::scopes(&self.lines, self.units.len())),
        };
        let reserved = self.reserved.iter().fold(table, |table, (first, last, devices)| {
            let scope_of = |it: &SourceId| match *it {
                express::PHYSICAL => express::physical_scope(),
                it => endpoint(it.device(), it.function()),
            };
            let scopes: Vec<_> = devices.iter().map(scope_of).collect();
            table.rmrr(0, first << 12, (last << 12) + 0xfff, &scopes)
        });
        reserved.atsr(1, 0, &[]).table()
    }
}

type Bridge<'p> = Option<&'p (SourceId, BridgeKind, RangeInclusive<u8>)>;

impl Function {
    /// True of the bridge, too, if requests from behind it carry its id.
    fn is_behind(&self, bridge: Bridge<'_>) -> bool {
        bridge.is_some_and(|(bridge, kind, buses)| {
            buses.contains(&self.id.bus()) || *kind == BridgeKind::Conventional && *bridge == self.id
        })
    }
}

/// Some functions of these buses, of which one is `named` as the first unit's: neighbours, two that cannot be distinguished, and others.
fn functions(
    buses: &[Vec<u8>],
    named: Option<SourceId>,
    bridge: Bridge<'_>,
    express: bool,
    count: usize,
    random: &mut Random,
) -> Vec<Function> {
    let unit_of = |id: SourceId| match named {
        Some(named) if named == id => 0,
        // The last has all the rest.
        _ => buses.iter().position(|buses| buses.contains(&id.bus())).unwrap_or(buses.len() - 1),
    };
    let mut ids = vec![function(0, 3), function(0, 4)];
    if let Some((bridge, _, behind)) = bridge {
        ids.extend([function(*behind.end(), 0), function(*behind.start(), 2)]);
        ids.extend(random.one_in(2).then_some(*bridge));
    }
    ids.extend(express.then(express::functions).into_iter().flatten());
    ids.push(plug::LATE);
    let all: Vec<u8> = buses.iter().flatten().copied().collect();
    while ids.len() < count {
        // Not 00:00.0, which a unit names that does not say who did not answer, and not where bridges are.
        let id = function(random.of(&all), random.between(1, 28) as u8);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let with = |id: SourceId| {
        let mut requesters = vec![id];
        let alias = bridge.filter(|(.., behind)| behind.contains(&id.bus())).map(|(bridge, kind, behind)| match kind {
            BridgeKind::Conventional => *bridge,
            _ => function(*behind.start(), 0),
        });
        requesters.extend(alias.filter(|alias| *alias != id));
        let split = requesters.iter().any(|requester| unit_of(*requester) != unit_of(id));
        let grouped = bridge.is_some_and(|(bridge, _, behind)| behind.contains(&id.bus()) || *bridge == id);
        let carries = alias.unwrap_or(id);
        Function {
            id,
            unit: unit_of(id),
            requesters,
            carries,
            meets: unit_of(carries),
            grouped,
            split,
            ats: None,
            plugged: false,
            born_with_ats: None,
        }
    };
    ids.into_iter().map(with).collect()
}

/// A unit with any capabilities that the specification allows and the driver can use.
fn any_unit(unit: UnitConfig, random: &mut Random) -> UnitConfig {
    let (mut cap, mut ecap) = (unit.cap, unit.ecap);
    let mut field = |shift: u32, width: u32, value: u64| {
        cap = cap & !(((1 << width) - 1) << shift) | value << shift;
    };
    // ND; RWBF, CM; SAGAW: at least one of 3, 4 and 5 levels; MGAW.
    field(0, 3, random.below(7));
    field(4, 1, random.below(2));
    field(7, 1, random.below(2));
    let levels = random.between(1, 7);
    field(8, 5, levels << 1);
    let most = [38, 38, 47, 47, 56, 56, 56, 56][levels as usize];
    let fewest = if random.one_in(2) { most } else { random.between(31, most) };
    field(16, 6, fewest);
    // SSLPS; PSI and MAMV; DWD and DRD; ESIRTPS, ESRTPS.
    field(34, 4, random.of(&[0b00, 0b01, 0b11]));
    field(39, 1, random.below(2));
    field(48, 6, random.of(&[0, 1, 5, 9, 10, 18, 27, 36, 52]));
    field(54, 2, random.below(4));
    field(62, 2, random.below(4));
    // C, SC.
    ecap = ecap & !(1 | 1 << 7) | random.below(2) | random.below(2) << 7;
    let queue = !random.one_in(5);
    let version = if queue { random.of(&[0x10, 0x20, 0x40, 0x50, 0x60]) } else { random.of(&[0x10, 0x30, 0x50]) };
    // Interrupt remapping and device-TLBs need the queue.
    let remaps = !random.one_in(6);
    ecap = if queue { ecap | 1 << 1 | random.below(2) << 2 } else { ecap & !0b1_1110 };
    ecap = if remaps { ecap } else { ecap & !(0b11 << 3) };
    let records = random.of(&[1, 1, 2, 8, 256]);
    let unit = UnitConfig { version, cap, ecap, ..unit };
    let unit = if random.one_in(8) { behind_write_buffers(unit) } else { unit };
    // The register sets of other places would lie in the way of more records.
    UnitConfig { ecap: unit.ecap & !(0x3ff << 8) | 0x50 << 8, ..unit }.fault_records(records)
}
