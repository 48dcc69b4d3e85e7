//! Device entries of an IVHD (section 5.2, tables of the 4-byte, 8-byte and variable-length entries).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::firmware::{Finding, Flaw};

/// Every entry of a known type but the variable one has a multiple of these four bytes.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Short {
    kind: u8,
    device: U16,
    settings: u8,
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Alias {
    short: Short,
    reserved: u8,
    source: U16,
    reserved2: u8,
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Extended {
    short: Short,
    settings: U32,
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Special {
    short: Short,
    handle: u8,
    source: U16,
    variety: u8,
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Acpi {
    short: Short,
    hid: [u8; 8],
    cid: [u8; 8],
    uid_format: u8,
    uid_length: u8,
}

const _: () = assert!(size_of::<Short>() == 4);
const _: () = assert!(size_of::<Alias>() == 8);
const _: () = assert!(size_of::<Extended>() == 8);
const _: () = assert!(size_of::<Special>() == 8);
const _: () = assert!(size_of::<Acpi>() == 22);

/// What a special device is (entry 48h, field Variety).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variety {
    /// 1: an IOAPIC of the MADT.
    IoApic,
    /// 2: an HPET.
    Hpet,
    /// Another value, which no specification of this driver's time defines.
    Unknown(u8),
}

/// How an ACPI device's unique id is written (entry F0h, field UID Format).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Uid<'a> {
    /// 0: not at all.
    None,
    /// 1: as a number.
    Number(u64),
    /// 2: as text, meant to be ASCII.
    Text(&'a [u8]),
    /// Another format, or a number that is not 8 bytes long.
    Unknown(&'a [u8]),
}

/// One device entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IvhdEntry<'a> {
    /// Where it starts in the table.
    pub offset: u32,
    /// Type, and what belongs to it alone.
    pub kind: EntryKind<'a>,
    /// DTE Setting: bits of the device's table entry that firmware wants set.
    pub settings: u8,
}

/// The types of device entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named as in the specification")]
pub enum EntryKind<'a> {
    /// 00h: no entry.
    Padding,
    /// 01h: all devices.
    All,
    /// 02h: one device.
    Select { device: u16 },
    /// 03h: the first of a range.
    StartRange { device: u16 },
    /// 04h: the last of a range.
    EndRange { device: u16 },
    /// 42h: one device, whose requests carry another's id.
    AliasSelect { device: u16, source: u16 },
    /// 43h: the first of a range, whose requests carry another's id.
    AliasStartRange { device: u16, source: u16 },
    /// 46h: one device with extended settings.
    ExtendedSelect { device: u16, extended: u32 },
    /// 47h: the first of a range with extended settings.
    ExtendedStartRange { device: u16, extended: u32 },
    /// 48h: an IOAPIC or an HPET, and the id of its interrupt requests.
    Special { handle: u8, source: u16, variety: Variety },
    /// F0h: a device of the ACPI name space.
    Acpi { device: u16, hid: &'a [u8; 8], cid: &'a [u8; 8], uid: Uid<'a> },
    /// A type that no specification of this driver's time defines; skipped by the length that follows from its number.
    Unknown { number: u8 },
}

/// The device entries of one IVHD. An item is an entry, or what is wrong with the bytes in its place.
///
/// The length follows from the type's number, so only an entry at the end can be cut; each turn takes at least four bytes.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    offset: u32,
}

impl<'a> Entries<'a> {
    pub(super) fn new(bytes: &'a [u8], offset: u32) -> Self {
        Self { rest: bytes, offset }
    }

    /// Bytes of the entry that comes next, whose type is `number`: by bits 7:6, except for F0h, which has a field for it.
    fn length(&self, number: u8) -> usize {
        match number {
            0xf0 => size_of::<Acpi>() + self.rest.get(21).map_or(0, |uid| usize::from(*uid)),
            _ => 4 << (number >> 6),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<IvhdEntry<'a>, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = *self.rest.first()?;
        let offset = self.offset;
        let (length, left) = (self.length(number), self.rest.len());
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            self.rest = &[];
            // Too few bytes for any entry, all zero, are the padding that they look like.
            return Some(Err(Finding::new(
                offset,
                if left < 4 { Flaw::LeftOver { bytes: left } } else { Flaw::Overrun { length: length as u16, left } },
            )));
        };
        self.rest = rest;
        self.offset = offset.saturating_add(length as u32);
        decode(offset, bytes).map(Ok)
    }
}

/// Decodes an entry that is as long as its type asks for.
fn decode(offset: u32, bytes: &[u8]) -> Option<IvhdEntry<'_>> {
    let (short, _) = Short::ref_from_prefix(bytes).ok()?;
    let device = short.device.get();
    let kind = match short.kind {
        0x00 => EntryKind::Padding,
        0x01 => EntryKind::All,
        0x02 => EntryKind::Select { device },
        0x03 => EntryKind::StartRange { device },
        0x04 => EntryKind::EndRange { device },
        0x42 | 0x43 => {
            let (alias, _) = Alias::ref_from_prefix(bytes).ok()?;
            let source = alias.source.get();
            match short.kind {
                0x42 => EntryKind::AliasSelect { device, source },
                _ => EntryKind::AliasStartRange { device, source },
            }
        }
        0x46 | 0x47 => {
            let (entry, _) = Extended::ref_from_prefix(bytes).ok()?;
            let extended = entry.settings.get();
            match short.kind {
                0x46 => EntryKind::ExtendedSelect { device, extended },
                _ => EntryKind::ExtendedStartRange { device, extended },
            }
        }
        0x48 => {
            let (special, _) = Special::ref_from_prefix(bytes).ok()?;
            let variety = match special.variety {
                1 => Variety::IoApic,
                2 => Variety::Hpet,
                other => Variety::Unknown(other),
            };
            EntryKind::Special { handle: special.handle, source: special.source.get(), variety }
        }
        0xf0 => {
            let (acpi, uid) = Acpi::ref_from_prefix(bytes).ok()?;
            let uid = match (acpi.uid_format, <&[u8; 8]>::try_from(uid)) {
                (0, _) => Uid::None,
                (1, Ok(number)) => Uid::Number(u64::from_le_bytes(*number)),
                (2, _) => Uid::Text(uid),
                _ => Uid::Unknown(uid),
            };
            EntryKind::Acpi { device, hid: &acpi.hid, cid: &acpi.cid, uid }
        }
        number => EntryKind::Unknown { number },
    };
    Some(IvhdEntry { offset, kind, settings: short.settings })
}

