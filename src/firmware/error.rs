use core::fmt;

use crate::limits::Full;

/// A table that cannot be used at all. What costs a single structure is a [`Finding`](super::Finding) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// There are fewer bytes than the table's header has.
    TooShort {
        /// How many bytes there are.
        bytes: usize,
        /// How many the header has.
        needed: usize,
    },
    /// The table is another one.
    WrongSignature {
        /// The four bytes at offset 0.
        found: [u8; 4],
        /// What they should be.
        expected: [u8; 4],
    },
    /// The length at offset 4 is less than the header has, or less than a table with a structure needs.
    BadLength {
        /// That length.
        length: u32,
        /// What it must be at least.
        needed: usize,
    },
    /// No structure of the table describes a unit that can be used.
    NoUnit {
        /// Where the structures start.
        offset: u32,
    },
    /// The table holds more units than there is room for, or there is too little memory. What else there is no room for is
    /// lost by a finding.
    Full {
        /// The structure that has no room.
        offset: u32,
        /// Which capacity.
        full: Full,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { bytes, needed } => {
                write!(f, "{bytes} bytes are no table: its header alone has {needed}")
            }
            Self::WrongSignature { found, expected } => {
                write!(
                    f,
                    "offset 0x0: the signature is \"{}\", not \"{}\"",
                    found.escape_ascii(),
                    expected.escape_ascii()
                )
            }
            Self::BadLength { length, needed } => {
                write!(f, "offset 0x4: the table gives its length as {length} bytes, but has at least {needed}")
            }
            Self::NoUnit { offset } => write!(f, "offset {offset:#x}: no structure describes a unit that can be used"),
            Self::Full { offset, full } => write!(f, "offset {offset:#x}: {full}"),
        }
    }
}

impl core::error::Error for TableError {}
