//! How much of the boot stack something takes.

use core::arch::asm;
use core::ptr;

#[cfg(target_os = "none")]
use crate::boot::stack_bottom_address;

/// What is written to the stack before: nothing that code is likely to write.
const UNTOUCHED: u64 = 0x5ca1_ab1e_0ff1_c1a1;
/// Room for this function's own calls meanwhile.
const OWN: usize = 256;

/// On the host there is no boot stack, and nothing is measured.
#[cfg(not(target_os = "none"))]
fn stack_bottom_address() -> usize {
    usize::MAX
}

/// Does `work`, and tells how far down it has written to the stack, in bytes from here on.
///
/// Only on the boot stack. What a frame has room for and nobody writes counts only if something below it is written, as
/// each call does.
#[inline(never)]
pub fn stack_depth<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let top: usize;
    // SAFETY: the register is read, and nothing else happens.
    unsafe { asm!("mov {}, rsp", out(reg) top, options(nomem, nostack, preserves_flags)) };
    let bottom = stack_bottom_address();
    let mut at = bottom;
    while at < top - OWN {
        // SAFETY: the word is on the boot stack, below everything that is in use: there is no red zone, and no interrupt.
        unsafe { ptr::with_exposed_provenance_mut::<u64>(at).write_volatile(UNTOUCHED) };
        at += 8;
    }
    let result = work();
    at = bottom;
    // SAFETY: the word is on the boot stack.
    while at < top - OWN && unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() } == UNTOUCHED {
        at += 8;
    }
    (result, top.saturating_sub(at) as u64)
}
