//! QEMU's `e1000e` device (8086:10d3), a network card without a network: for each packet that it is to send it reads memory and writes
//! memory, before the write to its doorbell is over (Intel 82574 GbE Controller Family Datasheet, sections 7.2 and 10.2).

use cofferdam::addr::{Iova, SourceId};
use cofferdam_pc::{Block, Mmio, Pc};

use crate::config_space::functions_of;

const VENDOR_DEVICE: u32 = 0x10d3_8086;

/// Registers.
const TRANSMIT: u64 = 0x400;
const RING: u64 = 0x3800;
const RING_HIGH: u64 = 0x3804;
const RING_BYTES: u64 = 0x3808;
const HEAD: u64 = 0x3810;
const TAIL: u64 = 0x3818;

/// Transmission is on.
const ENABLE: u32 = 1 << 1;
/// The second word of a descriptor: 64 bytes, the end of a packet, to be written back; done, which the card sets.
const SEND: u64 = 64 | 0b1001 << 24;
const DONE: u64 = 1 << 32;

/// How many descriptors there are, of 16 bytes, and where in its memory the packet is.
const DESCRIPTORS: u32 = 256;
const PACKET: u64 = 0x1000;

/// One such card, with bus mastering on, and the memory that it uses.
#[derive(Debug)]
pub struct Nic {
    source: SourceId,
    registers: Mmio,
    memory: Block,
    /// Where it sees that.
    input: Iova,
}

impl Nic {
    /// How much memory it uses.
    pub const BYTES: u64 = 0x2000;

    /// The first of them, with memory to use, which it sees at its own addresses: at least [`BYTES`](Self::BYTES).
    pub fn first(pc: &'static Pc, memory: Block) -> Option<Self> {
        let input = Iova::new(memory.base().as_u64());
        Self::all(pc, [memory], input).next()
    }

    /// Those of them for which there is memory to use, in the order of their source-ids. Each sees its own at the same addresses.
    pub fn all(pc: &'static Pc, memory: impl IntoIterator<Item = Block>, input: Iova) -> impl Iterator<Item = Self> {
        functions_of(pc, VENDOR_DEVICE).zip(memory).filter_map(move |(source, memory)| {
            pc.enable(source);
            // SAFETY: the bar is the device's, which is given no address but those of that block.
            let registers = unsafe { pc.registers(pc.bar(source, 0)?)? };
            let nic = Self { source, registers, memory, input };
            nic.start();
            Some(nic)
        })
    }

    /// Sets it up from its state after a reset.
    pub fn start(&self) {
        let ring = self.input.as_u64();
        let high = (ring >> 32) as u32;
        for (register, value) in
            [(RING, ring as u32), (RING_HIGH, high), (RING_BYTES, DESCRIPTORS * 16), (HEAD, 0), (TAIL, 0)]
        {
            self.registers.write32(register, value);
        }
        self.registers.write32(TRANSMIT, ENABLE);
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// The memory that it uses.
    pub fn memory(&self) -> &Block {
        &self.memory
    }

    /// Has it send a packet. True if what it writes to memory has arrived.
    pub fn send(&self) -> bool {
        self.send_by([0]) == [true]
    }

    /// Has it send a packet, by a ring that is at these places of its memory: it sees one of them, and says there that it is done. At
    /// which of them it did.
    pub fn send_by<const N: usize>(&self, rings: [u64; N]) -> [bool; N] {
        let tail = self.registers.read32(TAIL) % DESCRIPTORS;
        let descriptors = rings.map(|ring| ring + u64::from(tail) * 16);
        for descriptor in descriptors {
            self.memory.write(descriptor, self.input.as_u64() + PACKET);
            self.memory.write(descriptor + 8, SEND);
        }
        self.registers.write32(TAIL, (tail + 1) % DESCRIPTORS);
        descriptors.map(|descriptor| self.memory.read(descriptor + 8) & DONE != 0)
    }
}
