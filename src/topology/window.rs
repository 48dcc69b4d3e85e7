#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{IovaRange, SourceId};
use crate::pci::{self, Bridge, ConfigSpace, PortType};

/// Addresses at which a device's requests reach what is behind a bridge, or nothing, but never a remapping unit: no cell that
/// has the device can have memory there.
///
/// A request is passed on by its address as it is before any translation:
///
/// - by a switch, from a port below which it comes, to another, unless that port redirects it (Access Control Services, which
///   [`Iommu::enable`](crate::Iommu::enable) switches on); and not to the port above, if that has the address in a window;
/// - on a bus of conventional PCI, by whoever has the address.
///
/// The root complex translates each request before it looks where that goes (VT-d 5.10, section 3.17), so the windows of its
/// ports do not matter to what is below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeWindow {
    /// The bridge.
    pub bridge: SourceId,
    /// It is the window for prefetchable memory, not the one for all other.
    pub prefetchable: bool,
    /// The addresses.
    pub range: IovaRange,
}

impl BridgeWindow {
    /// Calls `each` with those that matter to a device, as configuration space shows them now. Some may lie within others.
    pub(crate) fn each(config: &impl ConfigSpace, source: SourceId, each: &mut dyn FnMut(Self)) {
        let mut redirected = false;
        let mut bridges = pci::bridges_above(config, source.segment(), source.bus()).peekable();
        while let Some(bridge) = bridges.next() {
            // Where others look at the request, and the bridge that has all of them behind it.
            let (bus, above) = match pci::port_type(config, bridge.function) {
                Some(PortType::Root) => continue,
                Some(PortType::Downstream) => {
                    redirected = pci::isolates(config, bridge.function);
                    let is_within = |above: &Bridge| {
                        above.secondary == bridge.function.bus()
                            && pci::port_type(config, above.function) == Some(PortType::Upstream)
                    };
                    // The port above has all of the switch behind it, and comes next.
                    if redirected || bridges.peek().is_some_and(is_within) {
                        continue;
                    }
                    (bridge.function.bus(), None)
                }
                Some(PortType::Upstream) if redirected => continue,
                _ => (bridge.secondary, Some(bridge)),
            };
            for bridge in above.into_iter().chain(pci::bridges_on(config, source.segment(), bus)) {
                for (range, prefetchable) in pci::windows(config, bridge.function).into_iter().zip([false, true]) {
                    let Some(range) = range else { continue };
                    each(Self { bridge: bridge.function, prefetchable, range });
                }
            }
        }
    }
}

impl fmt::Display for BridgeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.prefetchable { "prefetchable memory" } else { "memory" };
        write!(f, "the {kind} window {} of {}", self.range, self.bridge)
    }
}
