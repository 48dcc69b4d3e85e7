//! Cells, and whether their DMA snoops.

use core::ffi::c_void;

use cofferdam::{CellId, Coherency};

use crate::failure::{Wrong, finish};
use crate::flat::{self, CellConfig, Committed, Error, read};
use crate::front::{Done, front};

/// # Safety
///
/// `config` is null or valid for a read, `cell` and `error` null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_create_cell(config: *const CellConfig, cell: *mut u64, error: *mut Error) -> i32 {
    // SAFETY: passed on from the caller.
    let done = || unsafe { create(config, cell, false) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// As for [`cofferdam_create_cell`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_create_root_cell(
    config: *const CellConfig,
    cell: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: passed on from the caller.
    let done = || unsafe { create(config, cell, true) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `config` is null or valid for a read, `cell` null or valid for a write.
#[inline(never)]
unsafe fn create(config: *const CellConfig, cell: *mut u64, is_root: bool) -> Done {
    if cell.is_null() {
        return Err(Wrong::null("cell").into());
    }
    // SAFETY: passed on from the caller.
    let config = unsafe { read(config, "config")? }.read()?;
    let front = front()?;
    let made: CellId = if is_root { front.create_root_cell(config)? } else { front.create_cell(config)? };
    // SAFETY: passed on from the caller.
    unsafe { flat::write(cell, made.to_bits()) };
    Ok(())
}

fn is_enforced(coherency: Coherency) -> i32 {
    (coherency == Coherency::Enforced).into()
}

/// # Safety
///
/// `enforced` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_coherency(cell: u64, enforced: *mut i32, error: *mut Error) -> i32 {
    let done = || -> Done {
        let now = front()?.coherency(flat::cell(cell)?)?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(enforced, is_enforced(now)) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `committed` is null or valid for a read; `changed`, `enforced` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_coherency_change(
    committed: *const Committed,
    cell: u64,
    changed: *mut i32,
    enforced: *mut i32,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let committed = unsafe { read(committed, "committed")? }.read()?;
        let change = front()?.coherency_change(&committed, flat::cell(cell)?)?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(changed, change.is_some().into()) };
        // SAFETY: passed on from the caller.
        unsafe { flat::write(enforced, change.map_or(0, is_enforced)) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_coherency_changes(
    each: Option<unsafe extern "C" fn(context: *mut c_void, cell: u64, enforced: i32)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        let each = flat::function(each, "each")?;
        // SAFETY: the caller says that the function may be called with the context.
        front()?.coherency_changes(|cell, now| unsafe { each(context, cell.to_bits(), is_enforced(now)) })?;
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
