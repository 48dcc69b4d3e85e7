//! A store of 16 bytes at once.

use core::arch::asm;
use core::ptr::NonNull;

use super::cpuid;

/// ECX of CPUID leaf 1: `cmpxchg16b`.
const CX16: u32 = 1 << 13;

/// True if this CPU can do it.
pub(super) fn is_supported() -> bool {
    cpuid::leaf(1).ecx & CX16 != 0
}

/// Stores both words as one, and after all stores that came before.
///
/// # Safety
///
/// This CPU can do it. `pair` is aligned to 16 bytes and valid for reads and writes, and all who access it at the same time do so
/// by atomic instructions.
pub(super) unsafe fn store(pair: NonNull<[u64; 2]>, [first, second]: [u64; 2]) {
    // Whatever it finds there, it finds again in rdx:rax and then replaces. The compiler may keep rbx for itself.
    // SAFETY: the caller says that the CPU has the instruction, and that the pair is aligned and valid for reads and writes. rbx is
    // as it was.
    unsafe {
        asm!(
            "xchg rbx, rsi",
            "2:",
            "lock cmpxchg16b [rdi]",
            "jnz 2b",
            "mov rbx, rsi",
            in("rdi") pair.as_ptr(),
            inout("rsi") first => _,
            in("rcx") second,
            inout("rax") 0_u64 => _,
            inout("rdx") 0_u64 => _,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[repr(align(16))]
    struct Pair([u64; 2]);

    #[test]
    fn both_words_are_stored_and_no_other() {
        let mut pairs = [Pair([1, 2]), Pair([3, 4]), Pair([5, 6])];
        let at = NonNull::from(&mut pairs[1]).cast();
        assert!(is_supported());
        // SAFETY: the pair is aligned and nobody else's.
        unsafe { store(at, [u64::MAX, 7]) };
        assert_eq!(pairs.map(|pair| pair.0), [[1, 2], [u64::MAX, 7], [5, 6]]);
    }

    #[test]
    fn both_words_are_stored_at_once() {
        #[repr(align(16))]
        struct Shared([AtomicU64; 2]);
        let shared = Shared([AtomicU64::new(0), AtomicU64::new(0)]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let at = NonNull::from(&shared.0).cast();
                // SAFETY: the pair is aligned, and the other thread accesses it by atomic instructions alone.
                (0..10_000).for_each(|n| unsafe { store(at, [n, n]) });
            });
            for _ in 0..10_000 {
                let [first, second] = &shared.0;
                // The second is looked at later, so it is never behind.
                let early = first.load(Ordering::SeqCst);
                assert!(second.load(Ordering::SeqCst) >= early);
                let early = second.load(Ordering::SeqCst);
                assert!(first.load(Ordering::SeqCst) >= early);
            }
        });
    }
}
