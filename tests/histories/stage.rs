//! Where edits lead, or why they are refused, looked up in the plain maps.

use cofferdam::iommu::{Error, Incompatibility, MapError, Owner, Refusal, Unroutable};
use cofferdam::limits::Limits;
use cofferdam::{CoherencyPolicy, Sharing};

use crate::oracle::{CELLS, Cell, Device, Edit, Oracle, Slot};
use crate::pages::{Extent, Pages, overlap};
use crate::routes::Staged;

const ADDRESS_BITS: u8 = 39;
/// Pages of addresses that are interrupts.
const INTERRUPTS: (u64, u64) = (0xfee00, 0xfef00);

/// Where edits lead.
pub(crate) struct After {
    pub(crate) touched: Vec<bool>,
    pub(crate) doomed: Vec<bool>,
    pub(crate) pages: Vec<Pages>,
    /// Of the root cell: what it is to have if nobody else has it.
    pub(crate) whole: Vec<Option<Pages>>,
    /// The cell of each device, whether it is to have a device-TLB there, and whether it comes to it.
    pub(crate) cells: Vec<Option<Slot>>,
    pub(crate) tlbs: Vec<bool>,
    pub(crate) arrives: Vec<bool>,
    pub(crate) leaves: Vec<bool>,
    pub(crate) routes: Staged,
}

/// True if a page from `first` up to `end` is one whose requests are interrupts.
pub(crate) fn is_message(first: u64, end: u64) -> bool {
    first < INTERRUPTS.1 && INTERRUPTS.0 < end
}

fn check_room(pages: &Pages) -> Result<(), &'static str> {
    if pages.len() > Limits::DEFAULT.regions { Err("no room for so many regions") } else { Ok(()) }
}

/// Pages, and of others that they are among as much as there is room for: the lowest, and what joins what is there.
fn with_what_fits(mut pages: Pages, mut others: Pages) -> Pages {
    pages.iter().for_each(|(first, extent)| others.remove(first, extent.end));
    // What joins two makes room for another.
    for _ in 0..2 {
        for (first, extent) in
            others.iter().filter(|(first, extent)| !pages.any(*first, extent.end)).collect::<Vec<_>>()
        {
            let mut more = pages.clone();
            more.add(first, extent);
            if check_room(&more).is_ok() {
                pages = more;
            }
        }
    }
    pages
}

