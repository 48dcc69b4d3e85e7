//! What the CPU says of itself.

use core::arch::x86_64::{__cpuid_count, CpuidResult};

/// A leaf of CPUID; all zero if the CPU has none of that number.
#[allow(unused_unsafe, reason = "older compilers want it")]
pub(super) fn leaf(number: u32) -> CpuidResult {
    // SAFETY: every CPU with 64-bit mode has the instruction, and the leaf that says how many there are.
    let highest = unsafe { __cpuid_count(0, 0) }.eax;
    if number > highest {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    // SAFETY: as above.
    unsafe { __cpuid_count(number, 0) }
}
