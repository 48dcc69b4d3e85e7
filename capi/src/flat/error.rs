//! An error as C reads it: numbers, names of registers, and a copy of the driver's own, which is made words of if C asks.

mod fields;

use core::mem::MaybeUninit;

use super::Name;
use crate::failure::Failure;
use crate::front::Done;

/// What is set of an error's fields.
pub const COFFERDAM_HAS_DEVICE: u32 = 1;
pub const COFFERDAM_HAS_CELL: u32 = 2;
pub const COFFERDAM_HAS_ADDRESS: u32 = 4;
pub const COFFERDAM_HAS_BYTES: u32 = 8;
pub const COFFERDAM_HAS_VALUE: u32 = 16;

/// Room for a failure, in words: the header has the same number.
pub const COFFERDAM_FAILURE_WORDS: usize = 11;
/// What a struct holds that a call has filled.
const FILLED: u64 = 0x636f_6666_6572_6431;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Error {
    pub code: i32,
    pub detail: u32,
    pub has: u32,
    pub device: u32,
    pub cell: u64,
    pub address: u64,
    pub bytes: u64,
    pub value: u64,
    pub name: Name,
    pub bit: Name,
    pub filled: u64,
    pub failure: Opaque,
}

/// A copy of what C does not look into.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Opaque {
    words: [u64; COFFERDAM_FAILURE_WORDS],
    failure: MaybeUninit<Failure>,
}

impl core::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Opaque")
    }
}

const _: () = assert!(size_of::<Opaque>() == size_of::<u64>() * COFFERDAM_FAILURE_WORDS);
const _: () = assert!(size_of::<Failure>() <= size_of::<Opaque>());

impl Error {
    const NONE: Self = Self {
        code: 0,
        detail: 0,
        has: 0,
        device: 0,
        cell: 0,
        address: 0,
        bytes: 0,
        value: 0,
        name: Name::NONE,
        bit: Name::NONE,
        filled: 0,
        failure: Opaque { words: [0; COFFERDAM_FAILURE_WORDS] },
    };

    /// Fills what a client reads.
    ///
    /// # Safety
    ///
    /// `error` is valid for a write.
    pub(crate) unsafe fn write(error: *mut Self, code: i32, result: &Done) {
        let mut flat = Self { code, ..Self::NONE };
        if let Err(failure) = result {
            flat.failure.failure = MaybeUninit::new(*failure);
            flat.filled = FILLED ^ u64::from(code.unsigned_abs());
            flat.fill(failure);
        }
        // SAFETY: passed on from the caller.
        unsafe { error.write(flat) }
    }

    /// What failed, if a call has filled the struct and nobody has changed that.
    pub(crate) fn failure(&self) -> Option<Failure> {
        if self.code == 0 || self.filled != FILLED ^ u64::from(self.code.unsigned_abs()) {
            return None;
        }
        // SAFETY: any bytes are a value of this type.
        let failure = unsafe { self.failure.failure };
        // SAFETY: a call has written a failure there, as the two words say; whoever has changed it knew what they mean.
        Some(unsafe { failure.assume_init() })
    }
}
