//! What the configuration space of all functions held, to be held against what it holds later. Shares no code with the driver.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam_pc::{Block, Pc};
use heapless::Vec;

use crate::config_space::{EXPRESS, capability, extended_capability};
use crate::report::Words;
use crate::sr_iov::has_virtual_functions;

/// As many functions are noted.
const MOST: usize = 512;
/// A function has so many bytes (PCIe 6.0, section 7.2.2).
const SPACE: u64 = 4096;
/// Command and status (section 7.5.1.1); the upper half is status, where a 1 would clear.
const COMMAND: u16 = 4;
const BUS_MASTER: u32 = 1 << 2;
/// The upper half of this is status in a bridge, too (PCI-to-PCI Bridge Architecture 1.2, section 3.2.5.7).
const SECONDARY_STATUS: u16 = 0x1c;
const HEADER_TYPE: u16 = 0x0c;
/// Buses of a bridge: the one behind it and the last one behind it, in its bytes 1 and 2.
const BUSES: u16 = 0x18;
/// What of the PCI Express capability is status, in upper halves (PCIe 6.0, section 7.5.3): of the device, the link, the slot; and the
/// root port's, all of it.
const EXPRESS_STATUS: [u16; 3] = [8, 0x10, 0x18];
const ROOT_STATUS: u16 = 0x20;
/// The number of Advanced Error Reporting, and which of its registers log errors (section 7.8.4).
const ERRORS: u16 = 1;
const ERROR_LOGS: [u16; 8] = [4, 0x10, 0x1c, 0x20, 0x24, 0x28, 0x30, 0x34];
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
    /// There is none that is shown, there are more than can be noted, or some are out of reach: behind a bridge to buses without
    /// configuration space, or virtual ones. Or there is too little memory.
    pub fn take(pc: &'static Pc) -> Result<Self, Words> {
        let mut functions = Vec::new();
        for function in pc.functions_that_answer() {
            let too_many = |_| Words::new(format_args!("there are more than {MOST} functions"));
            functions.push(function).map_err(too_many)?;
            check_all_are_shown(pc, function)?;
        }
        if functions.is_empty() {
            return Err(Words::new(format_args!("firmware's MCFG table leads to no function")));
        }
        let bytes = functions.len() as u64 * SPACE;
        let memory = pc.allocate_block(bytes.max(SPACE), SPACE);
        let memory = memory.ok_or_else(|| Words::new(format_args!("no {bytes} bytes for what functions hold")))?;
        let snapshot = Self { pc, memory, functions };
        for (at, function) in snapshot.places() {
            for offset in (0..space(pc, function)).step_by(8) {
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

    /// Each register that is not as it was, apart from what devices note there by themselves: status, and logs of errors.
    pub fn changed(&self) -> impl Iterator<Item = Changed> {
        self.places().flat_map(move |(at, function)| {
            let live = Live::of(self.pc, function);
            (0..space(self.pc, function) as u16).step_by(4).filter_map(move |offset| {
                let (before, now) = (self.word(at, offset), self.pc.config_read(function, offset));
                let differs = (before ^ now) & !live.bits(offset) != 0;
                differs.then_some(Changed { function, offset, before, now })
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

/// How much of configuration space a function has: without PCI Express, a look beyond 256 bytes is an error on its bus.
fn space(pc: &Pc, function: SourceId) -> u64 {
    if capability(pc, function, EXPRESS).is_some() { SPACE } else { 256 }
}

fn is_bridge(pc: &Pc, function: SourceId) -> bool {
    pc.config_read(function, HEADER_TYPE) >> 16 & 0x7f == 1
}

/// Fails if a function leads to others that cannot be noted.
fn check_all_are_shown(pc: &'static Pc, function: SourceId) -> Result<(), Words> {
    let [_, first, last, _] = pc.config_read(function, BUSES).to_le_bytes();
    if is_bridge(pc, function) && first != 0 {
        let has = |bus| pc.buses().any(|it| it == (function.segment(), bus));
        if let Some(bus) = (first..=last).find(|bus| !has(*bus)) {
            return Err(Words::new(format_args!(
                "behind {function} is bus {bus:02x}, of which firmware's MCFG table shows no configuration space"
            )));
        }
    }
    if has_virtual_functions(pc, function) {
        return Err(Words::new(format_args!("{function} has virtual functions on, which are not noted")));
    }
    Ok(())
}

/// Where a function's capabilities are that it writes to by itself.
#[derive(Clone, Copy, Debug)]
struct Live {
    is_bridge: bool,
    express: Option<u16>,
    errors: Option<u16>,
}

impl Live {
    fn of(pc: &Pc, function: SourceId) -> Self {
        Self {
            is_bridge: is_bridge(pc, function),
            express: capability(pc, function, EXPRESS),
            errors: extended_capability(pc, function, ERRORS),
        }
    }

    /// The bits of a register that the function changes by itself.
    fn bits(&self, offset: u16) -> u32 {
        const UPPER: u32 = 0xffff_0000;
        let within = |start: Option<u16>| start.and_then(|start| offset.checked_sub(start));
        match (within(self.express), within(self.errors)) {
            _ if offset == COMMAND || self.is_bridge && offset == SECONDARY_STATUS => UPPER,
            (_, Some(at)) if ERROR_LOGS.contains(&at) => u32::MAX,
            (Some(ROOT_STATUS), _) => u32::MAX,
            (Some(at), _) if EXPRESS_STATUS.contains(&at) => UPPER,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_writes_by_itself_is_no_change() {
        let plain = Live { is_bridge: false, express: None, errors: None };
        assert_eq!((plain.bits(COMMAND), plain.bits(SECONDARY_STATUS), plain.bits(0x48)), (0xffff_0000, 0, 0));
        let port = Live { is_bridge: true, express: Some(0x40), errors: Some(0x100) };
        assert_eq!(port.bits(SECONDARY_STATUS), 0xffff_0000);
        // Device, link and slot control are in the lower halves; the capabilities are before them.
        let of_express = [0x40, 0x44, 0x48, 0x4c, 0x50, 0x58, 0x5c, 0x60].map(|at| port.bits(at));
        assert_eq!(of_express, [0, 0, 0xffff_0000, 0, 0xffff_0000, 0xffff_0000, 0, u32::MAX]);
        // Masks and severities of errors are no logs.
        let of_errors = [0x100, 0x104, 0x108, 0x10c, 0x110, 0x114, 0x118].map(|at| port.bits(at));
        assert_eq!(of_errors, [0, u32::MAX, 0, 0, u32::MAX, 0, 0]);
    }
}
