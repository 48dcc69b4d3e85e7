//! Write-back of cache lines, by the cheapest instruction that the CPU has.
//!
//! Measured per line: `clflush` about 205 ns, `clflushopt` 10, `clwb` 9, so the first is the last resort.

use core::arch::asm;
use core::arch::x86_64::{_mm_clflush, _mm_sfence};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::cpuid;

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
        Self::cheapest(cpuid::leaf(7).ebx, cpuid::leaf(1).ebx)
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

    /// Writes each line back once that holds one of these bytes.
    ///
    /// # Safety
    ///
    /// The bytes are mapped, and this CPU has the instruction.
    #[inline]
    unsafe fn write_back(self, first: NonNull<u8>, bytes: usize) {
        let lead = first.addr().get() & (self.line - 1);
        let (mut at, mut rest) = (first.as_ptr().wrapping_sub(lead), bytes.saturating_add(lead));
        while rest > 0 {
            // SAFETY: `at` is in a line that holds one of the caller's bytes, which are mapped.
            unsafe { self.instruction.write_back(at) }
            at = at.wrapping_add(self.line);
            rest = rest.saturating_sub(self.line);
        }
    }
}

impl Instruction {
    /// Writes a line back.
    ///
    /// # Safety
    ///
    /// The line is mapped, and this CPU has the instruction.
    #[inline]
    unsafe fn write_back(self, line: *mut u8) {
        #[cfg(test)]
        watch::note(watch::Seen::WriteBack { line: line.addr() });
        match self {
            // SAFETY: the caller says that the line is mapped, and that the CPU has the instruction.
            Self::Clwb => unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) },
            // SAFETY: as above.
            Self::Clflushopt => unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) },
            // SAFETY: as above.
            Self::Clflush => unsafe { _mm_clflush(line) },
        }
    }
}

/// Writes the lines that hold these bytes back to memory; done only after a [`store_fence`].
///
/// # Safety
///
/// The bytes are mapped.
#[inline]
pub(super) unsafe fn write_back(first: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller says that the bytes are mapped, and what was found is what this CPU has.
    unsafe { Method::get().write_back(first, bytes) }
}

/// Stores and write-backs before it are done before any store after it.
#[inline]
pub(super) fn store_fence() {
    #[cfg(test)]
    watch::note(watch::Seen::Fence);
    // SAFETY: every x86-64 CPU has `sfence`, and it touches no memory.
    unsafe { _mm_sfence() }
}

/// What a test sees of this CPU's caches: each instruction here that concerns them.
#[cfg(test)]
pub(super) mod watch {
    use std::cell::RefCell;
    use std::vec::Vec;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::hal) enum Seen {
        WriteBack { line: usize },
        Fence,
    }

    std::thread_local! {
        static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(seen: Seen) {
        SEEN.with_borrow_mut(|all| all.push(seen));
    }

    /// What this thread has the CPU do to its caches in `run`, in that order.
    pub(in crate::hal) fn seen(run: impl FnOnce()) -> Vec<Seen> {
        SEEN.take();
        run();
        SEEN.take()
    }
}

#[cfg(test)]
mod tests {
    use super::watch::{Seen, seen};
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
        let has = |name| std::fs::read_to_string("/proc/cpuinfo").unwrap().split_whitespace().any(|flag| flag == name);
        let expected = match () {
            () if has("clwb") => Instruction::Clwb,
            () if has("clflushopt") => Instruction::Clflushopt,
            () => Instruction::Clflush,
        };
        assert_eq!(Method::detect().instruction, expected);
        assert_eq!(crate::hal::pair::is_supported(), has("cx16"));
    }

    #[test]
    fn what_was_found_is_remembered_exactly() {
        for instruction in [Instruction::Clflush, Instruction::Clflushopt, Instruction::Clwb] {
            let method = Method { instruction, line: 64 };
            assert_eq!(Method::unpack(method.pack()), Some(method));
        }
        assert_eq!(Method::unpack(0), None);
    }

    #[repr(align(256))]
    struct Aligned([u8; 1024]);

    /// T5: whatever the range and the size of a line, each line that holds a byte of it is written back, once.
    #[test]
    fn each_line_that_holds_a_byte_is_written_back_once() {
        let mut memory = Aligned([0; 1024]);
        for line in [32, 64, 128] {
            let method = Method { line, ..Method::detect() };
            for (offset, bytes) in (0..=line + 1).flat_map(|offset| (1..=3 * line).map(move |bytes| (offset, bytes))) {
                let first = NonNull::from(&mut memory.0[offset]);
                // SAFETY: the bytes are part of `memory`, and the instruction is one that the CPU has.
                let seen = seen(|| unsafe { method.write_back(first, bytes) });
                let base = first.addr().get() - offset;
                let holds = |at: &usize| *at < offset + bytes && offset < at + line;
                let lines = (0..1024).step_by(line).filter(holds);
                let expected = lines.map(|at| Seen::WriteBack { line: base + at });
                assert!(seen.iter().copied().eq(expected), "{line}: {bytes} bytes from {offset} on: {seen:x?}");
            }
        }
    }
}
