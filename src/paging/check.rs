//! What can be mapped at all, and by a table of which shape.
#![forbid(unsafe_code)]

use core::fmt;

use super::Shape;
use crate::addr::{INTERRUPTS, Iova, IovaRange, PAGE_BYTES, Region, meets_interrupts};
use crate::hal::NoFrame;

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
    /// There is no frame for a page table, or none that its units can address.
    NoFrame(NoFrame),
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
            Self::NoFrame(reason) => reason.fmt(f),
        }
    }
}

impl core::error::Error for MapError {}

impl From<NoFrame> for MapError {
    fn from(reason: NoFrame) -> Self {
        Self::NoFrame(reason)
    }
}

/// Checks that some page table can map `region`.
pub(crate) fn check(region: Region) -> Result<(), MapError> {
    if !region.input.is_page_aligned() || !region.output.as_u64().is_multiple_of(PAGE_BYTES) {
        return Err(MapError::Misaligned(region));
    }
    if region.rights.is_empty() {
        return Err(MapError::NoRights(region.input));
    }
    if input_meets_interrupts(region.input) || output_meets_interrupts(region) {
        return Err(MapError::InterruptRange(region));
    }
    Ok(())
}

impl Shape {
    /// Checks that a table of this shape reaches both sides of `region`.
    pub(super) fn check(self, region: Region) -> Result<(), MapError> {
        if !self.reaches(region.input.last()) {
            return Err(MapError::InputTooHigh { region, input_bits: self.input_bits });
        }
        if exceeds(output_last(region), self.output_bits) {
            return Err(MapError::OutputTooHigh { region, output_bits: self.output_bits });
        }
        Ok(())
    }

    /// True if [`check`] and [`Shape::check`] find no fault with `region`, given that its input is made of pages and
    /// [`takes_input`](Self::takes_input) holds for it.
    #[inline]
    pub(super) fn takes_output(self, region: Region) -> bool {
        region.output.as_u64().is_multiple_of(PAGE_BYTES)
            && !region.rights.is_empty()
            && !output_meets_interrupts(region)
            && !exceeds(output_last(region), self.output_bits)
    }

    /// True if something can be mapped everywhere in `range`.
    pub(super) fn takes_input(self, range: IovaRange) -> bool {
        self.reaches(range.last()) && !input_meets_interrupts(range)
    }

    /// The first and the last address of the part of `range` that is not too high.
    pub(super) fn part(self, range: IovaRange) -> Option<(u64, u64)> {
        let highest = u64::MAX.unbounded_shr(64_u32.saturating_sub(self.input_bits.into()));
        let start = range.start().as_u64();
        (start <= highest).then(|| (start, range.last().as_u64().min(highest)))
    }

    /// True if `at` is not too high.
    pub(super) fn reaches(self, at: Iova) -> bool {
        !exceeds(at.as_u64(), self.input_bits)
    }
}

fn input_meets_interrupts(range: IovaRange) -> bool {
    meets_interrupts(range.start().as_u64(), range.last().as_u64())
}

#[inline]
fn output_meets_interrupts(region: Region) -> bool {
    meets_interrupts(region.output.as_u64(), output_last(region))
}

/// The physical address behind the last byte.
#[inline]
fn output_last(region: Region) -> u64 {
    region.output.as_u64().saturating_add(region.input.last().as_u64() - region.input.start().as_u64())
}

/// True if `value` needs more than `bits` bits.
#[inline]
fn exceeds(value: u64, bits: u8) -> bool {
    value.unbounded_shr(bits.into()) != 0
}
