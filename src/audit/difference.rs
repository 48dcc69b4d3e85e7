#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{IovaRange, PhysAddr, Region, Rights, SourceId};
use crate::cell::CellId;
use crate::hal::Window;

/// In what the live tables differ from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The unit's registers read as if there were none.
    Silent {
        /// Its registers.
        unit: Window,
    },
    /// Translation is not on: **the unit's devices reach all memory**. Nothing else is told of the unit.
    NotTranslating {
        /// The unit's registers.
        unit: Window,
    },
    /// The unit does not use the driver's root table. What it uses is looked at if its kind is known.
    RootTable {
        /// The unit's registers.
        unit: Window,
        /// RTADDR as it reads (S 11.4.5).
        found: u64,
        /// What the driver wrote; `None` if the driver never had a table there.
        expected: Option<PhysAddr>,
    },
    /// The root table leads to other context tables than the driver's, or not to all of them.
    ContextTables {
        /// The unit's registers.
        unit: Window,
    },
    /// A table lies where the platform does not let it be read: what devices reach through it is not known.
    Unreadable {
        /// The unit's registers.
        unit: Window,
        /// The table.
        table: u64,
    },
    /// A present entry is one that hardware refuses: requests through it are blocked.
    Malformed {
        /// The unit's registers.
        unit: Window,
        /// The word of the entry.
        at: PhysAddr,
        /// The reserved bits that are set, and all of a field whose value the unit does not support.
        bits: u64,
    },
    /// Bits are set that hardware ignores now and the driver leaves alone. What devices reach is as if they were not.
    Stray {
        /// The unit's registers.
        unit: Window,
        /// The word of the entry.
        at: PhysAddr,
        /// The bits.
        bits: u64,
    },
    /// An entry that leads to a table does not grant all rights, as the driver's do: it leaves rights to the pages.
    Narrows {
        /// The unit's registers.
        unit: Window,
        /// The entry.
        at: PhysAddr,
        /// What it grants.
        rights: Rights,
    },
    /// The page table has more tables than any that the driver made: it is linked to itself or to another. The rest of it
    /// was not looked at.
    Endless {
        /// Who uses it.
        source: SourceId,
    },
    /// The source-id belongs to no cell's device and has a context entry all the same. What it reaches is told too.
    Stranger {
        /// Who.
        source: SourceId,
    },
    /// The device is to be blocked, since it did not answer an invalidation of its device-TLB or could not be released, and
    /// its requests are let through.
    NotFenced {
        /// Who.
        source: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// The device's requests are blocked altogether, although it answered whatever it was asked, and was not to be released.
    Blocked {
        /// Who.
        source: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// The context entry leads to another page table than the one of the device's cell.
    PageTable {
        /// Who.
        source: SourceId,
        /// The table that it uses and its levels; `None` if its requests pass through without one.
        found: Option<(PhysAddr, u8)>,
        /// The one that it is to use.
        expected: (PhysAddr, u8),
    },
    /// The unit lets requests through that the device says it translated itself (ATS), **wherever they go**, and it is to have
    /// no device-TLB; or the other way round.
    DeviceTlb {
        /// Who.
        source: SourceId,
        /// They are let through.
        found: bool,
    },
    /// The context entry has another domain-id than the device's page table.
    DomainId {
        /// Who.
        source: SourceId,
        /// What it has.
        found: u16,
        /// What it is to have.
        expected: u16,
    },
    /// Two context entries of a unit have the same domain-id and different page tables, so that either may be used for both
    /// (R38).
    SharedDomainId {
        /// Who.
        source: SourceId,
        /// Who else.
        other: SourceId,
        /// What they share.
        domain_id: u16,
    },
    /// It reaches memory that nobody granted.
    Reaches {
        /// Who.
        source: SourceId,
        /// What.
        region: Region,
    },
    /// It does not reach memory that is granted.
    Lacks {
        /// Who.
        source: SourceId,
        /// What.
        region: Region,
    },
    /// It reaches what is granted, with other rights.
    OtherRights {
        /// Who.
        source: SourceId,
        /// Where.
        input: IovaRange,
        /// The rights that it has.
        found: Rights,
        /// The rights that it is to have.
        granted: Rights,
    },
    /// It reaches what is granted, but snooping is enforced where it may not be, or the other way round.
    OtherSnoop {
        /// Who.
        source: SourceId,
        /// Where.
        input: IovaRange,
        /// Snooping is enforced.
        found: bool,
    },
    /// A device of one cell reaches memory that belongs to another cell and not to its own.
    Crosses {
        /// Who.
        source: SourceId,
        /// Its cell, if it has one.
        cell: Option<CellId>,
        /// Whose memory it reaches.
        owner: CellId,
        /// First and last physical address.
        memory: (PhysAddr, PhysAddr),
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Silent { unit } => write!(f, "unit {unit}: no unit answers there"),
            Self::NotTranslating { unit } => {
                write!(f, "unit {unit}: translation is not on, so its devices reach all memory")
            }
            Self::RootTable { unit, found, expected: Some(expected) } => {
                write!(f, "unit {unit}: RTADDR_REG is {found:#x} instead of {:#x}", expected.as_u64())
            }
            Self::RootTable { unit, found, expected: None } => {
                write!(f, "unit {unit}: RTADDR_REG is {found:#x}, which is not the driver's")
            }
            Self::ContextTables { unit } => {
                write!(f, "unit {unit}: the root table leads to other context tables than the driver's")
            }
            Self::Unreadable { unit, table } => {
                write!(
                    f,
                    "unit {unit}: the table at {table:#x} cannot be read, so what is reached through it is not known"
                )
            }
            Self::Malformed { unit, at, bits } => {
                write!(f, "unit {unit}: the entry at {:#x} is refused by hardware for its bits {bits:#x}", at.as_u64())
            }
            Self::Stray { unit, at, bits } => {
                write!(f, "unit {unit}: the entry at {:#x} has ignored bits set, {bits:#x}", at.as_u64())
            }
            Self::Narrows { unit, at, rights } => {
                write!(f, "unit {unit}: the entry at {:#x} grants a whole table only {rights}", at.as_u64())
            }
            Self::Endless { source } => write!(f, "{source}: its page table has more tables than were ever made"),
            Self::Stranger { source } => write!(f, "{source} belongs to no cell and has a context entry"),
            Self::NotFenced { source, cell } => {
                write!(f, "{source} of {cell} did not answer an invalidation, and its requests are let through")
            }
            Self::Blocked { source, cell } => {
                write!(f, "{source}: all of its requests are blocked, but it is in {cell}")
            }
            Self::PageTable { source, found: Some((found, levels)), expected } => {
                let (root, expected) = (expected.0.as_u64(), expected.1);
                let found = found.as_u64();
                write!(f, "{source} uses a table of {levels} levels at {found:#x} instead of {expected} at {root:#x}")
            }
            Self::PageTable { source, found: None, .. } => {
                write!(f, "{source}: its requests pass through without any page table")
            }
            Self::DeviceTlb { source, found: true } => {
                write!(f, "{source} may send requests with translated addresses, which go anywhere")
            }
            Self::DeviceTlb { source, found: false } => {
                write!(f, "{source} may not send requests with translated addresses, which its device-TLB needs")
            }
            Self::DomainId { source, found, expected } => {
                write!(f, "{source} has domain-id {found} instead of {expected}")
            }
            Self::SharedDomainId { source, other, domain_id } => {
                write!(f, "{source} and {other} have different page tables and the same domain-id {domain_id}")
            }
            Self::Reaches { source, region } => write!(f, "{source} reaches {region}, which is not granted"),
            Self::Lacks { source, region } => write!(f, "{source} does not reach {region}, which is granted"),
            Self::OtherRights { source, input, found, granted } => {
                write!(f, "{source} has other rights at {input} than are granted: {found} instead of {granted}")
            }
            Self::OtherSnoop { source, input, found: true } => {
                write!(f, "{source}: snooping is enforced at {input}, where it may not be")
            }
            Self::OtherSnoop { source, input, found: false } => {
                write!(f, "{source}: snooping is not enforced at {input}")
            }
            Self::Crosses { source, cell, owner, memory: (first, last) } => {
                write!(f, "{source}")?;
                if let Some(cell) = cell {
                    write!(f, " of {cell}")?;
                }
                write!(f, " reaches {:#x}..={:#x}, which belongs to {owner}", first.as_u64(), last.as_u64())
            }
        }
    }
}
