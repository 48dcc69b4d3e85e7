//! Suspend to RAM, and what the machine does first when it wakes.

use core::arch::global_asm;
use core::slice;

use super::CPU_PAGE;

global_asm!(include_str!("wake.s"), page = const CPU_PAGE, options(att_syntax));

unsafe extern "C" {
    static wake_start: u8;
    static wake_end: u8;
    /// Copies the image to `copy` and writes to a port. Returns when the machine is awake, with interrupts off.
    ///
    /// # Safety
    ///
    /// There is room for the image, below 4 GiB; the code to wake is at its page with that address in its last four bytes; and the
    /// write to the port has the machine sleep.
    pub(crate) unsafe fn sleep_now(copy: u64, port: u32, value: u32);
}

/// What has to be copied to [`CPU_PAGE`], but for its last four bytes: where the copy of the image is.
pub(crate) fn wake_code() -> &'static [u8] {
    let (first, end) = (&raw const wake_start, &raw const wake_end);
    // SAFETY: both symbols are of the same section, which nobody writes.
    unsafe { slice::from_raw_parts(first, end.addr() - first.addr()) }
}
