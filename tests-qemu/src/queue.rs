//! An invalidation queue of the scenario's own, on a unit that nobody uses, and how long invalidations take there. Registers and
//! descriptors are from the specification alone (VT-d 5.10, sections 6.5.2, 11.4.4, 11.4.9), not from the driver.

use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam_pc::{Block, Pc};

use crate::Times;
use crate::registers::{LIMIT_NS, QUEUE_ON, STATUS, switch};
use crate::report::Words;
use crate::tables::mapped;

const CAP: u32 = 0x08;
const ECAP: u32 = 0x10;
const FAULTS: u32 = 0x34;
const TAIL: u32 = 0x88;
const ADDRESS: u32 = 0x90;
/// ECAP.QI, ECAP.IR; CAP.DWD, CAP.DRD, CAP.PSI.
const HAS_QUEUE: u64 = 1 << 1;
const HAS_INTERRUPTS: u64 = 1 << 3;
const DRAINS_WRITES: u64 = 1 << 54;
const DRAINS_READS: u64 = 1 << 55;
const HAS_PAGES: u64 = 1 << 39;

/// The queue is a frame: descriptors of 16 bytes. What a wait writes is in the frame behind it.
const SLOTS: u64 = 256;
const FRAME: u64 = 4096;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but a wait, which comes behind each of the others as well.
    Wait,
    /// All context entries.
    Contexts,
    /// The context entry of one function.
    Context,
    /// The whole IOTLB.
    Iotlb,
    /// The IOTLB's entries of one domain.
    Domain,
    /// The IOTLB's entries of one page of a domain.
    Page,
    /// All entries of the interrupt entry cache.
    Interrupts,
    /// One entry of it.
    Interrupt,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Wait,
        Self::Contexts,
        Self::Context,
        Self::Iotlb,
        Self::Domain,
        Self::Page,
        Self::Interrupts,
        Self::Interrupt,
    ];

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Wait => "a wait alone",
            Self::Contexts => "context entries, all",
            Self::Context => "context entry of a function",
            Self::Iotlb => "IOTLB, all",
            Self::Domain => "IOTLB of a domain",
            Self::Page => "IOTLB of a page",
            Self::Interrupts => "interrupt entries, all",
            Self::Interrupt => "interrupt entry",
        }
    }
}

/// A queue that is on.
#[derive(Debug)]
pub struct OwnQueue {
    pc: &'static Pc,
    registers: MappedRegisters,
    memory: Block,
    /// What its address and its tail register held.
    before: [u64; 2],
    capabilities: u64,
    extended: u64,
    /// What the last wait was to write.
    last: u32,
}

impl OwnQueue {
    /// Switches it on.
    ///
    /// # Errors
    ///
    /// Somebody has one there already; the registers are out of reach, or the unit does not confirm; or there is too little memory. The
    /// unit is as it was, unless it did not confirm. `None` if it has no queue.
    pub fn start(pc: &'static Pc, window: RegisterWindow) -> Result<Option<Self>, Words> {
        let words = |why: &str| Words::new(format_args!("unit {window}: {why}"));
        let registers = mapped(&pc, window).ok_or_else(|| words("its registers are out of reach"))?;
        // SAFETY: each unit has these two, and reading changes nothing.
        let capabilities = unsafe { pc.read64(registers, CAP) };
        // SAFETY: as above.
        let extended = unsafe { pc.read64(registers, ECAP) };
        if extended & HAS_QUEUE == 0 {
            return Ok(None);
        }
        // SAFETY: as above; a unit with a queue has these two.
        let before = [ADDRESS, TAIL].map(|register| unsafe { pc.read64(registers, register) });
        let memory = pc.allocate_block(2 * FRAME, FRAME).ok_or_else(|| words("too little memory"))?;
        let queue = Self { pc, registers, memory, before, capabilities, extended, last: 0 };
        if queue.status() & QUEUE_ON != 0 {
            queue.free();
            return Err(words("somebody has a queue there"));
        }
        queue.memory.write(FRAME, 0);
        queue.write(TAIL, 0);
        // Descriptors of 128 bits, and 2^8 of them: a size of 0.
        queue.write(ADDRESS, queue.memory.base().as_u64());
        if queue.switch(true) { Ok(Some(queue)) } else { Err(words("its queue does not come on")) }
    }

