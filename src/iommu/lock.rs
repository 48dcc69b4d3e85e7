//! The locks of what changes share. A change takes a slot, then the lock on the configuration, then that of a unit's queue;
//! while it waits, `Transaction::unlocked` in `transaction/claim.rs` gives up that on the configuration.

use super::state::Config;

pub(super) type RawMutex = spin::Mutex<()>;
pub(super) type Mutex<T> = lock_api::Mutex<RawMutex, T>;
pub(super) type Guard<'l, 's> = lock_api::MutexGuard<'l, RawMutex, Config<'s>>;
