use heapless::Vec;

use crate::addr::SourceId;
use crate::pci::{self, Above, Bridge, ConfigSpace, PortType};

/// What keeps a function's requests from reaching others without passing a remapping unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// There is no bridge above it, and the root complex translates every request before it looks where that goes (VT-d
    /// 5.10, section 3.17).
    RootComplex,
    /// Access Control Services of every port above it and, if its device has several functions, of those.
    AccessControl,
    /// Nothing does, or not everywhere.
    Shared,
    /// Configuration space does not show the function.
    Unknown,
}

/// Ranges that a group has at most; one that has more is taken for the whole segment.
const RANGES: usize = 16;

/// The functions that a function's requests may reach, or whose requests may reach it, without passing a remapping unit: they
/// are behind bridges, or in one device, that pass requests from one to the other by themselves. Nobody can keep them apart,
/// so no two cells may have one each, unless both [allow that](crate::CellConfig::allow_shared_group).
///
/// Read from configuration space as it is now; [`Iommu::enable`](crate::Iommu::enable) switches Access Control Services on
/// wherever there are any, and [`Iommu::isolate`](crate::Iommu::isolate) does so again. A port or a function isolates, if Source
/// Validation, P2P Request Redirect, P2P Completion Redirect and Upstream Forwarding are on as far as it has them, and neither
/// P2P Egress Control nor Direct Translated P2P is. A downstream port has to have all four, a root port the first (PCIe 6.0,
/// section 6.12.1.1). Then
///
/// - a switch has all that is below it in one group, unless all its downstream ports isolate;
/// - so has a root port that does not isolate, and a bridge to or from conventional PCI;
/// - a device of several functions has them in one group, and what is behind them, unless all isolate or are endpoints that
///   are integrated in the root complex. One whose function 0 does not answer has several: firmware or a hypervisor hides that.
///
/// If several functions say that they lead to the same bus, all of that holds for each of them: a device that says what is not
/// true makes groups of others larger, never smaller. Where more than 20 say so, all of the segment is one group.
///
/// Virtual functions count as functions of the device whose number they have, and share its group if that does not isolate.
/// Otherwise, and where they have numbers of their own, they are taken for isolated from each other and from the physical ones.
///
/// It is mutual: a function belongs to the group of another if that belongs to its own.
///
/// A port with enhanced control also redirects what is sent to its own memory, or to that of the switch's upstream port, and
/// blocks I/O requests; a port without it does not, and a device below may reach the registers of the ports above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    isolation: Isolation,
    /// It is shared, since the function is an endpoint that does not isolate itself, or whose device does not.
    by_itself: bool,
    segment: u16,
    /// First and last requester-id of functions that belong to it.
    ranges: Vec<(u16, u16), RANGES>,
}

impl Group {
    /// A function about which nothing else is known.
    pub(crate) fn alone(source: SourceId) -> Self {
        Self { isolation: Isolation::Unknown, by_itself: false, segment: source.segment(), ranges: Vec::new() }
    }

    pub(super) fn of(config: &impl ConfigSpace, source: SourceId) -> Self {
        let mut group = Self::alone(source);
        group.add((source.requester(), source.requester()));
        if pci::physical_function(config, source).is_some() {
            group.isolation = Isolation::RootComplex;
            group.join_all(config, source);
        }
        group
    }

    /// Adds all that nothing isolates from a function.
    #[inline(never)]
    fn join_all(&mut self, config: &impl ConfigSpace, source: SourceId) {
        let mut above = Above::of(source);
        if above.find(config).is_err() {
            return self.join((0, u16::MAX));
        }
        let own = pci::bridge(config, source);
        if own.is_none() {
            self.join_device(config, source, &above);
            self.by_itself = self.isolation == Isolation::Shared;
        }
        // A bridge shares with what is behind it what that shares with the bridge.
        for bridge in own.into_iter().chain(above.iter()) {
            let is_own = bridge.function == source;
            if self.isolation == Isolation::RootComplex && !is_own {
                self.isolation = Isolation::AccessControl;
            }
            match pci::port_type(config, bridge.function) {
                Some(PortType::Upstream) if is_own => {}
                Some(PortType::Upstream) => {
                    if !ports_isolate(config, bridge.function.segment(), bridge.secondary) {
                        self.join(buses(bridge));
                        self.by_itself |= own.is_none() && source.bus() == bridge.secondary;
                    }
                }
                Some(PortType::Downstream) => {
                    let bus = bridge.function.bus();
                    if !ports_isolate(config, bridge.function.segment(), bus) {
                        // The port above has all of the switch behind it. Without one, nobody knows where the switch ends.
                        let mut ports = above.right_above(bus).peekable();
                        if ports.peek().is_none() {
                            self.join((0, u16::MAX));
                        }
                        ports.for_each(|port| self.join(buses(port)));
                    }
                }
                Some(PortType::Root) if pci::isolates(config, bridge.function) => {}
                _ => {
                    self.join(buses(bridge));
                    self.add((bridge.function.requester(), bridge.function.requester()));
                }
            }
            self.join_device(config, bridge.function, &above);
        }
    }