    /// How long something takes, of so many times. `None` if the unit cannot do it.
    ///
    /// # Errors
    ///
    /// The unit did not do it within a second.
    pub fn measure(&mut self, kind: Kind, times: usize) -> Result<Option<Times>, Words> {
        let Some(descriptor) = self.descriptor(kind) else { return Ok(None) };
        let mut all = Times::default();
        for _ in 0..times {
            let took = self.submit(descriptor).ok_or_else(|| {
                // SAFETY: each unit has this register, and reading changes nothing.
                let faults = unsafe { self.pc.read32(self.registers, FAULTS) };
                Words::new(format_args!("{}: no answer within a second, FSTS_REG {faults:#x}", kind.words()))
            })?;
            all.note(took);
        }
        Ok(Some(all))
    }

    /// Switches it off, and has its registers be as they were.
    ///
    /// # Errors
    ///
    /// The unit does not confirm. The memory stays in use then.
    pub fn stop(self) -> Result<(), Words> {
        if !self.switch(false) {
            let window = self.registers.window;
            return Err(Words::new(format_args!("unit {window}: its queue does not go off")));
        }
        let [address, tail] = self.before;
        self.write(ADDRESS, address);
        self.write(TAIL, tail);
        self.free();
        Ok(())
    }

    /// Type in bits 3:0, granularity in 5:4, a domain-id of 1 in 31:16; a source-id or an index of 0.
    fn descriptor(&self, kind: Kind) -> Option<Option<[u64; 2]>> {
        const DOMAIN: u64 = 1 << 16;
        let drains = [(DRAINS_WRITES, 1 << 6), (DRAINS_READS, 1 << 7)];
        let has = |bit| self.capabilities & bit != 0;
        let drains: u64 = drains.into_iter().filter(|(can, _)| has(*can)).map(|(_, bit)| bit).sum();
        let interrupts = self.extended & HAS_INTERRUPTS != 0;
        let lower = match kind {
            Kind::Wait => return Some(None),
            Kind::Contexts => 0x1 | 0b01 << 4,
            Kind::Context => 0x1 | 0b11 << 4 | DOMAIN,
            Kind::Iotlb => 0x2 | 0b01 << 4 | drains,
            Kind::Domain => 0x2 | 0b10 << 4 | drains | DOMAIN,
            Kind::Page if has(HAS_PAGES) => 0x2 | 0b11 << 4 | drains | DOMAIN,
            Kind::Interrupts if interrupts => 0x4,
            Kind::Interrupt if interrupts => 0x4 | 1 << 4,
            Kind::Page | Kind::Interrupts | Kind::Interrupt => return None,
        };
        Some(Some([lower, 0]))
    }

    /// Submits it with a wait behind it, and says after how many nanoseconds that is done.
    fn submit(&mut self, descriptor: Option<[u64; 2]>) -> Option<u64> {
        self.last = self.last.wrapping_add(1);
        let status = self.memory.base().as_u64() + FRAME;
        // It writes its data (SW), from bit 32 on, to where the upper half says (section 6.5.2.9).
        let wait = [0x5 | 1 << 5 | u64::from(self.last) << 32, status];
        // SAFETY: the unit has a queue.
        let mut tail = unsafe { self.pc.read64(self.registers, TAIL) };
        for words in descriptor.into_iter().chain([wait]) {
            let [lower, upper] = words;
            self.memory.write(tail, lower);
            self.memory.write(tail + 8, upper);
            // Units need not snoop the CPU's caches where they read descriptors (ECAP.C).
            self.memory.write_back(tail);
            tail = (tail + 16) % (SLOTS * 16);
        }
        let begun = self.pc.now_ns();
        self.write(TAIL, tail);
        loop {
            let done = self.memory.read(FRAME) as u32 == self.last;
            let took = self.pc.now_ns().saturating_sub(begun);
            if done {
                return Some(took);
            }
            if took > LIMIT_NS {
                return None;
            }
            core::hint::spin_loop();
        }
    }

    fn status(&self) -> u32 {
        // SAFETY: each unit has it, and reading changes nothing.
        unsafe { self.pc.read32(self.registers, STATUS) }
    }

    fn write(&self, register: u32, value: u64) {
        // SAFETY: nobody else uses the unit, and the queue and what it writes are in this memory.
        unsafe { self.pc.write64(self.registers, register, value) };
    }

    /// True once the unit confirms.
    fn switch(&self, on: bool) -> bool {
        // SAFETY: nobody else uses the unit, and the queue's memory is this.
        unsafe { switch(self.pc, self.registers, QUEUE_ON, on) }
    }

    fn free(self) {
        // SAFETY: the memory came from there, and the unit has no queue any more.
        unsafe { self.pc.free_block(self.memory) };
    }
}
