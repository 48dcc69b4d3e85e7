//! From the firmware's table to units that are on, and back.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use cofferdam::addr::Requester;

use super::Each;
use crate::edits::{self, Room};
use crate::failure::{Failure, Wrong, finish};
use crate::flat::{self, Error, Finding, Limits, Options, Probe, Unblocked, read, read_all};
use crate::front::{Done, Placed, front};

/// # Safety
///
/// `limits` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_default_limits(limits: *mut Limits) {
    // SAFETY: passed on from the caller.
    unsafe { flat::write(limits, Limits::DEFAULT) }
}

/// # Safety
///
/// `options` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_default_options(options: *mut Options) {
    // SAFETY: passed on from the caller.
    unsafe { flat::write(options, Options::DEFAULT) }
}

/// # Safety
///
/// `limits` is null or valid for a read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_words(limits: *const Limits) -> usize {
    // SAFETY: passed on from the caller.
    match unsafe { read(limits, "limits") } {
        Ok(limits) => {
            let front = limits.read();
            front.words().saturating_add(edits::words(&front, limits.edits))
        }
        Err(_) => usize::MAX,
    }
}

/// # Safety
///
/// As the header has it: what the struct points to is valid, and the memory is the library's from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_probe(probe: *const Probe, error: *mut Error) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let probe = unsafe { read(probe, "probe")? };
        // SAFETY: passed on from the caller.
        unsafe { begin(probe) }
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// As for [`cofferdam_probe`].
unsafe fn begin(probe: &Probe) -> Done {
    // SAFETY: passed on from the caller.
    let table = unsafe { read_all(probe.table, probe.table_bytes, "table")? };
    // SAFETY: passed on from the caller.
    let limits = unsafe { read(probe.limits, "limits")? };
    // SAFETY: passed on from the caller.
    let (memory, placed) = unsafe { place(probe, limits)? };
    let report = |finding| {
        if let Some(report) = probe.finding {
            let finding = Finding::of(&finding);
            // SAFETY: the caller says that the function may be called with that context until the call ends.
            unsafe { report(probe.context, &raw const finding) }
        }
    };
    Ok(placed.complete(|front| front.probe_acpi(memory, &limits.read(), table, report))?)
}

/// Puts the front where it stays. Gives what it leaves of the memory.
///
/// # Safety
///
/// As for [`cofferdam_probe`].
#[inline(never)]
unsafe fn place(probe: &Probe, limits: &Limits) -> Result<(&'static mut [MaybeUninit<u64>], Placed), Failure> {
    // SAFETY: passed on from the caller.
    let options = if probe.options.is_null() { &Options::DEFAULT } else { unsafe { read(probe.options, "options")? } };
    // SAFETY: as for what is read; the caller says that nobody else uses the memory any more.
    let memory = unsafe { memory(probe.memory, probe.memory_words)? };
    let (memory, room) = Room::cut(memory, &limits.read(), limits.edits).map_err(|full| Failure::Front(full.into()))?;
    Ok((memory, Placed::new(options.platform(), options.read()?, room)?))
}

/// # Safety
///
/// The pointer is null, or valid for reads and writes of so many words, by nobody else, from now on.
unsafe fn memory(words: *mut MaybeUninit<u64>, count: usize) -> Result<&'static mut [MaybeUninit<u64>], Wrong> {
    if words.is_null() || !words.is_aligned() {
        return Err(Wrong::null("memory"));
    }
    if count > isize::MAX.unsigned_abs() / size_of::<u64>() {
        return Err(Wrong::value("memory_words"));
    }
    // SAFETY: it is not null and aligned, and the caller says that it is ours then.
    Ok(unsafe { core::slice::from_raw_parts_mut(words, count) })
}

/// # Safety
///
/// `io_apics` is null or valid for reads of `count` bytes, `error` null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_remap_interrupts(
    io_apics: *const u8,
    count: usize,
    x2apic: i32,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let io_apics = unsafe { read_all(io_apics, count, "io_apics")? };
        Ok(front()?.remap_interrupts(io_apics, x2apic != 0)?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_add_alias(device: u32, alias: u16, error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.add_alias(flat::device(device), Requester::new(alias))?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_prepare(error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.prepare()?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `unblocked` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_enable(unblocked: *mut Unblocked, error: *mut Error) -> i32 {
    let done = || -> Done {
        let result = front()?.enable();
        if let Ok(left) | Err(cofferdam::iommu::Error::Unblocked(left)) = &result {
            // SAFETY: passed on from the caller.
            unsafe { flat::write(unblocked, left.into()) };
        }
        Ok(result.map(drop)?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_disable(error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.disable()?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_hand_back(error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.hand_back()?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_suspend(error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.suspend()?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_resume(
    each: Option<unsafe extern "C" fn(*mut c_void, *const u32)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.resume(|device| each.call(&flat::number(device)))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_isolate(error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.isolate()?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `unblocked` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_unblocked(
    each: Option<unsafe extern "C" fn(*mut c_void, *const u32)>,
    context: *mut c_void,
    unblocked: *mut Unblocked,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        let left = front()?.unblocked(&mut |function| each.call(&flat::number(function)))?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(unblocked, (&left).into()) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
