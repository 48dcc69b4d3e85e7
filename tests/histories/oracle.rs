//! What ought to be, in plain maps: which pages each cell has, and which cell has each device.

use std::collections::BTreeSet;
use std::ops::Range;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::{CellConfig, CellId, CoherencyPolicy, Sharing};
use cofferdam_model::{Machine, Targets};

pub(crate) use cofferdam_support::front::SMALL_CELLS as CELLS;

use crate::lines::Line;
use crate::pages::{Extent, Pages};
use crate::place::{Place, Sender};
use crate::plan::Function;
use crate::routes::Routes;
use crate::stage::After;

/// What an edit names a cell by: its place among those that exist.
pub(crate) type Slot = usize;

/// One edit, in pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// Shared with others, or for the cell alone, as the extent says.
    Map(Slot, u64, Extent),
    Unmap(Slot, u64, u64),
    Protect(Slot, u64, u64, Rights),
    /// With a device-TLB, if so, and with so many messages.
    Assign(usize, Slot, bool, u16),
    Release(usize),
    Destroy(Slot),
    Route(Slot, Sender, Place),
    Unroute(Slot, Sender),
    /// One that is always refused: of a range that is no pages, without rights, or of a cell that is gone.
    Wrong(Slot, u8),
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) id: CellId,
    pub(crate) config: CellConfig,
    /// How many were made before it, and where its interrupts may go.
    pub(crate) number: u32,
    pub(crate) targets: Targets,
    pub(crate) pages: Pages,
    /// Of the root cell: what it has if nobody else has it.
    pub(crate) whole: Option<Pages>,
    /// What the driver reported last of its coherency.
    pub(crate) learned: cofferdam::Coherency,
    /// With the fewest tables, one that was made for a device of this width may have stayed when that left.
    pub(crate) narrowest: Option<u8>,
    /// A root cell that may have less than others have given back: a unit failed, and what may still be reached is withheld.
    pub(crate) short: bool,
    /// A change failed in a unit when few frames were left: a table that all its devices were to leave may have lost more than
    /// it was to, and is given to no other device.
    pub(crate) has_spoiled_table: bool,
    /// A change of it failed in a unit, and memory may be withheld for it: the root cell may get that when it ends.
    pub(crate) may_withhold: bool,
    /// Memory that it was to share by a change that failed: others may reach it, as far as their unit failed.
    pub(crate) was_to_share: Vec<Range<u64>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) function: Function,
    pub(crate) id: SourceId,
    pub(crate) unit: usize,
    pub(crate) cell: Option<Slot>,
    /// It has a device-TLB in its cell.
    pub(crate) tlb: bool,
    /// It is in its cell and reaches nothing: it did not answer, or could not be released.
    pub(crate) stuck: bool,
    /// It was pulled out, or did not come yet: nobody hears of it, and it answers nothing.
    pub(crate) pulled_out: bool,
    /// What kind of device is there, and which there was when the device came to its cell, if it said so.
    pub(crate) kind: Option<u32>,
    pub(crate) came_as: Option<u32>,
    /// Its ATS was switched off by what happened to it, and not by the driver.
    pub(crate) lost_ats: bool,
    /// Reserved for it: as any page of its cell, but each leads to itself.
    pub(crate) reserved: Option<(u64, u64)>,
    /// It may be a bus master, as the driver or somebody else left it; `None` of a function whose register is not there.
    pub(crate) master: Option<bool>,
    /// The devices that nothing isolated from it when it came to its cell, or when the driver last looked.
    pub(crate) noted: BTreeSet<usize>,
    /// What it may still reach behind a unit that failed in a change of its cell; it may be blocked as well.
    pub(crate) loose: Vec<Pages>,
}

/// What is known of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) input_bits: u8,
    pub(crate) snoops: bool,
    pub(crate) domain_ids: u32,
    pub(crate) max_leaf_level: u8,
    pub(crate) device_tlbs: bool,
    /// It remaps interrupts.
    pub(crate) remaps: bool,
    /// It was not there when the driver looked for it, and is never used.
    pub(crate) lost: bool,
    /// It translates nothing: what devices behind it reach is not looked at.
    pub(crate) open: bool,
}

