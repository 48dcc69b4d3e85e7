//! The IVRS table: AMD's description of its remapping units (AMD IOMMU specification, order number 48882, section 5.2).

mod entry;
mod ivhd;
mod ivmd;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::table::{self, Piece, Pieces};
use super::{Finding, Flaw, Header, TableError};

pub use entry::{Devices, Entries, EntryKind, IvhdEntry, Listed, Uid, Variety};
pub use ivhd::{Ivhd, IvhdKind};
pub use ivmd::{Ivmd, IvmdDevices, IvmdFlags};

/// The table's signature.
pub const SIGNATURE: [u8; 4] = *b"IVRS";

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IvrsFields {
    header: Header,
    info: U32,
    reserved: [u8; 8],
}

const _: () = assert!(size_of::<IvrsFields>() == 48);

/// What every block starts with.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BlockHeader {
    kind: u8,
    flags: u8,
    length: U16,
}

/// The field IVinfo (section 5.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IvInfo(u32);

impl IvInfo {
    /// Bits 31:23 and 4:2.
    const RESERVED: u32 = 0xff80_001c;

    /// The field's bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// EFRSup, bit 0: the blocks have the units' extended features.
    pub fn features_told(self) -> bool {
        self.0 & 1 != 0
    }

    /// DMA remap support, bit 1: DMA that firmware left behind stays within the reserved memory.
    pub fn dma_remap(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// PASize, bits 14:8: bits of a physical address.
    pub fn physical_width(self) -> u8 {
        (self.0 >> 8) as u8 & 0x7f
    }

    /// VASize, bits 21:15: bits of a virtual address.
    pub fn virtual_width(self) -> u8 {
        (self.0 >> 15) as u8 & 0x7f
    }

    /// HtAtsResv, bit 22: the address range of HyperTransport is reserved for ATS too.
    pub fn ats_range_reserved(self) -> bool {
        self.0 & 1 << 22 != 0
    }
}

impl core::fmt::Debug for IvInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IvInfo({:#x})", self.0)
    }
}

/// An IVRS table.
#[derive(Clone, Copy, Debug)]
pub struct Ivrs<'a> {
    fields: &'a IvrsFields,
    table: &'a [u8],
}

impl<'a> Ivrs<'a> {
    /// Looks at the table's header, and at the checksum. Bytes behind the table's length are left alone.
    ///
    /// Reports what is wrong with the table as a whole; [`lint`](Self::lint) does the blocks.
    ///
    /// # Errors
    ///
    /// The bytes are too few for an IVRS's header, or are no IVRS.
    pub fn new(bytes: &'a [u8], mut report: impl FnMut(Finding)) -> Result<Self, TableError> {
        let needed = size_of::<IvrsFields>();
        let table = table::check(bytes, &SIGNATURE, needed, &mut report)?;
        let (fields, _) =
            IvrsFields::ref_from_prefix(table).map_err(|_| TableError::TooShort { bytes: table.len(), needed })?;
        Ok(Self { fields, table })
    }

    /// The header that all ACPI tables have.
    pub fn header(&self) -> &'a Header {
        &self.fields.header
    }

    /// What holds for all units.
    pub fn info(&self) -> IvInfo {
        IvInfo(self.fields.info.get())
    }

    /// Where the blocks start.
    pub fn blocks_offset(&self) -> u32 {
        size_of::<IvrsFields>() as u32
    }

    /// The blocks in the order of the table. An item is a block, or what is wrong with the bytes in its place.
    pub fn blocks(&self) -> impl Iterator<Item = Result<IvrsBlock<'a>, Finding>> + Clone + use<'a> {
        Pieces::new(self.table, size_of::<IvrsFields>()).map(|piece| piece.and_then(IvrsBlock::new))
    }

    /// The blocks that can be used.
    pub fn sound(&self) -> impl Iterator<Item = IvrsBlock<'a>> + Clone + use<'a> {
        self.blocks().filter_map(Result::ok)
    }

    /// Reports what is wrong with each block by itself, and with the header's fields. What is wrong with several together
    /// is found where they are put together, in [`Topology`](crate::topology::Topology).
    pub fn lint(&self, mut report: impl FnMut(Finding)) {
        let report: &mut dyn FnMut(Finding) = &mut report;
        let info = self.info().bits() & IvInfo::RESERVED;
        if info != 0 {
            report(Finding::reserved(36, "IVRS", u64::from(info)));
        }
        let reserved = u64::from_le_bytes(self.fields.reserved);
        if reserved != 0 {
            report(Finding::reserved(40, "IVRS", reserved));
        }
        for block in self.blocks() {
            match block {
                Ok(IvrsBlock::Ivhd(ivhd)) => ivhd.lint(report),
                Ok(IvrsBlock::Ivmd(ivmd)) => ivmd.lint(report),
                Ok(IvrsBlock::Unknown { offset, kind, .. }) => {
                    report(Finding::new(offset, Flaw::UnknownStructure { kind: u16::from(kind) }));
                }
                Err(finding) => report(finding),
            }
        }
    }
}

/// One block of the table, long enough for its fixed fields and no longer than the table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum IvrsBlock<'a> {
    /// 10h, 11h, 40h: a remapping unit.
    Ivhd(Ivhd<'a>),
    /// 20h, 21h, 22h: reserved memory.
    Ivmd(Ivmd<'a>),
    /// A type that this driver does not know; skipped by its length.
    Unknown {
        /// Where it starts in the table.
        offset: u32,
        /// The type.
        kind: u8,
        /// Its bytes, header included.
        bytes: &'a [u8],
    },
}

impl<'a> IvrsBlock<'a> {
    fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (header, _) = piece.fields::<BlockHeader>("block")?;
        Ok(match header.kind {
            0x10 => Self::Ivhd(Ivhd::new(piece, IvhdKind::Legacy)?),
            0x11 => Self::Ivhd(Ivhd::new(piece, IvhdKind::Full)?),
            0x40 => Self::Ivhd(Ivhd::new(piece, IvhdKind::Mixed)?),
            0x20..=0x22 => Self::Ivmd(Ivmd::new(piece)?),
            kind => Self::Unknown { offset: piece.offset, kind, bytes: piece.bytes },
        })
    }

    /// The number of its type.
    pub fn number(&self) -> u8 {
        match self {
            Self::Ivhd(ivhd) => ivhd.kind() as u8,
            Self::Ivmd(ivmd) => ivmd.number(),
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        match self {
            Self::Ivhd(ivhd) => ivhd.offset(),
            Self::Ivmd(ivmd) => ivmd.offset(),
            Self::Unknown { offset, .. } => *offset,
        }
    }
}
