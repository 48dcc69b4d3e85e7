use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use super::{Devices, Entries};
use crate::firmware::Finding;

/// The type of an IVHD; a later one describes the same unit better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum IvhdKind {
    /// 10h: a short header, entries of fixed length.
    Legacy = 0x10,
    /// 11h: a header with the unit's features, entries of fixed length.
    Full = 0x11,
    /// 40h: as 11h, and entries for devices of the ACPI name space.
    Mixed = 0x40,
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IvhdFields {
    kind: u8,
    flags: u8,
    length: U16,
    device: U16,
    capability: U16,
    base: U64,
    segment: U16,
    info: U16,
    attributes: U32,
}

const _: () = assert!(size_of::<IvhdFields>() == 24);

/// What a header of type 11h or 40h has on top: images of the unit's feature registers.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IvhdFeatures {
    features: U64,
    features2: U64,
}

const _: () = assert!(size_of::<IvhdFields>() + size_of::<IvhdFeatures>() == 40);

/// PCSup of the Extended Feature Register: performance counters.
const PC_SUP: u64 = 1 << 9;

/// I/O virtualization hardware definition: one remapping unit (section 5.2).
#[derive(Clone, Copy, Debug)]
pub struct Ivhd<'a> {
    offset: u32,
    kind: IvhdKind,
    fields: &'a IvhdFields,
    features: Option<&'a IvhdFeatures>,
    entries: &'a [u8],
}

impl<'a> Ivhd<'a> {
    pub(super) fn new(piece: Piece<'a>, kind: IvhdKind) -> Result<Self, Finding> {
        let (fields, rest) = piece.fields("IVHD")?;
        let (features, entries) = match kind {
            IvhdKind::Legacy => (None, rest),
            IvhdKind::Full | IvhdKind::Mixed => {
                let (features, entries) = IvhdFeatures::ref_from_prefix(rest)
                    .map_err(|_| Finding::short(piece.offset, "IVHD", piece.bytes.len(), 40))?;
                (Some(features), entries)
            }
        };
        Ok(Self { offset: piece.offset, kind, fields, features, entries })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Which form of the block it is.
    pub fn kind(&self) -> IvhdKind {
        self.kind
    }

    /// Flags of the unit: bits that the driver copies into its control register.
    pub fn flags(&self) -> u8 {
        self.fields.flags
    }

    /// Requester-id of the unit's own PCI function.
    pub fn device(&self) -> u16 {
        self.fields.device.get()
    }

    /// Where in that function's configuration space the unit's capability is.
    pub fn capability(&self) -> u16 {
        self.fields.capability.get()
    }

    /// Physical address of its registers, as firmware says it.
    pub fn base(&self) -> u64 {
        self.fields.base.get()
    }

    /// The PCI segment of the unit and its devices.
    pub fn segment(&self) -> u16 {
        self.fields.segment.get()
    }

    /// IOMMU info: the MSI number of the event log in bits 4:0, the unit's id in 12:8.
    pub fn info(&self) -> u16 {
        self.fields.info.get()
    }

    /// Feature reporting (10h) or attributes (11h and 40h).
    pub fn attributes(&self) -> u32 {
        self.fields.attributes.get()
    }

    /// Image of the unit's Extended Feature Register, which a block of type 10h does not have.
    pub fn features(&self) -> Option<u64> {
        self.features.map(|image| image.features.get())
    }

    /// Image of the unit's Extended Feature 2 Register, which a block of type 10h does not have.
    pub fn features2(&self) -> Option<u64> {
        self.features.map(|image| image.features2.get())
    }

    /// Size of its register set: 512 KiB with performance counters, else 16 KiB.
    ///
    /// The image of the features says whether it has them (PCSup, bit 9). In a block of type 10h, which has none, the
    /// attributes do: PNCounters in bits 16:13 and PNBanks in 22:17 are not 0. Blocks of other types often have zeros there.
    pub fn bytes(&self) -> u32 {
        let attributes = self.attributes();
        let counters = match self.features() {
            Some(features) => features & PC_SUP != 0,
            None => attributes >> 13 & 0xf != 0 && attributes >> 17 & 0x3f != 0,
        };
        if counters { 0x8_0000 } else { 0x4000 }
    }

    /// The device entries as they stand in the table.
    pub fn entries(&self) -> Entries<'a> {
        let header = size_of::<IvhdFields>() + self.features.map_or(0, |_| size_of::<IvhdFeatures>());
        Entries::new(self.entries, self.offset + header as u32)
    }

    /// The devices that they list: ranges put together from their two ends, padding left out.
    pub fn devices(&self) -> Devices<'a> {
        Devices::new(self.entries())
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        for finding in self.devices().filter_map(Result::err) {
            report(finding);
        }
    }
}
