//! What crosses the interface: flat structs of C, the header's constants, and how they become the driver's types.
//!
//! A struct's name in the header is its name here with `cofferdam_` before it. Numbers that C may set to anything are plain
//! integers, checked when they are read. A constant that the driver numbers itself (`code()` of each error) has no line here.

pub(crate) mod cell;
mod device;
mod edit;
mod error;
mod fault;
mod interrupt;
mod life;
mod lists;
mod table;

use core::ffi::{c_char, c_void};

use cofferdam::CellId;
use cofferdam::addr::{IovaRange, PhysRange, SourceId};

use crate::failure::Wrong;

pub use cell::CellConfig;
pub use device::{DeviceInfo, MsiXTable};
pub use edit::*;
pub use error::Error;
pub use fault::{Fault, FaultLog};
pub use interrupt::{COFFERDAM_NMI, FaultEvent, Message, Posting, Route, RoutedInterrupt, Source};
pub use life::{Finding, Limits, Options, Probe, Unblocked};
pub use lists::{Assigned, Audit, Region, Statistics, Unit, Withheld};
pub use table::*;

/// Numbers of errors that are of this interface alone.
pub const COFFERDAM_ERROR_NULL: i32 = 256;
pub const COFFERDAM_ERROR_ARGUMENT: i32 = 257;

/// Takes a text, or a part of one: where it is and how long; it does not end with a zero.
pub type Text = unsafe extern "C" fn(context: *mut c_void, text: *const c_char, bytes: usize);

/// Bytes that stay where they are, as a text that does not end with a zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub text: *const c_char,
    pub bytes: usize,
}

impl Name {
    pub(crate) const NONE: Self = Self::of("");

    pub(crate) const fn of(text: &'static str) -> Self {
        Self { text: text.as_ptr().cast(), bytes: text.len() }
    }
}

/// Physical or input addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub first: u64,
    pub last: u64,
}

impl From<PhysRange> for Range {
    fn from(range: PhysRange) -> Self {
        Self { first: range.first().as_u64(), last: range.last().as_u64() }
    }
}

impl From<IovaRange> for Range {
    fn from(range: IovaRange) -> Self {
        Self { first: range.start().as_u64(), last: range.last().as_u64() }
    }
}

/// The handle that a number is. One that none has names no cell.
pub(crate) fn cell(bits: u64) -> Result<CellId, Wrong> {
    CellId::from_bits(bits).ok_or(Wrong::value("cell"))
}

/// A device by its number: the segment in the upper half.
pub(crate) fn device(number: u32) -> SourceId {
    SourceId::from_requester((number >> 16) as u16, number as u16)
}

/// The number of a device.
pub(crate) fn number(device: SourceId) -> u32 {
    u32::from(device.segment()) << 16 | u32::from(device.requester())
}

/// What an argument points to.
///
/// # Safety
///
/// The pointer is null, or valid for reads for as long as `'a`.
pub(crate) unsafe fn read<'a, T>(pointer: *const T, name: &'static str) -> Result<&'a T, Wrong> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Wrong::null(name));
    }
    // SAFETY: it is not null and aligned, and the caller says that it is valid then.
    Ok(unsafe { &*pointer })
}

/// Several of what an argument points to.
///
/// # Safety
///
/// The pointer is null, or valid for reads of `count` values for as long as `'a`.
pub(crate) unsafe fn read_all<'a, T>(pointer: *const T, count: usize, name: &'static str) -> Result<&'a [T], Wrong> {
    if count == 0 {
        return Ok(&[]);
    }
    // No piece of memory is larger than half of what there are addresses for.
    let is_sound = count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok());
    if !is_sound {
        return Err(Wrong::value(name));
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Wrong::null(name));
    }
    // SAFETY: it is not null and aligned, and so many are no more than there can be; the caller says that it is valid then.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// Writes what a call gives to where an argument points to, if that is not null.
///
/// # Safety
///
/// The pointer is null, or valid for a write.
pub(crate) unsafe fn write<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() && pointer.is_aligned() {
        // SAFETY: it is not null and aligned, and the caller says that it is valid then.
        unsafe { pointer.write(value) };
    }
}

/// A function that the client hands in.
pub(crate) fn function<T>(function: Option<T>, name: &'static str) -> Result<T, Wrong> {
    function.ok_or(Wrong::null(name))
}
