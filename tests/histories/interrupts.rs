//! Interrupts as a dimension of a history: what is asked of the driver for them, and what is known of them.

use std::collections::BTreeMap;

use cofferdam::addr::SourceId;
use cofferdam::interrupt::{Message, Source, Trigger};
use cofferdam::iommu::UnitState;
use cofferdam_model::Targets;

use crate::history::History;
use crate::lines::{HPET_FUNCTION, Line};
use crate::live::{self, Origin};
use crate::oracle::{Device, Edit, Slot};
use crate::place::{Place, Sender};
use crate::stage::After;

/// The number of the function beside each device that has number 0.
const BESIDE: u16 = 5;

/// All that may send interrupts: devices, then lines, both in order; functions beside devices, which belong to nobody; and another
/// function of an HPET.
pub(crate) fn origins(devices: &[Device], lines: &[Line], units: usize) -> Vec<Origin> {
    let of_device = |device: &Device| {
        let carries = device.function.carries;
        Origin { id: device.id, carries, taken_as: carries, unit: device.function.meets, is_there: true }
    };
    let of_line = |line: &Line| {
        let id = line.requester;
        Origin { id, carries: id, taken_as: id, unit: line.unit, is_there: true }
    };
    // A unit may serve one function of bus 0 alone, and those beside it are behind the last.
    let is_alone = |device: &&Device| !device.function.grouped && (device.id.bus() != 0 || device.unit == units - 1);
    let beside = devices.iter().filter(is_alone).map(|device| {
        let id = SourceId::from_requester(device.id.segment(), device.id.requester() | BESIDE);
        Origin { id, carries: id, taken_as: id, unit: device.unit, is_there: true }
    });
    let all = devices.iter().map(of_device).chain(lines.iter().map(of_line)).chain(beside);
    let hpet = lines.iter().find(|line| matches!(line.source, Source::Timer { .. })).map(of_line);
    all.chain(hpet.map(|hpet| Origin { id: HPET_FUNCTION, carries: HPET_FUNCTION, ..hpet })).collect()
}

