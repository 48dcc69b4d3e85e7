//! A machine at which a test looks before each access of the driver.

use std::borrow::Borrow;
use std::fmt;
use std::ptr::NonNull;

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam_model::Machine;

/// The kinds of accesses that tests tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The driver waits.
    Pause,
    /// Configuration space is read.
    ConfigRead,
    /// Configuration space is written.
    ConfigWrite,
    /// This is stored into a structure that hardware reads.
    Store(u64),
    /// A register is written.
    Register,
    /// Any other.
    Other,
}

/// The machine, or a reference to it, and who looks before each access. Of whatever kind that is, the driver is compiled for two
/// kinds of machines only: for one that is used by one thread, and for one that is [`shared`](Watched::shared).
pub struct Watched<M, W: ?Sized> {
    /// The machine.
    pub machine: M,
    before: Box<W>,
}

impl<'w, M> Watched<M, dyn Fn(Call, &Machine) + 'w> {
    /// For one thread.
    pub fn new(machine: M, before: impl Fn(Call, &Machine) + 'w) -> Self {
        Self { machine, before: Box::new(before) }
    }
}

impl<'w, M> Watched<M, dyn Fn(Call, &Machine) + Sync + 'w> {
    /// For several threads.
    pub fn shared(machine: M, before: impl Fn(Call, &Machine) + Sync + 'w) -> Self {
        Self { machine, before: Box::new(before) }
    }
}

impl<M, W: ?Sized> fmt::Debug for Watched<M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl<M: Borrow<Machine>, W: Fn(Call, &Machine) + ?Sized> Watched<M, W> {
    fn look(&self) -> &Machine {
        self.look_at(Call::Other)
    }

    fn look_at(&self, call: Call) -> &Machine {
        (self.before)(call, self.machine.borrow());
        self.machine.borrow()
    }
}

// SAFETY: each method is that of the machine, which keeps the contract.
unsafe impl<M: Borrow<Machine>, W: Fn(Call, &Machine) + ?Sized> Hal for Watched<M, W> {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.look().allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().free(frames, order) }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        self.look().own_memory(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { self.look().phys_to_virt(frame) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.look_at(Call::Store(value)).store(entry, value) }
    }

    unsafe fn store_pair(&self, entry: NonNull<[u64; 2]>, value: [u64; 2]) {
        let [first, _] = value;
        // SAFETY: passed on from the caller.
        unsafe { self.look_at(Call::Store(first)).store_pair(entry, value) }
    }

    fn has_pair_store(&self) -> bool {
        self.look().has_pair_store()
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.look().load(entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        self.look().word_at(at)
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: passed on from the caller.
        unsafe { self.look().write_back(first, bytes) }
    }

    fn fence(&self) {
        self.look().fence();
    }

    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        self.look().found_memory(memory)
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        self.look().map_registers(window)
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        // SAFETY: passed on from the caller.
        unsafe { self.look().read32(registers, offset) }
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.look_at(Call::Register).write32(registers, offset, value) }
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.look().read64(registers, offset) }
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.look_at(Call::Register).write64(registers, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.look_at(Call::ConfigRead).config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.look_at(Call::ConfigWrite).config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        self.look().now_ns()
    }

    fn pause(&self) {
        self.look_at(Call::Pause).pause();
    }
}
