//! A platform of which nothing is known.

use core::ptr::NonNull;

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, RegisterWindow};

use crate::{any_mut, any_number, show};

/// Answers with anything, and takes what it is given.
#[derive(Clone, Copy, Debug)]
pub struct Platform;

// SAFETY: no program of this package is ever run, so nothing relies on it.
unsafe impl Hal for Platform {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        show(order);
        PhysAddr::try_new(any_number()).ok()
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        show((frames, order));
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        show(memory);
        PhysRange::new(PhysAddr::try_new(any_number()).ok()?, any_number())
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        show(frame);
        NonNull::from(any_mut())
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        show(at);
        Some(any_number())
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        show(window);
        NonNull::new(any_number() as usize as *mut u8)
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        show((function, offset));
        any_number() as u32
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        show((function, offset, value));
    }

    fn now_ns(&self) -> u64 {
        any_number()
    }
}