    /// What isolates the function.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// True if a function belongs to the group, as the one that it is the group of does.
    pub fn contains(&self, other: SourceId) -> bool {
        let requester = other.requester();
        other.segment() == self.segment && self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&requester))
    }

    /// True if all that belongs to it belongs to the other, too.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let is_part = |(first, last): &(u16, u16)| other.ranges.iter().any(|it| it.0 <= *first && *last <= it.1);
        self.segment == other.segment && self.ranges.iter().all(is_part)
    }

    /// All that belongs to it, as ranges from a first to a last source-id. What is not there is among them, too.
    pub fn ranges(&self) -> impl Iterator<Item = (SourceId, SourceId)> + '_ {
        let source = |requester| SourceId::from_requester(self.segment, requester);
        self.ranges.iter().map(move |(first, last)| (source(*first), source(*last)))
    }

    /// Takes the place of what was noted before. What an endpoint that did not isolate says of itself by now takes nobody out of its
    /// group: that stays as large as it was.
    pub(crate) fn note(&mut self, mut now: Self) {
        if self.by_itself && !now.by_itself {
            now.by_itself = true;
            self.ranges.iter().for_each(|range| now.join(*range));
        }
        *self = now;
    }

    fn add(&mut self, range: (u16, u16)) {
        let is_within = |it: &(u16, u16), other: &(u16, u16)| other.0 <= it.0 && it.1 <= other.1;
        if self.ranges.iter().any(|known| is_within(&range, known)) {
            return;
        }
        self.ranges.retain(|known| !is_within(known, &range));
        if self.ranges.push(range).is_err() {
            self.ranges.clear();
            let _ = self.ranges.push((0, u16::MAX));
        }
    }

    /// Nothing isolates it from these.
    fn join(&mut self, range: (u16, u16)) {
        self.isolation = Isolation::Shared;
        self.add(range);
    }

    /// Adds the other functions of a device below these bridges and what is behind them, unless they are isolated from each
    /// other.
    #[inline(never)]
    fn join_device(&mut self, config: &impl ConfigSpace, function: SourceId, above: &Above) {
        let (first, last) = match function.requester() {
            requester if above.has_extended_functions(config, function.bus()) => (requester & 0xff00, requester | 0xff),
            requester => (requester & !7, requester | 7),
        };
        let of = |requester| SourceId::from_requester(function.segment(), requester);
        // Somebody hides it, if there are others.
        let is_first_hidden = !pci::is_there(config, of(first));
        let found = || (first..=last).map(of).filter(|function| pci::is_there(config, *function));
        // Only in the root complex, which section 3.17 is about.
        let is_on_root = above.right_above(function.bus()).next().is_none();
        let is_integrated = |function| is_on_root && pci::port_type(config, function) == Some(PortType::Integrated);
        let is_several = found().count() + usize::from(is_first_hidden) > 1;
        if is_several && !found().all(|function| pci::isolates(config, function) || is_integrated(function)) {
            self.isolation = Isolation::Shared;
            self.add((first, last));
            found().filter_map(|function| pci::bridge(config, function)).for_each(|bridge| self.add(buses(bridge)));
        }
    }
}

/// True if all functions on the bus within a switch are downstream ports that isolate.
fn ports_isolate(config: &impl ConfigSpace, segment: u16, bus: u8) -> bool {
    pci::functions_behind(config, segment, bus).all(|function| {
        pci::port_type(config, function) == Some(PortType::Downstream) && pci::isolates(config, function)
    })
}

/// All functions behind a bridge.
fn buses(bridge: Bridge) -> (u16, u16) {
    (u16::from(bridge.secondary) << 8, u16::from(bridge.subordinate) << 8 | 0xff)
}
