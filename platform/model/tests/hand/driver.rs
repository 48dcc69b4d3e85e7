//! The smallest correct driver, each step a function, so that a test can leave one out or swap two.

use std::ptr::NonNull;

use cofferdam::addr::{Iova, PhysAddr, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam_model::{Config, Fault, Machine, UnitConfig};

pub const GCMD: u32 = 0x18;
pub const GSTS: u32 = 0x1c;
pub const RTADDR: u32 = 0x20;
pub const FSTS: u32 = 0x34;
pub const FECTL: u32 = 0x38;
pub const IQT: u32 = 0x88;
pub const IQA: u32 = 0x90;
pub const TE: u32 = 1 << 31;
pub const SRTP: u32 = 1 << 30;
pub const WBF: u32 = 1 << 27;
pub const QIE: u32 = 1 << 26;

/// Leaf and table rights.
pub const RW: u64 = 3;
/// The device that most tests use.
pub const DEVICE: u16 = 0x0018;
pub const DOMAIN: u64 = 5;

pub const CONTEXT_GLOBAL: [u64; 2] = [0x11, 0];
pub const IOTLB_GLOBAL: [u64; 2] = [0xd2, 0];

pub fn context_device(source: u16, domain: u64) -> [u64; 2] {
    [0x31 | domain << 16 | u64::from(source) << 32, 0]
}

pub fn iotlb_domain(domain: u64) -> [u64; 2] {
    [0xe2 | domain << 16, 0]
}

/// `mask` as in AM; `leaf_only` is IH.
pub fn iotlb_pages(domain: u64, address: u64, mask: u64, leaf_only: bool) -> [u64; 2] {
    [0xf2 | domain << 16, address | mask | u64::from(leaf_only) << 6]
}

pub struct Driver {
    pub machine: Machine,
    pub window: RegisterWindow,
    pub queue: PhysAddr,
    pub status: PhysAddr,
    pub root: PhysAddr,
    pub tail: u64,
    ticket: u64,
}

pub fn device() -> SourceId {
    SourceId::from_requester(0, DEVICE)
}

impl Driver {
    /// A machine with one unit, nothing done yet.
    pub fn new(unit: UnitConfig) -> Self {
        Self::on(Machine::new(Config::new([unit])))
    }

    /// The same on this machine.
    pub fn on(machine: Machine) -> Self {
        let window = machine.windows()[0];
        let zero = PhysAddr::new(0);
        Self { machine, window, queue: zero, status: zero, root: zero, tail: 0, ticket: 0 }
    }

    /// A unit that translates, with an empty root table.
    pub fn up(unit: UnitConfig) -> Self {
        let mut driver = Self::new(unit);
        driver.start_queue();
        driver.set_root();
        driver.flush_all();
        driver.enable();
        driver
    }

    pub fn read(&self, offset: u32) -> u32 {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { self.machine.read32(registers_at(self.window), offset) }
    }

    pub fn read64(&self, offset: u32) -> u64 {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { self.machine.read64(registers_at(self.window), offset) }
    }

    pub fn write(&self, offset: u32, value: u32) {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { self.machine.write32(registers_at(self.window), offset, value) }
    }

    pub fn write64(&self, offset: u32, value: u64) {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { self.machine.write64(registers_at(self.window), offset, value) }
    }

    /// Sets a bit of GCMD and waits for it.
    pub fn command(&self, bit: u32) {
        let kept = self.read(GSTS) & 0x96ff_ffff;
        self.write(GCMD, kept | bit);
        self.poll(|| self.read(GSTS) & bit == if bit == WBF { 0 } else { bit });
    }

    pub fn clear(&self, bit: u32) {
        let kept = self.read(GSTS) & 0x96ff_ffff;
        self.write(GCMD, kept & !bit);
        self.poll(|| self.read(GSTS) & bit == 0);
    }

    /// True if it came to pass within a millisecond of the machine's time.
    pub fn poll(&self, done: impl Fn() -> bool) -> bool {
        let end = self.machine.now_ns() + 1_000_000;
        while !done() {
            if self.machine.now_ns() > end {
                return false;
            }
            self.machine.pause();
        }
        true
    }

    pub fn allocate(&self) -> PhysAddr {
        let frame = self.machine.allocate(0).unwrap();
        self.write_back(frame, 4096);
        frame
    }

    pub fn free(&self, frame: PhysAddr) {
        // SAFETY: the machine takes any access and reports a wrong one.
        unsafe { self.machine.free(frame, 0) }
    }

    fn word(&self, address: PhysAddr) -> NonNull<u64> {
        // SAFETY: the machine takes any frame and reports a wrong one.
        let page = unsafe { self.machine.phys_to_virt(address.align_down(4096_u64)) };
        // SAFETY: the word is in the frame.
        unsafe { page.byte_add((address.as_u64() & 0xfff) as usize) }
    }

    /// A store that stays in the CPU's caches.
    pub fn store(&self, address: PhysAddr, value: u64) {
        let word = self.word(address);
        // SAFETY: the word is in the arena; the machine reports one that is not allocated.
        unsafe { self.machine.store(word, value) }
    }

    /// A store of two words at once that hardware sees.
    pub fn publish_pair(&self, address: PhysAddr, value: [u64; 2]) {
        let word = self.word(address);
        // SAFETY: as for one word.
        unsafe { self.machine.store_pair(word.cast(), value) }
        self.write_back(address, 16);
    }

    /// A store that hardware sees.
    pub fn publish(&self, address: PhysAddr, value: u64) {
        self.store(address, value);
        self.write_back(address, 8);
    }

    pub fn load(&self, address: PhysAddr) -> u64 {
        let word = self.word(address);
        // SAFETY: as for a store.
        unsafe { self.machine.load(word) }
    }

    pub fn write_back(&self, address: PhysAddr, bytes: usize) {
        let word = self.word(address);
        // SAFETY: as for a store.
        unsafe { self.machine.write_back(word, bytes) }
        self.machine.fence();
    }

    pub fn start_queue(&mut self) {
        self.queue = self.machine.allocate(0).unwrap();
        self.status = self.machine.allocate(0).unwrap();
        self.write64(IQT, 0);
        self.write64(IQA, self.queue.as_u64());
        self.command(QIE);
    }

    pub fn set_root(&mut self) {
        self.root = self.allocate();
        self.write64(RTADDR, self.root.as_u64());
        self.command(SRTP);
    }

    pub fn flush_all(&mut self) {
        self.submit(&[CONTEXT_GLOBAL, IOTLB_GLOBAL]);
    }

    pub fn enable(&self) {
        self.command(TE);
    }

    /// Puts descriptors into the queue, without a wait.
    pub fn push(&mut self, descriptors: &[[u64; 2]]) {
        for [low, high] in descriptors {
            self.store(self.queue + self.tail, *low);
            self.store(self.queue + self.tail + 8, *high);
            self.tail = (self.tail + 16) % 4096;
        }
        self.machine.fence();
        self.write64(IQT, self.tail);
    }

    /// Descriptors and a wait. False if the wait does not complete.
    pub fn submit(&mut self, descriptors: &[[u64; 2]]) -> bool {
        self.ticket += 1;
        let ticket = self.ticket;
        let wait = [0x25 | ticket << 32, self.status.as_u64()];
        self.push(&[descriptors, &[wait]].concat());
        self.poll(|| self.load(self.status) as u32 == ticket as u32)
    }

    /// Links a context table for bus 0 and returns it.
    pub fn context_table(&self) -> PhysAddr {
        let table = self.allocate();
        self.publish(self.root, table.as_u64() | 1);
        table
    }

    /// Writes a context entry: a four-level table at `table`, or three levels where `levels` says so.
    pub fn set_context(&self, contexts: PhysAddr, source: u16, table: PhysAddr, levels: u64, domain: u64) {
        let entry = contexts + u64::from(source & 0xff) * 16;
        self.store(entry + 8, domain << 8 | (levels - 2));
        self.store(entry, table.as_u64() | 1);
        self.write_back(entry, 16);
    }

    /// A page table of `levels` levels that maps one page, as its tables from the top down.
    pub fn map_one(&self, levels: u64, input: u64, output: u64) -> Vec<PhysAddr> {
        let tables: Vec<PhysAddr> = (0..levels).map(|_| self.allocate()).collect();
        for (table, level) in tables.iter().zip((1..=levels).rev()) {
            let index = input >> (12 + 9 * (level - 1)) & 0x1ff;
            let to = if level == 1 { output } else { tables[(levels - level + 1) as usize].as_u64() };
            self.publish(*table + index * 8, to | RW);
        }
        tables
    }

    pub fn reads(&self, address: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.machine.dma_read(device(), Iova::new(address), &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn rules(&self) -> Vec<&'static str> {
        self.machine.take_violations().iter().map(|violation| violation.rule).collect()
    }
}

/// The registers of a unit, as the machine maps them.
pub fn registers_at(window: RegisterWindow) -> MappedRegisters {
    MappedRegisters { window, first: NonNull::dangling() }
}
