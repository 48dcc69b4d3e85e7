use core::fmt;

use super::dmar::{Hop, ScopeKind};
use crate::addr::SourceId;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Against the specification, or noteworthy, without effect.
    Note,
    /// The driver can guess what is meant, and does.
    Warning,
    /// Something is lost: a unit, a device, a region, or the trust in the whole table.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What a caller makes of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Go on with what is sound: a table that is wrong somewhere does not cost the machine its IOMMU.
    #[default]
    UseWhatIsSound,
    /// Refuse a table that has a finding of [`Severity::Error`].
    RefuseErrors,
}

impl Strictness {
    /// True if a table with this finding is not to be used.
    pub fn refuses(self, finding: &Finding) -> bool {
        self == Self::RefuseErrors && finding.severity() == Severity::Error
    }
}

/// One thing that is wrong with a table: where, what, and what the driver does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the table, in bytes from its start.
    pub offset: u32,
    /// What is wrong there.
    pub flaw: Flaw,
}

impl Finding {
    pub(crate) const fn new(offset: u32, flaw: Flaw) -> Self {
        Self { offset, flaw }
    }

    pub(super) const fn short(offset: u32, structure: &'static str, length: usize, needed: usize) -> Self {
        Self::new(offset, Flaw::Short { structure, length, needed })
    }

    pub(super) const fn reserved(offset: u32, structure: &'static str, value: u64) -> Self {
        Self::new(offset, Flaw::Reserved { structure, value })
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.flaw.severity()
    }
}

/// `offset 0x30: what is wrong; what the driver does`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {:#x}: {}; {}", self.offset, self.flaw, self.flaw.action())
    }
}

impl Flaw {
    /// True if something could not be read that may define a unit, or say what a unit serves.
    pub fn hides_units(&self) -> bool {
        self.hides_scopes()
            || matches!(
                self,
                Self::TableCut { .. }
                    | Self::NoProgress { .. }
                    | Self::Overrun { .. }
                    | Self::Short { .. }
                    | Self::BadPath { .. }
                    | Self::BadHop { .. }
                    | Self::PathThroughNoBridge { .. }
                    | Self::ReversedDevices { .. }
                    | Self::StartWithoutEnd { .. }
            )
    }

    /// True for a unit that cannot be used.
    pub(crate) fn makes_unusable(&self) -> bool {
        matches!(self, Self::NoBase | Self::BadBase { .. } | Self::ConflictingUnit { .. })
    }

    /// True if something could not be read that may say what a unit serves, though all units are known.
    pub(crate) fn hides_scopes(&self) -> bool {
        matches!(self, Self::UnknownScope { .. } | Self::UnknownEntry { .. })
    }
}

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $type:ty),* })? = $severity:ident,
        ($($text:tt)*), $action:literal;)*) => {
        /// What can be wrong. `Display` says it in words; [`action`](Self::action) says what the driver does about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the fields' names and the text beside each variant say it")]
        pub enum Flaw {
            $($(#[$doc])* $name $({ $($field: $type),* })?,)*
        }

        impl Flaw {
            /// How bad it is.
            pub fn severity(&self) -> Severity {
                match self {
                    $(Self::$name { .. } => Severity::$severity,)*
                }
            }

            /// What the driver does about it.
            pub fn action(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $action,)*
                }
            }

            /// Its name, for programs.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => stringify!($name),)*
                }
            }
        }

        impl fmt::Display for Flaw {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name $({ $($field),* })? => write!(f, $($text)*),)*
                }
            }
        }
    };
}

