use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use super::{ScopeKind, Scopes};
use crate::firmware::{Finding, Flaw};

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RmrrFields {
    kind: U16,
    length: U16,
    reserved: U16,
    segment: U16,
    base: U64,
    limit: U64,
}

const _: () = assert!(size_of::<RmrrFields>() == 24);

/// Reserved memory region reporting: memory that devices go on using (VT-d 5.10, section 8.4).
#[derive(Clone, Copy, Debug)]
pub struct Rmrr<'a> {
    offset: u32,
    fields: &'a RmrrFields,
    scopes: &'a [u8],
}

impl<'a> Rmrr<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, scopes) = piece.fields("RMRR")?;
        Ok(Self { offset: piece.offset, fields, scopes })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// The PCI segment of its devices.
    pub fn segment(&self) -> u16 {
        self.fields.segment.get()
    }

    /// The first address.
    pub fn base(&self) -> u64 {
        self.fields.base.get()
    }

    /// The last address, which belongs to it.
    pub fn limit(&self) -> u64 {
        self.fields.limit.get()
    }

    /// The devices that use it.
    pub fn scopes(&self) -> Scopes<'a> {
        Scopes::new(self.scopes, self.offset + size_of::<RmrrFields>() as u32)
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        if self.fields.reserved.get() != 0 {
            report(Finding::reserved(self.offset + 4, "RMRR", u64::from(self.fields.reserved.get())));
        }
        self.scopes().lint(
            "RMRR",
            |kind| matches!(kind, ScopeKind::Endpoint | ScopeKind::Subtree | ScopeKind::Acpi),
            report,
        );
        if self.scopes().sound().next().is_none() {
            report(Finding::new(self.offset, Flaw::ReservedForNobody { structure: "RMRR" }));
        }
    }
}
