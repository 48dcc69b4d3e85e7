//! Who serves whom: units, the devices in their scope, reserved memory, and which source-ids a device's requests carry.
//!
//! Neutral of the vendor. Made once from a firmware table; answers about a device read configuration space anew each
//! time, so they follow bus numbers and virtual functions as they are then.
#![forbid(unsafe_code)]

mod config_space;
mod from_dmar;
mod requesters;
mod reserved;
mod scope;
mod unit;

use crate::addr::SourceId;
use crate::firmware::dmar;
use crate::limits;

use heapless::Vec;

pub use config_space::{ConfigSpace, NoConfigSpace};
pub use requesters::{MAX_REQUESTERS, Requesters};
pub use reserved::ReservedMemory;
pub use scope::{Role, Scope, Target};
pub use unit::UnitInfo;

/// What the firmware's table says about the machine.
///
/// About 20 KiB with the default capacities, so better not on a small stack. The capacities are those of units, of
/// scopes and of reserved memory; write `<Topology>::from_dmar` for the defaults.
#[derive(Clone, Debug)]
pub struct Topology<
    const UNITS: usize = { limits::UNITS },
    const SCOPES: usize = { limits::SCOPES },
    const RESERVED: usize = { limits::RESERVED },
> {
    units: Vec<UnitInfo, UNITS>,
    scopes: Vec<Scope, SCOPES>,
    reserved: Vec<ReservedMemory, RESERVED>,
    host_address_width: u8,
    flags: dmar::Flags,
}

impl<const UNITS: usize, const SCOPES: usize, const RESERVED: usize> Topology<UNITS, SCOPES, RESERVED> {
    /// The units that can be used, in the order of the table.
    pub fn units(&self) -> &[UnitInfo] {
        &self.units
    }

    /// All scopes: which device has which role, in the order of the table.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// All reserved memory, in the order of the table.
    pub fn reserved_memory(&self) -> &[ReservedMemory] {
        &self.reserved
    }

    /// Index in [`units`](Self::units) of the one that serves a PCI function or an ACPI device.
    ///
    /// A scope that names the device, or the function whose virtual function it is, comes before one of a bridge above,
    /// the nearest first, and that before a unit that takes all of the segment. `None` if no unit serves it, or one
    /// that cannot be used: such a device must not be assigned.
    pub fn unit_of(&self, config: &impl ConfigSpace, source: SourceId) -> Option<usize> {
        let mut best = None;
        for scope in &self.scopes {
            let (Role::Unit(_) | Role::UnusableUnit) = scope.role else { continue };
            let Some(rank) = scope.covers(config, source) else { continue };
            if best.is_none_or(|(highest, _)| rank > highest) {
                best = Some((rank, scope.role));
            }
        }
        match best {
            Some((_, Role::Unit(index))) => Some(usize::from(index)),
            _ => None,
        }
    }

    /// The source-ids that a function's requests may carry, and the functions that share them.
    ///
    /// # Errors
    ///
    /// The function has more of them than [`MAX_REQUESTERS`]: it cannot be assigned.
    pub fn requesters(&self, config: &impl ConfigSpace, source: SourceId) -> Result<Requesters, limits::Full> {
        Requesters::of(config, source)
    }

    /// The reserved memory that a device uses.
    pub fn reserved(&self, config: &impl ConfigSpace, source: SourceId) -> impl Iterator<Item = ReservedMemory> {
        self.reserved.iter().zip(0_u16..).filter_map(move |(memory, index)| {
            let mut scopes = self.scopes.iter().filter(|scope| scope.role == Role::Reserved(index));
            scopes.any(|scope| scope.covers(config, source).is_some()).then_some(*memory)
        })
    }

    /// True if neither SNP nor PGSNP may be set for a device (SIDP, C2).
    pub fn snoop_forbidden(&self, config: &impl ConfigSpace, source: SourceId) -> bool {
        self.properties(config, source).contains(dmar::Properties::NO_PAGE_SNOOP)
    }

    /// Restrictions on a device, from SIDP, or from SATC where there is no SIDP (VT-d 5.10, section 8.9).
    pub fn properties(&self, config: &impl ConfigSpace, source: SourceId) -> dmar::Properties {
        let mut all = dmar::Properties::empty();
        for scope in &self.scopes {
            if let Role::Properties(properties) = scope.role
                && scope.covers(config, source).is_some()
            {
                all |= properties;
            }
        }
        all
    }

    /// True if firmware lets a device use ATS: its root port is listed, or it is a device of the SoC with a validated
    /// cache (R48). Whether device and unit can is not looked at.
    pub fn ats_allowed(&self, config: &impl ConfigSpace, source: SourceId) -> bool {
        let by_port =
            self.scopes.iter().any(|scope| scope.role == Role::AtsPort && scope.covers(config, source).is_some());
        by_port || self.properties(config, source).contains(dmar::Properties::ATC_HARDENED)
    }

    /// The unit of an IOAPIC and the source-id of its interrupt requests, by the id that the table has for it.
    pub fn ioapic(&self, id: u8) -> Option<(usize, SourceId)> {
        self.interrupt_source(Target::IoApic(id))
    }

    /// The unit of an HPET and the source-id of its interrupt requests, by its number.
    pub fn hpet(&self, number: u8) -> Option<(usize, SourceId)> {
        self.interrupt_source(Target::Hpet(number))
    }

    fn interrupt_source(&self, target: Target) -> Option<(usize, SourceId)> {
        self.scopes.iter().find_map(|scope| match scope.role {
            Role::Unit(index) if scope.target == target => Some((usize::from(index), scope.source)),
            _ => None,
        })
    }

    /// Bits of a physical address that DMA can use: 32 to 52.
    pub fn host_address_width(&self) -> u8 {
        self.host_address_width
    }

    /// True if the platform supports interrupt remapping. The units have to as well.
    pub fn interrupt_remapping(&self) -> bool {
        self.flags.contains(dmar::Flags::INTR_REMAP)
    }

    /// True if firmware asks to leave x2APIC mode alone; of no meaning without interrupt remapping (R68).
    pub fn x2apic_opt_out(&self) -> bool {
        self.flags.contains(dmar::Flags::INTR_REMAP | dmar::Flags::X2APIC_OPT_OUT)
    }

    /// True if DMA that firmware left running stays within the reserved memory, so that all other may be blocked at once.
    pub fn dma_opt_in(&self) -> bool {
        self.flags.contains(dmar::Flags::DMA_CTRL_PLATFORM_OPT_IN)
    }
}
