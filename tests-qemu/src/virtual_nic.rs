//! A virtual function of QEMU's `igb` device: a network card with a queue each way, of which descriptors and packets are in memory
//! (Intel 82576EB Gigabit Ethernet Controller Datasheet, chapters 7.1 and 7.2).

use cofferdam::addr::{Iova, SourceId};
use cofferdam_pc::{Block, Mmio, Pc};

use crate::{Igb, SrIov};

/// Registers of the queue that receives, and of the one that transmits: where its ring is, in two halves; its size; head, tail; and
/// whether it is on.
const RECEIVE: u64 = 0x2800;
const TRANSMIT: u64 = 0x3800;
const HIGH: u64 = 0x04;
const BYTES: u64 = 0x08;
const HEAD: u64 = 0x10;
const TAIL: u64 = 0x18;
const CONTROL: u64 = 0x28;
const ON: u32 = 1 << 25;
/// Of the one that receives: buffers of 2 KiB, of which each has a descriptor of the advanced kind.
const BUFFERS: u64 = 0x0c;
const BUFFERS_OF_2_KIB: u32 = 1 << 25 | 2;

/// So many descriptors a ring has, of 16 bytes.
const DESCRIPTORS: u32 = 256;
const RING_BYTES: u64 = 0x1000;
/// The second word of a descriptor to transmit (section 7.2.2.3): a packet of so many bytes, all in one buffer of data, to be written
/// back. Done, which the card sets.
const PACKET_BYTES: u64 = 64;
const SEND: u64 = PACKET_BYTES << 46 | 0b10_1011 << 24 | 0b0011 << 20 | PACKET_BYTES;
const SENT: u64 = 1 << 32;
/// The same of one that has received: the descriptor is done, and it is the packet's last.
const RECEIVED: u64 = 0b11;
/// The kind of a packet, for experiments of one's own (IEEE 802, EtherType 88b5h).
const KIND: u64 = 0xb588;
/// A number that no function has.
const NOBODY: u16 = 0xfe;

/// One such function, which sees the memory that it uses at addresses of its own.
#[derive(Debug)]
pub struct VirtualNic {
    pc: &'static Pc,
    source: SourceId,
    number: u16,
    registers: Mmio,
    /// Where it sees its memory.
    input: Iova,
    sent: u32,
    received: u32,
}

impl VirtualNic {
    /// Where in its memory the ring is that it transmits from; then that which it receives in, what it transmits, and where it
    /// receives.
    pub const COMMANDS: u64 = 0;
    const BUFFERS_TO_FILL: u64 = Self::COMMANDS + RING_BYTES;
    const PACKET: u64 = Self::BUFFERS_TO_FILL + RING_BYTES;
    const BUFFER: u64 = Self::PACKET + RING_BYTES;
    /// How much memory it uses.
    pub const BYTES: u64 = Self::BUFFER + RING_BYTES;

    /// The virtual function of this number. It is no bus master.
    pub fn new(pc: &'static Pc, functions: &SrIov, number: u16, input: Iova) -> Option<Self> {
        // SAFETY: the bar is the function's; the scenarios let it reach no memory but blocks, and the remapping unit that they
        // test lets it reach no other either.
        let registers = unsafe { pc.registers(functions.bar(number, 0)?)? };
        Some(Self { pc, source: functions.source(number), number, registers, input, sent: 0, received: 0 })
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// True if a reset has not switched it off since it was started.
    pub fn is_on(&self) -> bool {
        self.registers.read32(TRANSMIT + CONTROL) & ON != 0
    }

    /// Makes it a bus master and sets it up with empty rings in its memory.
    pub fn start(&mut self, memory: &Block) {
        self.pc.enable(self.source);
        (0..Self::BYTES).step_by(8).for_each(|offset| memory.write(offset, 0));
        (self.sent, self.received) = (0, 0);
        for (queue, ring) in [(RECEIVE, Self::BUFFERS_TO_FILL), (TRANSMIT, Self::COMMANDS)] {
            let ring = self.input.as_u64() + ring;
            for (register, value) in [
                (CONTROL, 0),
                (0, ring as u32),
                (HIGH, (ring >> 32) as u32),
                (BYTES, RING_BYTES as u32),
                (HEAD, 0),
                (TAIL, 0),
            ] {
                self.registers.write32(queue + register, value);
            }
        }
        self.registers.write32(RECEIVE + BUFFERS, BUFFERS_OF_2_KIB);
        self.registers.write32(RECEIVE + CONTROL, ON);
        self.registers.write32(TRANSMIT + CONTROL, ON);
    }

    /// Has it expect a packet, in its memory.
    pub fn expect(&mut self, memory: &Block) {
        self.expect_at(memory, Iova::new(self.input.as_u64() + Self::BUFFER));
    }

    /// Has it expect a packet there.
    pub fn expect_at(&mut self, memory: &Block, at: Iova) {
        let descriptor = Self::BUFFERS_TO_FILL + u64::from(self.received % DESCRIPTORS) * 16;
        memory.write(descriptor, at.as_u64());
        memory.write(descriptor + 8, 0);
        self.received = self.received.wrapping_add(1);
        self.registers.write32(RECEIVE + TAIL, self.received % DESCRIPTORS);
    }

    /// What the packet that it expected last says, if it has come.
    pub fn received(&self, memory: &Block) -> Option<u64> {
        let descriptor = Self::BUFFERS_TO_FILL + u64::from(self.received.wrapping_sub(1) % DESCRIPTORS) * 16;
        let has_come = memory.read(descriptor + 8) & RECEIVED == RECEIVED;
        has_come.then(|| memory.read(Self::BUFFER + 16))
    }

    /// Has it send a packet that says `word` to another function. True if it says that it has done so.
    pub fn send(&mut self, memory: &Block, to: u64, word: u64) -> bool {
        let from = Igb::address(self.number);
        memory.write(Self::PACKET, to | from << 48);
        memory.write(Self::PACKET + 8, from >> 16 | KIND << 32);
        memory.write(Self::PACKET + 16, word);
        self.send_from(memory, Iova::new(self.input.as_u64() + Self::PACKET))
    }

    /// Has it send a packet to nobody. QEMU takes a descriptor that could not be read for the first part of a packet that fails, and
    /// the next one for its end: this one.
    pub fn end_packet(&mut self, memory: &Block) {
        self.send(memory, Igb::address(NOBODY), 0);
    }

    /// Has it send the packet that is there.
    pub fn send_from(&mut self, memory: &Block, at: Iova) -> bool {
        let descriptor = Self::COMMANDS + u64::from(self.sent % DESCRIPTORS) * 16;
        memory.write(descriptor, at.as_u64());
        memory.write(descriptor + 8, SEND);
        self.sent = self.sent.wrapping_add(1);
        self.registers.write32(TRANSMIT + TAIL, self.sent % DESCRIPTORS);
        memory.read(descriptor + 8) & SENT != 0
    }
}
