//! What devices do: each sees just what its cell has.

use std::collections::BTreeSet;

use cofferdam::addr::{Rights, SourceId};
use cofferdam_model::Machine;

use crate::history::History;
use crate::oracle::Slot;
use crate::stage::is_message;
use cofferdam_support::device::*;

/// How a device reads, or writes.
#[derive(Clone, Copy, Debug)]
enum Access {
    Read(fn(&Machine, SourceId, u64) -> Option<u64>),
    Write(fn(&Machine, SourceId, u64, u64) -> bool),
}

impl Access {
    fn right(self) -> Rights {
        match self {
            Self::Read(_) => Rights::READ,
            Self::Write(_) => Rights::WRITE,
        }
    }
}

impl History<'_> {
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
            _ => self.random.between(first, extent.end - 1),
        }
    }

    /// A device reads or writes, and sees just what its cell has.
    pub(crate) fn dma(&mut self) {
        if self.oracle.slots().next().is_none() {
            return;
        }
        self.done.steps += 1;
        let index = self.random.below(self.oracle.devices.len() as u64) as usize;
        let page = self.page(index);
        let (at, writes) = (page << 12 | self.random.of(&[0, 8, 0xff8]), self.random.one_in(2));
        self.dma_at(index, at, writes);
    }

    pub(crate) fn dma_at(&mut self, index: usize, at: u64, writes: bool) {
        if self.oracle.is_open(index) || self.oracle.devices[index].pulled_out {
            return;
        }
        let device = &self.oracle.devices[index];
        let (id, page, offset, token) = (device.id, at >> 12, at & 0xfff, self.random.word());
        // Through its device-TLB, if it has one, or past it. What looks like an interrupt is never translated.
        let can = device.function.ats.is_some() && !device.lost_ats;
        let through = can && device.tlb && !device.stuck && !is_message(page, page + 1) && !self.random.one_in(3);
        let access = match (writes, through) {
            (true, true) => Access::Write(ats_write),
            (true, false) => Access::Write(write),
            (false, true) => Access::Read(ats_read),
            (false, false) => Access::Read(read),
        };
        let target = self.oracle.target(index, page);
        self.tell(format_args!(
            "{id} {} {at:#x}, through its own TLB: {through}: {target:x?}",
            if writes { "writes" } else { "reads" }
        ));
        if self.oracle.loose(index).next().is_some() {
            let reached = self.dma_loose(index, at, access);
            return self.note_blocked(index, page, reached || through);
        }
        let allowed = target.is_some_and(|(_, rights)| rights.contains(access.right()));
        let may_fail = !allowed || self.oracle.is_short(index);
        let memory = target.map(|(output, _)| output << 12 | offset);
        if let Some(memory) = memory {
            poke(self.machine, memory, token);
        }
        let reached = match access {
            Access::Write(write) => {
                let written = write(self.machine, id, at, !token);
                assert!(if written { allowed } else { may_fail }, "{id} writes {at:#x}: {written}");
                if let Some(memory) = memory {
                    let found = peek(self.machine, memory);
                    assert_eq!(found, if written { !token } else { token }, "{id} writes {at:#x}");
                }
                written
            }
            Access::Read(read) => {
                let found = read(self.machine, id, at);
                let fits = if found.is_some() { allowed && found == Some(token) } else { may_fail };
                assert!(fits, "{id} reads {at:#x}: {found:x?} instead of {:x?}", allowed.then_some(token));
                found.is_some()
            }
        };
        if let Some(memory) = memory.filter(|_| reached) {
            self.check_alone(index, memory);
        }
        // Who asks before is no fault.
        self.note_blocked(index, page, reached || through);
    }

    /// The same behind a unit that failed: the device is blocked, or reaches what it had before or was to have.
    fn dma_loose(&mut self, index: usize, at: u64, access: Access) -> bool {
        let (id, page, offset) = (self.oracle.devices[index].id, at >> 12, at & 0xfff);
        let had = self.oracle.loose(index).map(|pages| pages.at(page));
        let targets = had.chain([self.oracle.granted(index, page)]).flatten();
        let allowed: BTreeSet<u64> = targets
            .filter(|(_, rights)| rights.contains(access.right()))
            .map(|(output, _)| output << 12 | offset)
            .collect();
        let token = self.random.word();
        for (number, memory) in allowed.iter().enumerate() {
            poke(self.machine, *memory, token ^ number as u64);
        }
        match access {
            Access::Write(write) => {
                let reached = write(self.machine, id, at, !token);
                if reached {
                    let written = allowed.iter().filter(|memory| peek(self.machine, **memory) == !token).count();
                    assert_eq!(written, 1, "{id} writes {at:#x}, which it was never granted");
                    let memory = allowed.into_iter().find(|memory| peek(self.machine, *memory) == !token);
                    self.check_alone(index, memory.expect("it was written"));
                }
                reached
            }
            Access::Read(read) => {
                let found = read(self.machine, id, at);
                if let Some(found) = found {
                    let known = (0..allowed.len()).find(|number| found == token ^ *number as u64);
                    let known = known.unwrap_or_else(|| panic!("{id} reads {at:#x}, which it was never granted"));
                    let memory = allowed.into_iter().nth(known).expect("it is below the length");
                    self.check_alone(index, memory);
                }
                found.is_some()
            }
        }
    }

    /// Notes a request that was blocked, unless it is one of those that are muted. What looks like an interrupt is none of them.
    fn note_blocked(&mut self, index: usize, page: u64, reached: bool) {
        let carries = self.oracle.devices[index].function.carries;
        let is_muted = self.oracle.muted.contains(&carries) && !self.unsure.contains(&carries);
        if !reached && (!is_muted || is_message(page, page + 1)) {
            self.blocked.insert(carries);
        }
    }

    /// Fails if memory that a device reaches is reached by a device of another cell, too, by whatever that was ever granted,
    /// unless both cells share it. Looked at where something is broken: else each device reaches just what its cell has.
    fn check_alone(&mut self, index: usize, memory: u64) {
        let Some(own) = self.oracle.cell_of(index).filter(|_| self.broken.is_some()) else { return };
        let page = memory >> 12;
        let shared = self.oracle.shares(index, page);
        for other in 0..self.oracle.devices.len() {
            let is_silent = self.oracle.is_open(other) || self.oracle.devices[other].pulled_out;
            if self.oracle.cell_of(other) == Some(own) || is_silent {
                continue;
            }
            for input in self.oracle.inputs_of(other, page, shared).into_iter().take(4) {
                let (id, token) = (self.oracle.devices[other].id, self.random.word());
                poke(self.machine, memory, !token);
                let at = input << 12 | memory & 0xfff;
                let written = write(self.machine, id, at, token);
                let reaches = written && peek(self.machine, memory) == token;
                self.note_blocked(other, input, written);
                let first = self.oracle.devices[index].id;
                assert!(!reaches, "{first} and {id} (at {at:#x}) both reach {memory:#x}, and are of different cells");
            }
        }
    }
}
