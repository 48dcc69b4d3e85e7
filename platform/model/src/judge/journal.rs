//! The last things that happened, for the report of a test that fails.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;

use cofferdam::addr::SourceId;

use crate::judge::violation::Violation;

/// How many events are kept.
const KEPT: usize = 256;
/// How many of them a violation carries.
const SHOWN: usize = 12;

/// Something that happened. Kept as a value: text is made only when somebody reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Store { address: u64, old: u64, new: u64 },
    WriteBack { address: u64, bytes: usize },
    Fence,
    Allocate { address: u64, order: u8 },
    Free { address: u64, order: u8 },
    Read { unit: usize, register: Register, value: u64 },
    Write { unit: usize, register: Register, value: u64 },
    Descriptor { unit: usize, slot: u32, words: [u64; 2] },
    Status { address: u64, value: u32 },
    Dma { source: SourceId, address: u64, write: bool, reason: Option<u8> },
    Message { address: u64, data: u32 },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Store { address, old, new } => write!(f, "store      {address:#x}: {old:#x} -> {new:#x}"),
            Self::WriteBack { address, bytes } => write!(f, "write back {address:#x}, {bytes} bytes"),
            Self::Fence => f.write_str("fence"),
            Self::Allocate { address, order } => write!(f, "allocate   {address:#x}, order {order}"),
            Self::Free { address, order } => write!(f, "free       {address:#x}, order {order}"),
            Self::Read { unit, register, value } => write!(f, "unit {unit}     {register} reads {value:#x}"),
            Self::Write { unit, register, value } => write!(f, "unit {unit}     {register} := {value:#x}"),
            Self::Descriptor { unit, slot, words: [low, high] } => {
                write!(f, "unit {unit}     descriptor {slot}: {low:#018x} {high:#018x}")
            }
            Self::Status { address, value } => write!(f, "status     {address:#x} := {value:#x}"),
            Self::Dma { source, address, write, reason } => {
                write!(f, "dma        {source} {} {address:#x}", if write { "writes" } else { "reads" })?;
                reason.map_or(Ok(()), |reason| write!(f, ": blocked, reason {reason:#x}"))
            }
            Self::Message { address, data } => write!(f, "message    {address:#x} := {data:#x}"),
        }
    }
}

/// A register, shown by the name that its unit has for it, or else by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    pub(crate) offset: u32,
    pub(crate) name: Option<&'static str>,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#05x}", self.offset),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: VecDeque<(u64, Event)>,
    pub(crate) now: u64,
    pub(crate) violations: Vec<Violation>,
    /// Messages of units and devices to the interrupt controllers: address and data.
    pub(crate) messages: Vec<(u64, u32)>,
    /// Rules that are not reported.
    forgiven: Vec<&'static str>,
}

impl Journal {
    pub(crate) fn new(forgiven: Vec<&'static str>) -> Self {
        Self { forgiven, ..Self::default() }
    }

    pub(crate) fn push(&mut self, event: Event) {
        // A poll is one event, however long it takes.
        if let Event::Read { unit, register, value } = event
            && let Some((_, Event::Read { unit: u, register: r, value: v })) = self.events.back()
            && (*u, r.offset, *v) == (unit, register.offset, value)
        {
            return;
        }
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back((self.now, event));
    }

    /// A message of a unit or a device gets through to the interrupt controllers.
    pub(crate) fn message(&mut self, address: u64, data: u32) {
        self.push(Event::Message { address, data });
        self.messages.push((address, data));
    }

    /// The last `count` events, one a line.
    pub(crate) fn text(&self, count: usize) -> String {
        let first = self.events.len().saturating_sub(count);
        self.events.iter().skip(first).map(|(at, event)| format!("{at:>9} ns  {event}\n")).collect()
    }

    pub(crate) fn violation(&mut self, rule: &'static str, what: impl fmt::Display) {
        if self.forgiven.contains(&rule) {
            return;
        }
        let violation = Violation { rule, what: what.to_string(), journal: self.text(SHOWN) };
        // One bug tends to repeat; the first report of it says what there is to say.
        if !self.violations.iter().any(|other| other.rule == rule && other.what == violation.what) {
            self.violations.push(violation);
        }
    }
}
