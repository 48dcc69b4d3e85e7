//! What CPUs share, in one place, so that a test can put an explorer of schedules in its stead.
#![forbid(unsafe_code)]

pub(super) use core::sync::atomic::{AtomicU64, Ordering, fence};
pub(super) use spin::Mutex;
