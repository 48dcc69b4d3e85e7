//! One history: a machine, and what happens to it step by step.

use std::collections::BTreeSet;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::iommu::{Error, Options};
use cofferdam::topology::Topology;
use cofferdam_model::{Config, Machine};

use crate::Front;
use crate::broken::Broken;
use crate::machine::*;
use crate::oracle::{CELLS, Cell, Device, Edit, Facts, Oracle, Slot, coherency, is_message};
use crate::pages::{Extent, Pages};
use crate::plan::{FRAMES, Plan};
use crate::random::Random;

/// Addresses of the last edits, which devices then try.
const RECENT: usize = 32;
/// Where memory is mapped: first page, pages, and how often.
const PLACES: [(u64, u64, u64); 6] = [
    (0, 3072, 14),
    // In pages of 1 GiB, of which two fit in.
    (0x4_0000, 0x8_0000, 2),
    // Around the addresses of interrupts.
    (0xfec00, 0x500, 1),
    // Around the ends of 39 and of 48 bits.
    ((1 << 27) - 0x300, 0x600, 1),
    ((1 << 36) - 0x300, 0x600, 1),
    ((1 << 45) - 0x300, 0x300, 1),
];

pub(crate) struct History<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) iommu: Front<'m>,
    pub(crate) oracle: Oracle,
    pub(crate) random: Random,
    pub(crate) steps: u64,
    /// Page sizes beyond 4 KiB are mapped far and wide.
    large: bool,
    recent: Vec<u64>,
    /// Devices that were blocked since faults were read last.
    blocked: BTreeSet<SourceId>,
    /// Frames of queues and root tables.
    first_frames: BTreeSet<u64>,
    /// Each step is told.
    traced: bool,
    /// What is broken on purpose; nothing is, if `None`.
    pub(crate) broken: Option<Broken>,
}

pub(crate) fn machine_of(plan: &Plan) -> Machine {
    Machine::new(Config { seed: plan.seed, frames: FRAMES, ..Config::new(plan.units.clone()) })
}

impl<'m> History<'m> {
    pub(crate) fn new(plan: &Plan, machine: &'m Machine, random: Random, breaks: bool) -> Self {
        let buses: Vec<&[u8]> = plan.buses.iter().map(Vec::as_slice).collect();
        let reserved: Vec<_> = plan
            .reserved
            .iter()
            .map(|(first, last, device)| (first << 12, (last << 12) + 0xfff, device.requester() as u8 >> 3))
            .collect();
        let table = dmar(machine, &buses, &reserved);
        let topology = Topology::from_dmar(&table, &machine, |finding| panic!("{finding}")).unwrap();
        // Where units fail, nobody wants to wait long for them.
        let options = Options { timeout_ns: if breaks { 2_000_000 } else { 1_000_000_000 }, ..Options::default() };
        let mut iommu: Front<'m> = Front::discover(machine, topology, options).unwrap();
        iommu.enable().unwrap();
        let units: Vec<Facts> = iommu
            .units()
            .map(|unit| {
                let can = unit.capabilities;
                let widths = [(can.three_levels, 39), (can.four_levels, 48), (can.five_levels, 57)];
                let widest = widths.into_iter().filter(|(has, _)| *has).map(|(_, width)| width).max().unwrap();
                let Facts { .. } = Facts { input_bits: 0, snoops: false, domain_ids: 0, largest_page: 0 };
                Facts {
                    input_bits: can.input_bits.min(widest),
                    snoops: can.snoop_control,
                    domain_ids: can.domain_ids,
                    largest_page: can.largest_page,
                }
            })
            .collect();
        let device = |(id, unit): &(SourceId, usize)| Device {
            id: *id,
            unit: *unit,
            cell: None,
            reserved: plan.reserved.iter().find(|(.., owner)| owner == id).map(|(first, last, _)| (*first, *last)),
            muted: false,
            loose: Vec::new(),
        };
        let large = units.iter().all(|unit| unit.largest_page > 1);
        let broken = breaks.then(|| Broken::new(plan));
        let devices = plan.devices.iter().map(device).collect();
        let oracle = Oracle { units, cells: vec![None; CELLS], gone: Vec::new(), devices };
        let (recent, blocked) = (vec![0], BTreeSet::new());
        let first_frames = machine.snapshot().into_iter().map(|(address, _)| address).collect();
        Self { machine, iommu, oracle, random, steps: 0, large, recent, blocked, first_frames, traced: false, broken }
    }

