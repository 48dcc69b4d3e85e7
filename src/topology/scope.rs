use super::config_space::{self, ConfigSpace, Function};
use crate::addr::SourceId;
use crate::firmware::dmar::Properties;

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
    /// One PCI function, and its virtual functions.
    Function,
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
    Unit(u16),
    /// A unit that cannot be used serves it.
    UnusableUnit,
    /// It uses the reserved memory with this index.
    Reserved(u16),
    /// Devices behind it may use ATS.
    AtsPort,
    /// It has these properties.
    Properties(Properties),
}

/// How well a scope fits a device: the highest counts.
pub(super) type Rank = u16;

const NAMED: Rank = 0x300;
/// A virtual function of what is named.
const VIRTUAL: Rank = 0x200;
/// Behind a bridge; its secondary bus is added, since a nearer bridge has a higher one.
const BEHIND: Rank = 0x100;
const REST: Rank = 0;

impl Scope {
    /// Whether the scope covers a device that does DMA, and how well.
    pub(super) fn covers(&self, config: &impl ConfigSpace, source: SourceId) -> Option<Rank> {
        if self.source.segment() != source.segment() {
            return None;
        }
        match self.target {
            Target::Function | Target::Subtree | Target::Acpi(_) if self.source == source => Some(NAMED),
            Target::Function => config_space::is_virtual_function_of(config, source, self.source).then_some(VIRTUAL),
            Target::Subtree => match config_space::look(config, self.source) {
                Function::Bridge(bridge) if (bridge.secondary..=bridge.subordinate).contains(&source.bus()) => {
                    Some(BEHIND + Rank::from(bridge.secondary))
                }
                _ => None,
            },
            Target::Segment => Some(REST),
            Target::Acpi(_) | Target::IoApic(_) | Target::Hpet(_) => None,
        }
    }
}
