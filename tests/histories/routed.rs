//! What becomes of routes: by a change that was made or that failed, and by a unit that has confirmed, or is forgotten.

use crate::oracle::Oracle;
use crate::place::Sender;
use crate::routes::{Held, Staged};
use crate::stage::After;

impl Oracle {
    /// Sources of which it is not known any more what they are programmed with: those that came, or left.
    pub(crate) fn renewed(&self, after: &After) -> impl Iterator<Item = Sender> {
        let devices = (0..self.devices.len()).map(|device| Sender::Message(device, 0));
        let lines = (0..self.lines.len()).map(Sender::Line);
        devices.chain(lines).filter(|sender| !Self::stays(after, *sender))
    }

    /// Takes over what is routed by a change that was made.
    pub(crate) fn commit_routes(&mut self, after: &After) {
        let Staged { now, messages, lines, named, .. } = &after.routes;
        for (line, held) in self.routes.lines.iter_mut().enumerate() {
            held.cell = lines[line];
            held.perhaps.retain(|cell| !named[line] && !after.doomed[*cell]);
        }
        (self.routes.now, self.routes.messages) = (now.clone(), messages.clone());
    }

    /// Takes over what is left of a change that failed: what was to go elsewhere goes where it went, and nothing else goes anywhere.
    /// Behind `suspects` it may go where it was to go, or went.
    pub(crate) fn fail_routes(&mut self, after: &After, suspects: &[bool]) {
        let before = std::mem::take(&mut self.routes.now);
        for (sender, place) in before.iter().chain(&after.routes.now) {
            if suspects[self.unit_of(*sender)] && before.get(sender) != after.routes.now.get(sender) {
                self.routes.loose.entry(*sender).or_default().push(*place);
            }
        }
        let is_left = |sender: &Sender| after.routes.now.contains_key(sender) && Self::stays(after, *sender);
        self.routes.now = before.into_iter().filter(|(sender, _)| is_left(sender)).collect();
        for line in 0..self.lines.len() {
            let (now, is_suspect) = (after.routes.lines[line], suspects[self.lines[line].unit]);
            let held = &mut self.routes.lines[line];
            if after.routes.left[line] || now != held.cell {
                let cells = held.cell.take().into_iter().chain(now).filter(|_| is_suspect);
                held.perhaps.extend(cells);
            }
        }
        let messages = self.routes.messages.iter_mut().zip(&after.routes.messages);
        messages.for_each(|(before, after)| *before = (*before).max(*after));
    }

    /// A device is blocked, with all that share a source-id with it: what they send goes nowhere; behind a suspect it may go where it
    /// went.
    pub(crate) fn cut_routes(&mut self, index: usize, is_suspect: bool) {
        let mut cut: Vec<usize> = self.sharing(index).collect();
        cut.push(index);
        let is_cut = |sender: &Sender| matches!(sender, Sender::Message(device, _) if cut.contains(device));
        for (sender, place) in self.routes.now.iter().filter(|(sender, _)| is_suspect && is_cut(sender)) {
            self.routes.loose.entry(*sender).or_default().push(*place);
        }
        self.routes.now.retain(|sender, _| !is_cut(sender));
    }

    /// Units have confirmed all that they were asked, or had a reset: nothing goes where it went before.
    pub(crate) fn confirm_routes(&mut self, is_confirmed: impl Fn(usize) -> bool) {
        let loose = std::mem::take(&mut self.routes.loose);
        self.routes.loose = loose.into_iter().filter(|(sender, _)| !is_confirmed(self.unit_of(*sender))).collect();
    }

    /// The lines of units that have confirmed all that they were asked are free for any cell, if they go nowhere.
    pub(crate) fn free_lines(&mut self, is_confirmed: impl Fn(usize) -> bool) {
        let lines = self.routes.lines.iter_mut().zip(&self.lines).filter(|(_, line)| is_confirmed(line.unit));
        lines.for_each(|(held, _)| held.perhaps.clear());
    }

    /// A unit is out of service, and its devices and lines are without power: they send nothing, and go nowhere.
    pub(crate) fn forget_routes(&mut self, unit: usize) {
        let (lines, devices) = (&self.lines, &self.devices);
        let is_behind = |sender: &Sender| match *sender {
            Sender::Message(device, _) => devices[device].unit == unit,
            Sender::Line(line) => lines[line].unit == unit,
        };
        self.routes.now.retain(|sender, _| !is_behind(sender));
        self.routes.loose.retain(|sender, _| !is_behind(sender));
        let held = self.routes.lines.iter_mut().zip(lines).filter(|(_, line)| line.unit == unit);
        held.for_each(|(held, _)| *held = Held::default());
        let messages = self.routes.messages.iter_mut().zip(devices).filter(|(_, device)| device.unit == unit);
        messages.for_each(|(messages, _)| *messages = 0);
    }
}
