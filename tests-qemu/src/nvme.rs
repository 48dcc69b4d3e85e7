//! QEMU's `nvme` device, an NVMe controller without storage: its commands and its answers lie in memory, in a pair of queues,
//! and so does what it says of itself (NVM Express 1.3).

use cofferdam::addr::{Iova, SourceId};
use cofferdam::hal::Hal;
use cofferdam_pc::{Block, Mmio, Pc};

/// The register with the class in bits 31:8: mass storage, NVM, NVM Express (section 2.1.5).
const CLASS: u16 = 0x08;
const NVM_EXPRESS: u32 = 0x01_0802;

/// Registers (section 3.1): capabilities, configuration, status, sizes and places of the two admin queues.
const CAP: u64 = 0x00;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
/// The first doorbell: tail of the commands; then head of the answers, 4 bytes << CAP.DSTRD behind it.
const DOORBELLS: u64 = 0x1000;

/// CC: on, with answers of 2^4 bytes and commands of 2^6 bytes (section 3.1.5).
const ON: u32 = 4 << 20 | 6 << 16 | 1;
/// CSTS: ready; in a fatal state, until it is switched off (section 3.1.6).
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;

/// So many entries each queue has.
const ENTRIES: u32 = 64;
const COMMAND_BYTES: u64 = 64;
const ANSWER_BYTES: u64 = 16;
/// Words of a command (section 4.2) that are not zero: opcode, with the command's number in bits 31:16; where data goes; and what
/// is to be identified (section 5.15).
const OPCODE: u64 = 0;
const DATA: u64 = 24;
const SUBJECT: u64 = 40;
const IDENTIFY: u64 = 6;
const CONTROLLER: u64 = 1;

/// It needs some microseconds of the machine's time, which may go far ahead of QEMU's thread for devices where it counts
/// instructions.
const PATIENCE_NS: u64 = 60_000_000_000;

/// One such controller.
#[derive(Debug)]
pub struct Nvme {
    pc: &'static Pc,
    source: SourceId,
    registers: Mmio,
    /// How many commands it was given since it was switched on.
    given: u32,
}

impl Nvme {
    /// How much memory its queues take: a page for commands, and one for answers.
    pub const QUEUES: u64 = 2 * Self::PAGE;
    /// How much of each it uses, and how much it says of itself.
    pub const PAGE: u64 = 0x1000;

    /// The first of them, with bus mastering on.
    pub fn first(pc: &'static Pc) -> Option<Self> {
        let source = pc.functions().find(|&function| pc.config_read(function, CLASS) >> 8 == NVM_EXPRESS)?;
        pc.enable(source);
        // SAFETY: the bar is the device's; the scenarios let it reach no memory but blocks, and the remapping unit that they
        // test lets it reach no other either.
        let registers = unsafe { pc.registers(pc.bar(source, 0)?)? };
        Some(Self { pc, source, registers, given: 0 })
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Resets it, and switches it on with empty queues at the beginning of `memory`, which it sees at `input`. False if it does not
    /// get ready.
    pub fn start(&mut self, memory: &Block, input: Iova) -> bool {
        self.pc.enable(self.source);
        self.registers.write32(CC, 0);
        if !self.comes(|| self.status() & READY == 0) {
            return false;
        }
        (0..Self::QUEUES).step_by(8).for_each(|offset| memory.write(offset, 0));
        self.given = 0;
        self.registers.write32(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        self.write_address(ASQ, input.as_u64());
        self.write_address(ACQ, input.as_u64() + Self::PAGE);
        self.registers.write32(CC, ON);
        self.comes(|| self.status() & READY != 0)
    }

    /// Has it write what it says of itself to `to`. Gives the status that it answers with, of which 0 is success (section 4.6.1);
    /// `None` if it does not answer. `memory` is where its queues are.
    pub fn identify(&mut self, memory: &Block, to: Iova) -> Option<u16> {
        let (index, next) = (self.given % ENTRIES, (self.given + 1) % ENTRIES);
        // The phase tag is 1 in the answers of the first round (section 4.6).
        let phase = u64::from((self.given / ENTRIES).is_multiple_of(2));
        let command = u64::from(index) * COMMAND_BYTES;
        memory.write(command + OPCODE, IDENTIFY | u64::from(index) << 16);
        memory.write(command + DATA, to.as_u64());
        memory.write(command + SUBJECT, CONTROLLER);
        self.given += 1;
        self.registers.write32(DOORBELLS, next);

        // The second word of an answer: status in bits 63:49, the phase tag in bit 48.
        let answer = || memory.read(Self::PAGE + u64::from(index) * ANSWER_BYTES + 8);
        if !self.comes(|| answer() >> 48 & 1 == phase || self.is_fatal()) || self.is_fatal() {
            return None;
        }
        let stride = self.registers.read64(CAP) >> 32 & 0xf;
        self.registers.write32(DOORBELLS + (4 << stride), next);
        Some((answer() >> 49) as u16)
    }

    /// True if it says that it cannot go on.
    pub fn is_fatal(&self) -> bool {
        self.status() & FATAL != 0
    }

    fn status(&self) -> u32 {
        self.registers.read32(CSTS)
    }

    /// In two halves, as any controller takes it.
    fn write_address(&self, register: u64, address: u64) {
        self.registers.write32(register, address as u32);
        self.registers.write32(register + 4, (address >> 32) as u32);
    }

    /// False if that does not come in time.
    fn comes(&self, that: impl Fn() -> bool) -> bool {
        let start = self.pc.now_ns();
        while !that() {
            if self.pc.now_ns().saturating_sub(start) > PATIENCE_NS {
                return false;
            }
            self.pc.pause();
        }
        true
    }
}
