//! Functions by what they are, and the two lists of capabilities that one has (PCI 3.0, sections 6.2.1 and 6.7; PCIe 6.0, section
//! 7.6.3). Shares no code with the driver.
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam_pc::Pc;

/// Where the first capability is, in bits 7:0.
const FIRST: u16 = 0x34;
/// Where the first extended capability is.
const FIRST_EXTENDED: u16 = 0x100;
/// The numbers of PCI Express and of MSI.
pub(crate) const EXPRESS: u8 = 0x10;
const MSI: u8 = 5;
/// More of either than fit.
const STEPS: usize = 48;
const STEPS_EXTENDED: usize = 960;

/// All functions with this vendor, in the lower half, and device, in the order of their source-ids (PCI 3.0, section 6.2.1).
pub(crate) fn functions_of(pc: &'static Pc, vendor_device: u32) -> impl Iterator<Item = SourceId> {
    pc.functions().filter(move |&function| pc.config_read(function, 0) == vendor_device)
}

/// Where a capability is.
pub(crate) fn capability(pc: &Pc, function: SourceId, id: u8) -> Option<u16> {
    let mut at = pc.config_read(function, FIRST) as u16 & 0xfc;
    for _ in 0..STEPS {
        let [found, next, ..] = pc.config_read(function, at).to_le_bytes();
        match found {
            _ if at == 0 => return None,
            _ if found == id => return Some(at),
            _ => at = u16::from(next & 0xfc),
        }
    }
    None
}

/// How many messages a function can send by MSI; 0 if it has none (PCI 3.0, section 6.8.1.3: Multiple Message Capable).
pub fn msi_messages(pc: &Pc, function: SourceId) -> u16 {
    capability(pc, function, MSI).map_or(0, |at| 1 << (pc.config_read(function, at) >> 17 & 7).min(5))
}

/// Where an extended capability is. A function without PCI Express has none, and a look there is an error on its bus.
pub(crate) fn extended_capability(pc: &Pc, function: SourceId, id: u16) -> Option<u16> {
    capability(pc, function, EXPRESS)?;
    let mut at = FIRST_EXTENDED;
    for _ in 0..STEPS_EXTENDED {
        let header = pc.config_read(function, at);
        let next = (header >> 20) as u16 & 0xffc;
        match header {
            0 | u32::MAX => return None,
            _ if header as u16 == id => return Some(at),
            _ if next < FIRST_EXTENDED => return None,
            _ => at = next,
        }
    }
    None
}
