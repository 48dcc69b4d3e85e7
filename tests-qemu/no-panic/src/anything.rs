//! Values that could be anything: the optimiser cannot leave out a path because it knows what it is called with.

use core::hint::black_box;
use core::mem::{MaybeUninit, take};
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::AtomicU64;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Any number.
#[inline(never)]
pub fn any_number() -> u64 {
    // SAFETY: a static is valid for reads; a volatile one is not foreseen.
    unsafe { NUMBER.as_ptr().read_volatile() }
}

/// Any value of a type, whatever its fields hold.
pub fn any<T: 'static>() -> &'static T {
    any_mut()
}

/// As [`any`], to be changed.
pub fn any_mut<T: 'static>() -> &'static mut T {
    let anywhere = with_exposed_provenance_mut(any_number() as usize);
    // SAFETY: no program of this package is ever run, so no such reference ever comes to be.
    unsafe { &mut *anywhere }
}

/// Memory to hand over, as much as there may be.
pub fn any_memory() -> &'static mut [MaybeUninit<u64>] {
    take(any_mut())
}

/// Uses a value, so that it has to be made.
pub fn show<T>(value: T) {
    black_box(value);
}
