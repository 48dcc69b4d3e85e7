//! What a machine is made of.
#![forbid(unsafe_code)]

use crate::unit::UnitConfig;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its units.
    pub units: Vec<UnitConfig>,
    /// Frames that the driver can allocate.
    pub frames: usize,
    /// Address of the first of them; several together are aligned as far as this is.
    pub frames_base: u64,
    /// Host address width in bits, as the DMAR table would tell it.
    pub host_address_width: u8,
    /// What caches keep. `None` is the strictest: every entry that a walk could reach, at every moment, and no line
    /// leaves the CPU's caches by itself. A seed chooses which entries are kept and which lines are evicted.
    pub seed: Option<u64>,
}

impl Config {
    /// A machine with these units and 1024 frames for the driver.
    pub fn new(units: impl IntoIterator<Item = UnitConfig>) -> Self {
        let (units, frames_base) = (units.into_iter().collect(), 0x1000_0000);
        Self { units, frames: 1024, frames_base, host_address_width: 39, seed: None }
    }
}
