#![forbid(unsafe_code)]

use core::fmt;

use crate::addr::{IovaRange, SourceId};
use crate::limits::Full;
use crate::pci::{self, Above, Bridge, ConfigSpace, PortType};

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
    /// Which of its windows.
    pub kind: WindowKind,
    /// The addresses.
    pub range: IovaRange,
}

/// What a window of a bridge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WindowKind {
    /// Memory below 4 GiB.
    Memory,
    /// Prefetchable memory.
    Prefetchable,
    /// The addresses of VGA, 0xa0000 to 0xbffff (VGA Enable).
    Vga,
}

impl BridgeWindow {
    /// Calls `each` with those that matter to a device, as configuration space shows them now. Some may lie within others.
    ///
    /// # Errors
    ///
    /// More bridges say that they lead to the device than there is room for: nothing is known of it.
    pub(crate) fn each(config: &impl ConfigSpace, source: SourceId, each: &mut dyn FnMut(Self)) -> Result<(), Full> {
        let mut above = Above::of(source);
        above.find(config)?;
        for bridge in above.iter() {
            // Where others look at the request, and the bridge that has all of them behind it.
            let (bus, port) = match pci::port_type(config, bridge.function) {
                Some(PortType::Root) => continue,
                Some(PortType::Downstream) => {
                    let bus = bridge.function.bus();
                    let is_upstream = |port: Bridge| {
                        port.secondary == bus && pci::port_type(config, port.function) == Some(PortType::Upstream)
                    };
                    // The upstream port has all of the switch behind it, and comes later.
                    if redirects(config, &above, bus) || above.iter().any(is_upstream) {
                        continue;
                    }
                    (bus, None)
                }
                Some(PortType::Upstream) if redirects(config, &above, bridge.secondary) => continue,
                _ => (bridge.secondary, Some(bridge)),
            };
            for bridge in port.into_iter().chain(pci::bridges_on(config, source.segment(), bus)) {
                let kinds = [WindowKind::Memory, WindowKind::Prefetchable, WindowKind::Vga];
                for (range, kind) in pci::windows(config, bridge.function).into_iter().zip(kinds) {
                    let Some(range) = range else { continue };
                    each(Self { bridge: bridge.function, kind, range });
                }
            }
        }
        Ok(())
    }
}

/// True if all downstream ports on the bus within a switch, by which a request may come, redirect it; and there is one.
#[inline(never)]
fn redirects(config: &impl ConfigSpace, above: &Above, bus: u8) -> bool {
    let is_downstream = |port: &Bridge| pci::port_type(config, port.function) == Some(PortType::Downstream);
    let mut ports = above.iter().filter(|port| port.function.bus() == bus).filter(is_downstream).peekable();
    ports.peek().is_some() && ports.all(|port| pci::isolates(config, port.function))
}

impl fmt::Display for BridgeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            WindowKind::Memory => "memory",
            WindowKind::Prefetchable => "prefetchable memory",
            WindowKind::Vga => "VGA",
        };
        write!(f, "the {kind} window {} of {}", self.range, self.bridge)
    }
}
