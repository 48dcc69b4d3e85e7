//! Why an interrupt is not routed.
#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{PhysAddr, SourceId};
use crate::hal::RegisterWindow;
use crate::interrupt::Cpus;

/// Why an interrupt does not go where its cell wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unroutable {
    /// The cell may not use this vector, or it is one of the CPU's exceptions: those are below 16.
    Vector(u8),
    /// The cell does not have all of these CPUs ([`CellConfig::interrupts`](crate::CellConfig)).
    Cpus(Cpus),
    /// Messages say that something has happened, and nothing else: they are edge triggered.
    Level,
    /// Its unit cannot post interrupts ([`Features::interrupts`](crate::iommu::Features::interrupts)).
    NotPosted,
    /// Pins may be level triggered, and units post nothing but edges: the end of such an interrupt would not reach its IOAPIC.
    PostedPin,
    /// The descriptor at this address is not aligned to 64 bytes, or not all of it is the [platform's own
    /// memory](crate::hal::Hal::own_memory) within the machine's address width: devices could write to it.
    Descriptor(PhysAddr),
    /// Interrupts of this other cell are posted there.
    DescriptorTaken(crate::CellId),
    /// The cell does not have the device, with so many [messages](crate::iommu::DeviceConfig::messages); or the device is
    /// quarantined.
    NotHeld,
    /// Nothing is routed for it in this cell.
    NotRouted,
    /// Another cell has it routed.
    Taken(crate::CellId),
    /// This entry is in use, or the unit's table has not so many.
    EntryTaken(u16),
    /// It has this entry already.
    HasEntry(u16),
    /// Its unit is not found remapping this source's interrupts by this entry, in the mode that CPUs are in, to where a cell's may
    /// go ([`Iommu::found_interrupts`](crate::Iommu::found_interrupts)).
    NotFound(u16),
    /// It is kept, and goes where this entry of the table that is found has it go until its unit is switched on.
    GoesOn(u16),
    /// The device cannot send messages by MSI, or not to such an address.
    NoMsi,
    /// The device has no table of MSI-X, or configuration space does not show where.
    NoMsiX,
    /// The firmware's table names no unit for its IOAPIC or its HPET.
    NoUnit,
    /// Its unit does not remap interrupts.
    NotRemapped,
    /// This device of another cell could send it.
    Forged(SourceId),
}

impl fmt::Display for Unroutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector(vector) => write!(f, "vector {vector} is none of the cell's"),
            Self::Cpus(cpus) => write!(f, "{cpus}: not all of them are the cell's"),
            Self::Level => f.write_str("a message cannot be level triggered"),
            Self::NotPosted => f.write_str("its unit cannot post interrupts"),
            Self::PostedPin => f.write_str("interrupts of pins cannot be posted, since they may be level triggered"),
            Self::Descriptor(at) => {
                let at = at.as_u64();
                write!(
                    f,
                    "the descriptor at {at:#x} is not 64 aligned bytes of the platform's own memory, below its address width"
                )
            }
            Self::DescriptorTaken(cell) => write!(f, "interrupts of {cell} are posted to that descriptor"),
            Self::NotHeld => f.write_str("the cell does not have the device with so many messages"),
            Self::NotRouted => f.write_str("nothing is routed for it in this cell"),
            Self::Taken(cell) => write!(f, "{cell} has it routed"),
            Self::EntryTaken(entry) => write!(f, "entry {entry} is in use, or the table has not so many"),
            Self::HasEntry(entry) => write!(f, "it has entry {entry} already"),
            Self::NotFound(entry) => {
                write!(f, "its unit is not found with entry {entry} for it, to where a cell's may go")
            }
            Self::GoesOn(entry) => {
                write!(f, "it is kept, and goes on by entry {entry} as it did until its unit is switched on")
            }
            Self::NoMsi => f.write_str("the device has no capability for such messages (MSI)"),
            Self::NoMsiX => f.write_str("the device has no table of such messages (MSI-X) where it can be found"),
            Self::NoUnit => f.write_str("the firmware's table names no remapping unit for it"),
            Self::NotRemapped => f.write_str("its unit does not remap interrupts"),
            Self::Forged(device) => write!(f, "{device} of another cell could send it"),
        }
    }
}

/// Why interrupts are not remapped on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRemapped {
    /// Units were prepared or switched on before.
    Late,
    /// There is no [room](crate::limits::Limits::interrupts) for interrupts.
    NoRoom,
    /// Firmware says that the platform does not support it (DMAR, flag INTR_REMAP).
    Firmware,
    /// The firmware's table names no unit for this IOAPIC, so its interrupts could not be routed, and any device might send them
    /// ([R56](crate::guide::rules#r56)).
    IoApic(u8),
    /// The CPU has no store of 16 bytes (`cmpxchg16b`), so units could see half of an entry ([`Hal::has_pair_store`](crate::hal::Hal::has_pair_store)).
    NoPairStore,
    /// No unit can (ECAP.IR, ECAP.QI).
    NoUnit,
    /// CPUs are in x2APIC mode, and firmware asks to leave that alone (DMAR, flag X2APIC_OPT_OUT).
    OptOut,
    /// CPUs are in x2APIC mode, and this unit reaches none with an id above 255 (ECAP.EIM).
    NotExtended(RegisterWindow),
    /// CPUs are not in x2APIC mode, and this unit works in no other (ECAP.EIMER).
    ExtendedOnly(RegisterWindow),
}

impl fmt::Display for NotRemapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("units were prepared or switched on before"),
            Self::NoRoom => f.write_str("there is no room for interrupts (Limits::interrupts)"),
            Self::Firmware => f.write_str("firmware says that the platform cannot remap them"),
            Self::IoApic(id) => write!(f, "the firmware's table names no unit for IOAPIC {id}"),
            Self::NoPairStore => f.write_str("the CPU has no store of 16 bytes (cmpxchg16b), which their entries need"),
            Self::NoUnit => f.write_str("no unit can remap them"),
            Self::OptOut => f.write_str("CPUs are in x2APIC mode, which firmware asks to leave alone"),
            Self::NotExtended(unit) => {
                write!(f, "CPUs are in x2APIC mode, and unit {unit} reaches none with an id above 255")
            }
            Self::ExtendedOnly(unit) => write!(f, "CPUs are not in x2APIC mode, and unit {unit} works in no other"),
        }
    }
}
