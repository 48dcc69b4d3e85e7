//! The DMAR table: Intel's description of its remapping units (VT-d 5.10, chapter 8).

mod andd;
mod atsr;
mod drhd;
mod rhsa;
mod rmrr;
mod satc;
mod scope;
mod sidp;
mod write;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::table::{self, Piece, Pieces};
use super::{Finding, Flaw, Header, TableError};

pub use andd::Andd;
pub use atsr::Atsr;
pub use drhd::Drhd;
pub use rhsa::Rhsa;
pub use rmrr::Rmrr;
pub use satc::Satc;
pub use scope::{DeviceScope, Hop, Properties, ScopeKind, Scopes};
pub use sidp::Sidp;
pub use write::{TableEntry, WriteError, write};

/// The table's signature.
pub const SIGNATURE: [u8; 4] = *b"DMAR";

bitflags::bitflags! {
    /// Flags of the table (section 8.1, byte 37).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Flags: u8 {
        /// INTR_REMAP: the platform supports interrupt remapping.
        const INTR_REMAP = 1 << 0;
        /// X2APIC_OPT_OUT: firmware asks to leave x2APIC mode alone. Has a meaning with `INTR_REMAP` only.
        const X2APIC_OPT_OUT = 1 << 1;
        /// DMA_CTRL_PLATFORM_OPT_IN_FLAG: DMA that firmware left behind stays within the reserved memory.
        const DMA_CTRL_PLATFORM_OPT_IN = 1 << 2;
        /// Bits that are reserved today.
        const _ = !0;
    }
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DmarFields {
    header: Header,
    host_address_width: u8,
    flags: u8,
    reserved: [u8; 10],
}

const _: () = assert!(size_of::<DmarFields>() == 48);

/// What every remapping structure starts with (section 8.2).
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct StructureHeader {
    kind: U16,
    length: U16,
}

/// A DMAR table.
#[derive(Clone, Copy, Debug)]
pub struct Dmar<'a> {
    fields: &'a DmarFields,
    table: &'a [u8],
}

impl<'a> Dmar<'a> {
    /// Looks at the table's header, and at the checksum. Bytes behind the table's length are left alone.
    ///
    /// Reports what is wrong with the table as a whole; [`lint`](Self::lint) does the structures.
    ///
    /// # Errors
    ///
    /// The bytes are too few for a DMAR's header, or are no DMAR.
    pub fn new(bytes: &'a [u8], mut report: impl FnMut(Finding)) -> Result<Self, TableError> {
        let needed = size_of::<DmarFields>();
        let table = table::check(bytes, &SIGNATURE, needed, &mut report)?;
        let (fields, _) =
            DmarFields::ref_from_prefix(table).map_err(|_| TableError::TooShort { bytes: table.len(), needed })?;
        Ok(Self { fields, table })
    }

    /// The header that all ACPI tables have.
    pub fn header(&self) -> &'a Header {
        &self.fields.header
    }

    /// Bits of a physical address that DMA can use: 1 to 256, as firmware says it.
    pub fn host_address_width(&self) -> u16 {
        u16::from(self.fields.host_address_width) + 1
    }

    /// Flags of the platform.
    pub fn flags(&self) -> Flags {
        Flags::from_bits_retain(self.fields.flags)
    }

    /// Where the structures start.
    pub fn structures_offset(&self) -> u32 {
        size_of::<DmarFields>() as u32
    }

    /// The structures in the order of the table. An item is a structure, or what is wrong with the bytes in its place.
    pub fn structures(&self) -> impl Iterator<Item = Result<Structure<'a>, Finding>> + use<'a> {
        Pieces::new(self.table, size_of::<DmarFields>()).map(|piece| piece.and_then(Structure::new))
    }

    /// The structures that can be used.
    pub fn sound(&self) -> impl Iterator<Item = Structure<'a>> + use<'a> {
        self.structures().filter_map(Result::ok)
    }

    /// Reports what is wrong with each structure by itself, and with the header's fields. What is wrong with several
    /// together is found where they are put together, in [`Topology`](crate::topology::Topology).
    pub fn lint(&self, mut report: impl FnMut(Finding)) {
        let report: &mut dyn FnMut(Finding) = &mut report;
        let flags = self.flags().bits() & !Flags::all_named().bits();
        if flags != 0 {
            report(Finding::reserved(37, "DMAR", u64::from(flags)));
        }
        if self.flags().contains(Flags::X2APIC_OPT_OUT) {
            let is_void = !self.flags().contains(Flags::INTR_REMAP);
            report(Finding::new(37, if is_void { Flaw::OptOutWithoutRemapping } else { Flaw::OptOut }));
        }
        if self.fields.reserved.iter().any(|byte| *byte != 0) {
            let value = self.fields.reserved.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            report(Finding::reserved(38, "DMAR", value));
        }
        let mut last = 0;
        for structure in self.structures() {
            match structure {
                Ok(structure) => {
                    // Section 8.2: in numerical order. Nothing here depends on it.
                    let kind = structure.number();
                    if kind < last {
                        report(Finding::new(structure.offset(), Flaw::OutOfOrder { kind, last }));
                    }
                    last = last.max(kind);
                    structure.lint(report);
                }
                Err(finding) => report(finding),
            }
        }
    }
}

