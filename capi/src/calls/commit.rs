//! Changes.

use core::ffi::c_void;

use cofferdam::iommu;

use crate::edits::Held;
use crate::failure::{Failure, Wrong, finish};
use crate::flat::{self, Committed, Edit, Error, Remains, read_all};
use crate::front::{Done, Machine, machine};

type EachRemains = unsafe extern "C" fn(context: *mut c_void, remains: *const Remains);

/// # Safety
///
/// `edits` is null or valid for reads of `count` edits, `error` null or valid for a write. A descriptor that interrupts are
/// posted to is one, as [`cofferdam::interrupt::Posting::new`] asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_commit(edits: *const Edit, count: usize, error: *mut Error) -> i32 {
    // SAFETY: passed on from the caller.
    let done = || unsafe { commit(edits, count, None, core::ptr::null_mut(), core::ptr::null_mut()) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// As for [`cofferdam_commit`]; `remains` is null or may be called with `context`, and `committed` is null or valid for a
/// write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_commit_reporting(
    edits: *const Edit,
    count: usize,
    remains: Option<unsafe extern "C" fn(context: *mut c_void, remains: *const Remains)>,
    context: *mut c_void,
    committed: *mut Committed,
    error: *mut Error,
) -> i32 {
    // SAFETY: passed on from the caller.
    let done = || unsafe { commit(edits, count, remains, context, committed) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// As for [`cofferdam_commit_reporting`].
#[inline(never)]
unsafe fn commit(
    edits: *const Edit,
    count: usize,
    remains: Option<EachRemains>,
    context: *mut c_void,
    committed: *mut Committed,
) -> Done {
    let machine = machine()?;
    // SAFETY: passed on from the caller.
    let held = unsafe { copy(machine, edits, count)? };
    let report = |left: iommu::Remains| {
        if let (Some(remains), Some(left)) = (remains, Remains::of(left)) {
            // SAFETY: the caller says that the function may be called with the context.
            unsafe { remains(context, &raw const left) }
        }
    };
    match machine.front.commit_reporting(held.edits(), report) {
        // SAFETY: passed on from the caller.
        Ok(done) => unsafe { write_committed(committed, done) },
        Err(error) => return Err(Failure::Front(error)),
    }
    Ok(())
}

/// Writes what was done. Apart, so that it takes no stack while the change runs.
///
/// # Safety
///
/// `committed` is null or valid for a write.
#[inline(never)]
unsafe fn write_committed(committed: *mut Committed, done: iommu::Committed) {
    // SAFETY: passed on from the caller.
    unsafe { flat::write(committed, Committed::of(done)) };
}

/// Takes room for the edits, and copies them there. Apart, so that it takes no stack while the change runs.
///
/// # Safety
///
/// `edits` is null or valid for reads of `count` edits, which are as [`Edit::read`] asks.
#[inline(never)]
unsafe fn copy(machine: &Machine, edits: *const Edit, count: usize) -> Result<Held<'_>, Failure> {
    // SAFETY: passed on from the caller.
    let edits = unsafe { read_all(edits, count, "edits")? };
    let mut held = machine.room.take(count, machine.front.hal(), machine.timeout_ns)?;
    for (edit, index) in edits.iter().zip(0..) {
        // SAFETY: passed on from the caller.
        let edit = unsafe { edit.read() }.map_err(|wrong| Wrong { index: Some(index), ..wrong })?;
        held.push(edit);
    }
    Ok(held)
}
