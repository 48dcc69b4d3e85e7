//! A machine that tells of each call of the driver before it does what is asked.

use std::ptr::NonNull;

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::{Hal, Window};
use cofferdam_model::Machine;

/// The kinds of calls that tests tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Pause,
    Other,
}

pub(crate) struct Hooked<'m, F> {
    pub(crate) machine: &'m Machine,
    pub(crate) before: F,
}

impl<F: Fn(Call)> Hooked<'_, F> {
    fn before(&self, call: Call) -> &Machine {
        (self.before)(call);
        self.machine
    }
}

// SAFETY: each method is that of the machine, which keeps the contract.
unsafe impl<F: Fn(Call)> Hal for Hooked<'_, F> {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.before(Call::Other).allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).free(frames, order) }
    }

    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).virt(frame) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).store(entry, value) }
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).load(entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        self.before(Call::Other).word_at(at)
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).write_back(first, bytes) }
    }

    fn fence(&self) {
        self.before(Call::Other).fence();
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).read32(window, offset) }
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).write32(window, offset, value) }
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).read64(window, offset) }
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).write64(window, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.before(Call::Other).config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.before(Call::Other).config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        self.before(Call::Other).now_ns()
    }

    fn pause(&self) {
        self.before(Call::Pause).pause();
    }
}
