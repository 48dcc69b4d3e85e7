//! QEMU's `edu` device (1234:11e8): copies between memory and a buffer of its own, at any address that it is given.

use cofferdam::addr::{Iova, SourceId};
use cofferdam::hal::Hal;
use cofferdam::interrupt::Message;
use cofferdam_pc::{Mmio, Pc};

use crate::config_space::{capability, functions_of};

const VENDOR_DEVICE: u32 = 0x11e8_1234;
/// The device's own 4 KiB buffer, as it names it.
const BUFFER: u64 = 0x4_0000;
/// One transfer takes 100 ms of the machine's time.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Registers (QEMU, `docs/specs/edu.rst`).
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;

/// The number of the MSI capability (PCI Local Bus Specification 3.0, section 6.8.1).
const MSI: u8 = 5;

/// Bits of the command: start, cleared when done; from the device to memory.
const START: u64 = 1;
const TO_MEMORY: u64 = 1 << 1;

/// One such device, with bus mastering on.
#[derive(Debug)]
pub struct Edu {
    pc: &'static Pc,
    source: SourceId,
    registers: Mmio,
}

impl Edu {
    /// All of them, in the order of their source-ids.
    pub fn all(pc: &'static Pc) -> impl Iterator<Item = Self> {
        functions_of(pc, VENDOR_DEVICE).filter_map(move |source| {
            pc.enable(source);
            let bar = pc.bar(source, 0)?;
            // SAFETY: the bar is the device's; the scenarios let it reach no memory but blocks, and the remapping unit
            // that they test lets it reach no other either.
            let registers = unsafe { pc.registers(bar)? };
            Some(Self { pc, source, registers })
        })
    }

    /// Has it send its interrupt as this message, by MSI (PCI Local Bus Specification 3.0, section 6.8.1): control in bits 31:16
    /// of the capability's first word, of which bit 0 switches it on; a 64-bit address and the data behind it.
    pub fn program(&self, message: Message) {
        let Some(at) = self.msi() else { return };
        let first = self.stop_messages();
        for (offset, value) in [(4, message.address as u32), (8, (message.address >> 32) as u32), (12, message.data)] {
            self.pc.config_write_to(self.source, at + offset, value);
        }
        self.pc.config_write_to(self.source, at, first | 1 << 16);
    }

    /// Has it use its pin for interrupts. Returns the first word of its MSI capability.
    pub fn stop_messages(&self) -> u32 {
        let Some(at) = self.msi() else { return 0 };
        let first = self.pc.config_read(self.source, at) & !(1 << 16);
        self.pc.config_write_to(self.source, at, first);
        first
    }

    /// Where its MSI capability is.
    fn msi(&self) -> Option<u16> {
        capability(self.pc, self.source, MSI)
    }

    /// Has it raise its interrupt.
    pub fn interrupt(&self) {
        self.registers.write32(RAISE, 1);
    }

    /// Ends its interrupt.
    pub fn acknowledge(&self) {
        self.registers.write32(ACKNOWLEDGE, 1);
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// True if it may read and write memory.
    pub fn is_bus_master(&self) -> bool {
        self.pc.config_read(self.source, 4) & 1 << 2 != 0
    }

    /// Lets it read and write memory again, as a driver of it does when it begins.
    pub fn resume(&self) {
        self.pc.enable(self.source);
    }

    /// Has the device read `bytes` (at most 4095) at `from` into its buffer. False if it does not get done.
    pub fn read(&self, from: Iova, bytes: u64) -> bool {
        self.transfer(from.as_u64(), BUFFER, bytes, START)
    }

    /// Has the device write the first `bytes` (at most 4095) of its buffer to `to`. False if it does not get done.
    pub fn write(&self, to: Iova, bytes: u64) -> bool {
        self.transfer(BUFFER, to.as_u64(), bytes, START | TO_MEMORY)
    }

    /// Has the device write the first `bytes` of its buffer to `to`, 100 ms from now.
    pub fn begin_write(&self, to: Iova, bytes: u64) {
        self.begin(BUFFER, to.as_u64(), bytes, START | TO_MEMORY);
    }

    /// True until it has done what it was told.
    pub fn is_busy(&self) -> bool {
        self.registers.read64(COMMAND) & START != 0
    }

    /// Waits for that. False if it does not get done.
    pub fn is_done(&self) -> bool {
        let start = self.pc.now_ns();
        while self.is_busy() {
            if self.pc.now_ns().saturating_sub(start) > PATIENCE_NS {
                return false;
            }
            self.pc.pause();
        }
        true
    }

    fn begin(&self, source: u64, destination: u64, bytes: u64, command: u64) {
        self.registers.write64(SOURCE, source);
        self.registers.write64(DESTINATION, destination);
        self.registers.write64(COUNT, bytes);
        self.registers.write64(COMMAND, command);
    }

    /// The device does not report whether it got through.
    fn transfer(&self, source: u64, destination: u64, bytes: u64, command: u64) -> bool {
        self.begin(source, destination, bytes, command);
        self.is_done()
    }
}
