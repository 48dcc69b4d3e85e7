use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use super::{ScopeKind, Scopes};
use crate::firmware::{Finding, Flaw};

/// Bit 0 of Flags.
const INCLUDE_PCI_ALL: u8 = 1 << 0;
/// Bits 3:0 of Size.
const SIZE: u8 = 0xf;

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DrhdFields {
    kind: U16,
    length: U16,
    flags: u8,
    size: u8,
    segment: U16,
    base: U64,
}

const _: () = assert!(size_of::<DrhdFields>() == 16);

/// A DMA remapping hardware unit definition: one remapping unit (VT-d 5.10, section 8.3).
#[derive(Clone, Copy, Debug)]
pub struct Drhd<'a> {
    offset: u32,
    fields: &'a DrhdFields,
    scopes: &'a [u8],
}

impl<'a> Drhd<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, scopes) = piece.fields("DRHD")?;
        Ok(Self { offset: piece.offset, fields, scopes })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// INCLUDE_PCI_ALL: it serves what no other unit of its segment does.
    pub fn include_all(&self) -> bool {
        self.fields.flags & INCLUDE_PCI_ALL != 0
    }

    /// The PCI segment of its devices.
    pub fn segment(&self) -> u16 {
        self.fields.segment.get()
    }

    /// Physical address of its registers, as firmware says it: it may be 0 or unaligned.
    pub fn base(&self) -> u64 {
        self.fields.base.get()
    }

    /// Size of its register set: 2^N pages, so 4 KiB to 128 MiB.
    pub fn bytes(&self) -> u32 {
        // R6b
        4096 << (self.fields.size & SIZE)
    }

    /// The devices that it serves by name.
    pub fn scopes(&self) -> Scopes<'a> {
        Scopes::new(self.scopes, self.offset + size_of::<DrhdFields>() as u32)
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        if self.fields.flags & !INCLUDE_PCI_ALL != 0 {
            report(Finding::reserved(self.offset + 4, "DRHD", u64::from(self.fields.flags & !INCLUDE_PCI_ALL)));
        }
        if self.fields.size & !SIZE != 0 {
            report(Finding::reserved(self.offset + 5, "DRHD", u64::from(self.fields.size & !SIZE)));
        }
        // Section 8.3.1: a unit that takes all may not name functions and bridges. What else it names is its own anyhow.
        if self.include_all() {
            let fits = |kind| matches!(kind, ScopeKind::IoApic | ScopeKind::Hpet | ScopeKind::Acpi);
            self.scopes().lint("DRHD", fits, report);
        } else {
            self.scopes().lint("DRHD", |_| true, report);
            for scope in self.scopes().sound() {
                if let ScopeKind::Unknown(kind) = scope.kind() {
                    report(Finding::new(scope.offset(), Flaw::UnknownScope { kind }));
                }
            }
        }
    }
}
