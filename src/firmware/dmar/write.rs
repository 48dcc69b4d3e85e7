//! A table of a machine that is known from a configuration instead of ACPI.

use core::fmt;

use super::{Flags, SIGNATURE};
use crate::addr::{PhysAddr, PhysRange, SourceId};

/// A part of the table that [`write()`] makes. What a [`Unit`](Self::Unit), [`Reserved`](Self::Reserved) or
/// [`Ports`](Self::Ports) is about are the functions behind it in the list, up to the next of these three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableEntry {
    /// A remapping unit (DRHD).
    Unit {
        /// Its segment.
        segment: u16,
        /// Where its registers are.
        registers: PhysAddr,
        /// It serves all of its segment that no other unit names, and what is named behind it besides.
        all: bool,
    },
    /// Memory that devices go on using (RMRR).
    Reserved {
        /// Their segment.
        segment: u16,
        /// Whole pages.
        memory: PhysRange,
    },
    /// Root ports below which devices may have a device-TLB (ATSR).
    Ports {
        /// Their segment.
        segment: u16,
        /// All of the segment's.
        all: bool,
    },
    /// One function, at the bus that it has when the table is read.
    Function(SourceId),
    /// A bridge, with all that is behind it.
    Bridge(SourceId),
    /// An IOAPIC: its id, and the source-id of its interrupts.
    IoApic(u8, SourceId),
    /// An HPET: its number, and the source-id of its interrupts.
    Hpet(u8, SourceId),
}

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// It does not fit.
    NoRoom {
        /// So many bytes are needed.
        needed: usize,
    },
    /// The first entry is a function's, and nothing is before it that it could belong to.
    NoStructure,
    /// A function is of another segment than what it stands behind.
    OtherSegment(SourceId),
    /// One structure has more functions than its length can tell.
    TooMany,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { needed } => write!(f, "the table needs {needed} bytes: hand over more"),
            Self::NoStructure => f.write_str("the list begins with a function: put its unit before it"),
            Self::OtherSegment(function) => write!(f, "{function} is of another segment than its unit: name its own"),
            Self::TooMany => f.write_str("a structure of the table has no room for so many functions: divide it"),
        }
    }
}

impl core::error::Error for WriteError {}

/// Writes a DMAR table for [`Iommu::probe_acpi`](crate::Iommu::probe_acpi), of a machine whose units are known from a
/// configuration, and returns it. It is read and checked like firmware's own: this looks at nothing that the reader finds out.
///
/// `host_address_width` is in bits, 1 to 255. `flags` say whether the platform can remap interrupts.
///
/// ```
/// use cofferdam::addr::{PhysAddr, SourceId};
/// use cofferdam::firmware::dmar::{self, TableEntry, Flags};
///
/// let graphics = SourceId::new(0, 0, 2, 0).unwrap();
/// let ioapic = SourceId::new(0, 0xf0, 0x1f, 0).unwrap();
/// let machine = [
///     TableEntry::Unit { segment: 0, registers: PhysAddr::new(0xfed9_0000), all: false },
///     TableEntry::Function(graphics),
///     TableEntry::Unit { segment: 0, registers: PhysAddr::new(0xfed9_1000), all: true },
///     TableEntry::IoApic(2, ioapic),
/// ];
/// let mut bytes = [0; 128];
/// let table = dmar::write(&mut bytes, 39, Flags::INTR_REMAP, machine)?;
/// assert_eq!(table.len(), 96);
/// # Ok::<(), dmar::WriteError>(())
/// ```
///
/// # Errors
///
/// See [`WriteError`]; what the bytes hold then is no table.
pub fn write(
    bytes: &mut [u8],
    host_address_width: u8,
    flags: Flags,
    entries: impl IntoIterator<Item = TableEntry>,
) -> Result<&[u8], WriteError> {
    let mut table = TableWriter { bytes, used: 0, structure: None };
    table.put(&SIGNATURE);
    // Length and checksum follow.
    table.put(&[0, 0, 0, 0, 1, 0]);
    table.put(b"COFDAMCONFIG\0\0");
    table.put(&[0; 12]);
    table.put(&[host_address_width.saturating_sub(1), flags.bits()]);
    table.put(&[0; 10]);
    for entry in entries {
        table.entry(entry)?;
    }
    table.finish()
}

/// Bytes of a table, and how many it has by now, also where these are fewer.
struct TableWriter<'b> {
    bytes: &'b mut [u8],
    used: usize,
    /// Where the last structure starts, and its segment.
    structure: Option<(usize, u16)>,
}

impl<'b> TableWriter<'b> {
    fn put(&mut self, more: &[u8]) {
        self.put_at(self.used, more);
        self.used = self.used.saturating_add(more.len());
    }

