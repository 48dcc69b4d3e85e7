use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use crate::firmware::{Finding, Flaw};

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AnddFields {
    kind: U16,
    length: U16,
    reserved: [u8; 3],
    number: u8,
}

const _: () = assert!(size_of::<AnddFields>() == 8);

/// ACPI name-space device declaration: a device that is no PCI function (VT-d 5.10, section 8.7).
#[derive(Clone, Copy, Debug)]
pub struct Andd<'a> {
    offset: u32,
    fields: &'a AnddFields,
    name: &'a [u8],
}

impl<'a> Andd<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, name) = piece.fields("ANDD")?;
        Ok(Self { offset: piece.offset, fields, name })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// The number by which scopes name the device.
    pub fn number(&self) -> u8 {
        self.fields.number
    }

    /// The full name of the object, up to the NUL, or up to the structure's end where there is none. Meant to be ASCII.
    pub fn name(&self) -> &'a [u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        let [low, middle, high] = self.fields.reserved;
        let reserved = u32::from_le_bytes([low, middle, high, 0]);
        if reserved != 0 {
            report(Finding::reserved(self.offset + 4, "ANDD", u64::from(reserved)));
        }
        if !self.name.contains(&0) {
            report(Finding::new(self.offset, Flaw::NameWithoutEnd { number: self.number() }));
        }
    }
}
