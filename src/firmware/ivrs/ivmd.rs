use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::table::Piece;
use crate::firmware::{Finding, Flaw};

bitflags::bitflags! {
    /// Flags of an IVMD (section 5.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct IvmdFlags: u8 {
        /// Unity: to be mapped one to one.
        const UNITY = 1 << 0;
        /// IR: the devices may read.
        const READ = 1 << 1;
        /// IW: the devices may write.
        const WRITE = 1 << 2;
        /// ExclRange: to be reached untranslated.
        const EXCLUSION = 1 << 3;
        /// Bits that are reserved today.
        const _ = !0;
    }
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IvmdFields {
    kind: u8,
    flags: u8,
    length: U16,
    device: U16,
    auxiliary: U16,
    segment: U16,
    reserved: [u8; 6],
    start: U64,
    bytes: U64,
}

const _: () = assert!(size_of::<IvmdFields>() == 32);

/// To whom an IVMD applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvmdDevices {
    /// 20h: all devices.
    All,
    /// 21h: the device with this requester-id.
    One(u16),
    /// 22h: the devices from the first to the last.
    Range(u16, u16),
}

/// I/O virtualization memory definition: memory that devices go on using (section 5.2).
#[derive(Clone, Copy, Debug)]
pub struct Ivmd<'a> {
    offset: u32,
    fields: &'a IvmdFields,
    behind: usize,
}

impl<'a> Ivmd<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Result<Self, Finding> {
        let (fields, behind) = piece.fields("IVMD")?;
        Ok(Self { offset: piece.offset, fields, behind: behind.len() })
    }

    /// Where it starts in the table.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// The number of its type: 20h, 21h or 22h.
    pub fn number(&self) -> u8 {
        self.fields.kind
    }

    /// What the devices may do.
    pub fn flags(&self) -> IvmdFlags {
        IvmdFlags::from_bits_retain(self.fields.flags)
    }

    /// To whom it applies.
    pub fn devices(&self) -> IvmdDevices {
        let device = self.fields.device.get();
        match self.fields.kind {
            0x20 => IvmdDevices::All,
            0x21 => IvmdDevices::One(device),
            _ => IvmdDevices::Range(device, self.fields.auxiliary.get()),
        }
    }

    /// The PCI segment of the devices: 0 in tables older than the field.
    pub fn segment(&self) -> u16 {
        self.fields.segment.get()
    }

    /// The first address.
    pub fn start(&self) -> u64 {
        self.fields.start.get()
    }

    /// How many bytes: 0 has been seen.
    pub fn bytes(&self) -> u64 {
        self.fields.bytes.get()
    }

    pub(super) fn lint(&self, report: &mut dyn FnMut(Finding)) {
        let flags = self.fields.flags & 0xf0;
        if flags != 0 {
            report(Finding::reserved(self.offset + 1, "IVMD", u64::from(flags)));
        }
        if self.fields.reserved != [0; 6] {
            let [a, b, c, d, e, f] = self.fields.reserved;
            report(Finding::reserved(self.offset + 10, "IVMD", u64::from_le_bytes([a, b, c, d, e, f, 0, 0])));
        }
        if self.behind != 0 {
            report(Finding::new(self.offset + size_of::<IvmdFields>() as u32, Flaw::LeftOver { bytes: self.behind }));
        }
    }
}
