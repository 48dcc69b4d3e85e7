//! What is programmed into a source of interrupts, and what is routed.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::Each;
use crate::failure::{Wrong, finish};
use crate::flat::{self, Error, Message, MsiXTable, RoutedInterrupt, Source, read};
use crate::front::{Done, front};

/// # Safety
///
/// `source` is null or valid for a read, `message` and `error` null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_message(source: *const Source, message: *mut Message, error: *mut Error) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let source = unsafe { read(source, "source")? }.read()?;
        let cofferdam::interrupt::Message { address, data } = front()?.message(source)?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(message, Message { address, data }) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `entry` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_redirection(io_apic: u8, pin: u8, entry: *mut u64, error: *mut Error) -> i32 {
    let done = || -> Done {
        let found = front()?.redirection(io_apic, pin)?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(entry, found) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_program_msi(device: u32, error: *mut Error) -> i32 {
    let done = || -> Done { Ok(front()?.program_msi(flat::device(device))?) };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `table` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_msi_x_table(device: u32, table: *mut MsiXTable, error: *mut Error) -> i32 {
    let done = || -> Done {
        let found = front()?.msi_x_table(flat::device(device))?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(table, MsiXTable { address: found.address.as_u64(), entries: found.entries.into() }) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `table` is null, or the device's own, as [`cofferdam::Iommu::program_msi_x`] asks; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_program_msi_x(device: u32, table: *mut u32, error: *mut Error) -> i32 {
    let done = || -> Done {
        let table = NonNull::new(table).filter(|table| table.is_aligned()).ok_or(Wrong::null("table"))?;
        // SAFETY: passed on from the caller.
        unsafe { front()?.program_msi_x(flat::device(device), table)? };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_routes(
    each: Option<unsafe extern "C" fn(*mut c_void, *const RoutedInterrupt)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        Ok(front()?.routes(|routed| each.call(&(&routed).into()))?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
