//! The platform: nothing but calls of functions that the compiler cannot see into. What they take of the stack is theirs.

use core::ptr::NonNull;

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, RegisterWindow};

/// Functions of the platform, each a single `ret`.
macro_rules! platform {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(core::arch::global_asm!(
            concat!(".pushsection .text.", stringify!($name), ", \"ax\", @progbits"),
            concat!(".globl ", stringify!($name)),
            concat!(".type ", stringify!($name), ", @function"),
            concat!(stringify!($name), ": ret"),
            concat!(".size ", stringify!($name), ", . - ", stringify!($name)),
            ".popsection",
        );)*
        unsafe extern "C" {
            $(safe fn $name($($arg: $type),*) $(-> $result)?;)*
        }
    };
}

platform! {
    fn platform_allocate(order: u8) -> u64;
    fn platform_free(frames: u64, order: u8);
    fn platform_own(first: u64, last: u64) -> u64;
    fn platform_pointer(frame: u64) -> NonNull<u64>;
    fn platform_word_at(at: u64) -> u64;
    fn platform_map_registers(base: u64, bytes: u32) -> *mut u8;
    fn platform_config_read(segment: u16, requester: u16, offset: u16) -> u32;
    fn platform_config_write(segment: u16, requester: u16, offset: u16, value: u32);
    fn platform_now_ns() -> u64;
}

#[derive(Clone, Copy, Debug)]
pub struct Platform;

/// The one that there is.
pub const fn platform() -> Platform {
    Platform
}

// SAFETY: this program is never run, so nothing relies on it.
unsafe impl Hal for Platform {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        PhysAddr::try_new(platform_allocate(order)).ok()
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        platform_free(frames.as_u64(), order);
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        let own = platform_own(memory.first().as_u64(), memory.last().as_u64());
        PhysRange::new(PhysAddr::try_new(own).ok()?, 1)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        platform_pointer(frame.as_u64())
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        Some(platform_word_at(at.as_u64()))
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        NonNull::new(platform_map_registers(window.base.as_u64(), window.bytes))
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        platform_config_read(function.segment(), function.requester(), offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        platform_config_write(function.segment(), function.requester(), offset, value);
    }

    fn now_ns(&self) -> u64 {
        platform_now_ns()
    }
}