pub(crate) struct Oracle {
    pub(crate) units: Vec<Facts>,
    pub(crate) cells: Vec<Option<Cell>>,
    pub(crate) gone: Vec<CellId>,
    pub(crate) devices: Vec<Device>,
    pub(crate) lines: Vec<Line>,
    pub(crate) routes: Routes,
    /// The mode of the CPUs, if interrupts are remapped.
    pub(crate) x2apic: Option<bool>,
    /// Source-ids of which no fault is recorded.
    pub(crate) muted: BTreeSet<SourceId>,
    /// Pairs of devices, in both orders, of which one reaches the other without a unit now.
    pub(crate) peers: BTreeSet<(usize, usize)>,
    /// Pages of memory that a change which failed was to take from a cell, or to give it, and what else the cell had.
    pub(crate) moved: BTreeSet<(u64, u64)>,
}

impl Oracle {
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..CELLS).filter(|slot| self.cells[*slot].is_some())
    }

    pub(crate) fn cell(&self, slot: Slot) -> &Cell {
        self.cells[slot].as_ref().expect("edits are of cells that exist")
    }

    pub(crate) fn root(&self) -> Option<Slot> {
        self.slots().find(|slot| self.cell(*slot).whole.is_some())
    }

    /// Fails if this cannot be the coherency of a cell.
    pub(crate) fn check_coherency(&self, slot: Slot, told: cofferdam::Coherency) {
        let config = self.cell(slot).config;
        let snoops =
            |device: &Device| self.units[device.unit].snoops && config.coherency != CoherencyPolicy::NotEnforced;
        let mut devices = self.devices.iter().filter(|device| device.cell == Some(slot)).peekable();
        let empty = devices.peek().is_none();
        let expected = coherency(devices.all(snoops));
        // With the fewest tables, what counts is which were there when a device came.
        let depends = config.sharing == Sharing::FewestTables && config.coherency == CoherencyPolicy::PerDevice;
        let fits = told == expected || depends && !empty && told == coherency(false);
        assert!(fits, "{:?} {told:?} instead of {expected:?}", self.cell(slot));
    }

    /// All that a device reaches with these pages of its cell.
    pub(crate) fn with_reserved(device: &Device, pages: &Pages) -> Pages {
        let mut all = pages.clone();
        if let Some((first, last)) = device.reserved {
            all.add(first, Extent { end: last + 1, output: first, rights: Rights::all(), shared: false });
        }
        all
    }

    /// The device whose entry the requests of a function meet: of several, one that reaches something.
    fn behind(&self, index: usize) -> Option<&Device> {
        let carries = self.devices[index].function.carries;
        let sharing = self.devices.iter().filter(|device| device.function.requesters.contains(&carries));
        sharing.filter(|device| device.cell.is_some()).min_by_key(|device| device.stuck)
    }

    /// Where a page of a function leads.
    pub(crate) fn target(&self, index: usize, page: u64) -> Option<(u64, Rights)> {
        self.behind(index).filter(|device| !device.stuck)?;
        self.granted(index, page)
    }

    /// The same, although it ought to be blocked.
    pub(crate) fn granted(&self, index: usize, page: u64) -> Option<(u64, Rights)> {
        let device = self.behind(index)?;
        match device.reserved {
            Some((first, last)) if (first..=last).contains(&page) => Some((page, Rights::all())),
            _ => self.cell(device.cell?).pages.at(page),
        }
    }

    /// The cell whose memory a function reaches, if any.
    pub(crate) fn cell_of(&self, index: usize) -> Option<Slot> {
        self.behind(index).and_then(|device| device.cell)
    }

    /// Says to the machine who owns which memory: cells by their slots. What is shared has several owners.
    pub(crate) fn say_owners(&self, machine: &Machine) {
        let bytes = |pages: Range<u64>| pages.start << 12..pages.end << 12;
        let of_cell = |slot: Slot| {
            let extents = self.cell(slot).pages.iter();
            extents.map(move |(first, extent)| (bytes(extent.outputs(first)), slot as u32))
        };
        let reserved = self.devices.iter().filter_map(|device| {
            let ((first, last), owner) = (device.reserved?, device.cell?);
            Some((bytes(first..last + 1), owner as u32))
        });
        let memory = self.slots().flat_map(of_cell).chain(reserved).collect();
        // Of those that share a source-id, one may have the cell of which the others reach the memory.
        let indices = 0..self.devices.len();
        let devices = indices.filter_map(|index| Some((self.devices[index].id, self.cell_of(index)? as u32)));
        machine.set_owners(memory, devices);
    }

    /// Who owns which device and which line, by their places among all that send interrupts: now, or while a change runs that leads
    /// to `after`.
    pub(crate) fn owners<'a>(&'a self, after: Option<&'a After>) -> impl Iterator<Item = (usize, Slot)> + 'a {
        let cells =
            move |index: usize| self.devices[index].cell.into_iter().chain(after.and_then(|after| after.cells[index]));
        let of_device = move |index: usize| {
            let carries = self.devices[index].function.carries;
            let alike = move |other: &usize| self.devices[*other].function.requesters.contains(&carries);
            (0..self.devices.len()).filter(alike).flat_map(cells).map(move |cell| (index, cell))
        };
        let count = self.devices.len();
        let of_line = move |line| self.cells_of_line(line, after).map(move |cell| (count + line, cell));
        (0..count).flat_map(of_device).chain((0..self.lines.len()).flat_map(of_line))
    }

    /// The extents by which a function reaches a page of memory, or did once.
    fn leading_to(&self, index: usize, page: u64) -> impl Iterator<Item = (u64, Extent)> + '_ {
        let now = self.cell_of(index).map(|slot| self.of_cell(slot, &self.cell(slot).pages));
        let all: Vec<Pages> = self.loose(index).cloned().chain(now).collect();
        let all: Vec<_> = all.iter().flat_map(Pages::iter).collect();
        let was_to_share = self.cell_of(index).is_some_and(|slot| self.was_to_share(slot, page));
        let all = all.into_iter().filter(move |(first, extent)| extent.outputs(*first).contains(&page));
        all.map(move |(first, extent)| (first, Extent { shared: extent.shared || was_to_share, ..extent }))
    }

    fn was_to_share(&self, slot: Slot, page: u64) -> bool {
        self.cell(slot).was_to_share.iter().any(|memory| memory.contains(&page))
    }

    /// True if a cell had or was to have a page of memory in common with others, and may still reach it although a unit failed.
    pub(crate) fn may_share(&self, cell: CellId, page: u64) -> bool {
        let in_cell = |index: &usize| self.cell_of(*index).is_some_and(|slot| self.cell(slot).id == cell);
        (0..self.devices.len()).filter(in_cell).any(|index| self.shares(index, page))
    }

    /// The pages by which a function reaches a page of memory, or did once, without those by which others may, too: what it had
    /// alone once, and now has with them by the same page, is theirs as well.
    pub(crate) fn inputs_of(&self, index: usize, page: u64, shared: bool) -> BTreeSet<u64> {
        let (common, own): (Vec<_>, Vec<_>) =
            self.leading_to(index, page).partition(|(_, extent)| shared && extent.shared);
        let inputs = |leading: Vec<(u64, Extent)>| -> BTreeSet<u64> {
            leading.into_iter().map(|(first, extent)| first + (page - extent.output)).collect()
        };
        &inputs(own) - &inputs(common)
    }

    /// True if others may reach a page of memory that a function reaches, or did once.
    pub(crate) fn shares(&self, index: usize, page: u64) -> bool {
        self.leading_to(index, page).any(|(_, extent)| extent.shared)
    }

    /// What devices of a cell reach with these pages: of the root cell, others may have it, too.
    fn of_cell(&self, slot: Slot, pages: &Pages) -> Pages {
        let mut all = Pages::default();
        let is_root = self.cell(slot).whole.is_some();
        pages.iter().for_each(|(first, extent)| all.add(first, Extent { shared: extent.shared || is_root, ..extent }));
        all
    }

    /// The units that a function's requests may meet.
    pub(crate) fn requesters_of(&self, index: usize) -> impl Iterator<Item = usize> {
        let function = &self.devices[index].function;
        [function.unit, function.meets].into_iter()
    }

    /// True if nobody looks at what a function reaches: its unit translates nothing.
    pub(crate) fn is_open(&self, index: usize) -> bool {
        self.units[self.devices[index].function.meets].open
    }

    /// True if a function may reach less than is granted.
    pub(crate) fn is_short(&self, index: usize) -> bool {
        self.behind(index).and_then(|device| device.cell).is_some_and(|slot| self.cell(slot).short)
    }

    /// What a function may still reach behind a unit that failed.
    pub(crate) fn loose(&self, index: usize) -> impl Iterator<Item = &Pages> {
        let carries = self.devices[index].function.carries;
        let sharing = self.devices.iter().filter(move |device| device.function.requesters.contains(&carries));
        sharing.flat_map(|device| &device.loose)
    }

    /// Takes over what a change has done, and checks what it told.
    pub(crate) fn commit(
        &mut self,
        after: &After,
        told: &[(CellId, cofferdam::Coherency)],
        now: impl Fn(CellId) -> cofferdam::Coherency,
    ) {
        for index in 0..self.devices.len() {
            self.devices[index].cell = after.cells[index];
            if after.arrives[index] || after.leaves[index] {
                let noted = self.peers_of(index);
                let device = &mut self.devices[index];
                device.noted = noted;
                device.came_as = device.kind.filter(|_| !device.pulled_out && device.cell.is_some());
                device.lost_ats = false;
                device.master = device.master.map(|master| master && !after.leaves[index]);
                (device.tlb, device.stuck) = (after.tlbs[index], false);
                device.loose.clear();
                let sharing: Vec<usize> = self.sharing(index).collect();
                sharing.into_iter().for_each(|other| self.devices[other].loose.clear());
            }
        }
        self.commit_routes(after);
        self.look_for_narrow_tables();
        let mut expected = Vec::new();
        let may_give_back = (0..CELLS).any(|slot| after.doomed[slot] && self.cell(slot).may_withhold);
        if let Some(root) = self.root().filter(|root| may_give_back && !after.touched[*root]) {
            let cell = self.cells[root].as_mut().expect("it is the root cell");
            let news = told.iter().find(|(id, coherency)| *id == cell.id && *coherency != cell.learned);
            news.into_iter().for_each(|(_, coherency)| cell.learned = *coherency);
            expected.extend(news.map(|(id, _)| (*id, now(*id))));
        }
        for slot in (0..CELLS).filter(|slot| after.touched[*slot]) {
            if after.doomed[slot] {
                self.gone.extend(self.cells[slot].take().map(|cell| cell.id));
                continue;
            }
            let cell = self.cells[slot].as_mut().expect("edits are of cells that exist");
            (cell.pages, cell.whole) = (after.pages[slot].clone(), after.whole[slot].clone());
            let (id, coherency) = (cell.id, now(cell.id));
            if std::mem::replace(&mut cell.learned, coherency) != coherency {
                expected.push((id, coherency));
            }
            self.check_coherency(slot, coherency);
        }
        assert_eq!(told.len(), expected.len(), "coherency: told {told:?}, expected {expected:?}");
        assert!(told.iter().all(|one| expected.contains(one)), "coherency: told {told:?}, expected {expected:?}");
    }

    fn look_for_narrow_tables(&mut self) {
        for (slot, cell) in self.cells.iter_mut().enumerate() {
            let devices = self.devices.iter().filter(|device| device.cell == Some(slot));
            let now = devices.map(|device| self.units[device.unit].input_bits).min();
            if let Some(cell) = cell {
                cell.narrowest = now.map(|bits| cell.narrowest.map_or(bits, |before| before.min(bits)));
            }
        }
    }

    /// Takes over what is left of a change that a unit failed in: what was to be taken away is gone, nothing is granted,
    /// and a device that leaves or arrives is in a cell, blocked, if `is_in` says so, which it may only of one that is
    /// `unresponsive` or behind `suspects`. Behind those it may reach what it had, or was to have.
    pub(crate) fn fail(
        &mut self,
        after: &After,
        suspects: &[bool],
        unresponsive: &[bool],
        is_in: impl Fn(&Device, Slot) -> bool,
    ) {
        self.fail_routes(after, suspects);
        for index in 0..self.devices.len() {
            let (cells, pages) = ([self.devices[index].cell, after.cells[index]], &after.pages);
            let cells = cells.map(|cell| cell.filter(|cell| after.touched[*cell]));
            if suspects[self.devices[index].unit] && cells.iter().any(Option::is_some) {
                let device = &self.devices[index];
                let of = |cell, pages| Self::with_reserved(device, &self.of_cell(cell, pages));
                let had = cells[0].map(|cell| of(cell, &self.cell(cell).pages));
                let gets = cells[1].map(|cell| of(cell, &pages[cell]));
                self.loosen(index, had.into_iter().chain(gets));
            }
            let noted = self.peers_of(index);
            let device = &mut self.devices[index];
            if after.leaves[index] || after.arrives[index] {
                device.master = device.master.map(|master| master && !after.leaves[index]);
                let before = device.cell;
                device.cell = [device.cell, after.cells[index]].into_iter().flatten().find(|cell| is_in(device, *cell));
                if before != device.cell || before.is_none() {
                    device.noted = noted;
                    device.came_as = device.kind.filter(|_| !device.pulled_out && device.cell.is_some());
                }
                // It may be listed as it was, or as it was to be.
                device.tlb = device.cell.is_some() && (device.tlb || after.tlbs[index]);
                device.stuck = device.cell.is_some();
                let may_stay = unresponsive[index] || suspects[device.unit];
                assert!(may_stay || !device.stuck, "{} stays, although it answers and its unit works", device.id);
            }
        }
        for slot in (0..CELLS).filter(|slot| after.touched[*slot]) {
            if let Some(cell) = &mut self.cells[slot] {
                cell.may_withhold = true;
                let all = cell.pages.iter().chain(after.pages[slot].iter());
                self.moved.extend(all.map(|(first, extent)| (extent.output, extent.output_end(first))));
                let shared = after.pages[slot].iter().filter(|(_, extent)| extent.shared);
                cell.was_to_share.extend(shared.map(|(first, extent)| extent.outputs(first)));
                cell.was_to_share.sort_by_key(|memory| (memory.start, memory.end));
                cell.was_to_share.dedup();
                cell.pages = cell.pages.without_grants(&after.pages[slot]);
                let whole = cell.whole.as_ref().zip(after.whole[slot].as_ref());
                cell.whole = whole.map(|(before, after)| before.without_grants(after));
            }
        }
    }

    /// Notes what a device may still reach, for all that it had in its cell.
    pub(crate) fn quarantine(&mut self, index: usize, suspect: bool) {
        let device = &self.devices[index];
        if let Some(cell) = device.cell.filter(|_| suspect) {
            let had = Self::with_reserved(device, &self.of_cell(cell, &self.cell(cell).pages));
            self.loosen(index, [had]);
        }
        let device = &mut self.devices[index];
        (device.stuck, device.master) = (true, device.master.map(|_| false));
    }

    /// True if a cell has a device in whose place another kind answers.
    pub(crate) fn is_another(&self, index: usize) -> bool {
        let device = &self.devices[index];
        let came_as = device.came_as.filter(|_| device.cell.is_some() && !device.pulled_out);
        came_as.is_some_and(|came_as| device.kind != Some(came_as))
    }

    /// The devices that nothing isolates from one now.
    pub(crate) fn peers_of(&self, index: usize) -> BTreeSet<usize> {
        self.peers.iter().filter(|(one, _)| *one == index).map(|(_, other)| *other).collect()
    }

    /// True if nothing isolates two devices, or nothing did when the driver looked at one that has its cell already.
    pub(crate) fn are_peers(&self, arrives: usize, other: usize, other_arrives: bool) -> bool {
        self.peers.contains(&(arrives, other)) || !other_arrives && self.devices[other].noted.contains(&arrives)
    }

    /// A unit is out of service, and its devices are without power: they belong to nobody.
    pub(crate) fn forget(&mut self, unit: usize) {
        self.forget_routes(unit);
        for device in self.devices.iter_mut().filter(|device| device.unit == unit) {
            (device.cell, device.tlb, device.stuck) = (None, false, false);
            device.master = device.master.map(|_| false);
            device.loose.clear();
        }
    }

    /// A unit has cached nothing any more, and is given what its tables say: only device-TLBs may have more than that.
    pub(crate) fn forget_loose(&mut self, unit: usize) {
        let rid = self.devices.iter_mut().filter(|device| device.unit == unit && !device.tlb && !device.stuck);
        rid.for_each(|device| device.loose.clear());
    }

    fn loosen(&mut self, index: usize, pages: impl IntoIterator<Item = Pages>) {
        let loose = &mut self.devices[index].loose;
        loose.extend(pages);
        loose.dedup();
    }
}

pub(crate) fn coherency(enforced: bool) -> cofferdam::Coherency {
    if enforced { cofferdam::Coherency::Enforced } else { cofferdam::Coherency::NotEnforced }
}
