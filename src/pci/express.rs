//! The PCI Express capability (PCIe 6.0, section 7.5.3).
#![forbid(unsafe_code)]

use super::capability::capability;
use super::{ConfigSpace, header};
use crate::addr::SourceId;

const ID: u8 = 0x10;

/// Device/port type: bits 7:4 of the capabilities register (section 7.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortType {
    /// An endpoint that is part of the root complex.
    Integrated,
    Root,
    Upstream,
    Downstream,
    /// PCI Express above, PCI below.
    ToPci,
    /// PCI above, PCI Express below.
    FromPci,
    Other,
}

/// What kind of PCI Express port a function is; `None` for conventional PCI.
pub(crate) fn port_type(config: &impl ConfigSpace, function: SourceId) -> Option<PortType> {
    let at = capability(config, function, ID)?;
    Some(match (config.read(function, at) >> 20) & 0xf {
        0x4 => PortType::Root,
        0x5 => PortType::Upstream,
        0x6 => PortType::Downstream,
        0x7 => PortType::ToPci,
        0x8 => PortType::FromPci,
        0x9 => PortType::Integrated,
        _ => PortType::Other,
    })
}

/// Device Control in bits 15:0, Device Status in bits 31:16 (sections 7.5.3.4 and 7.5.3.5).
const DEVICE_CONTROL_STATUS: u16 = 0x08;
/// Transactions Pending, bit 5 of Device Status.
const TRANSACTIONS_PENDING: u32 = 1 << 21;

/// True if a function says that it has sent requests which are not answered yet.
pub(super) fn transactions_pending(config: &impl ConfigSpace, function: SourceId) -> bool {
    let register = express_register(config, function, DEVICE_CONTROL_STATUS);
    register.is_some_and(|register| register & TRANSACTIONS_PENDING != 0)
}

/// Where a function's PCI Express capability is.
pub(super) fn capability_at(config: &impl ConfigSpace, function: SourceId) -> Option<u16> {
    capability(config, function, ID)
}

/// A register of a function's PCI Express capability; `None` if there is none, or no way to read it.
pub(crate) fn express_register(config: &impl ConfigSpace, function: SourceId, offset: u16) -> Option<u32> {
    let at = capability(config, function, ID)?;
    Some(config.read(function, at + offset)).filter(|value| *value != u32::MAX)
}

/// Link Capabilities, and Link Control and Status (sections 7.5.3.6 to 7.5.3.8).
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_STATUS: u16 = 0x10;
/// Data Link Layer Link Active Reporting Capable, and Data Link Layer Link Active.
const REPORTS_LINK: u32 = 1 << 20;
const LINK_ACTIVE: u32 = 1 << 29;

/// True if nothing of a function answers, and the port above says that nothing is plugged in, or is gone as well: a function that is
/// reset is silent, too, but its link stays active.
pub(crate) fn is_unplugged(config: &impl ConfigSpace, function: SourceId, port: Option<SourceId>) -> bool {
    let is_down = |port| {
        let register = |at| express_register(config, port, at).unwrap_or(0);
        header::is_gone(config, port)
            || register(LINK_CAPABILITIES) & REPORTS_LINK != 0 && register(LINK_STATUS) & LINK_ACTIVE == 0
    };
    header::is_gone(config, function) && port.is_some_and(is_down)
}
