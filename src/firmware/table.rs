use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Finding, Flaw, TableError};

/// What every ACPI table starts with (ACPI 6.5, section 5.2.6).
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Names the table.
    pub signature: [u8; 4],
    /// Bytes of the whole table.
    length: U32,
    /// Revision of the table's format.
    pub revision: u8,
    /// Makes the sum of all bytes zero.
    pub checksum: u8,
    /// Who made the machine.
    pub oem_id: [u8; 6],
    /// Which machine.
    pub oem_table_id: [u8; 8],
    /// Revision of the table, by that maker.
    oem_revision: U32,
    /// The tool that made the table.
    pub creator_id: [u8; 4],
    /// Revision of that tool.
    creator_revision: U32,
}

const _: () = assert!(size_of::<Header>() == 36);

impl Header {
    /// Bytes of the whole table.
    pub fn length(&self) -> u32 {
        self.length.get()
    }

    /// Revision of the table, by its maker.
    pub fn oem_revision(&self) -> u32 {
        self.oem_revision.get()
    }

    /// Revision of the tool that made the table.
    pub fn creator_revision(&self) -> u32 {
        self.creator_revision.get()
    }
}

/// Checks what concerns the whole table, and gives its bytes: as many as it says it has, or as there are.
///
/// Bytes behind the table's length are none of it, and no finding: a caller may pass a whole page.
pub(super) fn check<'a>(
    bytes: &'a [u8],
    signature: &[u8; 4],
    needed: usize,
    report: &mut dyn FnMut(Finding),
) -> Result<&'a [u8], TableError> {
    let too_short = TableError::TooShort { bytes: bytes.len(), needed };
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| too_short)?;
    if header.signature != *signature {
        return Err(TableError::WrongSignature { found: header.signature, expected: *signature });
    }
    let length = header.length.get();
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    if wanted < needed {
        return Err(TableError::BadLength { length, needed });
    }
    if bytes.len() < needed {
        return Err(too_short);
    }
    let Some(table) = bytes.get(..wanted) else {
        // The checksum is of no use without the rest.
        report(Finding::new(4, Flaw::TableCut { length, bytes: bytes.len() }));
        return Ok(bytes);
    };
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if sum != 0 {
        report(Finding::new(9, Flaw::Checksum { sum }));
    }
    Ok(table)
}

/// One structure of a table: where it is, and its bytes, cut off by its own length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) offset: u32,
    pub(super) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The fixed fields at its start and what follows them, or the finding that it is too short for them.
    pub(super) fn fields<T>(self, structure: &'static str) -> Result<(&'a T, &'a [u8]), Finding>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        T::ref_from_prefix(self.bytes)
            .map_err(|_| Finding::short(self.offset, structure, self.bytes.len(), size_of::<T>()))
    }
}

/// What is wrong with bytes that start with a length that leads nowhere: some firmware blanks structures that it takes out.
pub(super) fn no_progress(rest: &[u8], length: u16) -> Flaw {
    if rest.iter().all(|byte| *byte == 0) { Flaw::Zeros { bytes: rest.len() } } else { Flaw::NoProgress { length } }
}

/// Cuts a table's body into its structures (R65). In both tables the 16-bit length is at offset 2 of each structure.
///
/// Ends at the first structure whose length leads nowhere, since nobody knows where the next one starts; each turn takes
/// at least four bytes away, so it always ends.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'a> {
    rest: &'a [u8],
    offset: u32,
}

impl<'a> Pieces<'a> {
    /// The structures of `table` behind its first `header` bytes.
    pub(super) fn new(table: &'a [u8], header: usize) -> Self {
        Self { rest: table.get(header..).unwrap_or_default(), offset: header as u32 }
    }

    fn end_with(&mut self, flaw: Flaw) -> Option<Result<Piece<'a>, Finding>> {
        self.rest = &[];
        Some(Err(Finding::new(self.offset, flaw)))
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.rest.len();
        let &[_, _, low, high, ..] = self.rest else {
            return if left == 0 { None } else { self.end_with(Flaw::LeftOver { bytes: left }) };
        };
        let length = u16::from_le_bytes([low, high]);
        if length < 4 {
            return self.end_with(no_progress(self.rest, length));
        }
        let Some((bytes, rest)) = self.rest.split_at_checked(usize::from(length)) else {
            return self.end_with(Flaw::Overrun { length, left });
        };
        let piece = Piece { offset: self.offset, bytes };
        self.rest = rest;
        self.offset = self.offset.saturating_add(u32::from(length));
        Some(Ok(piece))
    }
}
