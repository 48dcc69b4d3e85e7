//! The platform: functions that the C client defines. The header has the contract of each.

use core::ffi::c_void;
use core::ptr::NonNull;

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, RegisterWindow};

use crate::flat::{Range, number};

#[cfg_attr(test, allow(improper_ctypes, reason = "the tests define them in Rust"))]
unsafe extern "C" {
    fn cofferdam_platform_allocate(order: u8) -> u64;
    fn cofferdam_platform_free(frames: u64, order: u8);
    fn cofferdam_platform_own_memory(first: u64, last: u64, own: *mut Range) -> i32;
    fn cofferdam_platform_phys_to_virt(frame: u64) -> *mut c_void;
    fn cofferdam_platform_word_at(address: u64, word: *mut u64) -> i32;
    fn cofferdam_platform_map_registers(base: u64, bytes: u32) -> *mut c_void;
    fn cofferdam_platform_config_read(device: u32, offset: u16) -> u32;
    fn cofferdam_platform_config_write(device: u32, offset: u16, value: u32);
    fn cofferdam_platform_now_ns() -> u64;
    fn cofferdam_platform_pause();
}

/// The machine, by the client's functions, and the one that a client may do without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Platform {
    pub(crate) found_memory: Option<unsafe extern "C" fn(first: u64, last: u64) -> *mut c_void>,
}

// SAFETY: the header asks of each of the client's functions what the trait asks of the method. Registers are reached, and what
// hardware reads is stored, by the trait's own methods.
unsafe impl Hal for Platform {
    #[inline(never)]
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        // SAFETY: the client defines it as the header says; an order is all that it takes.
        PhysAddr::try_new(unsafe { cofferdam_platform_allocate(order) }).ok()
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: the caller says that the frames came from `allocate` with this order and that nobody uses them any more.
        unsafe { cofferdam_platform_free(frames.as_u64(), order) }
    }

    #[inline(never)]
    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        let (first, last) = (memory.first().as_u64(), memory.last().as_u64());
        let mut own = Range { first, last };
        // SAFETY: the client writes a range there, which is ours for the call.
        if unsafe { cofferdam_platform_own_memory(first, last, &raw mut own) } == 0 {
            return None;
        }
        // What is no part of it is taken as all of it, so that nobody is granted what is not known.
        if !(first <= own.first && own.first <= own.last && own.last <= last) {
            return Some(memory);
        }
        let bytes = own.last.wrapping_sub(own.first).saturating_add(1);
        PhysRange::new(PhysAddr::new_truncate(own.first), bytes)
    }

    #[inline(always)]
    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: the caller says that the frame came from `allocate`.
        let seen = unsafe { cofferdam_platform_phys_to_virt(frame.as_u64()) };
        // SAFETY: the header has the client give a pointer that is valid for the frame, so it is not null.
        unsafe { NonNull::new_unchecked(seen.cast()) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        let mut word = 0;
        // SAFETY: the client writes a word there, which is ours for the call.
        let is_memory = unsafe { cofferdam_platform_word_at(at.as_u64(), &raw mut word) };
        (is_memory != 0).then_some(word)
    }

    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        // SAFETY: the client hands it over as the header says.
        let seen = unsafe { (self.found_memory?)(memory.first().as_u64(), memory.last().as_u64()) };
        NonNull::new(seen.cast())
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        // SAFETY: the client defines it as the header says; where a unit's registers are, firmware says.
        let seen = unsafe { cofferdam_platform_map_registers(window.base.as_u64(), window.bytes) };
        NonNull::new(seen.cast())
    }

    #[inline(never)]
    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        // SAFETY: the client defines it as the header says; a read of configuration space does nothing else.
        unsafe { cofferdam_platform_config_read(number(function), offset) }
    }

    #[inline(never)]
    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: what the write does to the function, the caller answers for.
        unsafe { cofferdam_platform_config_write(number(function), offset, value) }
    }

    #[inline(never)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the client defines it as the header says.
        unsafe { cofferdam_platform_now_ns() }
    }

    fn pause(&self) {
        // SAFETY: the client defines it as the header says.
        unsafe { cofferdam_platform_pause() }
    }
}
