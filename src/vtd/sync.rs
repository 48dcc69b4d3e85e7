//! What CPUs share, in one place, so that a test can put an explorer of schedules in its stead.
#![forbid(unsafe_code)]

pub(super) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// Its guards have to be kept: a statement that drops one at once does not compile.
pub(super) type UnitMutex<T> = lock_api::Mutex<spin::Mutex<()>, T>;
pub(super) type MutexGuard<'l, T> = lock_api::MutexGuard<'l, spin::Mutex<()>, T>;