impl Oracle {
    /// Where the edits lead, or why they are refused. Capacities of page tables and domain-ids are not looked at.
    pub(crate) fn stage(&self, edits: &[Edit]) -> Result<After, &'static str> {
        let each = |of: fn(&Cell) -> Option<Pages>| self.cells.iter().map(move |cell| cell.as_ref().and_then(of));
        let mut after = After {
            touched: vec![false; CELLS],
            doomed: vec![false; CELLS],
            pages: each(|cell| Some(cell.pages.clone())).map(Option::unwrap_or_default).collect(),
            whole: each(|cell| cell.whole.clone()).collect(),
            cells: self.devices.iter().map(|device| device.cell).collect(),
            tlbs: self.devices.iter().map(|device| device.tlb).collect(),
            arrives: vec![false; self.devices.len()],
            leaves: vec![false; self.devices.len()],
            routes: Staged::of(&self.routes),
        };
        for edit in edits {
            self.stage_one(&mut after, *edit)?;
        }
        self.carve(&mut after)?;
        self.check_outputs(&after)?;
        self.check_room_if_it_fails(&after)?;
        for (index, device) in self.devices.iter().enumerate() {
            if self.sharing(index).any(|other| after.splits(index, other)) {
                return Err("its requests cannot be distinguished from those of another device");
            }
            let Some(cell) = after.cells[index].filter(|cell| after.touched[*cell]) else { continue };
            // One that leaves again in the same change needs none.
            if after.arrives[index] && self.units[device.unit].lost {
                return Err("its unit is lost");
            }
            let is_elsewhere = |(other, theirs): (&Device, &Option<Slot>)| {
                other.function.grouped && theirs.is_some_and(|theirs| theirs != cell)
            };
            let mut others = self.devices.iter().zip(&after.cells);
            if after.arrives[index] && device.function.grouped && others.any(is_elsewhere) {
                return Err("nothing isolates it from a device of another cell");
            }
            let is_peer = |other: usize| {
                let is_there = after.cells[other].is_some_and(|theirs| theirs != cell);
                is_there && self.are_peers(index, other, after.arrives[other])
            };
            if after.arrives[index] && (0..self.devices.len()).any(is_peer) {
                return Err("ports let it reach a device of another cell");
            }
            let enforced = self.cell(cell).config.coherency == CoherencyPolicy::Enforced;
            if after.arrives[index] && enforced && !self.units[device.unit].snoops {
                return Err("it cannot be made to snoop");
            }
            // The root cell's devices have to suit what it gets back some day, too.
            let pages = after.whole[cell].as_ref().unwrap_or(&after.pages[cell]);
            let bits = self.units[device.unit].input_bits - 12;
            if pages.iter().any(|(_, extent)| (extent.end - 1) >> bits != 0) {
                return Err("the unit translates no such address");
            }
            if device.reserved.is_some_and(|(first, last)| pages.any(first, last + 1) || last >> bits != 0) {
                return Err("firmware reserves it");
            }
        }
        Ok(after)
    }

    /// The others whose requests may look like those of a device.
    pub(crate) fn sharing(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let ids = |index: usize| &self.devices[index].function.requesters;
        let others = (0..self.devices.len()).filter(move |other| *other != index);
        others.filter(move |other| ids(*other).iter().any(|id| ids(index).contains(id)))
    }

    /// Takes what all other cells have out of what the root cell has. What others give back waits as far as there is no room
    /// for it.
    fn carve(&self, after: &mut After) -> Result<(), &'static str> {
        let Some(root) = self.root().filter(|root| after.touched[*root]) else { return Ok(()) };
        let mut left = self.without_others(after, root, after.whole[root].clone().unwrap_or_default());
        if check_room(&left).is_err()
            && let Some((_, waiting)) = self.root_that_waits(after)
        {
            left = with_what_fits(waiting, left);
        }
        // What it has already is less than that, if a unit failed before.
        if !self.cell(root).short {
            check_room(&left)?;
        }
        after.pages[root] = left;
        Ok(())
    }

    /// No page of memory is for two cells, unless both share it. The root cell has what is left.
    fn check_outputs(&self, after: &After) -> Result<(), &'static str> {
        let root = self.root();
        let slots = || self.slots().filter(|slot| Some(*slot) != root);
        for slot in slots().filter(|slot| after.touched[*slot]) {
            let before = &self.cell(slot).pages;
            for (first, extent) in after.pages[slot].iter().filter(|(first, extent)| !before.has(*first, *extent)) {
                let memory = extent.outputs(first);
                let meets = |(first, other): (u64, Extent)| {
                    !(extent.shared && other.shared) && overlap(&memory, &other.outputs(first))
                };
                if slots().filter(|other| *other != slot).any(|other| after.pages[other].iter().any(meets)) {
                    return Err("another cell has the memory");
                }
                if self.reserved(after).any(|(_, cell, reserved)| cell != slot && overlap(&memory, &reserved)) {
                    return Err("the memory is reserved for a device of another cell");
                }
            }
        }
        for (index, cell, memory) in self.reserved(after).filter(|(index, ..)| after.arrives[*index]) {
            let meets = |(first, other): (u64, Extent)| overlap(&memory, &other.outputs(first));
            if slots().filter(|other| *other != cell).any(|other| after.pages[other].iter().any(meets)) {
                return Err("another cell has the memory that is reserved for it");
            }
            let mut others = self.reserved(after).filter(|(other, theirs, _)| *other != index && *theirs != cell);
            if others.any(|(.., reserved)| overlap(&memory, &reserved)) {
                return Err("the memory that is reserved for it is reserved for a device of another cell, too");
            }
        }
        Ok(())
    }

    /// The memory that is reserved for each device with a cell.
    fn reserved<'a>(&'a self, after: &'a After) -> impl Iterator<Item = (usize, Slot, std::ops::Range<u64>)> + 'a {
        let devices = self.devices.iter().zip(&after.cells).enumerate();
        devices.filter_map(|(index, (device, cell))| {
            let (first, last) = device.reserved?;
            Some((index, (*cell)?, first..last + 1))
        })
    }

    /// What is left of the root cell's pages without those that others have for themselves.
    fn without_others(&self, after: &After, root: Slot, mut left: Pages) -> Pages {
        let others = after.pages.iter().enumerate().filter(|(slot, _)| *slot != root);
        for (first, extent) in others.flat_map(|(_, pages)| pages.iter()).filter(|(_, extent)| !extent.shared) {
            left.remove(extent.output, extent.output_end(first));
        }
        for (index, _) in after.cells.iter().enumerate().filter(|(_, cell)| cell.is_some_and(|cell| cell != root)) {
            self.devices[index].reserved.into_iter().for_each(|(first, last)| left.remove(first, last + 1));
        }
        left
    }

    /// The root cell, and what it has if what others give back waits; unless the change itself gives the root cell something.
    pub(crate) fn root_that_waits(&self, after: &After) -> Option<(Slot, Pages)> {
        let root = self.root().filter(|root| after.touched[*root] && !after.doomed[*root])?;
        let (now, whole) = (self.cell(root), after.whole[root].clone().unwrap_or_default());
        let is_no_more = now.whole.as_ref().is_some_and(|before| whole.without_grants(before) == whole);
        is_no_more.then(|| (root, self.without_others(after, root, now.pages.without_grants(&whole))))
    }

    /// A change that fails grants nothing, and what it leaves has to fit as well.
    fn check_room_if_it_fails(&self, after: &After) -> Result<(), &'static str> {
        for slot in self.slots().filter(|slot| after.touched[*slot]) {
            let cell = self.cell(slot);
            if cell.whole.is_none() || !cell.short {
                check_room(&cell.pages.without_grants(&after.pages[slot]))?;
            }
            if let (Some(before), Some(whole)) = (&cell.whole, &after.whole[slot]) {
                check_room(&before.without_grants(whole))?;
            }
        }
        Ok(())
    }

    /// True if the root cell would have some of this memory if there were no other cell.
    fn is_memory_of_root(&self, first: u64, end: u64) -> bool {
        let whole = self.root().and_then(|root| self.cell(root).whole.as_ref());
        whole.is_some_and(|whole| whole.any(first, end))
    }

    /// True if a cell has such memory at these pages.
    fn has_memory_of_root(&self, cell: Slot, first: u64, end: u64) -> bool {
        let within = |(from, extent): (u64, Extent)| {
            let (low, high) = (from.max(first), extent.end.min(end));
            low < high
                && !extent.shared
                && self.is_memory_of_root(extent.output + (low - from), extent.output + (high - from))
        };
        self.cells[cell].as_ref().is_some_and(|cell| cell.pages.iter().any(within))
    }

    fn stage_one(&self, after: &mut After, edit: Edit) -> Result<(), &'static str> {
        let cell = match edit {
            Edit::Map(cell, ..) | Edit::Unmap(cell, ..) | Edit::Protect(cell, ..) => Some(cell),
            Edit::Assign(_, cell, ..) | Edit::Destroy(cell) | Edit::Wrong(cell, _) => Some(cell),
            Edit::Route(cell, ..) | Edit::Unroute(cell, _) => Some(cell),
            Edit::Release(device) => after.cells[device],
        };
        let root = self.root();
        let concerns_root = match edit {
            Edit::Map(_, first, extent) => {
                !extent.shared && self.is_memory_of_root(extent.output, extent.output_end(first))
            }
            Edit::Unmap(cell, first, end) => self.has_memory_of_root(cell, first, end),
            Edit::Destroy(cell) => {
                let mut its = self.devices.iter().filter(|device| device.cell == Some(cell));
                self.has_memory_of_root(cell, 0, u64::MAX) || its.any(|device| device.reserved.is_some())
            }
            Edit::Assign(device, ..) => self.devices[device].cell == root || self.devices[device].reserved.is_some(),
            Edit::Release(device) => self.devices[device].reserved.is_some(),
            _ => false,
        };
        for cell in cell.into_iter().chain(root.filter(|_| concerns_root)) {
            after.touched[cell] = true;
        }
        if cell.is_some_and(|cell| after.doomed[cell]) {
            return Err("the cell is gone by then");
        }
        match edit {
            Edit::Map(cell, first, extent) => {
                if is_message(first, extent.end) || is_message(extent.output, extent.output_end(first)) {
                    return Err("requests there are interrupts");
                }
                if Some(cell) == root && extent.output != first {
                    return Err("the root cell's memory is one to one");
                }
                let pages = after.pages_of(cell);
                if pages.any(first, extent.end) {
                    return Err("the cell has memory there");
                }
                if (extent.output_end(first) - 1) >> (ADDRESS_BITS - 12) != 0 {
                    return Err("there is no such memory");
                }
                pages.add(first, Extent { shared: extent.shared && Some(cell) != root, ..extent });
            }
            Edit::Unmap(cell, first, end) | Edit::Protect(cell, first, end, _)
                if !after.pages_of(cell).all(first, end) =>
            {
                return Err("it is not granted");
            }
            Edit::Unmap(cell, first, end) => after.pages_of(cell).remove(first, end),
            Edit::Protect(cell, first, end, rights) => after.pages_of(cell).protect(first, end, rights),
            Edit::Assign(device, cell, tlb, messages) => {
                return self.stage_assign(after, device, cell, tlb, messages);
            }
            Edit::Route(cell, sender, place) => return self.stage_route(after, cell, sender, place),
            Edit::Unroute(cell, sender) => return self.stage_unroute(after, cell, sender),
            Edit::Release(device) => {
                if after.cells[device].take().is_none() {
                    return Err("the device has no cell");
                }
                let arrived = std::mem::take(&mut after.arrives[device]);
                (after.leaves[device], after.tlbs[device]) = (after.leaves[device] || !arrived, false);
                after.routes.leave(&self.routes, device);
            }
            Edit::Destroy(cell) => {
                *after.pages_of(cell) = Pages::default();
                after.doomed[cell] = true;
                after.routes.leave_lines(&self.routes, cell);
                for device in 0..self.devices.len() {
                    if after.cells[device] != Some(cell) {
                        continue;
                    }
                    after.leaves[device] |= !after.arrives[device];
                    (after.cells[device], after.arrives[device], after.tlbs[device]) = (None, false, false);
                    after.routes.leave(&self.routes, device);
                }
            }
            Edit::Wrong(..) => return Err("it is no edit of pages"),
        }
        cell.map_or(Ok(()), |cell| check_room(after.pages_of(cell)))
    }

    fn stage_assign(
        &self,
        after: &mut After,
        index: usize,
        cell: Slot,
        tlb: bool,
        messages: u16,
    ) -> Result<(), &'static str> {
        let (device, config) = (&self.devices[index], self.cell(cell).config);
        let remaps = self.units[device.unit].remaps;
        if !remaps && (!config.allow_unsafe_interrupts || messages != 0) {
            return Err("its interrupts are not remapped");
        }
        let root = self.root();
        if root.is_some_and(|root| root != cell && after.cells[index] == Some(root)) {
            // It leaves the root cell without being asked to, if it is there yet.
            let arrived = std::mem::take(&mut after.arrives[index]);
            (after.cells[index], after.leaves[index]) = (None, after.leaves[index] || !arrived);
            after.routes.leave(&self.routes, index);
        }
        if after.cells[index].is_some() {
            return Err("the device has a cell");
        }
        if device.function.split {
            return Err("its requests pass several units");
        }
        if tlb && !(self.units[device.unit].device_tlbs && device.function.ats.is_some()) {
            return Err("it can have no device-TLB");
        }
        (after.cells[index], after.arrives[index], after.tlbs[index]) = (Some(cell), true, tlb);
        after.routes.messages[index] = messages;
        Ok(())
    }

    /// True if a device is to arrive whose unit is lost.
    pub(crate) fn names_lost(&self, edits: &[Edit]) -> bool {
        let is_lost = |index: usize| self.units[self.devices[index].unit].lost;
        edits.iter().any(|edit| matches!(*edit, Edit::Assign(index, ..) if is_lost(index)))
    }

    /// True if the driver may refuse the edits although [`stage`](Self::stage) does not: tables of a cell are as many as its
    /// devices need different ones, each has a domain-id, and with the fewest tables one may be narrower than its devices.
    pub(crate) fn may_refuse(&self, edits: &[Edit], after: &After, error: Error) -> bool {
        match error {
            Error::Full(full) if full.what == "interrupts" => self.may_lack_slots(after),
            // It is not known whose it is.
            Error::Route { source, reason: Unroutable::Taken(_) | Unroutable::NotRouted } => {
                let mut lines = self.lines.iter().zip(&self.routes.lines);
                lines.any(|(line, held)| line.source == source && !held.perhaps.is_empty())
            }
            Error::Full(_) => {
                let reserved = self.devices.iter().any(|device| device.reserved.is_some());
                let kinds = self.units.len() * (1 + usize::from(reserved));
                let mut units = self.units.iter().filter(|unit| !unit.lost);
                let few = units.any(|unit| (unit.domain_ids as usize) <= CELLS * Limits::DEFAULT.domains);
                let is_short = |root: Slot| after.touched[root] && self.cell(root).short;
                // The table is given to no other device, so there is one more of its kind.
                let needs_one =
                    |edit: &Edit| matches!(*edit, Edit::Assign(_, cell, ..) if self.cell(cell).has_spoiled_table);
                edits.iter().any(|edit| matches!(edit, Edit::Assign(..))) && (kinds > Limits::DEFAULT.domains || few)
                    || self.root().is_some_and(is_short)
                    || edits.iter().any(needs_one)
            }
            Error::Owned { memory, owner: Owner::Withheld(_) }
            | Error::Refused { reason: Refusal::Owned { memory, owner: Owner::Withheld(_) }, .. } => {
                let memory = memory.first().as_u64() >> 12..(memory.last().as_u64() >> 12) + 1;
                self.moved.iter().any(|(first, end)| overlap(&memory, &(*first..*end)))
            }
            Error::Map(MapError::InputTooHigh { .. })
            | Error::Incompatible { reason: Incompatibility::Map(MapError::InputTooHigh { .. }), .. } => {
                self.slots().filter(|slot| after.touched[*slot]).any(|slot| {
                    let (cell, pages) = (self.cell(slot), after.whole[slot].as_ref().unwrap_or(&after.pages[slot]));
                    let is_beyond = |bits: u8| pages.iter().any(|(_, extent)| (extent.end - 1) >> (bits - 12) != 0);
                    cell.config.sharing == Sharing::FewestTables && cell.narrowest.is_some_and(is_beyond)
                })
            }
            // There is one entry for the two: both use it as it is, or neither.
            Error::Refused { reason: Refusal::SharesRequester(_), .. } => (0..self.devices.len()).any(|index| {
                let device = &self.devices[index];
                let differs = |other: &Device| other.stuck || other.reserved != device.reserved;
                (after.arrives[index] || after.leaves[index])
                    && self.sharing(index).any(|other| differs(&self.devices[other]))
            }),
            _ => false,
        }
    }
}

impl After {
    /// True if a device comes to another cell than one it shares a source-id with, or leaves it behind.
    fn splits(&self, index: usize, other: usize) -> bool {
        let stays = self.cells[other].is_some() && !self.arrives[other];
        let comes = self.arrives[index] && self.cells[other].is_some();
        comes && self.cells[other] != self.cells[index] || self.leaves[index] && stays
    }

    /// What edits of a cell's memory are made in.
    fn pages_of(&mut self, cell: Slot) -> &mut Pages {
        match &mut self.whole[cell] {
            Some(whole) => whole,
            None => &mut self.pages[cell],
        }
    }
}
