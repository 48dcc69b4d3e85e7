//! What goes wrong in a call, and how it is reported.

use core::fmt;

use cofferdam::iommu::Error;

use crate::flat;
use crate::front::Done;

/// Why a call failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// The driver says so.
    Front(Error),
    Argument(Wrong),
}

/// An argument that is not what it may be. It is small, where a failure is copied by each function on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrong {
    pub(crate) name: &'static str,
    /// Of several, that with this index has a value that it may not have; `None` if it is null or not aligned.
    pub(crate) index: Option<u32>,
}

impl Wrong {
    /// It has a value that it may not have.
    pub(crate) const fn value(name: &'static str) -> Self {
        Self { name, index: Some(0) }
    }

    /// It is null, or not aligned.
    pub(crate) const fn null(name: &'static str) -> Self {
        Self { name, index: None }
    }
}

impl Failure {
    /// Its number in the header. Those of the driver are below 256.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Front(error) => error.code().into(),
            Self::Argument(Wrong { index: None, .. }) => flat::COFFERDAM_ERROR_NULL,
            Self::Argument(_) => flat::COFFERDAM_ERROR_ARGUMENT,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Front(error)
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        Self::Argument(wrong)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front(error) => error.fmt(f),
            Self::Argument(Wrong { name, index: None }) => write!(f, "argument {name} is null or not aligned"),
            Self::Argument(Wrong { name, index: Some(index) }) => {
                write!(f, "argument {name} has no such value (index {index})")
            }
        }
    }
}

/// Ends a call: gives its code, and fills `error` if that is not null.
///
/// # Safety
///
/// `error` is null, or valid for a write.
#[inline(never)]
pub(crate) unsafe fn finish(result: Done, error: *mut flat::Error) -> i32 {
    let code = result.as_ref().err().map_or(0, Failure::code);
    if !error.is_null() && error.is_aligned() {
        // SAFETY: it is not null, and the caller says that it is valid then.
        unsafe { flat::Error::write(error, code, &result) };
    }
    code
}
