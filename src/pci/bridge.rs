//! Bridges, and what is behind them (PCI-to-PCI bridge 1.2, section 3.2).
#![forbid(unsafe_code)]

use heapless::Vec;

use super::{ConfigSpace, express_register, header, is_there};
use crate::addr::SourceId;
use crate::limits::Full;

/// Primary, secondary and subordinate bus in bits 7:0, 15:8 and 23:16 (section 3.2.5).
const BUSES: u16 = 0x18;

/// A bridge as configuration space shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) function: SourceId,
    pub(crate) secondary: u8,
    pub(crate) subordinate: u8,
}

/// The bridge that a function is, with the buses behind it.
pub(crate) fn bridge(config: &impl ConfigSpace, function: SourceId) -> Option<Bridge> {
    if !is_there(config, function) || !header::is_bridge(config, function) {
        return None;
    }
    let [_, secondary, subordinate, _] = config.read(function, BUSES).to_le_bytes();
    // A bridge that firmware left alone leads nowhere; one that leads back would lead in circles.
    (function.bus() < secondary && secondary <= subordinate).then_some(Bridge { function, secondary, subordinate })
}

/// How many functions may say that they lead to one bus.
const MAX_ABOVE: usize = 20;

/// The functions that say that they lead to a bus: bridges with it among their buses.
///
/// Where all say the truth they are a path, each behind the one before. A device of some cell may say so as well. The path is among
/// them then, but nobody knows which they are. So each of them counts, and whoever looks goes by the worst of what they say: a lie
/// may keep devices out of cells, and takes no bridge away.
pub(crate) struct Above {
    segment: u16,
    bus: u8,
    /// Requester-id, secondary and subordinate bus, from the lowest bus up.
    bridges: Vec<(u16, u8, u8), MAX_ABOVE>,
}

impl Above {
    /// None yet, of those above the bus of this function.
    pub(crate) fn of(source: SourceId) -> Self {
        Self { segment: source.segment(), bus: source.bus(), bridges: Vec::new() }
    }

    /// Finds them. Each is on a lower bus than what is behind it: they are on at most 255 buses of 256 functions.
    ///
    /// Many buses are looked through, most of them empty. So devices whose function 0 does not answer are looked at only on bus 0,
    /// where one of those that are found leads to, and where there are other bridges.
    ///
    /// # Errors
    ///
    /// There are more than any machine has.
    #[inline(never)]
    pub(crate) fn find(&mut self, config: &impl ConfigSpace) -> Result<(), Full> {
        // Loops, since the adapters of iterators take three times the stack.
        for lower in 0..self.bus {
            let mut looks_for_hidden = lower == 0 || self.bridges.iter().any(|(_, secondary, _)| *secondary == lower);
            for shown in [true, false] {
                if !shown && !looks_for_hidden {
                    break;
                }
                for first in header::devices_on(self.segment, lower) {
                    if is_there(config, first) != shown {
                        continue;
                    }
                    for function in header::functions_of(first) {
                        let Some(Bridge { secondary, subordinate, .. }) = bridge(config, function) else { continue };
                        looks_for_hidden = true;
                        if (secondary..=subordinate).contains(&self.bus) {
                            self.bridges.push((function.requester(), secondary, subordinate)).map_err(|_| FULL)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// All of them, from the highest bus down: the nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Bridge> + '_ {
        self.bridges.iter().rev().map(|&(requester, secondary, subordinate)| Bridge {
            function: SourceId::from_requester(self.segment, requester),
            secondary,
            subordinate,
        })
    }

    /// Those right above one of the buses on the way. Virtual functions may be on a bus that is nobody's secondary bus: then any of
    /// those that lead there.
    pub(crate) fn right_above(&self, bus: u8) -> impl Iterator<Item = Bridge> + '_ {
        let is_secondary = self.iter().any(|bridge| bridge.secondary == bus);
        let leads = move |bridge: &Bridge| !is_secondary && (bridge.secondary..=bridge.subordinate).contains(&bus);
        self.iter().filter(move |bridge| bridge.secondary == bus || leads(bridge))
    }

    /// True if function numbers of 8 bits may be in use on one of the buses on the way: a port right above has ARI Forwarding Enable
    /// set, bit 5 of Device Control 2 (PCIe 6.0, section 7.5.3.16).
    pub(crate) fn has_extended_functions(&self, config: &impl ConfigSpace, bus: u8) -> bool {
        self.right_above(bus).any(|port| forwards_extended_functions(config, port))
    }

    /// True if function numbers of 3 bits may be in use there.
    pub(crate) fn has_eight_functions(&self, config: &impl ConfigSpace, bus: u8) -> bool {
        let mut ports = self.right_above(bus).peekable();
        ports.peek().is_none() || ports.any(|port| !forwards_extended_functions(config, port))
    }
}

fn forwards_extended_functions(config: &impl ConfigSpace, port: Bridge) -> bool {
    express_register(config, port.function, 0x28).is_some_and(|control| control & 1 << 5 != 0)
}

const FULL: Full = Full { what: "bridges above a device", capacity: MAX_ABOVE };

/// All bridges on `bus`, which a bridge leads to.
pub(crate) fn bridges_on(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = Bridge> {
    header::functions_behind(config, segment, bus).filter_map(|function| bridge(config, function))
}

/// True if function numbers of 8 bits are in use on the bus of a function, or may be.
#[inline(never)]
pub(crate) fn has_extended_functions(config: &impl ConfigSpace, function: SourceId) -> bool {
    let mut above = Above::of(function);
    above.find(config).is_err() || above.has_extended_functions(config, function.bus())
}
