//! What can be mapped at all, and by a table of which shape.
#![forbid(unsafe_code)]

use core::fmt;

use super::Shape;
use crate::addr::{INTERRUPTS, Iova, IovaRange, PAGE_BYTES, Region, meets_interrupts};
use crate::hal::OutOfFrames;

/// Why a region cannot be mapped. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// Input or output does not begin or end on a 4 KiB page.
    Misaligned(Region),
    /// A page without rights would be absent.
    NoRights(IovaRange),
    /// The input range ends above what the devices can be translated for.
    InputTooHigh {
        /// The region.
        region: Region,
        /// Width of an input address.
        input_bits: u8,
    },
    /// The output range ends above the machine's address width.
    OutputTooHigh {
        /// The region.
        region: Region,
        /// Width of an output address.
        output_bits: u8,
    },
    /// Input or output meets 0xFEE0_0000 to 0xFEEF_FFFF, where requests are interrupts.
    InterruptRange(Region),
    /// Something is mapped at this input address already.
    Occupied(Iova),
    /// There is no frame for a page table.
    OutOfFrames,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned(region) => write!(f, "{region} is not made of whole 4 KiB pages"),
            Self::NoRights(range) => write!(f, "{range} would grant nothing"),
            Self::InputTooHigh { region, input_bits } => {
                write!(f, "{region}: the input passes the {input_bits} bits that the unit translates")
            }
            Self::OutputTooHigh { region, output_bits } => {
                write!(f, "{region}: the output passes the machine's {output_bits} address bits")
            }
            Self::InterruptRange(region) => {
                write!(f, "{region} meets {:#x}..={:#x}, where requests are interrupts", INTERRUPTS.0, INTERRUPTS.1)
            }
            Self::Occupied(at) => write!(f, "{at} is mapped already"),
            Self::OutOfFrames => OutOfFrames.fmt(f),
        }
    }
}

impl core::error::Error for MapError {}

impl From<OutOfFrames> for MapError {
    fn from(OutOfFrames: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// Checks that some page table can map `region`.
pub(crate) fn check(region: Region) -> Result<(), MapError> {
    let (input, output) = (region.input, region.output.as_u64());
    if !input.is_page_aligned() || !output.is_multiple_of(PAGE_BYTES) {
        return Err(MapError::Misaligned(region));
    }
    if region.rights.is_empty() {
        return Err(MapError::NoRights(input));
    }
    let output_last = output.saturating_add(input.bytes() - 1);
    if meets_interrupts(input.start().as_u64(), input.last().as_u64()) || meets_interrupts(output, output_last) {
        return Err(MapError::InterruptRange(region));
    }
    Ok(())
}

impl Shape {
    /// Checks that a table of this shape reaches both sides of `region`.
    pub(super) fn check(self, region: Region) -> Result<(), MapError> {
        if exceeds(region.input.last().as_u64(), self.input_bits) {
            return Err(MapError::InputTooHigh { region, input_bits: self.input_bits });
        }
        let output_last = region.output.as_u64().saturating_add(region.input.bytes() - 1);
        if exceeds(output_last, self.output_bits) {
            return Err(MapError::OutputTooHigh { region, output_bits: self.output_bits });
        }
        Ok(())
    }
}

/// True if `value` needs more than `bits` bits.
fn exceeds(value: u64, bits: u8) -> bool {
    value.checked_shr(bits.into()).is_some_and(|rest| rest != 0)
}