/// What one device entry, or the two ends of a range together, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named as in the specification")]
pub enum Listed<'a> {
    /// All devices of the segment.
    All { settings: u8 },
    /// The devices from `first` to `last`, whose requests carry the id of `alias` if there is one.
    Range { first: u16, last: u16, alias: Option<u16>, settings: u8, extended: u32 },
    /// An IOAPIC or an HPET.
    Special { handle: u8, source: u16, variety: Variety, settings: u8 },
    /// A device of the ACPI name space.
    Acpi { device: u16, hid: &'a [u8; 8], cid: &'a [u8; 8], uid: Uid<'a>, settings: u8 },
}

/// The devices of one IVHD, each with its place in the table. An item may be what is wrong instead.
#[derive(Clone, Debug)]
pub struct Devices<'a> {
    entries: Entries<'a>,
    /// The open range.
    start: Option<(u32, Listed<'a>)>,
    /// What came where the open range should have ended.
    next: Option<IvhdEntry<'a>>,
}

impl<'a> Devices<'a> {
    pub(super) fn new(entries: Entries<'a>) -> Self {
        Self { entries, start: None, next: None }
    }

    fn close(&mut self, offset: u32, end: u16) -> Result<(u32, Listed<'a>), Finding> {
        match self.start.take() {
            Some((start, Listed::Range { first, alias, settings, extended, .. })) if first <= end => {
                Ok((start, Listed::Range { first, last: end, alias, settings, extended }))
            }
            Some((start, Listed::Range { first, .. })) => {
                Err(Finding::new(start, Flaw::ReversedDevices { first, last: end }))
            }
            _ => Err(Finding::new(offset, Flaw::EndWithoutStart { last: end })),
        }
    }

    fn abandon(&mut self) -> Option<Result<(u32, Listed<'a>), Finding>> {
        match self.start.take()? {
            (offset, Listed::Range { first, .. }) => Some(Err(Finding::new(offset, Flaw::StartWithoutEnd { first }))),
            _ => None,
        }
    }
}

impl<'a> Iterator for Devices<'a> {
    type Item = Result<(u32, Listed<'a>), Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.next.take().map(Ok).or_else(|| self.entries.next()) {
                None => return self.abandon(),
                Some(Err(finding)) => return Some(Err(finding)),
                Some(Ok(entry)) => entry,
            };
            let IvhdEntry { offset, kind, settings } = entry;
            if self.start.is_some() && !matches!(kind, EntryKind::EndRange { .. } | EntryKind::Padding) {
                self.next = Some(entry);
                return self.abandon();
            }
            let range =
                |device, alias, extended| Listed::Range { first: device, last: device, alias, settings, extended };
            let listed = match kind {
                EntryKind::Padding => continue,
                EntryKind::Unknown { number } => {
                    return Some(Err(Finding::new(offset, Flaw::UnknownEntry { number })));
                }
                EntryKind::All => Listed::All { settings },
                EntryKind::Select { device } => range(device, None, 0),
                EntryKind::AliasSelect { device, source } => range(device, Some(source), 0),
                EntryKind::ExtendedSelect { device, extended } => range(device, None, extended),
                EntryKind::Special { handle, source, variety } => Listed::Special { handle, source, variety, settings },
                EntryKind::Acpi { device, hid, cid, uid } => Listed::Acpi { device, hid, cid, uid, settings },
                EntryKind::EndRange { device } => return Some(self.close(offset, device)),
                EntryKind::StartRange { device } => {
                    self.start = Some((offset, range(device, None, 0)));
                    continue;
                }
                EntryKind::AliasStartRange { device, source } => {
                    self.start = Some((offset, range(device, Some(source), 0)));
                    continue;
                }
                EntryKind::ExtendedStartRange { device, extended } => {
                    self.start = Some((offset, range(device, None, extended)));
                    continue;
                }
            };
            return Some(Ok((offset, listed)));
        }
    }
}
