use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use super::{ScopeKind, Scopes};
use crate::firmware::Finding;

/// Bit 0 of Flags.
const ATC_REQUIRED: u8 = 1 << 0;

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SatcFields {
    kind: U16,
    length: U16,
    flags: u8,
    reserved: u8,
    segment: U16,
}

const _: () = assert!(size_of::<SatcFields>() == 8);

/// SoC integrated address translation cache: devices whose cache is validated (VT-d 5.10, section 8.8).
///
/// Does not count where the table has a [`Sidp`](super::Sidp) (section 8.9).
#[derive(Clone, Copy, Debug)]
pub struct Satc<'a> {
    offset: u32,
    fields: &'a SatcFields,
    scopes: &'a [u8],
}

impl<'a> Satc<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, scopes) = piece.fields("SATC")?;
        Ok(Self { offset: piece.offset, fields, scopes })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// ATC_REQUIRED: the devices do not work without their cache.
    pub fn required(&self) -> bool {
        self.fields.flags & ATC_REQUIRED != 0
    }

    /// The PCI segment of its devices.
    pub fn segment(&self) -> u16 {
        self.fields.segment.get()
    }

    /// The devices.
    pub fn scopes(&self) -> Scopes<'a> {
        Scopes::new(self.scopes, self.offset + size_of::<SatcFields>() as u32)
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        if self.fields.flags & !ATC_REQUIRED != 0 {
            report(Finding::reserved(self.offset + 4, "SATC", u64::from(self.fields.flags & !ATC_REQUIRED)));
        }
        if self.fields.reserved != 0 {
            report(Finding::reserved(self.offset + 5, "SATC", u64::from(self.fields.reserved)));
        }
        self.scopes().lint("SATC", |kind| kind == ScopeKind::Endpoint, report);
        self.scopes().lint_integrated("SATC", report);
    }
}
