//! What happened, in words. Each of these calls is in an image only if the client makes it, and so are the words.

use core::ffi::{c_char, c_void};
use core::fmt::{self, Write};

use cofferdam::vtd::FaultReason;

use crate::failure::Failure;
use crate::flat::{Error, Fault, Finding, Text, read};

/// The version, with a zero behind it.
const VERSION: &[u8] = concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes();

#[unsafe(no_mangle)]
pub extern "C" fn cofferdam_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// Hands a text on in the pieces that it is made in.
pub(crate) struct Pieces {
    pub(crate) text: Text,
    pub(crate) context: *mut c_void,
}

impl Write for Pieces {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // SAFETY: who made this answers for the function and its context.
        unsafe { (self.text)(self.context, piece.as_ptr().cast(), piece.len()) };
        Ok(())
    }
}

/// Writes into a buffer of C: what does not fit is counted, and the last byte is a zero.
struct Buffer {
    at: *mut u8,
    bytes: usize,
    needed: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for byte in piece.bytes() {
            if self.needed.checked_add(1).is_some_and(|end| end < self.bytes) {
                // SAFETY: the buffer has so many bytes, as the caller of the call says, and this is not the last of them.
                unsafe { self.at.wrapping_add(self.needed).write(byte) };
            }
            self.needed = self.needed.saturating_add(1);
        }
        Ok(())
    }
}

impl Buffer {
    /// Puts the zero behind what was written, and says how long all of it is without that.
    fn end(self) -> usize {
        let last = self.bytes.checked_sub(1).map(|last| last.min(self.needed));
        if let Some(last) = last.filter(|_| !self.at.is_null()) {
            // SAFETY: as for what is written; it is the last byte of the buffer or lies before that.
            unsafe { self.at.wrapping_add(last).write(0) };
        }
        self.needed
    }
}

/// # Safety
///
/// `error` is null, or valid for a read and as a call has filled it; `buffer` is null or valid for writes of `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_error_words(error: *const Error, buffer: *mut c_char, bytes: usize) -> usize {
    let bytes = if buffer.is_null() { 0 } else { bytes };
    let mut buffer = Buffer { at: buffer.cast(), bytes, needed: 0 };
    // SAFETY: passed on from the caller.
    let _ = match unsafe { read(error, "error") }.map(Error::failure) {
        Ok(Some(Failure::Front(error))) => write!(buffer, "{error}"),
        Ok(Some(failure)) => write!(buffer, "{failure}"),
        Ok(None) => buffer.write_str("no error"),
        Err(wrong) => write!(buffer, "{}", Failure::from(wrong)),
    };
    buffer.end()
}

/// # Safety
///
/// `finding` is null, or what the client's function was called with, until that returns; `text` may be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_finding_words(
    finding: *const Finding,
    text: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char, bytes: usize)>,
    context: *mut c_void,
) {
    let Some(text) = text else { return };
    // SAFETY: passed on from the caller.
    if let Ok(finding) = unsafe { read(finding, "finding") } {
        // SAFETY: it points to the driver's own, as the caller says.
        if let Ok(finding) = unsafe { read(finding.finding, "finding") } {
            let _ = write!(Pieces { text, context }, "{finding}");
        }
    }
}

/// # Safety
///
/// `fault` is null or valid for a read; `text` may be called with `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cofferdam_fault_words(
    fault: *const Fault,
    text: Option<unsafe extern "C" fn(context: *mut c_void, text: *const c_char, bytes: usize)>,
    context: *mut c_void,
) {
    let Some(text) = text else { return };
    // SAFETY: passed on from the caller.
    if let Ok(fault) = unsafe { read(fault, "fault") } {
        let _ = write!(Pieces { text, context }, "{}", fault_words(fault.code));
    }
}

/// What the specification of the unit calls a reason.
fn fault_words(code: u16) -> &'static str {
    u8::try_from(code).map_or("unknown", |code| FaultReason::new(code).words())
}
