//! What a machine is at a moment, and what devices do to it.
#![forbid(unsafe_code)]

use std::ptr::NonNull;

use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::hal::RegisterWindow;

use crate::board::Board;
use crate::devices::peers;
use crate::devices::tlb::Ats;
use crate::fault::{Fault, Reason};
use crate::judge::journal::Event;
use crate::machine::clock::REGISTER_NS;
use crate::memory::arena::Arena;
use crate::memory::lines::LINE;
use crate::unit::{Arrival, Unit};

pub(super) struct State {
    pub(super) units: Vec<Unit>,
    pub(super) board: Board,
    /// The next moment at which a unit does something by itself.
    pub(super) next_event: u64,
    /// What is left undone is so on purpose.
    pub(super) abandoned: bool,
}

impl State {
    /// Time moves on, and units do what is due.
    pub(super) fn tick(&mut self, ns: u64) {
        let now = self.board.journal.now + ns;
        self.board.journal.now = now;
        if now >= self.next_event {
            self.units.iter_mut().for_each(|unit| unit.run(now, &mut self.board));
            while let Some((source, write)) = self.board.devices.take_late(now) {
                // What is blocked is in the journal.
                let place = |state: &mut Self, at| state.dma(source, at, true);
                let _ = self.transfer_out(Iova::new(write.address), &write.bytes, place);
            }
            self.plan();
        }
    }

    pub(super) fn plan(&mut self) {
        let units = self.units.iter().filter_map(Unit::next_event);
        self.next_event = units.chain(self.board.devices.next_late()).min().unwrap_or(u64::MAX);
    }

    /// A line reaches memory.
    pub(super) fn arrive(&mut self, line: usize, content: [u64; LINE]) {
        let board = &mut self.board;
        let old = board.memory.lines.arrive(line, content);
        let others = self.units.iter_mut().filter(|unit| !unit.snoops());
        others.for_each(|unit| unit.line_arrived(line, content, &old, board));
    }

    /// With a seed, a line may leave the CPU's caches at any time.
    pub(super) fn evict(&mut self) {
        let Some(random) = &mut self.board.random else { return };
        if random.one_in(4)
            && let Some((line, content)) = self.board.memory.evict(random)
        {
            self.arrive(line, content);
        }
    }

    pub(super) fn unit(&mut self, window: RegisterWindow) -> Option<(&mut Unit, &mut Board)> {
        let unit = self.units.iter_mut().find(|unit| unit.window().base == window.base);
        match &unit {
            None => self.board.journal.violation("HAL", format_args!("no unit has its registers at {window}")),
            Some(unit) if unit.window().bytes != window.bytes => {
                let text =
                    format_args!("{window} is taken for {} bytes, but has {}", window.bytes, unit.window().bytes);
                self.board.journal.violation("R6b", text);
            }
            Some(_) => {}
        }
        unit.map(|unit| (unit, &mut self.board))
    }

    /// The word that a pointer of the driver points to, if it may be used.
    pub(super) fn word(&mut self, arena: &Arena, pointer: NonNull<u64>) -> Option<usize> {
        let index = arena.index_of(pointer).filter(|index| self.board.memory.is_allocated(*index));
        if index.is_none() {
            self.board.journal.violation("HAL", "an access outside of the frames that are allocated");
        }
        index
    }

    /// The physical address behind one address of a request.
    pub(super) fn dma(&mut self, source: SourceId, at: u64, write: bool) -> Result<u64, Fault> {
        let taken = peers::taken_by(&self.board.devices, source, at);
        let device = source;
        let source = self.board.devices.requester(source);
        let result = match taken {
            Some(_) => Err(Fault { source, address: Iova::new(at), write, reason: Reason::NoTarget }),
            None => self.at_unit(source, at, |unit, board| unit.request(source, at, write, board)),
        };
        let reason = result.err().map(|fault| fault.reason.code());
        self.board.journal.push(Event::Dma { source, address: at, write, reason });
        result.inspect(|memory| self.board.reached(device, *memory))
    }