flaws! {
    // The whole table.

    /// The bytes of the table do not add up to zero.
    Checksum { sum: u8 } = Error,
        ("checksum: the bytes add up to {sum:#x}, not to 0"), "the table is used, but a byte of it may be wrong";
    /// The table's length passes the bytes that are at hand.
    TableCut { length: u32, bytes: usize } = Error,
        ("the table gives its length as {length} bytes, but there are {bytes}"), "only these are read";

    /// A host address width that no x86 machine has.
    AddressWidth { bits: u16 } = Warning,
        ("host address width of {bits} bits"), "52 bits are assumed";
    /// A flag that has a meaning with interrupt remapping only (VT-d 5.10, section 8.1).
    OptOutWithoutRemapping = Note,
        ("X2APIC_OPT_OUT is set without INTR_REMAP"), "it has no meaning";

    /// Firmware asks to leave x2APIC mode alone (VT-d 5.10, section 8.1).
    OptOut = Note,
        ("X2APIC_OPT_OUT is set: firmware asks to leave x2APIC mode alone"),
        "remapping of interrupts is refused while the CPUs are in x2APIC mode";

    // Any structure.

    /// A length that does not lead to the next structure.
    NoProgress { length: u16 } = Error,
        ("a length of {length} is less than its own header has"), "nothing behind it is read here";
    /// A structure or an entry passes the end of what holds it.
    Overrun { length: u16, left: usize } = Error,
        ("a structure or an entry of {length} bytes, but {left} are left"), "it is ignored";
    /// A structure is shorter than its fixed fields.
    Short { structure: &'static str, length: usize, needed: usize } = Error,
        ("{structure} of {length} bytes; its fields alone have {needed}"), "it is ignored";
    /// Zeros from where a structure should start to the end of what would hold it.
    Zeros { bytes: usize } = Warning,
        ("{bytes} bytes of zeros up to the end"), "they are taken for room that nothing uses";
    /// A device scope for which the topology has no room.
    NoRoomForScope { capacity: usize } = Error,
        ("no room for more device scopes: the capacity is {capacity}"),
        "this one and all later ones are lost, and no device on their buses can be assigned; a larger capacity keeps them";
    /// Bytes that belong to nothing.
    LeftOver { bytes: usize } = Note,
        ("{bytes} bytes are left over"), "they are ignored";
    /// A type that no specification of this driver's time defines.
    UnknownStructure { kind: u16 } = Note,
        ("structure of unknown type {kind:#x}"), "it is skipped";
    /// A structure that should stand before others (VT-d 5.10, section 8.2).
    OutOfOrder { kind: u16, last: u16 } = Note,
        ("structure of type {kind} behind one of type {last}"), "the order has no effect";
    /// Reserved bits are set.
    Reserved { structure: &'static str, value: u64 } = Note,
        ("{structure}: reserved bits are set ({value:#x})"), "they are ignored";

    // Device scopes.

    /// A path of half a hop, or of none.
    BadPath { length: u8 } = Error,
        ("device scope of {length} bytes: its path is not made of whole hops"), "it is ignored";
    /// A path with a device or function number that PCI does not have.
    BadHop { hop: Hop } = Error,
        ("device scope: PCI has no device {}, function {}", hop.device, hop.function), "it is ignored";
    /// A path through a function that is not there.
    PathThroughNothing { at: SourceId } = Note,
        ("device scope: its path leads through {at}, where no device is"), "it is ignored, as nothing can be behind it";
    /// A path through a function that is no bridge.
    PathThroughNoBridge { at: SourceId } = Error,
        ("device scope: its path leads through {at}, which is no bridge with a bus"), "it is ignored";
    /// A kind of scope that has no place in this structure.
    WrongScope { structure: &'static str, kind: ScopeKind } = Warning,
        ("{structure} with a scope for the wrong kind of device: {kind}"), "it is used as far as it makes sense";
    /// A kind of scope that no specification of this driver's time defines, at a unit.
    UnknownScope { kind: u8 } = Error,
        ("unit with a scope of unknown kind {kind}"),
        "it is ignored; where the segment has other units, no device can be assigned that none names";
    /// A device of the SoC that is behind a bridge (VT-d 5.10, sections 8.8 and 8.9).
    IntegratedBehindBridge { structure: &'static str } = Warning,
        ("{structure} lists a device behind a bridge, but may list integrated ones only"), "it is used as it is";
    /// A scope for one function leads to a bridge.
    EndpointIsBridge { at: SourceId } = Warning,
        ("device scope: {at} is named as an endpoint, but is a bridge"), "it counts without what is behind it";
    /// A scope for a bridge leads to another function.
    BridgeIsEndpoint { at: SourceId } = Warning,
        ("device scope: {at} is named as a bridge, but is none"), "it counts alone";

    // Units.

    /// A unit at address 0.
    NoBase = Error,
        ("unit with register base 0"),
        "it stays unused: nothing translates what it serves, which reaches all memory and cannot be assigned";
    /// A unit at an address that is not page aligned or passes what a CPU can reach.
    BadBase { base: u64 } = Error,
        ("unit with register base {base:#x}, which is no address of a page"),
        "it stays unused: nothing translates what it serves, which reaches all memory and cannot be assigned";
    /// A register set that is not aligned to its size.
    UnalignedWindow { base: u64, bytes: u32 } = Warning,
        ("unit with {bytes:#x} bytes of registers at {base:#x}, not aligned to that size"), "it is used as it is";
    /// Two definitions of one unit.
    DuplicateUnit { base: u64 } = Warning,
        ("unit {base:#x} is defined a second time"), "the scopes of both count";
    /// Two definitions of one unit that cannot both be true.
    ConflictingUnit { base: u64, segment: u16 } = Error,
        ("unit {base:#x} is defined a second time, for segment {segment}"),
        "the first counts: nothing translates what the second serves, which reaches all memory and cannot be assigned";
    /// A segment without a unit that takes all.
    NoIncludeAll { segment: u16 } = Warning,
        ("no unit takes all other devices of segment {segment}"),
        "nothing translates a device there that no unit names: it reaches all memory and cannot be assigned";
    /// A unit without a device.
    ServesNobody { base: u64 } = Warning,
        ("unit {base:#x} is said to serve no device"), "it is used all the same";
    /// Two units' registers overlap.
    OverlappingUnits { base: u64, other: u64 } = Error,
        ("the registers of unit {base:#x} overlap those of unit {other:#x}"), "both are used as they are";
    /// A second unit that takes all of a segment.
    SecondIncludeAll { base: u64, first: u64 } = Error,
        ("unit {base:#x} takes all devices of its segment, and so does unit {first:#x}"),
        "the first takes them; this one serves what it names";
    /// A unit that takes all, before others of its segment.
    IncludeAllNotLast { base: u64 } = Note,
        ("unit {base:#x} takes all devices of its segment, but is not the last there"), "the order has no effect";
    /// A device that two units serve.
    ServedTwice { device: SourceId } = Error,
        ("{device} is served by another unit already"), "the first unit counts";
    /// Blocks of two types do not say the same of one unit.
    OlderDisagrees { base: u64, newer: u64 } = Warning,
        ("unit {base:#x} is at {newer:#x} by a block of a newer type"), "the newer type counts";
    /// An IOAPIC or an ACPI device that two scopes of one unit describe.
    NamedTwice { kind: ScopeKind, id: u8 } = Warning,
        ("{kind} {id} is named a second time"), "the first counts";
    /// An IOAPIC, an HPET or an ACPI device of two units.
    ClaimedTwice { kind: ScopeKind, id: u8 } = Error,
        ("{kind} {id} is in the scope of another unit already"),
        "the first unit counts: what it sends through the other one is blocked";
    /// Interrupt remapping without an IOAPIC of any unit.
    NoIoApic = Warning,
        ("interrupts can be remapped, but no unit names an IOAPIC"),
        "remapping is refused if the machine has an IOAPIC, since any device could send its interrupts";
    /// An IOAPIC of a unit, though firmware says that interrupts cannot be remapped (VT-d 5.10, section 8.1).
    IoApicWithoutRemapping = Warning,
        ("INTR_REMAP is clear, but units name IOAPICs"),
        "remapping of interrupts is refused: a device can send any interrupt; the firmware's setup may have a switch for it";

    // IOAPICs and HPETs.

    /// An IOAPIC that the MADT has under another id.
    OtherIoApicId { id: u8, madt: u8 } = Warning,
        ("IOAPIC {id} is not in the MADT, and IOAPIC {madt} of the MADT in no scope"), "they are taken for the same";
    /// An IOAPIC that no unit serves.
    IoApicOfNoUnit { id: u8 } = Error,
        ("IOAPIC {id} of the MADT is in the scope of no unit"),
        "remapping of interrupts is refused, since any device could send those of this IOAPIC";
    /// An IOAPIC that the MADT does not have.
    IoApicNotInMadt { id: u8 } = Note,
        ("IOAPIC {id} is not in the MADT"), "no interrupt of it is expected";
    /// An HPET without an HPET table.
    HpetNotInTable { id: u8 } = Note,
        ("HPET {id} is in a scope, but there is no HPET table"), "it may be switched off: no interrupt of it is expected";
    /// An HPET that the HPET table has under another number.
    OtherHpetNumber { id: u8, number: u8 } = Warning,
        ("HPET {id} is not in the HPET table, and HPET {number} of the table in no scope"),
        "the scope's number counts: its timers are routed by that";
    /// An HPET that no unit serves.
    HpetOfNoUnit { number: u8 } = Note,
        ("HPET {number} of the HPET table is in the scope of no unit"),
        "its timers cannot send messages; through an IOAPIC they can interrupt";
    /// An IOAPIC or an HPET without a requester-id of its own.
    NoRequesterId { kind: ScopeKind, id: u8 } = Warning,
        ("{kind} {id} sends as 00:00.0, the host bridge: its requester-id seems to be left out"),
        "it is used as it is: if it is wrong, the interrupts are blocked";
    /// Two that send as one.
    SharedRequesterId { kind: ScopeKind, id: u8, other: ScopeKind, other_id: u8, at: SourceId } = Warning,
        ("{kind} {id} sends as {at}, and so does {other} {other_id}"),
        "each can send the interrupts of the other: they belong to one cell";
    /// An IOAPIC or an HPET on a bus of devices.
    SenderBehindBridge { kind: ScopeKind, id: u8, at: SourceId, bridge: SourceId } = Warning,
        ("{kind} {id} sends as {at}, on a bus behind bridge {bridge}"),
        "a device that is plugged in there could send its interrupts";

    // Device entries.

    /// A range of devices that ends before it starts.
    ReversedDevices { first: u16, last: u16 } = Error,
        ("devices from {first:#06x} to {last:#06x}: the range ends before it starts"), "it is ignored";
    /// Devices that another unit has a range of.
    OverlappingDevices { first: u16, last: u16 } = Warning,
        ("devices from {first:#06x} to {last:#06x}: a range of another unit overlaps them"),
        "the narrower range counts for a device in both";
    /// A range of devices without an end.
    StartWithoutEnd { first: u16 } = Error,
        ("the range of devices from {first:#06x} has no end"), "it is ignored";
    /// The end of a range of devices that does not start.
    EndWithoutStart { last: u16 } = Warning,
        ("a range of devices ends at {last:#06x}, but none started"), "it is ignored";
    /// A device entry of a type that no specification of this driver's time defines.
    UnknownEntry { number: u8 } = Error,
        ("device entry of unknown type {number:#x}"),
        "it is skipped; where the segment has other units, no device can be assigned that no entry names alone";
    /// A special device that is neither IOAPIC nor HPET.
    UnknownVariety { variety: u8 } = Note,
        ("special device of unknown variety {variety}"), "it is ignored";

    // Reserved memory.

    /// Reserved memory of no bytes.
    EmptyRange { base: u64 } = Warning,
        ("reserved memory of 0 bytes at {base:#x}"), "it is ignored";
    /// Reserved memory that grants nothing.
    UselessRange { flags: u8 } = Note,
        ("reserved memory whose flags ({flags:#x}) let no device reach it"), "it is ignored";

    /// Reserved memory whose end is before its start.
    ReversedRange { base: u64, limit: u64 } = Error,
        ("reserved memory from {base:#x} to {limit:#x} ends before it starts"), "its devices cannot be assigned";
    /// Reserved memory of one byte (VT-d 5.10, section 8.4: the limit is greater than the base).
    OneByte { base: u64 } = Warning,
        ("reserved memory of one byte at {base:#x}"), "its page is mapped";
    /// Reserved memory that is not made of whole pages.
    UnalignedRange { base: u64, limit: u64 } = Warning,
        ("reserved memory {base:#x}..={limit:#x} is not made of whole pages"), "it is widened to whole pages";
    /// Reserved memory that no page table can hold.
    UnmappableRange { base: u64, limit: u64 } = Error,
        ("reserved memory {base:#x}..={limit:#x} reaches the interrupt range or passes the address width"),
        "its devices cannot be assigned";
    /// Reserved memory for which the topology has no room.
    NoRoomForRange { base: u64, capacity: usize } = Error,
        ("no room for reserved memory at {base:#x}: the capacity is {capacity}"), "its devices cannot be assigned";
    /// Reserved memory at the registers of a unit.
    ReservedRegisters { base: u64, limit: u64, unit: u64 } = Error,
        ("reserved memory {base:#x}..={limit:#x} holds registers of unit {unit:#x}"), "its devices cannot be assigned";
    /// Reserved memory of a device that no unit serves.
    ReservedForUnserved { device: SourceId } = Warning,
        ("reserved memory is for {device}, which no unit serves"),
        "nothing translates the device: it reaches all memory and cannot be assigned";
    /// Reserved memory that overlaps another.
    OverlappingRange { base: u64, limit: u64 } = Warning,
        ("reserved memory {base:#x}..={limit:#x} overlaps another"), "both are honoured";
    /// Reserved memory that lists no device.
    ReservedForNobody { structure: &'static str } = Warning,
        ("{structure} lists no device"), "it is ignored";
    /// Reserved memory that the memory map gives away.
    NotReserved { base: u64, limit: u64 } = Error,
        ("reserved memory {base:#x}..={limit:#x} is not reserved in the memory map"),
        "it is honoured: keep the memory out of other use";

    // Links between structures.

    /// Affinity of a unit that is not there.
    AffinityOfNoUnit { base: u64 } = Warning,
        ("RHSA names unit {base:#x}, which is not there"), "it is ignored";
    /// A unit without affinity, where others have one (VT-d 5.10, section 8.6).
    NoAffinity { base: u64 } = Note,
        ("no RHSA names unit {base:#x}, though there are some"), "its node is unknown";
    /// A structure of a segment without a unit.
    SegmentWithoutUnit { structure: &'static str, segment: u16 } = Warning,
        ("{structure} for segment {segment}, which has no unit"), "it has no effect";
    /// A device name without a NUL.
    NameWithoutEnd { number: u8 } = Warning,
        ("ANDD {number}: the name does not end with a NUL"), "it ends with the structure";
    /// A declaration that no scope of a unit names.
    DeclaredForNobody { number: u8 } = Warning,
        ("ANDD {number} is in the scope of no unit"), "the device cannot be assigned";
    /// A scope names an ACPI device that is not declared.
    Undeclared { number: u8 } = Note,
        ("device scope: ACPI device {number} is not declared by an ANDD"), "its source-id is used";
}
