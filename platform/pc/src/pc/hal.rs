//! What the driver does to the machine, done to this one.

use core::ptr::{self, NonNull};

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, RegisterWindow};
use volatile::VolatilePtr;

use super::Pc;
use crate::memory::{PAGE, allocate_zeroed, is_free_at_boot};

// SAFETY: frames come from an allocator that hands each out once, zeroed and aligned to their size, and that has memory of
// its own, which cells get none of. Memory is mapped one to one and cached, devices uncached, and each access is a volatile or
// an atomic one of its width. The clock counts the time-stamp counter, which CPUs have in common.
unsafe impl Hal for Pc {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        allocate_zeroed(&self.own_frames, order).map(|first| PhysAddr::new_truncate(first.addr().get() as u64))
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        if let Some(first) = NonNull::new(ptr::with_exposed_provenance_mut(frames.as_u64() as usize)) {
            // SAFETY: the caller says that the frames were allocated with that order, and that nobody uses them.
            unsafe { self.own_frames.lock().free(first, order) };
        }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        let parts = self.own.iter().filter_map(|own| own.intersection(memory));
        parts.min_by_key(|part| part.first())
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        let frame: *mut u64 = ptr::with_exposed_provenance_mut(frame.as_u64() as usize);
        // SAFETY: frames that were allocated lie above the first MiB.
        unsafe { NonNull::new_unchecked(frame) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        let at = at.as_u64();
        if !at.is_multiple_of(8) || !is_free_at_boot(self.boot.map, at) || self.image.contains(&at) {
            return None;
        }
        let word: *const u64 = ptr::with_exposed_provenance(at as usize);
        // SAFETY: the memory is mapped one to one, and whoever has it from the allocator uses pointers alone: frames of the
        // driver, blocks of cells, page tables of the CPU, and the allocator's own list of what is free.
        Some(unsafe { word.read_volatile() })
    }

    // Who left a queue there does not touch it before it is handed back.
    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        let (first, last) = (memory.first().as_u64(), memory.last().as_u64());
        let is_free = |at| is_free_at_boot(self.boot.map, at) && !self.image.contains(&at);
        if (first..=last).step_by(PAGE).all(is_free) {
            NonNull::new(ptr::with_exposed_provenance_mut(first as usize))
        } else {
            None
        }
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        self.device_at(window.base.as_u64())
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.config_register(function, offset).map_or(u32::MAX, VolatilePtr::read)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        if let Some(register) = self.config_register(function, offset) {
            register.write(value);
        }
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }
}
