//! What the configuration space of all functions held, to be held against what it holds later. Shares no code with the driver.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam_pc::{Block, Pc};
use heapless::Vec;

use crate::capability::extended_capability;
use crate::report::Words;

/// As many functions are noted.
const MOST: usize = 512;
/// A function has so many bytes (PCIe 6.0, section 7.2.2).
const SPACE: u64 = 4096;
/// Command and status (section 7.5.1.1); the upper half is status, where a 1 would clear.
const COMMAND: u16 = 4;
const BUS_MASTER: u32 = 1 << 2;
/// The number of Access Control Services, whose control is the upper half of its second word (section 7.7.11).
const ACS: u16 = 0xd;

/// The registers of all functions, as they were.
#[derive(Debug)]
pub struct Snapshot {
    pc: &'static Pc,
    memory: Block,
    functions: Vec<SourceId, MOST>,
}

/// A register that is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Of this function.
    pub function: SourceId,
    /// Where it is in configuration space.
    pub offset: u16,
    /// What it held.
    pub before: u32,
    /// What it holds.
    pub now: u32,
}

impl Snapshot {
    /// Reads all registers of all functions.
    ///
    /// # Errors
    ///
    /// There are more functions than can be noted, or there is too little memory.
    pub fn take(pc: &'static Pc) -> Result<Self, Words> {
        let mut functions = Vec::new();
        for function in pc.functions() {
            let too_many = |_| Words::new(format_args!("there are more than {MOST} functions"));
            functions.push(function).map_err(too_many)?;
        }
        let bytes = functions.len() as u64 * SPACE;
        let memory = pc.allocate_block(bytes.max(SPACE), SPACE);
        let memory = memory.ok_or_else(|| Words::new(format_args!("no {bytes} bytes for what functions hold")))?;
        let snapshot = Self { pc, memory, functions };
        for (at, function) in snapshot.places() {
            for offset in (0..SPACE).step_by(8) {
                let [low, high] = [0, 4].map(|half| pc.config_read(function, (offset + half) as u16));
                snapshot.memory.write(at + offset, u64::from(high) << 32 | u64::from(low));
            }
        }
        Ok(snapshot)
    }

    /// Keeps every function from reading and writing memory, and gives what is under way a tenth of a second to end. Says how many could.
    pub fn stop_bus_masters(&self) -> u32 {
        let mut stopped = 0;
        for (at, function) in self.places() {
            if self.word(at, COMMAND) & BUS_MASTER != 0 {
                self.pc.disable_bus_master(function);
                stopped += 1;
            }
        }
        self.pc.delay_ns(100_000_000);
        stopped
    }

    /// Has Access Control Services and then the command register of each function be as they were.
    pub fn restore(&self) {
        for (at, function) in self.places() {
            if let Some(control) = self.access_control(function) {
                self.write(function, control, self.word(at, control));
            }
        }
        for (at, function) in self.places() {
            self.write(function, COMMAND, self.word(at, COMMAND) & 0xffff);
        }
    }

    /// Each register that is not as it was.
    pub fn changed(&self) -> impl Iterator<Item = Changed> {
        self.places().flat_map(move |(at, function)| {
            (0..SPACE as u16).step_by(4).filter_map(move |offset| {
                let (before, now) = (self.word(at, offset), self.pc.config_read(function, offset));
                (before != now).then_some(Changed { function, offset, before, now })
            })
        })
    }

    /// Gives the memory back. What it held is gone.
    pub fn free(self) {
        // SAFETY: the memory came from there, and no device was given its address.
        unsafe { self.pc.free_block(self.memory) };
    }

    /// Where the registers of each function are noted.
    fn places(&self) -> impl Iterator<Item = (u64, SourceId)> {
        (0_u64..).step_by(SPACE as usize).zip(self.functions.iter().copied())
    }

    fn word(&self, at: u64, offset: u16) -> u32 {
        let word = self.memory.read(at + u64::from(offset & !7));
        (word >> (u32::from(offset & 4) * 8)) as u32
    }

    fn write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: the function does what it did before, when it held that as well.
        unsafe { self.pc.config_write(function, offset, value) };
    }

    /// The register with the control of Access Control Services, if the function has them.
    fn access_control(&self, function: SourceId) -> Option<u16> {
        extended_capability(self.pc, function, ACS).map(|at| at + 4)
    }
}
