use super::UnitIndex;
use crate::addr::SourceId;
use crate::firmware::dmar::Properties;
use crate::pci::{self, ConfigSpace};

/// One link between a device and what the table says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scope {
    /// The device, as its path led to it when the topology was made; for several, the first.
    pub source: SourceId,
    /// What `source` stands for.
    pub target: Target,
    /// What the table says about it.
    pub role: Role,
    /// Where in the table.
    pub offset: u32,
}

/// What a scope covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One PCI function. A [unit](Role::Unit) that serves it also serves its virtual functions and the extended functions of
    /// its device, and its [properties](Role::Properties) are theirs (VT-d 5.10, sections 8.3.2 and 8.3.3); its reserved
    /// memory is not.
    Function,
    /// The functions from this one to the one with the requester-id `last`.
    Range {
        /// The last one, which belongs to it.
        last: u16,
    },
    /// A bridge and all that is behind it.
    Subtree,
    /// All of the segment that nothing else covers.
    Segment,
    /// A device of the ACPI name space, with its number.
    Acpi(u8),
    /// Interrupt requests of the IOAPIC with this id.
    IoApic(u8),
    /// Interrupt requests of the HPET with this number.
    Hpet(u8),
}

/// What the table says about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The unit with this index serves it.
    Unit(UnitIndex),
    /// A unit that cannot be used serves it.
    UnusableUnit,
    /// It uses the reserved memory with this index.
    Reserved(u16),
    /// It uses reserved memory that cannot be mapped, or that there is no room for.
    LostReserved,
    /// Devices behind it may use ATS.
    AtsPort,
    /// It may not use ATS, whatever the unit says.
    NoAts,
    /// It has these properties.
    Properties(Properties),
    /// Its requests carry this source-id.
    Alias(SourceId),
    /// AMD: the entry of the device table gets these bits (field DTE Setting).
    Settings(u8),
}

impl Role {
    /// True if it is to be served by a unit.
    pub(super) fn is_server(self) -> bool {
        matches!(self, Self::Unit(_) | Self::UnusableUnit)
    }

    /// True if what a scope says of a function that it names holds for a device, too. VT-d 5.10, sections 8.3.2 and 8.3.3: the
    /// unit of a function serves its virtual functions and the extended functions of its device; properties hold for its
    /// virtual functions. Reserved memory and all else is for the named function alone.
    fn extends(self, config: &impl ConfigSpace, named: SourceId, device: Device) -> bool {
        let Device { source, is_hidden } = device;
        let is_virtual = || is_hidden && pci::is_virtual_function_of(config, source, named);
        match self {
            Self::Unit(_) | Self::UnusableUnit => is_extended(config, named, source) || is_virtual(),
            // What is forbidden to a function is no more allowed to those that it is split into.
            Self::Properties(_) | Self::NoAts => is_virtual(),
            Self::Reserved(_) | Self::LostReserved | Self::AtsPort | Self::Alias(_) | Self::Settings(_) => false,
        }
    }
}

/// True for a function beyond the eighth of the device that `named` is one of the first eight of.
fn is_extended(config: &impl ConfigSpace, named: SourceId, source: SourceId) -> bool {
    let is_beyond = named.bus() == source.bus() && named.device() == 0 && source.device() != 0;
    is_beyond && pci::has_extended_functions(config, source)
}

/// How well a scope fits a device: the highest counts.
pub(super) type Rank = u32;

/// Named alone; for one of a range, less the range's width, since real tables have ranges within ranges.
const NAMED: Rank = 0x2_0000;
/// A virtual function of what is named, or an extended function of its device.
const RELATED: Rank = 0x300;
/// Behind a bridge; its secondary bus is added, since a nearer bridge has a higher one.
const BEHIND: Rank = 0x100;
const REST: Rank = 0;

/// A device that scopes are held against: looked at once, not for each of them.
#[derive(Clone, Copy)]
pub(super) struct Device {
    source: SourceId,
    /// Configuration space does not show it, as it does not show virtual functions.
    is_hidden: bool,
}

impl Device {
    pub(super) fn of(config: &impl ConfigSpace, source: SourceId) -> Self {
        Self { source, is_hidden: !pci::is_there(config, source) }
    }
}

impl Scope {
    /// Whether the scope covers a device that does DMA, and how well. Configuration space is read for scopes on a bus above the
    /// device's, of a function of the same bus, and of what may be its physical function.
    pub(super) fn covers(&self, config: &impl ConfigSpace, device: Device) -> Option<Rank> {
        let source = device.source;
        if self.source.segment() != source.segment() {
            return None;
        }
        match self.target {
            Target::Function | Target::Subtree | Target::Acpi(_) if self.source == source => Some(NAMED),
            Target::Function => self.role.extends(config, self.source, device).then_some(RELATED),
            Target::Range { last } => {
                let first = self.source.requester();
                (first..=last).contains(&source.requester()).then(|| NAMED - Rank::from(last - first))
            }
            // A bridge is on a lower bus than what is behind it.
            Target::Subtree if self.source.bus() < source.bus() => {
                let bridge = pci::bridge(config, self.source)?;
                let buses = bridge.secondary..=bridge.subordinate;
                buses.contains(&source.bus()).then_some(BEHIND + Rank::from(bridge.secondary))
            }
            Target::Segment => Some(REST),
            Target::Subtree | Target::Acpi(_) | Target::IoApic(_) | Target::Hpet(_) => None,
        }
    }

    /// True if two scopes have a function in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let ((first, last), (other_first, other_last)) = (self.named(), other.named());
        self.source.segment() == other.source.segment() && first <= other_last && other_first <= last
    }

    /// True if what it covers can be in the scope of no other unit: it does not cover what is left over (section 8.3.1), nor a
    /// range, within which real tables have narrower ones.
    pub(super) fn is_exact(&self) -> bool {
        match self.target {
            Target::Segment => false,
            Target::Range { last } => last == self.source.requester(),
            _ => true,
        }
    }

    /// First and last requester-id that it names.
    pub(super) fn named(&self) -> (u16, u16) {
        let first = self.source.requester();
        match self.target {
            Target::Range { last } => (first, last),
            _ => (first, first),
        }
    }
}