impl History<'_> {
    pub(crate) fn remaps(&self) -> bool {
        self.oracle.x2apic.is_some()
    }

    /// Something sends an interrupt, or the driver says what a source is to be programmed with.
    pub(crate) fn interrupt(&mut self) {
        self.done.steps += 1;
        if self.random.one_in(8) {
            self.look_at_programs();
        }
        self.live.borrow_mut().send(self.machine);
        self.take_blocked();
    }

    /// A route that a cell may have, or one less, more often than not.
    pub(crate) fn suggest_route(&mut self, edits: &mut Vec<Edit>) {
        let slots: Vec<Slot> = self.oracle.slots().collect();
        let any = self.random.of(&slots);
        let routed: Vec<Sender> = self.oracle.routes.now.keys().copied().collect();
        if !routed.is_empty() && self.random.one_in(4) {
            let sender = self.random.of(&routed);
            let cell = self.cell_of_sender(sender, edits).unwrap_or(any);
            edits.push(Edit::Unroute(cell, sender));
            if self.random.one_in(2) {
                return;
            }
            // It may come to another cell at once.
            let cell = if matches!(sender, Sender::Line(_)) { any } else { cell };
            let place = self.place(cell, sender);
            return edits.push(Edit::Route(cell, sender, place));
        }
        let devices = &self.oracle.devices;
        let own = edits.iter().filter_map(|edit| match *edit {
            Edit::Assign(device, _, _, messages) if messages != 0 => Some(device),
            _ => None,
        });
        let held = (0..devices.len()).filter(|device| self.oracle.routes.messages[*device] != 0);
        let held: Vec<usize> = held.filter(|device| devices[*device].cell.is_some()).chain(own).collect();
        let sender = if held.is_empty() || self.random.one_in(3) {
            Sender::Line(self.random.index(self.oracle.lines.len()))
        } else {
            let device = self.random.of(&held);
            let messages = u64::from(self.oracle.routes.messages[device]).max(2);
            let count = if self.random.one_in(16) { 32 } else { messages };
            Sender::Message(device, self.random.below(count) as u16)
        };
        let cell = self.cell_of_sender(sender, edits).filter(|_| !self.random.one_in(16)).unwrap_or(any);
        let place = self.place(cell, sender);
        edits.push(Edit::Route(cell, sender, place));
    }

    fn cell_of_sender(&self, sender: Sender, edits: &[Edit]) -> Option<Slot> {
        let arrives = |device: usize| {
            edits.iter().rev().find_map(|edit| match *edit {
                Edit::Assign(other, cell, ..) if other == device => Some(cell),
                _ => None,
            })
        };
        match sender {
            Sender::Message(device, _) => arrives(device).or(self.oracle.devices[device].cell),
            Sender::Line(line) => self.oracle.cells_of_line(line, None).next(),
        }
    }

    /// CPUs and a vector, mostly of the cell's own.
    fn place(&mut self, cell: Slot, sender: Sender) -> Place {
        let slots: Vec<Slot> = self.oracle.slots().collect();
        let whose = if self.random.one_in(16) { self.random.of(&slots) } else { cell };
        let Targets { cpus, flat_ids, vectors } = self.oracle.cell(whose).targets.clone();
        let cpus = &cpus[self.random.index(cpus.len())];
        let id = self.random.between((*cpus.start()).into(), (*cpus.end()).into()) as u32;
        let first = if self.random.one_in(16) { 0 } else { 16 };
        let vector = self.random.between(first.max((*vectors.start()).into()), (*vectors.end()).into()) as u8;
        let logical = self.random.one_in(5);
        let id = match flat_ids {
            _ if self.random.one_in(64) => self.random.of(&[0xff, u32::MAX, 0]),
            _ if !logical => id,
            Some(flat) => u32::from(flat) | u32::from(self.random.one_in(16)),
            None => id >> 4 << 16 | 1 << (id & 15) | u32::from(self.random.one_in(4)) << 3,
        };
        let is_pin = matches!(self.oracle.source_of(sender), Source::Pin { .. });
        let level = self.random.one_in(if is_pin { 3 } else { 60 });
        Place { vector, id, logical, lowest: self.random.one_in(4), level }
    }

    /// What is known of interrupts from now on: now, or while a change runs that leads to `after`.
    pub(crate) fn know_routes(&mut self, after: Option<&After>) {
        if !self.remaps() {
            return;
        }
        let oracle = &self.oracle;
        let mut live = self.live.borrow_mut();
        live.remapping = oracle.units.iter().map(|unit| unit.remaps && !unit.open).collect();
        let source = |(sender, known)| {
            let (first, origin) = match sender {
                Sender::Message(device, _) => (Sender::Message(device, 0), live.origins[device]),
                Sender::Line(line) => (sender, live.origins[oracle.devices.len() + line]),
            };
            live::Source { sender, origin, message: self.programs.get(&first).copied(), known }
        };
        let sources = oracle.known_routes(after).into_iter().map(source).collect();
        live.sources = sources;
        let targets = oracle.slots().map(|slot| (oracle.cell(slot).number, oracle.cell(slot).targets.clone()));
        let owned = oracle.owners(after).map(|(origin, slot)| (live.origins[origin].id, oracle.cell(slot).number));
        let mut owned: Vec<_> = owned.collect();
        // What is another function of an HPET is owned with it.
        let hpet = live.origins.last().filter(|last| last.id == HPET_FUNCTION).map(|last| last.taken_as);
        let more: Vec<_> =
            owned.iter().filter(|(id, _)| Some(*id) == hpet).map(|(_, it)| (HPET_FUNCTION, *it)).collect();
        owned.extend(more);
        self.machine.set_targets(targets, owned);
    }

    /// Has sources send while the driver makes a change.
    pub(crate) fn while_sending<R>(&mut self, after: Option<&After>, change: impl FnOnce(&mut Self) -> R) -> R {
        self.know_routes(after);
        self.live.borrow_mut().in_change = self.remaps();
        let result = change(self);
        self.live.borrow_mut().in_change = false;
        self.take_blocked();
        result
    }

    pub(crate) fn take_blocked(&mut self) {
        let mut live = self.live.borrow_mut();
        self.blocked.append(&mut live.blocked);
        (self.done.sent, self.done.arrived) = (live.sent, live.arrived);
    }

    /// Units that have confirmed all that they were asked have forgotten what they knew.
    pub(crate) fn confirm_routes(&mut self) {
        if self.remaps() {
            let is_confirmed =
                |unit: &cofferdam::iommu::RemappingUnit| unit.state == UnitState::On && !unit.needs_flush;
            let confirmed: Vec<bool> = self.iommu.units().map(|unit| is_confirmed(&unit)).collect();
            self.oracle.confirm_routes(|unit| confirmed[unit]);
            self.oracle.free_lines(|unit| confirmed[unit]);
        }
    }

    /// What is programmed into sources that came or left is not what it was.
    pub(crate) fn forget_programs(&mut self, after: &After) {
        let renewed: Vec<Sender> = self.oracle.renewed(after).collect();
        self.programs.retain(|sender, _| !renewed.contains(sender));
    }

    /// Fails unless the driver lists what is routed; and programs sources that are new.
    pub(crate) fn look_at_routes(&mut self) {
        if !self.remaps() {
            return;
        }
        self.confirm_routes();
        let mut listed = BTreeMap::new();
        self.iommu.routes(|it| listed.extend([(it.source.to_string(), (it.cell, it.course.route()))])).unwrap();
        for (sender, place) in &self.oracle.routes.now {
            let cell = match *sender {
                Sender::Message(device, _) => self.oracle.devices[device].cell,
                Sender::Line(line) => self.oracle.routes.lines[line].cell,
            };
            let cell = self.oracle.cell(cell.expect("what is routed has a cell")).id;
            let source = self.oracle.source_of(*sender);
            let found = listed.remove(&source.to_string());
            assert_eq!(found, Some((cell, Some(place.route()))), "the route of {source}");
        }
        assert!(listed.is_empty(), "these are not routed: {listed:?}");
        let senders = self.oracle.routes.now.keys().map(|sender| match *sender {
            Sender::Message(device, _) => Sender::Message(device, 0),
            line @ Sender::Line(_) => line,
        });
        let new: Vec<Sender> = senders.filter(|sender| !self.programs.contains_key(sender)).collect();
        for sender in new {
            let message = self.message(sender);
            self.programs.insert(sender, message);
        }
        self.know_routes(None);
    }

    /// What the driver says that a source is to send.
    fn message(&self, sender: Sender) -> Message {
        let Source::Pin { io_apic, pin } = self.oracle.source_of(sender) else {
            return self.iommu.message(self.oracle.source_of(sender)).unwrap();
        };
        let entry = self.iommu.redirection(io_apic, pin).unwrap();
        let route = self.oracle.routes.now[&sender].route();
        assert_eq!(entry as u8, route.vector, "the vector with which an EOI is compared");
        assert_eq!(entry >> 15 & 1 == 1, route.trigger == Trigger::Level);
        assert_eq!(entry >> 8 & 7 | entry >> 16 & 1, 0, "the delivery mode, and the mask");
        let address = 0xfee0_0010 | (entry >> 49 & 0x7fff) << 5 | (entry >> 11 & 1) << 2;
        Message { address, data: entry as u32 & 0xff }
    }

    /// Fails unless sources are to send what they were before.
    fn look_at_programs(&self) {
        for (sender, programmed) in &self.programs {
            if self.oracle.routes.now.contains_key(sender) {
                let now = self.message(*sender);
                assert_eq!(now.address, programmed.address, "{sender:?} is to send something else");
            }
        }
    }
}