impl Flags {
    const fn all_named() -> Self {
        Self::INTR_REMAP.union(Self::X2APIC_OPT_OUT).union(Self::DMA_CTRL_PLATFORM_OPT_IN)
    }
}

/// One structure of the table, long enough for its fixed fields and no longer than the table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Structure<'a> {
    /// 0: a remapping unit.
    Drhd(Drhd<'a>),
    /// 1: reserved memory.
    Rmrr(Rmrr<'a>),
    /// 2: root ports with ATS.
    Atsr(Atsr<'a>),
    /// 3: proximity of a unit.
    Rhsa(Rhsa<'a>),
    /// 4: a device of the ACPI name space.
    Andd(Andd<'a>),
    /// 5: devices with an address translation cache.
    Satc(Satc<'a>),
    /// 6: properties of devices.
    Sidp(Sidp<'a>),
    /// A type that this driver does not know; skipped by its length.
    Unknown {
        /// Where it starts in the table.
        offset: u32,
        /// The type.
        kind: u16,
        /// Its bytes, header included.
        bytes: &'a [u8],
    },
}

impl<'a> Structure<'a> {
    fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (header, _) = piece.fields::<StructureHeader>("structure")?;
        // R67: all types that the specification has, whether the driver needs them or not.
        Ok(match header.kind.get() {
            0 => Self::Drhd(Drhd::new(piece)?),
            1 => Self::Rmrr(Rmrr::new(piece)?),
            2 => Self::Atsr(Atsr::new(piece)?),
            3 => Self::Rhsa(Rhsa::new(piece)?),
            4 => Self::Andd(Andd::new(piece)?),
            5 => Self::Satc(Satc::new(piece)?),
            6 => Self::Sidp(Sidp::new(piece)?),
            kind => Self::Unknown { offset: piece.offset, kind, bytes: piece.bytes },
        })
    }

    /// The number of its type.
    pub fn number(&self) -> u16 {
        match *self {
            Self::Drhd(_) => 0,
            Self::Rmrr(_) => 1,
            Self::Atsr(_) => 2,
            Self::Rhsa(_) => 3,
            Self::Andd(_) => 4,
            Self::Satc(_) => 5,
            Self::Sidp(_) => 6,
            Self::Unknown { kind, .. } => kind,
        }
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        match *self {
            Self::Drhd(it) => it.offset(),
            Self::Rmrr(it) => it.offset(),
            Self::Atsr(it) => it.offset(),
            Self::Rhsa(it) => it.offset(),
            Self::Andd(it) => it.offset(),
            Self::Satc(it) => it.offset(),
            Self::Sidp(it) => it.offset(),
            Self::Unknown { offset, .. } => offset,
        }
    }

    fn lint(&self, report: &mut dyn FnMut(Finding)) {
        match self {
            Self::Drhd(it) => it.lint(report),
            Self::Rmrr(it) => it.lint(report),
            Self::Atsr(it) => it.lint(report),
            Self::Rhsa(it) => it.lint(report),
            Self::Andd(it) => it.lint(report),
            Self::Satc(it) => it.lint(report),
            Self::Sidp(it) => it.lint(report),
            Self::Unknown { offset, kind, .. } => report(Finding::new(*offset, Flaw::UnknownStructure { kind: *kind })),
        }
    }
}
