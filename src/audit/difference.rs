#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{IovaRange, PhysAddr, PhysRange, Region, Rights, SourceId};
use crate::cell::CellId;
use crate::hal::RegisterWindow;
use crate::interrupt::FoundCourse;

/// In what the live tables differ from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The unit does not respond: its registers read as if there were none.
    Unresponsive {
        /// Its registers.
        unit: RegisterWindow,
    },
    /// Translation is not on: **the unit's devices reach all memory**. No other difference of the unit is reported.
    NotTranslating {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// Interrupts are remapped by a table that is not the driver's: it decides which of the devices' interrupts arrive, and where.
    RemapsInterrupts {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// Interrupts are to be [remapped](crate::Iommu::remap_interrupts), and this unit does not do so, since it cannot, failed before it
    /// began, or shows that it is off; or it lets those in compatibility format through. **Devices behind it, also those without a cell,
    /// send any interrupt to any CPU.** Nothing else of its interrupts is reported.
    InterruptsOpen {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// An entry for interrupts is present, and nothing is routed by it.
    ExtraInterrupt {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The entry.
        index: u16,
        /// What becomes of it.
        found: FoundCourse,
    },
    /// An entry for interrupts goes elsewhere than it is routed, or takes requests of others.
    OtherInterrupt {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The entry.
        index: u16,
        /// As for [`ExtraInterrupt`](Self::ExtraInterrupt).
        found: FoundCourse,
    },
    /// Interrupts are routed that the table has no entry for.
    MissingInterrupts {
        /// The unit's registers.
        unit: RegisterWindow,
        /// So many of those that are routed are present.
        found: u64,
        /// So many are routed.
        routed: u64,
    },
    /// A device can send an interrupt that does not go to CPUs and vectors of its own cell.
    InterruptCrosses {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The entry.
        index: u16,
        /// The device.
        source: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// The unit does not use the driver's root table. The table that it uses is read if its kind is known.
    RootTable {
        /// The unit's registers.
        unit: RegisterWindow,
        /// RTADDR as it reads (S 11.4.5).
        found: u64,
        /// What the driver wrote; `None` if the driver never had a table there.
        expected: Option<PhysAddr>,
    },
    /// The root table leads to other context tables than the driver's, or not to all of them.
    ContextTables {
        /// The unit's registers.
        unit: RegisterWindow,
    },
    /// A table lies where the platform does not let it be read: what devices reach through it is not known.
    Unreadable {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The table.
        table: u64,
    },
    /// A present entry is one that hardware refuses: requests through it are blocked.
    Malformed {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The word of the entry.
        at: PhysAddr,
        /// The reserved bits that are set, and all of a field whose value the unit does not support.
        bits: u64,
    },
    /// Bits are set that hardware ignores and that are zero in what the driver writes. They do not change what devices reach.
    IgnoredBits {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The word of the entry.
        at: PhysAddr,
        /// The bits.
        bits: u64,
    },
    /// An entry that leads to a table does not grant all rights, so it narrows those of all pages below. The driver's entries
    /// grant all, and only its pages restrict.
    NarrowedTable {
        /// The unit's registers.
        unit: RegisterWindow,
        /// The entry.
        at: PhysAddr,
        /// What it grants.
        rights: Rights,
    },
    /// The page table has more tables than any that the driver made: an entry leads back into it or into another one. The rest
    /// of it was not read.
    TooManyTables {
        /// Who uses it.
        source: SourceId,
    },
    /// No unit serves the function, which configuration space shows: it may reach all memory.
    Unserved {
        /// Who.
        source: SourceId,
    },
    /// The source-id belongs to no device of a cell, but its requests are let through. What it reaches is reported too.
    UnassignedSource {
        /// Who.
        source: SourceId,
    },
    /// The device is to be blocked, since it did not answer an invalidation of its device-TLB or could not be released, but
    /// its requests are let through.
    NotBlocked {
        /// Who.
        source: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// All requests of the device are blocked, although it did not fail to answer an invalidation and is not to be released.
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
    /// no device-TLB; or it blocks them, and the device is to have one.
    DeviceTlb {
        /// Who.
        source: SourceId,
        /// They are let through.
        found: bool,
    },
    /// The context entry has another domain-id than the page table of the device's cell.
    DomainId {
        /// Who.
        source: SourceId,
        /// What it has.
        found: u16,
        /// What it is to have.
        expected: u16,
    },
    /// Two context entries of a unit have the same domain-id and different page tables, so that either may be used for both.
    // R38
    SharedDomainId {
        /// Who.
        source: SourceId,
        /// Who else.
        other: SourceId,
        /// What they share.
        domain_id: u16,
    },
    /// The source-id reaches memory that is not granted to it.
    ExtraMapping {
        /// Who.
        source: SourceId,
        /// What.
        region: Region,
    },
    /// The source-id does not reach memory that is granted to it.
    MissingMapping {
        /// Who.
        source: SourceId,
        /// What.
        region: Region,
    },
    /// The source-id reaches what is granted to it, with other rights.
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
    /// The source-id reaches what is granted to it, but snooping is enforced where it may not be, or is not where it must be.
    OtherSnoop {
        /// Who.
        source: SourceId,
        /// Where.
        input: IovaRange,
        /// Snooping is enforced.
        found: bool,
    },
    /// Devices of a cell may still reach memory that was taken from it, wholly or by some right, since a unit has not confirmed
    /// that, and another cell has it, which did not share it.
    NotConfirmed {
        /// Whose devices.
        cell: CellId,
        /// Who has the memory.
        owner: CellId,
        /// Which memory.
        memory: PhysRange,
    },
    /// A device reaches memory that another cell has: one that it does not belong to, and that does not share this memory
    /// with its own cell. What its own cell was granted for itself is no excuse.
    CrossesCells {
        /// Who.
        source: SourceId,
        /// Its cell, if it has one.
        cell: Option<CellId>,
        /// Whose memory it reaches.
        owner: CellId,
        /// Which memory.
        memory: PhysRange,
    },
    /// The source-id reaches registers of a remapping unit: it may switch translation off.
    ReachesRegisters {
        /// Who.
        source: SourceId,
        /// The unit.
        unit: RegisterWindow,
        /// Which of its registers.
        memory: PhysRange,
    },
    /// The source-id reaches memory that the platform [keeps for itself](crate::hal::Hal::own_memory): frames of the driver's
    /// tables, or other memory of the hypervisor.
    ReachesPlatform {
        /// Who.
        source: SourceId,
        /// Which memory: the lowest of a range that it reaches.
        memory: PhysRange,
    },
    /// A device may reach one of another cell without passing a unit, by configuration space as it is now: ports have lost
    /// Access Control Services. [`Iommu::isolate`](crate::Iommu::isolate) switches them on again.
    NotIsolated {
        /// Who.
        source: SourceId,
        /// Its cell.
        cell: CellId,
        /// Whom it may reach.
        other: SourceId,
        /// That one's cell.
        owner: CellId,
    },
    /// Another kind of device answers with the source-id of one that a cell has, as after that was pulled out, or after buses were
    /// given other numbers: **it reaches the cell's memory**, until [`Iommu::isolate`](crate::Iommu::isolate) blocks it. The device is to
    /// be released. Two of one kind are not told apart.
    OtherDevice {
        /// Whose source-id.
        source: SourceId,
        /// The cell.
        cell: CellId,
    },
    /// A device may reach more than it did when it arrived, or when [`Iommu::isolate`](crate::Iommu::isolate) looked, without
    /// passing a unit, but none of another cell: ports, or devices that no cell has. Whether such devices are there is not
    /// looked at. `isolate` switches on what ports have lost, and takes what is left for known.
    LostIsolation {
        /// Who.
        source: SourceId,
        /// Its cell.
        cell: CellId,
    },
    /// The requests of a device may carry a source-id by configuration space as it is now that was not noted when it arrived, as
    /// after phantom functions were enabled; or the reverse. A noted one is let through. Any other is blocked, unless it is let
    /// through for another device: then this device **reaches the memory of that one's cell**. The device is to be released.
    /// Source-ids beyond [`MAX_REQUESTERS`](crate::topology::MAX_REQUESTERS) are not looked at.
    OtherSourceId {
        /// Who.
        source: SourceId,
        /// The source-id.
        id: SourceId,
        /// It was noted, and is let through.
        noted: bool,
        /// The other cell that has a device with this source-id.
        owner: Option<CellId>,
    },
    /// Memory of the device's cell, or reserved for the device, lies in a window of a bridge by configuration space as it is now:
    /// requests of the device to addresses there reach what is behind the bridge, or nothing, **and never a unit**. One such
    /// window is reported for a device; [`Iommu::windows`](crate::Iommu::windows) has all.
    InWindow {
        /// Who.
        source: SourceId,
        /// The bridge.
        bridge: SourceId,
        /// Where the lowest such memory is mapped.
        input: IovaRange,
    },
    /// Memory that firmware reserves for the device was noted and mapped when it arrived, and configuration space as it is now
    /// does not say that it is the device's; or the reverse. A bridge has lost its bus numbers, or has others. What the device
    /// reaches is compared with what was noted.
    OtherReserved {
        /// Who.
        source: SourceId,
        /// What.
        region: Region,
        /// It was noted, and is mapped.
        mapped: bool,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unresponsive { unit } => write!(f, "unit {unit}: it does not respond"),
            Self::RemapsInterrupts { unit } => {
                write!(f, "unit {unit} remaps interrupts by a table that is not the driver's (GSTS_REG.IRES)")
            }
            Self::InterruptsOpen { unit } => {
                write!(f, "unit {unit}: interrupts are not remapped, so its devices send any to any CPU")
            }
            Self::ExtraInterrupt { unit, index, found } => {
                write!(f, "unit {unit}: nothing is routed by entry {index} for interrupts, which {found}")
            }
            Self::OtherInterrupt { unit, index, found } => {
                write!(f, "unit {unit}: entry {index} for interrupts is not as it is routed, and {found}")
            }
            Self::MissingInterrupts { unit, found, routed } => {
                write!(f, "unit {unit}: of {routed} interrupts that are routed, {found} have an entry")
            }
            Self::InterruptCrosses { unit, index, source, cell } => {
                write!(
                    f,
                    "{source} of {cell} can send, by entry {index} of unit {unit}, an interrupt that is not its cell's"
                )
            }
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
                write!(
                    f,
                    "unit {unit}: the entry at {:#x} is one that hardware refuses, for its bits {bits:#x}",
                    at.as_u64()
                )
            }
            Self::IgnoredBits { unit, at, bits } => {
                write!(f, "unit {unit}: the entry at {:#x} has bits set that hardware ignores, {bits:#x}", at.as_u64())
            }
            Self::NarrowedTable { unit, at, rights } => {
                write!(f, "unit {unit}: the entry at {:#x} limits all pages of a table to {rights}", at.as_u64())
            }
            Self::TooManyTables { source } => {
                write!(f, "{source}: its page table has more tables than the driver made")
            }
            Self::Unserved { source } => write!(f, "{source}: no remapping unit serves it, so it may reach all memory"),
            Self::UnassignedSource { source } => {
                write!(f, "{source} belongs to no cell, but its requests are let through")
            }
            Self::NotBlocked { source, cell } => {
                write!(f, "{source} of {cell} is to be blocked, but its requests are let through")
            }
            Self::Blocked { source, cell } => {
                write!(f, "{source}: all of its requests are blocked, although it is in {cell}")
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
                write!(f, "{source} may send requests with translated addresses, which reach any memory")
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
            Self::ExtraMapping { source, region } => write!(f, "{source} reaches {region}, which is not granted"),
            Self::MissingMapping { source, region } => write!(f, "{source} does not reach {region}, which is granted"),
            Self::OtherRights { source, input, found, granted } => {
                write!(f, "{source} has other rights at {input} than are granted: {found} instead of {granted}")
            }
            Self::OtherSnoop { source, input, found: true } => {
                write!(f, "{source}: snooping is enforced at {input}, where it may not be")
            }
            Self::OtherSnoop { source, input, found: false } => {
                write!(f, "{source}: snooping is not enforced at {input}")
            }
            Self::NotConfirmed { cell, owner, memory } => {
                write!(
                    f,
                    "devices of {cell} may still reach {memory}, which belongs to {owner}: a unit has to confirm that"
                )
            }
            Self::CrossesCells { source, cell, owner, memory } => {
                write!(f, "{source}")?;
                if let Some(cell) = cell {
                    write!(f, " of {cell}")?;
                }
                write!(f, " reaches {memory}, which belongs to {owner}")
            }
            Self::ReachesRegisters { source, unit, memory } => {
                write!(f, "{source} reaches {memory}, where unit {unit} has registers")
            }
            Self::ReachesPlatform { source, memory } => {
                write!(f, "{source} reaches {memory}, which the platform keeps for itself")
            }
            Self::NotIsolated { source, cell, other, owner } => {
                write!(f, "nothing isolates {source} of {cell} from {other} of {owner}")
            }
            Self::OtherDevice { source, cell } => {
                write!(f, "another kind of device answers as {source} of {cell} than the one that was assigned")
            }
            Self::LostIsolation { source, cell } => {
                write!(f, "what isolated {source} of {cell} from others does so no more")
            }
            Self::OtherSourceId { source, id, noted, owner } => {
                write!(f, "requests of {source} ")?;
                f.write_str(if noted { "are let through with" } else { "may carry" })?;
                write!(f, " the source-id {id}")?;
                owner.map_or(Ok(()), |owner| write!(f, ", which {owner} has"))?;
                f.write_str(if noted { ", which is not theirs any more" } else { ", which was not noted" })
            }
            Self::InWindow { source, bridge, input } => {
                write!(
                    f,
                    "{source} has memory at {input}, where its requests pass no unit: a window of {bridge} is there"
                )
            }
            Self::OtherReserved { source, region, mapped: true } => {
                write!(
                    f,
                    "{region} is mapped for {source} as reserved, but configuration space does not lead to it any more"
                )
            }
            Self::OtherReserved { source, region, mapped: false } => {
                write!(
                    f,
                    "firmware reserves {region} for {source} by configuration space as it is now, which is not mapped"
                )
            }
        }
    }
}
