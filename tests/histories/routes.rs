//! Where interrupts go, in plain maps: what each source has, and where it may still go since a unit failed.

use std::collections::BTreeMap;

use cofferdam::interrupt::Source;

use crate::oracle::{Edit, Oracle, Slot};
use crate::place::{Arrival, Place, Sender};
use crate::stage::After;

/// Below are the CPU's exceptions.
const FIRST_VECTOR: u8 = 16;

/// A pin or a timer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// The cell that has it.
    pub(crate) cell: Option<Slot>,
    /// The cells of which one may have it, and goes nowhere by it: a change failed that was to take it, or to give it.
    pub(crate) perhaps: Vec<Slot>,
}

/// What is routed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    pub(crate) now: BTreeMap<Sender, Place>,
    /// How many messages each device has in its cell.
    pub(crate) messages: Vec<u16>,
    pub(crate) lines: Vec<Held>,
    /// Where else interrupts may go behind a unit that failed.
    pub(crate) loose: BTreeMap<Sender, Vec<Place>>,
}

/// What is routed once a change is made.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) now: BTreeMap<Sender, Place>,
    pub(crate) messages: Vec<u16>,
    pub(crate) lines: Vec<Option<Slot>>,
    /// Lines that leave their cell, though they may come to it again.
    pub(crate) left: Vec<bool>,
    /// Lines that are routed, or no more.
    pub(crate) named: Vec<bool>,
    /// Something is routed elsewhere that leaves in the same change: the driver looks at its unit all the same.
    pub(crate) in_vain: bool,
}

/// Where interrupts may arrive, and whether they have to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) may: Vec<Arrival>,
    pub(crate) must: bool,
}

impl Staged {
    pub(crate) fn of(routes: &Routes) -> Self {
        let none = vec![false; routes.lines.len()];
        Self {
            now: routes.now.clone(),
            messages: routes.messages.clone(),
            lines: routes.lines.iter().map(|line| line.cell).collect(),
            left: none.clone(),
            named: none,
            in_vain: false,
        }
    }

    /// A device leaves its cell with all its routes.
    pub(crate) fn leave(&mut self, before: &Routes, device: usize) {
        self.messages[device] = 0;
        self.remove(before, |sender| matches!(sender, Sender::Message(other, _) if other == device));
    }

    /// All lines of a cell leave it.
    pub(crate) fn leave_lines(&mut self, before: &Routes, cell: Slot) {
        for line in 0..self.lines.len() {
            if self.lines[line] == Some(cell) {
                self.leave_line(before, line);
            }
        }
    }

    fn leave_line(&mut self, before: &Routes, line: usize) {
        (self.lines[line], self.left[line], self.named[line]) = (None, true, true);
        self.remove(before, |sender| sender == Sender::Line(line));
    }

    fn remove(&mut self, before: &Routes, is_removed: impl Fn(Sender) -> bool) {
        self.in_vain |= self.now.iter().any(|(sender, place)| is_removed(*sender) && is_news(before, *sender, *place));
        self.now.retain(|sender, _| !is_removed(*sender));
    }
}

fn is_news(before: &Routes, sender: Sender, place: Place) -> bool {
    before.now.get(&sender) != Some(&place)
}

impl Oracle {
    pub(crate) fn unit_of(&self, sender: Sender) -> usize {
        match sender {
            Sender::Message(device, _) => self.devices[device].unit,
            Sender::Line(line) => self.lines[line].unit,
        }
    }

    pub(crate) fn source_of(&self, sender: Sender) -> Source {
        match sender {
            Sender::Message(device, index) => Source::Message { device: self.devices[device].id, index },
            Sender::Line(line) => self.lines[line].source,
        }
    }

