//! A platform whose remapping units go wrong, which QEMU's do not.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};

const VER: u32 = 0x00;
const VER_6: u32 = 6 << 4;
const ECAP: u32 = 0x10;
const ECAP_QI: u64 = 1 << 1;
const IQT: u32 = 0x88;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Every register reads all ones, as if the unit were powered off.
    AllOnes,
    /// There is no invalidation queue, so it takes commands from registers.
    NoQueue,
    /// There are no invalidation registers either, as from major version 6 on.
    NoInvalidation,
    /// While this is true, the queue's tail does not reach the unit, so it answers nothing.
    DeadQueue(&'static AtomicBool),
    /// Nothing, but this is done before each write to a register.
    Late(fn()),
}

/// A platform, with that fault.
#[derive(Clone, Copy, Debug)]
pub struct Broken<H> {
    /// The platform.
    pub hal: H,
    /// Its fault; none if `None`.
    pub fault: Option<Fault>,
}

impl<H> Broken<H> {
    fn wait(&self) {
        if let Some(Fault::Late(before)) = self.fault {
            before();
        }
    }
}

// SAFETY: memory is the platform's own; what registers show instead makes the driver refuse the unit or give up.
unsafe impl<H: Hal> Hal for Broken<H> {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.hal.allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { self.hal.free(frames, order) }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        self.hal.own_memory(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { self.hal.phys_to_virt(frame) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        self.hal.word_at(at)
    }

    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        self.hal.found_memory(memory)
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        self.hal.map_registers(window)
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        match self.fault {
            Some(Fault::AllOnes) => u32::MAX,
            Some(Fault::NoInvalidation) if offset == VER => VER_6,
            // SAFETY: passed on from the caller.
            _ => unsafe { self.hal.read32(registers, offset) },
        }
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        self.wait();
        // SAFETY: passed on from the caller.
        unsafe { self.hal.write32(registers, offset, value) }
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        let value = unsafe { self.hal.read64(registers, offset) };
        match self.fault {
            Some(Fault::AllOnes) => u64::MAX,
            Some(Fault::NoQueue | Fault::NoInvalidation) if offset == ECAP => value & !ECAP_QI,
            _ => value,
        }
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        self.wait();
        if let Some(Fault::DeadQueue(dead)) = self.fault
            && offset == IQT
            && dead.load(Ordering::Relaxed)
        {
            return;
        }
        // SAFETY: passed on from the caller.
        unsafe { self.hal.write64(registers, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.hal.config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.hal.config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        self.hal.now_ns()
    }
}
