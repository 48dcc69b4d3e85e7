//! What there is: units, memory, devices, counts.

use core::ffi::c_void;

use super::Each;
use crate::failure::finish;
use crate::flat::{self, Assigned, Error, Range, Region, Statistics, Unit, Withheld};
use crate::front::{Done, front};

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_units(
    each: Option<unsafe extern "C" fn(*mut c_void, *const Unit)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        front()?.units().for_each(|unit| each.call(&(&unit).into()));
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `statistics` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_statistics(statistics: *mut Statistics, error: *mut Error) -> i32 {
    let done = || -> Done {
        let counted = front()?.statistics();
        // SAFETY: passed on from the caller.
        unsafe { flat::write(statistics, counted.into()) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_regions(
    cell: u64,
    each: Option<unsafe extern "C" fn(*mut c_void, *const Region)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.regions(flat::cell(cell)?, |region| each.call(&region.into()))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_assigned(
    each: Option<unsafe extern "C" fn(*mut c_void, *const Assigned)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.assigned(|device| each.call(&device.into()))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_senders(
    source: u32,
    each: Option<unsafe extern "C" fn(*mut c_void, *const Assigned)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.senders(flat::device(source), |device| each.call(&device.into()))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_withheld(
    each: Option<unsafe extern "C" fn(*mut c_void, *const Withheld)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.withheld(|memory| each.call(&memory.into()))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_input_ranges(
    cell: u64,
    each: Option<unsafe extern "C" fn(*mut c_void, *const Range)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.input_ranges(flat::cell(cell)?, |range| each.call(&range.into()))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
