//! The live tables beside the configuration, in words. An image has the audit only if the client makes this call.

use core::ffi::{c_char, c_void};
use core::fmt::Write;

use super::words::Pieces;
use crate::failure::finish;
use crate::flat::{self, Audit, Error};
use crate::front::{Done, front};

/// # Safety
///
/// `text` may be called with `context`; `audit` and `error` are null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_audit(
    text: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char, bytes: usize)>,
    context: *mut c_void,
    audit: *mut Audit,
    error: *mut Error,
) -> i32 {
    let done = || -> Done {
        let text = flat::function(text, "text")?;
        let mut pieces = Pieces { text, context };
        let all = front()?.audit(|difference| {
            let _ = writeln!(pieces, "{difference}");
        })?;
        // SAFETY: passed on from the caller.
        unsafe { flat::write(audit, all.into()) };
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { finish(done(), error) }
}