    pub(crate) fn traced(self, traced: bool) -> Self {
        Self { traced, ..self }
    }

    pub(crate) fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.traced {
            crate::tell(format_args!("{}: {what}", self.steps));
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
            5 if self.broken.is_some() => self.break_or_mend(),
            6..28 => self.change(),
            _ => self.dma(),
        }
    }

    /// Fails if the driver broke a rule, or if frames are gone that are in no table.
    pub(crate) fn look(&mut self) {
        let violations = self.machine.violations();
        assert!(violations.is_empty(), "the driver broke rules of the hardware");
        let (held, in_tables) = self.frames();
        let kept = self.broken.as_ref().map_or(0, |broken| broken.kept);
        assert_eq!(held, in_tables + kept, "frames that the driver holds, and those in tables or kept back on purpose");
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
        self.steps += 1;
        let careful = self.random.one_in(10);
        let config = cofferdam::CellConfig { allow_unsafe_interrupts: !careful, ..cofferdam::CellConfig::DEFAULT };
        let free = (0..CELLS).find(|slot| self.oracle.cells[*slot].is_none());
        match (self.iommu.create_cell(config), free) {
            (Ok(id), Some(slot)) => {
                self.oracle.cells[slot] = Some(Cell { id, careful, pages: Pages::default(), told: true });
            }
            (Err(Error::Full(_)), None) => {}
            (result, free) => panic!("{result:?} with a free place {free:?}"),
        }
    }

    /// Faults that are read are those of devices that were blocked, and none is lost unless that is told.
    fn read_faults(&mut self) {
        self.steps += 1;
        self.tell(format_args!("read faults"));
        let (mut seen, mut last) = (BTreeSet::new(), String::new());
        let log = self.iommu.faults(|fault| {
            if !self.blocked.contains(&fault.source) {
                last = fault.to_string();
            }
            seen.insert(fault.source);
        });
        if self.broken.is_some() {
            return;
        }
        assert!(seen.is_subset(&self.blocked), "a fault of a device that was not blocked, or is muted: {last}");
        assert!(log.overflowed || seen == self.blocked, "{:?} were blocked, {seen:?} are told", self.blocked);
        self.blocked.clear();
    }

    fn mute(&mut self) {
        self.steps += 1;
        let (index, muted) = (self.random.below(self.oracle.devices.len() as u64) as usize, self.random.one_in(2));
        self.tell(format_args!("mute {} {muted}", self.oracle.devices[index].id));
        match self.iommu.mute(self.oracle.devices[index].id, muted) {
            Ok(()) => self.oracle.devices[index].muted = muted,
            Err(Error::Unit(error)) => match &self.broken {
                Some(broken) => assert!(broken.suspects[self.oracle.devices[index].unit], "{error}"),
                None => panic!("{error}"),
            },
            Err(error) => panic!("{error}"),
        }
    }

    fn look_at_coherency(&mut self) {
        self.steps += 1;
        for slot in self.oracle.slots() {
            let told = self.iommu.coherency(self.oracle.cell(slot).id).unwrap();
            assert_eq!(told, coherency(self.oracle.enforced(slot)));
        }
    }

    /// Up to eight edits at once, most of which are possible.
    pub(crate) fn edits(&mut self) -> Vec<Edit> {
        let most = if self.random.one_in(3) { self.random.from(2, 8) as usize } else { 1 };
        let mut edits = Vec::new();
        // What is asked for is not always possible, and what goes together comes together.
        for _ in 0..3 * most {
            let count = edits.len();
            self.suggest(&mut edits);
            if self.oracle.stage(&edits).is_err() && !self.random.one_in(24) {
                edits.truncate(count);
            }
            if edits.len() >= most {
                break;
            }
        }
        if edits.is_empty() {
            self.suggest(&mut edits);
        }
        for edit in &edits {
            let (Edit::Map(_, first, Extent { end, .. })
            | Edit::Unmap(_, first, end)
            | Edit::Protect(_, first, end, _)) = *edit
            else {
                continue;
            };
            let middle = self.random.from(first, end - 1);
            self.recent.extend([first, end - 1, middle, first.saturating_sub(1), end]);
        }
        let old = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..old);
        edits
    }

    fn suggest(&mut self, edits: &mut Vec<Edit>) {
        let slots: Vec<Slot> = self.oracle.slots().collect();
        let (cell, other) = (self.random.of(&slots), self.random.of(&slots));
        let device = self.random.below(self.oracle.devices.len() as u64) as usize;
        let rights = self.random.of(&[Rights::READ, Rights::WRITE, Rights::all(), Rights::all()]);
        let full = self.oracle.cell(cell).pages.len() > 40;
        match self.random.below(if full { 16 } else { 40 }) {
            0..4 => {
                let (first, end, _) = self.part(cell);
                edits.push(Edit::Unmap(cell, first, end));
            }
            4..8 => {
                let (first, end, _) = self.part(cell);
                edits.push(Edit::Protect(cell, first, end, rights));
            }
            8..10 => {
                // Memory moves from one cell to another, or to another address.
                let (first, end, output) = self.part(cell);
                // As much as a table of 4 KiB pages has may lie anywhere.
                let anywhere = end - first <= 1100 && self.random.one_in(2);
                let to = if anywhere { self.random.below(3072) } else { first };
                edits.push(Edit::Unmap(cell, first, end));
                edits.push(Edit::Map(other, to, Extent { end: to + (end - first), output, rights }));
            }
            10 => {
                // The same addresses lead elsewhere.
                let (first, end, _) = self.part(cell);
                edits.push(Edit::Unmap(cell, first, end));
                let output = self.output(cell, first);
                edits.push(Edit::Map(cell, first, Extent { end, output, rights }));
            }
            11..14 => edits.push(Edit::Release(device)),
            14 if self.random.one_in(3) => edits.push(Edit::Destroy(cell)),
            14 => edits.push(Edit::Wrong(cell, self.random.below(3) as u8)),
            15..18 => edits.extend([Edit::Release(device), Edit::Assign(device, cell)]),
            18..26 => edits.push(Edit::Assign(device, cell)),
            _ => {
                let (first, end) = self.anywhere();
                let output = self.output(cell, first);
                edits.push(Edit::Map(cell, first, Extent { end, output, rights }));
            }
        }
    }

    /// Part of what a cell has, or all of one extent, or something else; and where it leads.
    fn part(&mut self, cell: Slot) -> (u64, u64, u64) {
        let pages = &self.oracle.cell(cell).pages;
        let count = pages.len() as u64;
        if count == 0 || self.random.one_in(12) {
            let (first, end) = self.anywhere();
            return (first, end, self.output(cell, first));
        }
        let (first, extent) = pages.iter().nth(self.random.below(count) as usize).expect("below the count");
        let last = extent.end - 1;
        let start = if self.random.one_in(2) { first } else { self.random.from(first, last) };
        let end = match self.random.below(4) {
            0 => (start + 1 + self.random.below(3)).min(extent.end),
            1 => self.random.from(start, last) + 1,
            // Perhaps across a border, too.
            2 if self.random.one_in(4) => extent.end + 1,
            _ => extent.end,
        };
        (start, end, extent.output + (start - first))
    }

    /// A range of pages, which begins at a boundary more often than not.
    fn anywhere(&mut self) -> (u64, u64) {
        let weights: u64 = PLACES.iter().map(|(.., weight)| weight).sum();
        let mut choice = self.random.below(weights);
        let mut place = PLACES[0];
        for candidate in PLACES {
            if choice < candidate.2 {
                place = candidate;
                break;
            }
            choice -= candidate.2;
        }
        let (base, pages, _) = place;
        if pages == 0x8_0000 && self.large {
            let grain = if self.random.one_in(4) { 0x4_0000 } else { 0x200 };
            let first = base + self.random.below(pages / grain) * grain;
            let count = if grain == 0x200 { grain * self.random.from(1, 6) } else { grain };
            return (first, first + count);
        }
        let grain = self.random.of(&[1, 1, 0x200]);
        let first = base + self.random.below(pages) / grain * grain;
        let left = (base + pages - first).max(1);
        let count = match self.random.below(4) {
            0 => self.random.from(1, left.min(1100)),
            1 => (0x200 * self.random.from(1, 3)).min(left),
            _ => self.random.from(1, 4.min(left)),
        };
        (first, first + count)
    }

    /// Memory for pages from `first` on, more often than not with the alignment that large pages need.
    fn output(&mut self, cell: Slot, first: u64) -> u64 {
        if self.random.one_in(60) {
            // At the end of what the machine has, or in the interrupts' range.
            return self.random.of(&[(1 << 27) - 0x20, 0xfee00]);
        }
        if first >= 0x4_0000 {
            return 0x10_0000 + (first & 0xf_ffff);
        }
        let base = 0x6_0000 + 0x4000 * cell as u64 + first;
        match self.random.below(4) {
            0 => base ^ 5,
            1 => base + 0x200 * self.random.below(4),
            _ => base,
        }
    }

    fn change(&mut self) {
        let edits = self.edits();
        if self.broken.is_some() {
            return self.change_broken(&edits);
        }
        self.steps += 1;
        let staged = self.oracle.stage(&edits);
        let before = (staged.is_err() && self.random.one_in(4)).then(|| self.machine.snapshot());
        self.tell(format_args!("{edits:x?}, refused: {:?}", staged.as_ref().err()));
        let result = self.oracle.request(&self.iommu, &edits);
        match (result, staged) {
            (Ok(committed), Ok(after)) => self.oracle.commit(&after, committed.coherency_changes()),
            (Ok(_), Err(why)) => panic!("{edits:x?}: made, although {why}"),
            (Err(Error::Unit(error)), _) => panic!("{edits:x?}: {error}"),
            (Err(Error::Full(_)), Ok(_)) if self.oracle.may_be_full(&edits) => {}
            (Err(error), Ok(_)) => panic!("{edits:x?}: {error}"),
            (Err(_), Err(_)) => {}
        }
        if let Some(before) = before {
            assert!(self.machine.snapshot() == before, "{edits:x?}: refused, but tables changed");
        }
        self.look();
    }

    /// A page that a device may try: its own memory and its edges, that of other cells, what changed lately, anything.
    fn page(&mut self, index: usize) -> u64 {
        let device = &self.oracle.devices[index];
        let slots: Vec<Slot> = self.oracle.slots().collect();
        let cell = match (self.random.below(8), device.cell) {
            (0..2, _) => return self.random.of(&self.recent),
            (2, _) => return self.anywhere().0,
            (3..7, Some(cell)) => cell,
            _ => self.random.of(&slots),
        };
        if let Some((first, last)) = device.reserved.filter(|_| self.random.one_in(8)) {
            return self.random.of(&[first, last, last + 1, first - 1]);
        }
        let pages = &self.oracle.cell(cell).pages;
        let count = pages.len() as u64;
        let Some((first, extent)) = pages.iter().nth(self.random.below(count) as usize) else {
            return self.anywhere().0;
        };
        match self.random.below(6) {
            0 => first,
            1 => extent.end - 1,
            2 => extent.end,
            3 => first.saturating_sub(1),
            _ => self.random.from(first, extent.end - 1),
        }
    }

    /// A device reads or writes, and sees just what its cell has.
    pub(crate) fn dma(&mut self) {
        if self.oracle.slots().next().is_none() {
            return;
        }
        self.steps += 1;
        let index = self.random.below(self.oracle.devices.len() as u64) as usize;
        let page = self.page(index);
        let (at, writes) = (page << 12 | self.random.of(&[0, 8, 0xff8]), self.random.one_in(2));
        self.dma_at(index, at, writes);
    }

    pub(crate) fn dma_at(&mut self, index: usize, at: u64, writes: bool) {
        let device = &self.oracle.devices[index];
        let (page, offset) = (at >> 12, at & 0xfff);
        let (id, token) = (device.id, self.random.next());
        let target = self.oracle.target(device, page);
        let right = if writes { Rights::WRITE } else { Rights::READ };
        self.tell(format_args!("{id} {} {at:#x}: {target:x?}", if writes { "writes" } else { "reads" }));
        if !device.loose.is_empty() {
            return self.dma_loose(index, at, writes);
        }
        let allowed = target.is_some_and(|(_, rights)| rights.contains(right));
        let memory = target.map(|(output, _)| output << 12 | offset);
        if let Some(memory) = memory {
            poke(self.machine, memory, token);
        }
        if writes {
            assert_eq!(write(self.machine, id, at, !token), allowed, "{id} writes {at:#x}");
            if let Some(memory) = memory {
                let found = peek(self.machine, memory);
                assert_eq!(found, if allowed { !token } else { token }, "{id} writes {at:#x}");
            }
        } else {
            assert_eq!(read(self.machine, id, at), allowed.then_some(token), "{id} reads {at:#x}");
        }
        // What looks like an interrupt is none of the requests that are muted.
        if !allowed && (!self.oracle.devices[index].muted || is_message(page, page + 1)) {
            self.blocked.insert(id);
        }
    }

    /// The same behind a unit that failed: the device is blocked, or reaches what it had before or was to have.
    fn dma_loose(&mut self, index: usize, at: u64, writes: bool) {
        let device = &self.oracle.devices[index];
        let (page, offset) = (at >> 12, at & 0xfff);
        let right = if writes { Rights::WRITE } else { Rights::READ };
        let had = device.loose.iter().map(|pages| pages.at(page));
        let targets = had.chain([self.oracle.target(device, page)]).flatten();
        let allowed: BTreeSet<u64> =
            targets.filter(|(_, rights)| rights.contains(right)).map(|(output, _)| output << 12 | offset).collect();
        let token = self.random.next();
        for (number, memory) in allowed.iter().enumerate() {
            poke(self.machine, *memory, token ^ number as u64);
        }
        let id = device.id;
        if writes {
            if write(self.machine, id, at, !token) {
                let written = allowed.iter().filter(|memory| peek(self.machine, **memory) == !token).count();
                assert_eq!(written, 1, "{id} writes {at:#x}, which it was never granted");
            }
        } else if let Some(found) = read(self.machine, id, at) {
            let known = (0..allowed.len()).any(|number| found == token ^ number as u64);
            assert!(known, "{id} reads {at:#x}, which it was never granted");
        }
    }

    /// All cells go, and all units: every frame is back.
    pub(crate) fn end(mut self) -> crate::Outcome {
        self.machine.check();
        if self.broken.is_some() {
            return self.end_broken();
        }
        for slot in self.oracle.slots().collect::<Vec<_>>() {
            self.steps += 1;
            let after = self.oracle.stage(&[Edit::Destroy(slot)]).unwrap();
            let committed = self.iommu.destroy_cell(self.oracle.cell(slot).id).unwrap();
            self.oracle.commit(&after, committed.coherency_changes());
        }
        let recent = std::mem::take(&mut self.recent);
        for index in 0..self.oracle.devices.len() {
            self.steps += 1;
            let page = self.random.of(&recent);
            self.dma_at(index, page << 12, index % 2 == 0);
        }
        self.machine.check();
        self.iommu.disable().unwrap();
        assert_eq!(self.machine.frames_in_use(), 0, "frames are left");
        crate::Outcome { steps: self.steps, ..crate::Outcome::default() }
    }
}
