//! The lock of a unit. Whoever changes a unit's tables has that on the configuration as well; this one is for switching it on and
//! off.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::unit::Unit;

/// A unit: many use it at a time, as far as it is not changed; who switches it on or off has it alone.
pub(super) type UnitLock = lock_api::RwLock<RawUnitLock, Unit>;
pub(super) type UnitGuard<'u> = lock_api::RwLockReadGuard<'u, RawUnitLock, Unit>;

/// How many use a unit, or that somebody has it alone.
///
/// An NMI may try it whatever its CPU was at.
#[derive(Debug)]
pub(super) struct RawUnitLock(AtomicU32);

/// Somebody has it alone. Below that, users are counted: more than a CPU can nest, times the CPUs that there can be.
const ALONE: u32 = 1 << 31;

// SAFETY: a user is let in only if nobody has the unit alone, and is counted until it leaves; somebody gets it alone only if no
// user is counted. Both take it with Acquire and give it back with Release.
unsafe impl lock_api::RawRwLock for RawUnitLock {
    type GuardMarker = lock_api::GuardSend;

    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api wants a constant")]
    const INIT: Self = Self(AtomicU32::new(0));

    #[inline]
    fn lock_shared(&self) {
        while !self.try_lock_shared() {
            spin_loop();
        }
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        let is_free = self.0.fetch_add(1, Ordering::Acquire) & ALONE == 0;
        if !is_free {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    fn lock_exclusive(&self) {
        while !self.try_lock_exclusive() {
            spin_loop();
        }
    }

    fn try_lock_exclusive(&self) -> bool {
        self.0.compare_exchange(0, ALONE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock_exclusive(&self) {
        // Others may try meanwhile, and are counted for a moment.
        self.0.fetch_and(!ALONE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::vec::Vec;

    use super::RawUnitLock;

    type Lock<T> = lock_api::RwLock<RawUnitLock, T>;

    #[test]
    fn who_has_it_alone_shuts_all_others_out() {
        let lock = Lock::new(1);
        let (first, second) = (lock.read(), lock.try_read());
        assert!(second.is_some() && lock.try_write().is_none());
        drop((first, second));
        let alone = lock.write();
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        drop(alone);
        assert!(lock.try_read().is_some() && lock.try_write().is_some());
    }

    /// Under Miri, too, which sees any access that nothing orders.
    #[test]
    fn nobody_sees_half_of_a_change() {
        let lock = Lock::new([0_u32; 2]);
        thread::scope(|scope| {
            let readers = Vec::from_iter((0..2).map(|_| {
                scope.spawn(|| {
                    (0..100).all(|_| {
                        let pair = lock.read();
                        pair[0] == pair[1]
                    })
                })
            }));
            for _ in 0..2 {
                scope.spawn(|| (0..50).for_each(|_| lock.write().iter_mut().for_each(|half| *half += 1)));
            }
            assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
        });
        assert_eq!(*lock.read(), [100; 2]);
    }
}
