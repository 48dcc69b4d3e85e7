use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use crate::firmware::{Finding, Flaw};

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RhsaFields {
    kind: U16,
    length: U16,
    reserved: U32,
    base: U64,
    proximity: U32,
}

// Not 24: the four bytes of the proximity domain are its end.
const _: () = assert!(size_of::<RhsaFields>() == 20);

/// Remapping hardware static affinity: to which node a unit belongs (VT-d 5.10, section 8.6).
#[derive(Clone, Copy, Debug)]
pub struct Rhsa<'a> {
    offset: u32,
    fields: &'a RhsaFields,
    behind: usize,
}

impl<'a> Rhsa<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, behind) = piece.fields("RHSA")?;
        Ok(Self { offset: piece.offset, fields, behind: behind.len() })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Physical address of the unit's registers, as its DRHD has it.
    pub fn base(&self) -> u64 {
        self.fields.base.get()
    }

    /// The proximity domain, as the SRAT table numbers them.
    pub fn proximity(&self) -> u32 {
        self.fields.proximity.get()
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        if self.fields.reserved.get() != 0 {
            report(Finding::reserved(self.offset + 4, "RHSA", u64::from(self.fields.reserved.get())));
        }
        if self.behind != 0 {
            let offset = self.offset + size_of::<RhsaFields>() as u32;
            report(Finding::new(offset, Flaw::LeftOver { bytes: self.behind }));
        }
    }
}
