//! Devices with a device-TLB, and what their own registers say of it (PCIe 6.0, sections 7.6.3 and 10.5.1). Shares no
//! code with the driver.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam_pc::Pc;

use crate::config_space::extended_capability;

/// The number of the ATS capability.
const ID: u16 = 0xf;
/// Control, with capabilities in the lower half: smallest translation unit in bits 20:16, enable in bit 31.
const CONTROL: u16 = 4;
const UNIT: u32 = 0x1f << 16;
const ENABLE: u32 = 1 << 31;

/// A device that has the capability.
#[derive(Clone, Copy, Debug)]
pub struct Ats {
    pc: &'static Pc,
    source: SourceId,
    control: u16,
}

impl Ats {
    /// All of them, in the order of their source-ids.
    pub fn all(pc: &'static Pc) -> impl Iterator<Item = Self> {
        pc.functions().filter_map(move |source| {
            let at = extended_capability(pc, source, ID)?;
            Some(Self { pc, source, control: at + CONTROL })
        })
    }

    /// Who its requests come from.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// True if its device-TLB may be used.
    pub fn is_enabled(&self) -> bool {
        self.pc.config_read(self.source, self.control) & ENABLE != 0
    }

    /// True if its control register takes what is written there. It is as before then. Only for one that is not enabled.
    pub fn can_be_controlled(&self) -> bool {
        let before = self.pc.config_read(self.source, self.control);
        // SAFETY: the smallest translation unit means nothing as long as the device-TLB is not used.
        unsafe { self.pc.config_write(self.source, self.control, before ^ 1 << 16) };
        let changed = self.pc.config_read(self.source, self.control);
        // SAFETY: as above.
        unsafe { self.pc.config_write(self.source, self.control, before) };
        let after = self.pc.config_read(self.source, self.control);
        (changed ^ before) & UNIT == 1 << 16 && after == before
    }
}