    pub(crate) fn stage_route(
        &self,
        after: &mut After,
        cell: Slot,
        sender: Sender,
        place: Place,
    ) -> Result<(), &'static str> {
        let (address, data) = place.arrival();
        if place.vector < FIRST_VECTOR || !self.cell(cell).targets.have(address, data) {
            return Err("the cell has no such CPU, or no such vector");
        }
        if place.level && !matches!(self.source_of(sender), Source::Pin { .. }) {
            return Err("a message has no level");
        }
        match sender {
            Sender::Message(device, index) => self.check_held(after, cell, device, index)?,
            Sender::Line(line) if !self.units[self.lines[line].unit].remaps => return Err("its unit remaps nothing"),
            Sender::Line(line) if after.routes.lines[line].is_some_and(|other| other != cell) => {
                return Err("another cell has it routed");
            }
            Sender::Line(line) => (after.routes.lines[line], after.routes.named[line]) = (Some(cell), true),
        }
        after.routes.now.insert(sender, place);
        Ok(())
    }

    pub(crate) fn stage_unroute(&self, after: &mut After, cell: Slot, sender: Sender) -> Result<(), &'static str> {
        match sender {
            Sender::Message(device, index) => {
                self.check_held(after, cell, device, index)?;
                after.routes.now.remove(&sender).map(drop).ok_or("nothing is routed for it")
            }
            Sender::Line(line) => {
                let is_perhaps = !after.routes.named[line] && self.routes.lines[line].perhaps.contains(&cell);
                if after.routes.lines[line] != Some(cell) && !is_perhaps {
                    return Err("the cell does not have it routed");
                }
                after.routes.leave_line(&self.routes, line);
                Ok(())
            }
        }
    }

    fn check_held(&self, after: &After, cell: Slot, device: usize, index: u16) -> Result<(), &'static str> {
        let is_held = after.cells[device] == Some(cell) && (after.arrives[device] || !self.devices[device].stuck);
        let messages = after.routes.messages[device];
        let has_so_many = messages != 0 && index < messages.next_power_of_two();
        if is_held && has_so_many { Ok(()) } else { Err("the cell does not have the device with so many messages") }
    }

    /// True if a source stays where it is, whatever becomes of its route.
    pub(crate) fn stays(after: &After, sender: Sender) -> bool {
        match sender {
            Sender::Message(device, _) => !after.leaves[device] && !after.arrives[device],
            Sender::Line(line) => !after.routes.left[line],
        }
    }

    /// The units behind which something is to be routed, or elsewhere; what leaves and comes again is routed as if for the first time.
    pub(crate) fn routed_behind(&self, after: &After) -> impl Iterator<Item = usize> {
        let is_routed = |sender, place| is_news(&self.routes, sender, place) || !Self::stays(after, sender);
        let news = after.routes.now.iter().filter(move |(sender, place)| is_routed(**sender, **place));
        news.map(|(sender, _)| self.unit_of(*sender))
    }

    /// True if edits are to route something behind a unit that `failed`.
    pub(crate) fn routes_behind(&self, edits: &[Edit], failed: &[bool]) -> bool {
        edits.iter().any(|edit| matches!(*edit, Edit::Route(_, sender, _) if failed[self.unit_of(sender)]))
    }

    /// Where each source's interrupts may arrive, and whether they have to: now, or while a change runs that leads to `after`.
    pub(crate) fn known_routes(&self, after: Option<&After>) -> BTreeMap<Sender, Known> {
        let mut all: BTreeMap<Sender, Known> = BTreeMap::new();
        let loose =
            self.routes.loose.iter().flat_map(|(sender, places)| places.iter().map(move |place| (sender, place)));
        let after_it = after.into_iter().flat_map(|after| &after.routes.now);
        for (sender, place) in self.routes.now.iter().chain(loose).chain(after_it) {
            let (may, arrival) = (&mut all.entry(*sender).or_default().may, place.arrival());
            if !may.contains(&arrival) {
                may.push(arrival);
            }
        }
        for sender in self.routes.now.keys() {
            let must = after.is_none_or(|after| after.routes.now.contains_key(sender) && Self::stays(after, *sender));
            all.entry(*sender).or_default().must = must;
        }
        all
    }

    /// The cells of a line, now or once a change is made.
    pub(crate) fn cells_of_line<'a>(
        &'a self,
        line: usize,
        after: Option<&'a After>,
    ) -> impl Iterator<Item = Slot> + 'a {
        let held = &self.routes.lines[line];
        let after = after.and_then(|after| after.routes.lines[line]);
        held.cell.into_iter().chain(held.perhaps.iter().copied()).chain(after)
    }

    /// The lines behind units that `failed`.
    pub(crate) fn lines_behind(&self, failed: &[bool]) -> impl Iterator<Item = &Held> {
        let lines = self.routes.lines.iter().zip(&self.lines);
        lines.filter(|(_, line)| failed[line.unit]).map(|(held, _)| held)
    }

    /// True if the table may be full: blocks of messages are powers of two, and those that leave are there to the end of a change.
    pub(crate) fn may_lack_slots(&self, after: &After) -> bool {
        let all = self.routes.messages.iter().chain(&after.routes.messages).filter(|count| **count != 0);
        all.map(|count| u32::from(count.next_power_of_two()).max(8)).sum::<u32>() > 128
    }
}
