//! The start of the image, and what the loader tells it.

#[cfg(target_os = "none")]
mod cpu;
mod loader;
mod memory_map;
mod multiboot2;
#[cfg(target_os = "none")]
mod start;
mod start_info;
#[cfg(target_os = "none")]
mod wake;

#[cfg(target_os = "none")]
pub(crate) use cpu::cpu_code;
pub(crate) use loader::{Boot, Colours, Loader, MAX_ENTRIES, MapEntry, Picture, Rsdp};
pub use memory_map::{MappedRange, MemoryKind};
#[cfg(target_os = "none")]
pub(crate) use start::stack_bottom_address;
#[cfg(target_os = "none")]
pub(crate) use wake::{sleep_now, wake_code};

/// The page below 1 MiB where other CPUs start. Firmware has its own at 0 and at the end of that memory.
pub(crate) const CPU_PAGE: u32 = 0x8000;

/// On the host nothing starts.
#[cfg(not(target_os = "none"))]
pub(crate) fn cpu_code() -> &'static [u8] {
    &[]
}

/// As above.
#[cfg(not(target_os = "none"))]
pub(crate) fn wake_code() -> &'static [u8] {
    &[]
}

/// As above.
///
/// # Safety
///
/// None is needed.
#[cfg(not(target_os = "none"))]
pub(crate) unsafe fn sleep_now(_copy: u64, _port: u32, _value: u32) {}
