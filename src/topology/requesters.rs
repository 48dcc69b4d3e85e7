use heapless::Vec;

use super::config_space::{self, ConfigSpace, PortType};
use crate::addr::SourceId;
use crate::limits::Full;

/// How many source-ids the requests of one function can carry.
pub const MAX_REQUESTERS: usize = 16;

/// The source-ids that the requests of one function may carry, and which functions share them with it (R46).
///
/// Each has to be programmed alike, and all functions that share one belong to one cell: the set is the unit of
/// assignment (VT-d 5.10, section 3.12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requesters {
    ids: Vec<SourceId, MAX_REQUESTERS>,
    /// First and last bus of those that a bridge speaks for.
    buses: Option<(u8, u8)>,
}

impl Requesters {
    pub(super) fn of(config: &impl ConfigSpace, source: SourceId) -> Result<Self, Full> {
        let mut all = Self { ids: Vec::new(), buses: None };
        all.add(source)?;
        all.add_phantom_functions(config, source)?;
        for bridge in config_space::bridges_above(config, source.segment(), source.bus()) {
            match bridge.kind {
                // Section 3.12.1: the bridge may put (secondary bus, 0.0) in place of the requester.
                Some(PortType::ToPci) => {
                    all.add(SourceId::from_requester(source.segment(), u16::from(bridge.secondary) << 8))?;
                }
                // Section 3.12.2: a conventional bridge puts itself.
                Some(PortType::FromPci) | None => all.add(bridge.function)?,
                Some(_) => continue,
            }
            all.buses = Some((bridge.secondary, bridge.subordinate));
        }
        Ok(all)
    }

    /// The source-ids: the function's own first, none twice.
    pub fn ids(&self) -> &[SourceId] {
        &self.ids
    }

    /// True if `other` shares a source-id with this function, so that both have to be in one cell.
    pub fn shared_with(&self, other: SourceId) -> bool {
        let segment = self.ids.first().map(|own| own.segment());
        let behind = self.buses.is_some_and(|(first, last)| (first..=last).contains(&other.bus()));
        self.ids.contains(&other) || segment == Some(other.segment()) && behind
    }

    /// Section 3.12.5: function numbers that the device uses as further tags.
    fn add_phantom_functions(&mut self, config: &impl ConfigSpace, source: SourceId) -> Result<(), Full> {
        let Some(express) = config_space::pci_express(config, source) else { return Ok(()) };
        // PCIe 6.0, sections 7.5.3.3 and 7.5.3.4: Phantom Functions Supported and Enable.
        let supported = (config.read(source, express + 4) >> 3) & 3;
        let enabled = config.read(source, express + 8) & 1 << 9 != 0;
        if !config_space::is_there(config, source) || !enabled {
            return Ok(());
        }
        // So many high bits of the function number tell nothing about the function.
        let own = 8_u16 >> supported;
        let first = source.requester() & !7 | source.requester() & (own - 1);
        for phantom in (0..8).step_by(usize::from(own)) {
            self.add(SourceId::from_requester(source.segment(), first + phantom))?;
        }
        Ok(())
    }

    fn add(&mut self, id: SourceId) -> Result<(), Full> {
        if self.ids.contains(&id) {
            return Ok(());
        }
        self.ids.push(id).map_err(|_| Full { what: "source-ids of one function", capacity: MAX_REQUESTERS })
    }
}
