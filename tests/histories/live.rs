//! What sends interrupts, in between and while the driver makes a change: what it is programmed with, another's, and anything.

use std::cell::RefCell;
use std::collections::BTreeSet;

use cofferdam::addr::SourceId;
use cofferdam::interrupt::Message;
use cofferdam_model::Machine;
use cofferdam_support::random::Random;
use cofferdam_support::watched::Call;

use crate::place::Sender;
use crate::routes::Known;

/// Who may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) id: SourceId,
    /// The id that its messages carry.
    pub(crate) carries: SourceId,
    /// In whose name they are taken: that id, or that of the HPET whose function it is.
    pub(crate) taken_as: SourceId,
    /// Index of the unit that they meet.
    pub(crate) unit: usize,
    /// It was not pulled out.
    pub(crate) is_there: bool,
}

/// A source of which something is known.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) sender: Sender,
    pub(crate) origin: Origin,
    /// What it is programmed with, if it is routed already.
    pub(crate) message: Option<Message>,
    pub(crate) known: Known,
}

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) random: Random,
    pub(crate) origins: Vec<Origin>,
    pub(crate) sources: Vec<Source>,
    /// Units that remap interrupts now: the others let all through.
    pub(crate) remapping: Vec<bool>,
    /// The driver makes a change.
    pub(crate) in_change: bool,
    pub(crate) traced: bool,
    /// Ids in whose name something was blocked.
    pub(crate) blocked: BTreeSet<SourceId>,
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
}

impl Default for Live {
    fn default() -> Self {
        Self::new(0, Vec::new(), false)
    }
}

/// At each register that a change writes, and at some of what it stores and waits.
pub(crate) fn before(live: &RefCell<Live>, call: Call, machine: &Machine) {
    let rarely = match call {
        Call::Register => 1,
        Call::Store(_) => 24,
        Call::Pause => 16,
        Call::ConfigRead | Call::ConfigWrite | Call::Other => return,
    };
    let live = &mut *live.borrow_mut();
    if live.in_change && live.random.one_in(rarely) {
        live.send(machine);
    }
}

impl Live {
    /// Nobody sends anything yet.
    pub(crate) fn new(seed: u64, origins: Vec<Origin>, traced: bool) -> Self {
        Self {
            random: Random::new(seed),
            origins,
            sources: Vec::new(),
            remapping: Vec::new(),
            in_change: false,
            traced,
            blocked: BTreeSet::new(),
            sent: 0,
            arrived: 0,
        }
    }

    /// Somebody sends something.
    pub(crate) fn send(&mut self, machine: &Machine) {
        if !self.remapping.contains(&true) {
            return;
        }
        if !self.sources.is_empty() && !self.random.one_in(4) {
            return self.send_own(machine);
        }
        let any = self.random.of(&self.origins);
        let (origin, message) = self.forged(any).unwrap_or_else(|| (any, self.any_message()));
        if !self.may_send(origin) {
            return;
        }
        if let Some(arrival) = self.put(machine, origin, message) {
            let own = self.sources.iter().filter(|source| source.origin.taken_as == origin.taken_as);
            let may = own.flat_map(|source| &source.known.may).any(|it| *it == arrival);
            assert!(may, "{} sends {message:x?}, which is not its own, and reaches {arrival:x?}", origin.id);
        }
    }

    fn may_send(&self, origin: Origin) -> bool {
        origin.is_there && self.remapping[origin.unit]
    }

    /// A source sends what it is programmed with, a timer in the name of any function of its HPET.
    fn send_own(&mut self, machine: &Machine) {
        let source = self.random.index(self.sources.len());
        let Source { sender, origin, message, .. } = self.sources[source];
        let Some(message) = message.filter(|_| self.may_send(origin)) else { return };
        let message = self.numbered(message, sender);
        let is_same = |other: &&Origin| other.taken_as == origin.taken_as && other.unit == origin.unit;
        let origin = match sender {
            Sender::Message(..) => origin,
            Sender::Line(_) => {
                let names: Vec<Origin> = self.origins.iter().filter(is_same).copied().collect();
                self.random.of(&names)
            }
        };
        let arrival = self.put(machine, origin, message);
        let Known { may, must } = &self.sources[source].known;
        match arrival {
            Some(arrival) => assert!(may.contains(&arrival), "{sender:?} arrives as {arrival:x?} instead of {may:x?}"),
            None => assert!(!must, "{sender:?} of {} is lost, with {message:x?}", origin.id),
        }
    }

    /// Message n as a device sends it by MSI, which adds n to the data, or by MSI-X, which has another address for each.
    fn numbered(&mut self, first: Message, sender: Sender) -> Message {
        match sender {
            Sender::Message(_, index) if self.random.one_in(2) => Message { data: u32::from(index), ..first },
            Sender::Message(_, index) => Message { address: first.address + (u64::from(index) << 5), ..first },
            Sender::Line(_) => first,
        }
    }

    /// The message of another, in the name of a function of the same device more often than not, or of anybody.
    fn forged(&mut self, any: Origin) -> Option<(Origin, Message)> {
        if self.sources.is_empty() || self.random.one_in(2) {
            return None;
        }
        let Source { sender, origin, message, .. } = self.sources[self.random.index(self.sources.len())];
        let message = self.numbered(message?, sender);
        let is_near = |other: &&Origin| other.carries.requester() ^ origin.carries.requester() < 8;
        let near = self.origins.iter().filter(is_near).filter(|other| other.taken_as != origin.taken_as);
        let near: Vec<Origin> = near.copied().collect();
        let name = if near.is_empty() || self.random.one_in(4) { any } else { self.random.of(&near) };
        Some((name, message))
    }

    /// Anything in the range of interrupts, mostly what names one of the first entries.
    fn any_message(&mut self) -> Message {
        let (address, data) = (0xfee0_0000 | self.random.below(1 << 18) << 2, self.random.word() as u32);
        match self.random.below(4) {
            0 => Message { address, data },
            1 => Message { address: address & !0x10, data: data & 0xffff },
            _ => Message { address: 0xfee0_0010 | self.random.below(1 << 9) << 2 & 0xfff, data: data & 7 },
        }
    }

    fn put(&mut self, machine: &Machine, origin: Origin, message: Message) -> Option<(u64, u32)> {
        self.sent += 1;
        let result = machine.interrupt(origin.id, message.address as u32, message.data);
        if self.traced {
            crate::tell(format_args!("    {} sends {message:x?}: {result:x?}", origin.id));
        }
        if result.is_ok() {
            self.arrived += 1;
        } else {
            self.blocked.insert(origin.carries);
        }
        result.ok()
    }
}