    fn put_at(&mut self, at: usize, bytes: &[u8]) {
        // In two steps: of a range whose end saturates the compiler does not see that it is as long.
        if let Some(place) = self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    #[inline(never)]
    fn entry(&mut self, entry: TableEntry) -> Result<(), WriteError> {
        match entry {
            TableEntry::Unit { segment, registers, all } => {
                self.structure(0, [all.into(), 0], segment);
                self.put(&registers.as_u64().to_le_bytes());
            }
            TableEntry::Reserved { segment, memory } => {
                self.structure(1, [0, 0], segment);
                self.put(&memory.first().as_u64().to_le_bytes());
                self.put(&memory.last().as_u64().to_le_bytes());
            }
            TableEntry::Ports { segment, all } => self.structure(2, [all.into(), 0], segment),
            TableEntry::Function(source) => self.scope(1, 0, source)?,
            TableEntry::Bridge(source) => self.scope(2, 0, source)?,
            TableEntry::IoApic(id, source) => self.scope(3, id, source)?,
            TableEntry::Hpet(number, source) => self.scope(4, number, source)?,
        }
        let (start, _) = self.structure.ok_or(WriteError::NoStructure)?;
        let length = u16::try_from(self.used - start).map_err(|_| WriteError::TooMany)?;
        self.put_at(start + 2, &length.to_le_bytes());
        Ok(())
    }

    /// A remapping structure's first 8 bytes (section 8.2); its length follows.
    fn structure(&mut self, kind: u8, flags: [u8; 2], segment: u16) {
        self.structure = Some((self.used, segment));
        self.put(&[kind, 0, 0, 0]);
        self.put(&flags);
        self.put(&segment.to_le_bytes());
    }

    /// A device scope with a path of one hop (section 8.3.1).
    fn scope(&mut self, kind: u8, id: u8, source: SourceId) -> Result<(), WriteError> {
        let (_, segment) = self.structure.ok_or(WriteError::NoStructure)?;
        if source.segment() != segment {
            return Err(WriteError::OtherSegment(source));
        }
        self.put(&[kind, 8, 0, 0, id, source.bus(), source.device(), source.function()]);
        Ok(())
    }

    /// The table, with its length and a checksum that makes the sum of its bytes zero (ACPI 6.5, section 5.2.6).
    fn finish(mut self) -> Result<&'b [u8], WriteError> {
        let needed = self.used;
        self.put_at(4, &(needed as u32).to_le_bytes());
        let table = self.bytes.get_mut(..needed).ok_or(WriteError::NoRoom { needed })?;
        let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        if let Some(checksum) = table.get_mut(9) {
            *checksum = sum.wrapping_neg();
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::firmware::dmar::{Dmar, ScopeKind, Structure};

    fn source(bus: u8, device: u8) -> SourceId {
        SourceId::new(0, bus, device, 1).unwrap()
    }

    #[test]
    fn what_is_written_is_read_without_a_finding() {
        let memory = PhysRange::new(PhysAddr::new(0x7a00_0000), 0x2000).unwrap();
        let entries = [
            TableEntry::Unit { segment: 0, registers: PhysAddr::new(0xfed9_0000), all: false },
            TableEntry::Function(source(0, 2)),
            TableEntry::Bridge(source(3, 4)),
            TableEntry::Unit { segment: 0, registers: PhysAddr::new(0xfed9_1000), all: true },
            TableEntry::IoApic(2, source(0xf0, 0x1f)),
            TableEntry::Hpet(1, source(0, 0x1f)),
            TableEntry::Reserved { segment: 0, memory },
            TableEntry::Function(source(0, 0x14)),
            TableEntry::Ports { segment: 0, all: true },
        ];
        let mut bytes = [0xff; 256];
        let table = write(&mut bytes, 46, Flags::INTR_REMAP, entries).unwrap();
        let dmar = Dmar::new(table, |finding| panic!("{finding}")).unwrap();
        dmar.lint(|finding| panic!("{finding}"));
        assert_eq!((dmar.host_address_width(), dmar.flags()), (46, Flags::INTR_REMAP));
        let mut units = Vec::new();
        for structure in dmar.sound() {
            match structure {
                Structure::Drhd(unit) => {
                    let scopes = unit.scopes().sound();
                    let scopes: Vec<_> = scopes
                        .map(|it| (it.kind(), it.enumeration_id(), it.start_bus(), it.path()[0].device))
                        .collect();
                    units.push((unit.base(), unit.include_all(), scopes));
                }
                Structure::Rmrr(reserved) => {
                    assert_eq!((reserved.base(), reserved.limit()), (0x7a00_0000, 0x7a00_1fff))
                }
                Structure::Atsr(ports) => assert!(ports.all_ports()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            units,
            vec![
                (0xfed9_0000, false, vec![(ScopeKind::Endpoint, 0, 0, 2), (ScopeKind::Subtree, 0, 3, 4)]),
                (0xfed9_1000, true, vec![(ScopeKind::IoApic, 2, 0xf0, 0x1f), (ScopeKind::Hpet, 1, 0, 0x1f)]),
            ]
        );
    }

    #[test]
    fn what_cannot_be_a_table_is_none() {
        let unit = TableEntry::Unit { segment: 1, registers: PhysAddr::new(0xfed9_0000), all: true };
        let function = TableEntry::Function(source(0, 2));
        let mut bytes = [0; 80];
        let mut try_to_write = |entries: &[TableEntry], room: usize| {
            write(&mut bytes[..room], 39, Flags::empty(), entries.iter().copied()).map(<[u8]>::len)
        };
        assert_eq!(try_to_write(&[unit], 64), Ok(64));
        for room in [0, 9, 47, 63] {
            assert_eq!(try_to_write(&[unit], room), Err(WriteError::NoRoom { needed: 64 }), "{room}");
        }
        assert_eq!(try_to_write(&[function, unit], 80), Err(WriteError::NoStructure));
        assert_eq!(try_to_write(&[unit, function], 80), Err(WriteError::OtherSegment(source(0, 2))));
        let functions = vec![TableEntry::Function(SourceId::new(1, 0, 2, 0).unwrap()); 8192];
        assert_eq!(try_to_write(&[&[unit], &functions[..]].concat(), 80), Err(WriteError::TooMany));
        assert_eq!(try_to_write(&[], 48), Ok(48), "no unit: the reader says so");
    }
}
