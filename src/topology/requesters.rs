use heapless::Vec;

use crate::addr::SourceId;
use crate::limits::Full;
use crate::pci::{self, Above, Bridge, ConfigSpace, PortType};

/// How many source-ids the requests of one function can carry, and how many ranges of functions can share them.
pub const MAX_REQUESTERS: usize = 16;

/// The source-ids that the requests of one function may carry, and which functions share them with it.
///
/// Each has to be programmed alike, and all functions that share one belong to one cell: the set is the unit of
/// assignment (VT-d 5.10, section 3.12).
// R46
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requesters {
    ids: Vec<SourceId, MAX_REQUESTERS>,
    /// First and last requester-id of other functions whose requests carry one of these ids.
    shared: Vec<(u16, u16), MAX_REQUESTERS>,
    /// The bridge nearest to the unit that puts other source-ids in place of a function's own.
    renamed: Option<Renamed>,
    /// The bridge right above the function.
    port: Option<SourceId>,
}

/// What a bridge makes of the source-ids behind it, when it passes writes on: interrupts are such writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renamed {
    /// All have the bridge's own (VT-d 5.10, section 3.12.2).
    As(SourceId),
    /// All are of these buses, the secondary one and those behind it: that of the requester, or (secondary bus, 0.0) (section
    /// 3.12.1).
    OfBuses(u8, u8),
}

impl Requesters {
    pub(crate) const NONE: Self = Self { ids: Vec::new(), shared: Vec::new(), renamed: None, port: None };

    /// Adds what configuration space shows of a function.
    #[inline(never)]
    pub(super) fn add_all(&mut self, config: &impl ConfigSpace, source: SourceId) -> Result<(), Full> {
        self.add(source)?;
        self.add_phantom_functions(config, source)?;
        self.add_known_alias(config, source)?;
        // What is behind a conventional bridge carries the bridge's id.
        if let Some(bridge) = pci::bridge(config, source)
            && is_conventional(config, source)
        {
            self.add_shared(buses(bridge))?;
        }
        let mut above = Above::of(source);
        above.find(config)?;
        self.port = above.right_above(source.bus()).next().map(|bridge| bridge.function);
        for bridge in above.iter() {
            let is_conventional = is_conventional(config, bridge.function);
            // One without the capability right below a port can only be a bridge from PCI Express.
            let is_to_pci = match pci::port_type(config, bridge.function) {
                None => above.right_above(bridge.function.bus()).any(|port| is_express_below(config, port.function)),
                kind => kind == Some(PortType::ToPci),
            };
            if is_conventional {
                // Section 3.12.2: the bridge puts its own id.
                self.add(bridge.function)?;
                self.renamed = Some(Renamed::As(bridge.function));
            }
            if is_to_pci {
                // Section 3.12.1: the bridge may put (secondary bus, 0.0) in place of the requester.
                self.add(SourceId::from_requester(source.segment(), u16::from(bridge.secondary) << 8))?;
                self.renamed = Some(Renamed::OfBuses(bridge.secondary, bridge.subordinate));
            }
            if is_conventional || is_to_pci {
                self.add_shared(buses(bridge))?;
            }
        }
        Ok(())
    }

    /// The source-ids: the function's own first, none twice.
    pub fn ids(&self) -> &[SourceId] {
        &self.ids
    }

    /// What a bridge makes of the source-ids, if one does.
    pub(crate) fn renamed(&self) -> Option<Renamed> {
        self.renamed
    }

    /// The bridge right above the function, if there is one.
    pub(crate) fn port(&self) -> Option<SourceId> {
        self.port
    }

    /// True if no other function's requests can carry the function's own source-id, and its own carry no other.
    pub(crate) fn is_alone(&self) -> bool {
        self.ids.len() == 1 && self.shared.is_empty()
    }

    /// True if `other` shares a source-id with this function, so that both have to be in one cell.
    pub fn shared_with(&self, other: SourceId) -> bool {
        let segment = self.ids.first().map(|own| own.segment());
        let shared = || self.shared.iter().any(|(first, last)| (*first..=*last).contains(&other.requester()));
        self.ids.contains(&other) || segment == Some(other.segment()) && shared()
    }

    /// Section 3.12.5: function numbers that a device uses as further tags.
    fn add_phantom_functions(&mut self, config: &impl ConfigSpace, source: SourceId) -> Result<(), Full> {
        let first = source.requester() & !7;
        let functions = || (first..=first | 7).map(|requester| SourceId::from_requester(source.segment(), requester));
        for function in functions() {
            let Some(mask) = phantom_mask(config, function) else { continue };
            let same = |other: SourceId| other.requester() & mask == function.requester() & mask;
            if function == source {
                functions().filter(|other| same(*other)).try_for_each(|other| self.add(other))?;
            } else if same(source) {
                // What should be nobody's number is a function all the same.
                self.add_shared((function.requester(), function.requester()))?;
            }
        }
        Ok(())
    }

    /// Adds the id of another function, if the device is known to use that, and the functions that are known to use one of these
    /// ids.
    fn add_known_alias(&mut self, config: &impl ConfigSpace, source: SourceId) -> Result<(), Full> {
        let alias = pci::alias(config, source);
        alias.map_or(Ok(()), |alias| self.add(alias))?;
        for id in alias.into_iter().chain([source]) {
            for other in pci::functions_with_alias(config, id).filter(|other| *other != source) {
                self.add_shared((other.requester(), other.requester()))?;
            }
        }
        Ok(())
    }

    /// Adds a source-id, if it is new.
    pub(super) fn add(&mut self, id: SourceId) -> Result<(), Full> {
        if self.ids.contains(&id) {
            return Ok(());
        }
        self.ids.push(id).map_err(|_| FULL)
    }

    /// Adds functions that share one of the source-ids, from the first requester-id to the last.
    pub(super) fn add_shared(&mut self, range: (u16, u16)) -> Result<(), Full> {
        if self.shared.contains(&range) {
            return Ok(());
        }
        self.shared.push(range).map_err(|_| FULL)
    }
}

const FULL: Full = Full { what: "source-ids of one function", capacity: MAX_REQUESTERS };

/// The bits of the function number by which a function uses more numbers than its own (PCIe 6.0, sections 7.5.3.3
/// and 7.5.3.4: Phantom Functions Supported, and Enable).
fn phantom_mask(config: &impl ConfigSpace, function: SourceId) -> Option<u16> {
    if !pci::is_there(config, function) {
        return None;
    }
    let capabilities = pci::express_register(config, function, 4)?;
    let control = pci::express_register(config, function, 8)?;
    let supported = (capabilities >> 3) & 3;
    // So many high bits of the three are taken.
    (control & 1 << 9 != 0 && supported != 0).then_some(7 >> supported)
}

/// True for a bridge that is no PCI Express port, or one from PCI to PCI Express.
fn is_conventional(config: &impl ConfigSpace, bridge: SourceId) -> bool {
    matches!(pci::port_type(config, bridge), None | Some(PortType::FromPci))
}

/// True if what is right below a port is PCI Express.
fn is_express_below(config: &impl ConfigSpace, port: SourceId) -> bool {
    pci::port_type(config, port).is_some_and(|kind| kind != PortType::ToPci)
}

/// All functions behind a bridge.
fn buses(bridge: Bridge) -> (u16, u16) {
    (u16::from(bridge.secondary) << 8, u16::from(bridge.subordinate) << 8 | 0xff)
}
