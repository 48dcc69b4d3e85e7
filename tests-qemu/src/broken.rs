//! A platform whose remapping units go wrong, which QEMU's do not.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use spin::mutex::SpinMutex;

const VER: u32 = 0x00;
const VER_6: u32 = 6 << 4;
const ECAP: u32 = 0x10;
const ECAP_QI: u64 = 1 << 1;
const IQT: u32 = 0x88;
/// A tail beyond any queue.
const NO_TAIL: u64 = 0x7fff << 4;
/// The queue's address, in bits 63:12, and its size, in bits 2:0: 2^size pages (VT-d 5.10, section 11.4.9.3).
const IQA: u32 = 0x90;

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
    /// The next batch of the queue gets to the unit with this mistake. There is none in those after it.
    Spoilt(&'static SpinMutex<Option<Spoil>>),
}

/// What is wrong with a batch of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// These bits of a descriptor are set as well: of its lower and of its upper 64.
    Descriptor {
        /// How far before the tail it is: 1 for the last one.
        before_tail: u64,
        /// Bits 63:0 and 127:64.
        bits: [u64; 2],
    },
    /// The tail is beyond the queue.
    Tail,
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

impl<H: Hal> Broken<H> {
    /// What is written to the queue's tail instead of `tail`.
    fn spoil(&self, registers: MappedRegisters, tail: u64) -> u64 {
        let Some(Fault::Spoilt(next)) = self.fault else { return tail };
        match next.lock().take() {
            None => return tail,
            Some(Spoil::Tail) => return NO_TAIL,
            Some(Spoil::Descriptor { before_tail, bits }) => {
                // SAFETY: a unit with a tail has this register, too.
                let queue = unsafe { self.hal.read64(registers, IQA) };
                let slots = 256 << (queue & 0b111);
                let at = (queue & !0xfff) + (tail >> 4).wrapping_sub(before_tail) % slots * 16;
                self.set_bits(at, bits[0]);
                self.set_bits(at + 8, bits[1]);
            }
        }
        tail
    }

    /// Sets bits of a word of the driver's queue.
    fn set_bits(&self, at: u64, bits: u64) {
        // SAFETY: the driver has told the unit that its queue is there, in frames of its own.
        let frame = unsafe { self.hal.phys_to_virt(PhysAddr::new_truncate(at & !0xfff)) };
        // SAFETY: the word is in that frame.
        let word = unsafe { frame.byte_add((at & 0xfff) as usize) };
        // SAFETY: it is aligned, and the driver holds the lock of its queue: nobody else reads or writes it now.
        let before = unsafe { word.read_volatile() };
        // SAFETY: as above.
        unsafe { word.write_volatile(before | bits) };
    }
}

// SAFETY: memory is the platform's own; what registers show instead makes the driver refuse the unit or
// give up, and what is set in a queue makes a unit refuse a descriptor, which invalidates nothing then.
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
        let value = if offset == IQT { self.spoil(registers, value) } else { value };
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
