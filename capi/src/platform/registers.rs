//! Where the CPU sees the registers of each unit, as the client maps them.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use cofferdam::hal::RegisterWindow;

use crate::flat::COFFERDAM_UNITS;

/// The registers of one unit.
struct Mapped {
    /// Their physical address; 0 if the slot is free.
    base: AtomicU64,
    /// Where the CPU sees them; null until the client has said, and if it cannot map them.
    seen: AtomicPtr<u8>,
}

/// Filled from the first slot on, and never emptied. No lock: an NMI looks here.
static ALL: [Mapped; COFFERDAM_UNITS] =
    [const { Mapped { base: AtomicU64::new(0), seen: AtomicPtr::new(null_mut()) } }; COFFERDAM_UNITS];

/// Where the CPU sees a register; `None` if the client cannot map the unit's, which reads as if nobody answered.
pub(super) fn at<T>(window: RegisterWindow, offset: u32) -> Option<NonNull<T>> {
    let base = window.base.as_u64();
    for slot in &ALL {
        match slot.base.load(Ordering::Relaxed) {
            known if known == base => {}
            // Whoever takes a free slot fills it, which is one CPU for a unit: the one that probes.
            0 if slot.base.compare_exchange(0, base, Ordering::Relaxed, Ordering::Relaxed).is_ok() => {
                // SAFETY: the client defines it as the header says; where a unit's registers are, firmware says.
                let seen = unsafe { super::cofferdam_platform_map_registers(base, window.bytes) };
                slot.seen.store(seen.cast(), Ordering::Release);
            }
            _ => continue,
        }
        let seen = NonNull::new(slot.seen.load(Ordering::Acquire))?;
        // SAFETY: the register lies within the window, as the caller of the platform says, all of which the client has mapped.
        return Some(unsafe { seen.add(usize::try_from(offset).ok()?) }.cast());
    }
    None
}
