//! QEMU's `igb` device (8086:10c9), a network card without a network: its physical function, by which its virtual ones send packets to
//! each other (Intel 82576EB Gigabit Ethernet Controller Datasheet, section 7.10.3).

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam_pc::{Mmio, Pc};

use crate::config_space::functions_of;

const VENDOR_DEVICE: u32 = 0x10c9_8086;

/// Registers, and what is set there: the link is to be up; reception and transmission are on; a queue is for each virtual
/// function; packets among them stay in the card; which functions may receive and transmit.
const DEVICE_CONTROL: u64 = 0x0000;
const SET_LINK_UP: u32 = 1 << 6;
const RECEIVE: u64 = 0x0100;
const TRANSMIT: u64 = 0x0400;
const ENABLE: u32 = 1 << 1;
const QUEUES: u64 = 0x5818;
const FOR_FUNCTIONS: u32 = 0b011;
const SWITCH: u64 = 0x3500;
const LOOPBACK: u32 = 1 << 31;
const MAY_RECEIVE: u64 = 0x0c8c;
const MAY_TRANSMIT: u64 = 0x0c90;
/// The first of the pairs that say which address is whose: the address in 48 bits; functions from bit 18 of the upper half on, and
/// that it is valid.
const ADDRESSES: u64 = 0x5400;
const VALID: u32 = 1 << 31;

/// Whether the link is up, and how it gets up: the transceiver, number 1, is to negotiate, by its register 0 (IEEE 802.3, section
/// 22.2.4.1).
const STATUS: u64 = 0x0008;
const LINK_UP: u32 = 1 << 1;
const TRANSCEIVER: u64 = 0x0020;
const NEGOTIATE: u32 = 1 << 26 | 1 << 21 | 1 << 12 | 1 << 9;
/// QEMU's negotiates for half a second.
const PATIENCE_NS: u64 = 60_000_000_000;

/// Its physical function.
#[derive(Debug)]
pub struct Igb {
    source: SourceId,
    registers: Mmio,
}

impl Igb {
    /// The first of them, with its link up. It answers to its registers, and uses no memory.
    pub fn first(pc: &'static Pc) -> Option<Self> {
        let source = functions_of(pc, VENDOR_DEVICE).next()?;
        pc.enable(source);
        // SAFETY: the bar is the device's, and no address of memory is written there.
        let registers = unsafe { pc.registers(pc.bar(source, 0)?)? };
        let it = Self { source, registers };
        it.registers.write32(DEVICE_CONTROL, SET_LINK_UP);
        it.registers.write32(TRANSCEIVER, NEGOTIATE);
        let start = pc.now_ns();
        while it.registers.read32(STATUS) & LINK_UP == 0 {
            if pc.now_ns().saturating_sub(start) > PATIENCE_NS {
                return None;
            }
            pc.pause();
        }
        Some(it)
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// The address that packets to a virtual function have, as it lies in memory. It is a local one, for numbers below 255.
    pub fn address(function: u16) -> u64 {
        0x02 | u64::from(function + 1) << 40
    }

    /// Lets so many virtual functions send packets to each other. A reset of one ends that for it.
    pub fn connect(&self, functions: u16) {
        let all = (1 << functions) - 1;
        for function in 0..functions {
            let (address, at) = (Self::address(function), ADDRESSES + 8 * u64::from(function));
            self.registers.write32(at, address as u32);
            self.registers.write32(at + 4, (address >> 32) as u32 | 1 << (18 + function) | VALID);
        }
        for (register, value) in [
            (QUEUES, FOR_FUNCTIONS),
            (SWITCH, LOOPBACK),
            (MAY_RECEIVE, all),
            (MAY_TRANSMIT, all),
            (RECEIVE, ENABLE),
            (TRANSMIT, ENABLE),
        ] {
            self.registers.write32(register, value);
        }
    }
}
