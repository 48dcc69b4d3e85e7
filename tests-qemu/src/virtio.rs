//! QEMU's `virtio-rng-pci` device (1af4:1044): fills memory with random bytes (Virtual I/O Device 1.2, sections 2.7, 4.1 and 5.4). Where
//! its request is, and where it says that it is done, it finds in memory as well, all at the addresses that its cell gives it.

use cofferdam::addr::{Iova, SourceId};
use cofferdam::hal::Hal;
use cofferdam_pc::{Block, Mmio, Pc};

use crate::config_space::functions_of;

const VENDOR_DEVICE: u32 = 0x1044_1af4;
/// A device that takes longer does not answer.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Capabilities of PCI that say where registers are (section 4.1.4): id, kind in bits 31:24 of the first word; bar in bits 7:0 of the
/// second; offset and length; and of the one that is for notifying, a multiplier.
const POINTER: u16 = 0x34;
const VENDOR: u8 = 9;
const COMMON: u32 = 1;
const NOTIFY: u32 = 2;
/// More of them than fit.
const STEPS: usize = 48;

/// Common registers (section 4.1.4.3).
const FEATURES_PART: u64 = 0x08;
const FEATURES: u64 = 0x0c;
const STATUS: u64 = 0x14;
const QUEUE: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY: u64 = 0x1e;
/// Where the three parts of a queue are, 64 bits each.
const PARTS: [u64; 3] = [0x20, 0x28, 0x30];

/// Bits of the status: acknowledged, driven, features chosen, in use.
const ACKNOWLEDGED: u8 = 1;
const DRIVEN: u8 = 2;
const IN_USE: u8 = 4;
const CHOSEN: u8 = 8;
/// Features 32 and 33: as the standard says, and memory only by way of the remapping unit.
const UPPER_FEATURES: u32 = 0b11;

/// The parts of the queue within a page: descriptors, what is to be done, what was done.
const OFFSETS: [u64; 3] = [0, 0x100, 0x200];
const SLOTS: u16 = 8;
/// The second word of a descriptor: its memory is for the device to write.
const FOR_DEVICE: u64 = 2 << 32;

/// One such device, with bus mastering on.
#[derive(Debug)]
pub struct VirtioRng {
    pc: &'static Pc,
    source: SourceId,
    common: InBar,
    notify: InBar,
    multiplier: u32,
}

#[derive(Debug)]
struct InBar {
    bar: Mmio,
    offset: u64,
}

impl VirtioRng {
    /// All of them, in the order of their source-ids.
    pub fn all(pc: &'static Pc) -> impl Iterator<Item = Self> {
        functions_of(pc, VENDOR_DEVICE).filter_map(move |source| {
            pc.enable(source);
            let (common, _) = registers(pc, source, COMMON)?;
            let (notify, at) = registers(pc, source, NOTIFY)?;
            let multiplier = pc.config_read(source, at + 16);
            Some(Self { pc, source, common, notify, multiplier })
        })
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Sets it up from whatever state, with its queue in a page that it sees at `page`: the first one of `memory`. False if it does
    /// not take that.
    pub fn start(&self, memory: &Block, page: Iova) -> bool {
        let InBar { bar, offset } = &self.common;
        let status = |value| bar.write8(offset + STATUS, value);
        self.pc.enable(self.source);
        status(0);
        status(ACKNOWLEDGED | DRIVEN);
        for (part, features) in [(0, 0), (1, UPPER_FEATURES)] {
            bar.write32(offset + FEATURES_PART, part);
            bar.write32(offset + FEATURES, features);
        }
        status(ACKNOWLEDGED | DRIVEN | CHOSEN);
        (0..512).for_each(|word| memory.write(word * 8, 0));
        bar.write16(offset + QUEUE, 0);
        bar.write16(offset + QUEUE_SIZE, SLOTS);
        for (register, place) in PARTS.into_iter().zip(OFFSETS) {
            let at = page.as_u64() + place;
            bar.write32(offset + register, at as u32);
            bar.write32(offset + register + 4, (at >> 32) as u32);
        }
        bar.write16(offset + QUEUE_ENABLE, 1);
        let ready = ACKNOWLEDGED | DRIVEN | CHOSEN | IN_USE;
        status(ready);
        bar.read8(offset + STATUS) == ready
    }

    /// Has it write so many random bytes to `to`. How many it says that it has written; `None` if it does not get done.
    ///
    /// Its queue is in the first page of `memory`.
    pub fn fill(&self, memory: &Block, to: Iova, bytes: u32) -> Option<u32> {
        let [descriptors, to_do, done] = OFFSETS;
        let count_done = || (memory.read(done) >> 16) as u16;
        let before = count_done();
        memory.write(descriptors, to.as_u64());
        memory.write(descriptors + 8, u64::from(bytes) | FOR_DEVICE);
        // The first descriptor again, whichever slot of the ring it is in.
        memory.write(to_do, u64::from(before.wrapping_add(1)) << 16);
        let InBar { bar, offset } = &self.common;
        let place = u64::from(bar.read16(offset + QUEUE_NOTIFY)) * u64::from(self.multiplier);
        self.notify.bar.write16(self.notify.offset + place, 0);
        let start = self.pc.now_ns();
        while count_done() == before {
            if self.pc.now_ns().saturating_sub(start) > PATIENCE_NS {
                return None;
            }
            self.pc.pause();
        }
        // Each entry has an index and a length, behind four bytes.
        Some(memory.read(done + 8 + u64::from(before % SLOTS) * 8) as u32)
    }
}

/// The registers of that kind, and where the capability is that says so.
fn registers(pc: &'static Pc, source: SourceId, kind: u32) -> Option<(InBar, u16)> {
    let mut at = pc.config_read(source, POINTER) as u16 & 0xfc;
    for _ in 0..STEPS {
        let first = pc.config_read(source, at);
        match first as u8 {
            _ if at == 0 => return None,
            VENDOR if first >> 24 == kind => {
                let (index, offset) = (pc.config_read(source, at + 4) as u8, pc.config_read(source, at + 8));
                let bar = pc.bar(source, index)?;
                // SAFETY: the bar is the device's, which is given no address but those of blocks.
                let bar = unsafe { pc.registers(bar)? };
                return Some((InBar { bar, offset: offset.into() }, at));
            }
            _ => at = (first >> 8) as u16 & 0xfc,
        }
    }
    None
}