    /// An interrupt request of a device.
    pub(super) fn interrupt(&mut self, source: SourceId, address: u64, data: u32) -> Result<(u64, u32), Fault> {
        let sender = source;
        let source = self.board.devices.requester(source);
        let free = Arrival::Message(address, data);
        let result = self.at_unit(source, free, |unit, board| unit.interrupt(source, address, data, board));
        let reason = result.err().map(|fault| fault.reason.code());
        self.board.journal.push(Event::Dma { source, address, write: true, reason });
        result.map(|arrival| match arrival {
            Arrival::Message(address, data) => {
                self.board.sent(sender, address, data);
                (address, data)
            }
            Arrival::Posted { descriptor, notice } => {
                self.board.posted(sender, descriptor);
                notice.inspect(|(address, data)| self.board.journal.message(*address, *data)).unwrap_or_default()
            }
        })
    }

    /// The same for a device that translates for itself: what it has cached, or what it then requests.
    pub(super) fn ats(&mut self, source: SourceId, at: u64, write: bool) -> Result<u64, Fault> {
        if self.board.devices.of(source).tlb.ats.is_some_and(|ats| ats != Ats::On) {
            return self.dma(source, at, write);
        }
        let right = if write { Rights::WRITE } else { Rights::READ };
        let cached = self.board.devices.of(source).tlb.lookup(at, right);
        let result = self.at_unit(source, at, |unit, board| unit.translated(source, at, write, cached, board));
        let reason = result.err().map(|fault| fault.reason.code());
        self.board.journal.push(Event::Dma { source, address: at, write, reason });
        result.inspect(|memory| self.board.reached(source, *memory))
    }

    pub(super) fn transfer_in(
        &mut self,
        address: Iova,
        buffer: &mut [u8],
        place: impl Fn(&mut Self, u64) -> Result<u64, Fault>,
    ) -> Result<(), Fault> {
        let mut places = Vec::new();
        for (start, len) in pages(address.as_u64(), buffer.len()) {
            places.push((place(self, start)?, len));
        }
        let mut rest = buffer;
        for (from, len) in places {
            let (piece, tail) = rest.split_at_mut(len);
            self.board.fetch(from, piece);
            rest = tail;
        }
        Ok(())
    }

    pub(super) fn transfer_out(
        &mut self,
        address: Iova,
        bytes: &[u8],
        place: impl Fn(&mut Self, u64) -> Result<u64, Fault>,
    ) -> Result<(), Fault> {
        let mut places = Vec::new();
        for (start, len) in pages(address.as_u64(), bytes.len()) {
            places.push((place(self, start)?, len));
        }
        let mut rest = bytes;
        for (to, len) in places {
            let (piece, tail) = rest.split_at(len);
            self.board.deposit(to, piece);
            rest = tail;
        }
        Ok(())
    }

    /// Puts a request to the unit that serves its source. Where none does, nothing holds it back, and it ends as `free`.
    fn at_unit<T>(
        &mut self,
        source: SourceId,
        free: T,
        question: impl FnOnce(&mut Unit, &mut Board) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.tick(REGISTER_NS);
        self.evict();
        match self.units.iter_mut().find(|unit| unit.serves(source)) {
            Some(unit) => question(unit, &mut self.board),
            None => Ok(free),
        }
    }
}

impl State {
    /// R11: the queue is on in a unit before a root table is set in it. Nothing is demanded of the order among units (section
    /// 6.9).
    pub(super) fn before_command(&mut self, window: RegisterWindow, offset: u32, value: u32) {
        let is_early = self.unit(window).is_some_and(|(unit, _)| unit.sets_root(offset, value) && !unit.queue_ready());
        if is_early {
            self.board.journal.violation("R11", "a root table is set while the unit's queue is off");
        }
    }
}

/// Splits a range at page boundaries.
fn pages(address: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut at = address;
    let mut left = len;
    std::iter::from_fn(move || {
        let piece = left.min(4096 - (at & 0xfff) as usize);
        let start = at;
        at = at.wrapping_add(piece as u64);
        left -= piece;
        (piece != 0).then_some((start, piece))
    })
}
