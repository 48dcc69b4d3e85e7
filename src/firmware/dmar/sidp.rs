use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use super::{ScopeKind, Scopes};
use crate::firmware::Finding;

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SidpFields {
    kind: U16,
    length: U16,
    reserved: U16,
    segment: U16,
}

const _: () = assert!(size_of::<SidpFields>() == 8);

/// SoC integrated device properties, one set in each scope (VT-d 5.10, section 8.9).
#[derive(Clone, Copy, Debug)]
pub struct Sidp<'a> {
    offset: u32,
    fields: &'a SidpFields,
    scopes: &'a [u8],
}

impl<'a> Sidp<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, scopes) = piece.fields("SIDP")?;
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

    /// The devices, each with its [`properties`](super::DeviceScope::properties).
    pub fn scopes(&self) -> Scopes<'a> {
        Scopes::new(self.scopes, self.offset + size_of::<SidpFields>() as u32)
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        if self.fields.reserved.get() != 0 {
            report(Finding::reserved(self.offset + 4, "SIDP", u64::from(self.fields.reserved.get())));
        }
        self.scopes().lint("SIDP", |kind| matches!(kind, ScopeKind::Endpoint | ScopeKind::Acpi), report);
        self.scopes().lint_integrated("SIDP", report);
    }
}
