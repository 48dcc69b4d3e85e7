//! What goes wrong in a call, and how it is told.

use core::fmt;

use cofferdam::iommu::Error;

use crate::flat;
use crate::front::Done;

/// Why a call failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// The driver says so.
    Front(Error),
    /// This argument is null, or not aligned, and may not be.
    Null(&'static str),
    /// This argument has a value that it may not have; of several, the one with this index.
    Argument(&'static str, u32),
}

impl Failure {
    /// Its number in the header. Those of the driver are below 256.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Front(error) => error.code().into(),
            Self::Null(_) => flat::COFFERDAM_ERROR_NULL,
            Self::Argument(..) => flat::COFFERDAM_ERROR_ARGUMENT,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Front(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front(error) => error.fmt(f),
            Self::Null(name) => write!(f, "argument {name} is null or not aligned"),
            Self::Argument(name, index) => write!(f, "argument {name} has no such value (index {index})"),
        }
    }
}

/// Ends a call: gives its code, and fills `error` if that is not null.
///
/// # Safety
///
/// `error` is null, or valid for a write.
#[inline(never)]
pub(crate) unsafe fn tell(result: Done, error: *mut flat::Error) -> i32 {
    let code = result.as_ref().err().map_or(0, Failure::code);
    if !error.is_null() && error.is_aligned() {
        // SAFETY: it is not null, and the caller says that it is valid then.
        unsafe { flat::Error::write(error, code, &result) };
    }
    code
}
