//! What can be mapped at all, and by a table of which geometry.
#![forbid(unsafe_code)]

use core::fmt;

use super::geometry::exceeds;
use super::{Geometry, Hole};
use crate::addr::{Iova, IovaRange, PAGE_BYTES, Region, meets_interrupts};
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
    /// The input range meets addresses that hardware never translates.
    InputHole {
        /// The region.
        region: Region,
        /// Which addresses, and why.
        hole: &'static Hole,
    },
    /// The output range meets 0xFEE0_0000 to 0xFEEF_FFFF: hardware refuses what leads there.
    OutputInterrupts(Region),
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
            Self::InputHole { region, hole } => write!(f, "{region}: the input meets {hole}"),
            Self::OutputInterrupts(region) => write!(f, "{region}: the output meets {}", Hole::INTERRUPTS),
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
    check_holes(region, &[Hole::INTERRUPTS])?;
    if output_meets_interrupts(region) {
        return Err(MapError::OutputInterrupts(region));
    }
    Ok(())
}

fn check_holes(region: Region, holes: &'static [Hole]) -> Result<(), MapError> {
    let met = holes.iter().find(|hole| hole.meets(region.input));
    met.map_or(Ok(()), |hole| Err(MapError::InputHole { region, hole }))
}

impl Geometry {
    /// Checks that a table of this geometry can hold both sides of `region`.
    pub(super) fn check(self, region: Region) -> Result<(), MapError> {
        if !self.reaches(region.input.last()) {
            return Err(MapError::InputTooHigh { region, input_bits: self.input_bits });
        }
        if exceeds(output_last(region), self.output_bits) {
            return Err(MapError::OutputTooHigh { region, output_bits: self.output_bits });
        }
        check_holes(region, self.holes)
    }

    /// True if [`check`] and [`Geometry::check`] find no fault with `region`, given that its input is made of pages and
    /// [`takes_input`](Self::takes_input) holds for it.
    #[inline]
    pub(super) fn takes_output(self, region: Region) -> bool {
        region.output.as_u64().is_multiple_of(PAGE_BYTES)
            && !region.rights.is_empty()
            && !output_meets_interrupts(region)
            && !exceeds(output_last(region), self.output_bits)
    }
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
