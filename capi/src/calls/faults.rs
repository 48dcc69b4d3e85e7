//! What the units blocked.

use core::ffi::c_void;

use cofferdam::interrupt;

use super::Each;
use crate::failure::finish;
use crate::flat::{self, COFFERDAM_NMI, Error, Fault, FaultEvent, FaultLog};
use crate::front::{Done, front};

/// # Safety
///
/// `each` may be called with `context`, in the context that this is called in; `log` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_faults(
    each: Option<unsafe extern "C" fn(*mut c_void, *const Fault)>,
    context: *mut c_void,
    log: *mut FaultLog,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        // SAFETY: passed on from the caller.
        let each = unsafe { Each::new(each, context)? };
        let read = front()?.faults(|fault| each.call(&(&fault).into()));
        // SAFETY: passed on from the caller.
        unsafe { flat::write(log, read.into()) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `each` may be called with `context`; `error` is null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_faults_by_device(
    each: Option<unsafe extern "C" fn(context: *mut c_void, device: u32, faults: u64)>,
    context: *mut c_void,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        let each = flat::function(each, "each")?;
        // SAFETY: the caller says that the function may be called with the context.
        front()?.faults_by_device(|device, faults| unsafe { each(context, flat::number(device), faults) });
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}

/// # Safety
///
/// `to` is null or valid for a read, `error` null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_set_fault_event(to: *const FaultEvent, error: *mut Error) -> i32 {
    let done = || -> Done {
        let to = if to.is_null() {
            None
        } else {
            // SAFETY: passed on from the caller.
            Some(match *unsafe { flat::read(to, "to")? } {
                FaultEvent { apic_id, vector: COFFERDAM_NMI } => interrupt::FaultEvent::Nmi { apic_id },
                FaultEvent { apic_id, vector } => interrupt::FaultEvent::to(apic_id, vector),
            })
        };
        Ok(front()?.set_fault_event(to)?)
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
