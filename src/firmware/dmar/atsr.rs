use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use super::{ScopeKind, Scopes};
use crate::firmware::Finding;

/// Bit 0 of Flags.
const ALL_PORTS: u8 = 1 << 0;

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AtsrFields {
    kind: U16,
    length: U16,
    flags: u8,
    reserved: u8,
    segment: U16,
}

const _: () = assert!(size_of::<AtsrFields>() == 8);

/// Root port ATS capability: behind which root ports devices may use ATS (VT-d 5.10, section 8.5).
#[derive(Clone, Copy, Debug)]
pub struct Atsr<'a> {
    offset: u32,
    fields: &'a AtsrFields,
    scopes: &'a [u8],
}

impl<'a> Atsr<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, scopes) = piece.fields("ATSR")?;
        Ok(Self { offset: piece.offset, fields, scopes })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// ALL_PORTS: all root ports of the segment, whatever the scopes say.
    pub fn all_ports(&self) -> bool {
        self.fields.flags & ALL_PORTS != 0
    }

    /// The PCI segment of its root ports.
    pub fn segment(&self) -> u16 {
        self.fields.segment.get()
    }

    /// The root ports.
    pub fn scopes(&self) -> Scopes<'a> {
        Scopes::new(self.scopes, self.offset + size_of::<AtsrFields>() as u32)
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        if self.fields.flags & !ALL_PORTS != 0 {
            report(Finding::reserved(self.offset + 4, "ATSR", u64::from(self.fields.flags & !ALL_PORTS)));
        }
        if self.fields.reserved != 0 {
            report(Finding::reserved(self.offset + 5, "ATSR", u64::from(self.fields.reserved)));
        }
        self.scopes().lint("ATSR", |kind| kind == ScopeKind::Subtree, report);
    }
}
