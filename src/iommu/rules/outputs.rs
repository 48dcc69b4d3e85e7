//! No physical byte is reached by devices of two cells, unless both cells have it so. What is no cell's, as registers of a unit
//! and the platform's own memory, is reached by none.
#![forbid(unsafe_code)]

use crate::addr::{PhysRange, Region};
use crate::cell::{Cell, CellId, Part, Reserved};
use crate::hal::Hal;
use crate::iommu::error::{Error, Owner, Refusal};
use crate::iommu::state::{Assignment, CellSet, Config};
use crate::paging::MapError;
use crate::topology::{ReservedMemory, Topology, UnitInfo};

/// Fails if a region cannot be any cell's: it passes the machine's address width, or has registers of a unit or memory that the
/// platform keeps for itself.
#[inline(never)]
pub(in crate::iommu) fn check_region(hal: &impl Hal, region: Region, topology: &Topology<'_>) -> Result<(), Error> {
    let host_bits = topology.host_address_width();
    let memory = region.outputs().filter(|memory| memory.last().as_u64().unbounded_shr(host_bits.into()) == 0);
    let memory = memory.ok_or(MapError::OutputTooHigh { region, output_bits: host_bits })?;
    owner_in_machine(hal, memory, topology.units())
        .map_or(Ok(()), |(memory, owner)| Err(Error::Owned { memory, owner }))
}

/// Fails if a cell is granted memory that is another's: a region that it has not had before, or memory that firmware reserves
/// for a device that arrives.
///
/// The root cell's own regions are not looked at: it has what is left over.
#[inline(never)]
pub(in crate::iommu) fn check(
    hal: &impl Hal,
    config: &Config<'_>,
    scope: CellSet,
    topology: &Topology<'_>,
) -> Result<(), Error> {
    let (all_reserved, units) = (topology.reserved_memory(), topology.units());
    let owners = Owners { config, scope, all_reserved };
    for (id, cell) in config.cells.iter().filter(|(id, _)| scope.has(*id) && !config.root.is(*id)) {
        for part in new_parts(cell) {
            if let Some((memory, owner)) = owners.of_part(id, part) {
                return Err(Error::Owned { memory, owner });
            }
        }
    }
    for device in config.devices.iter().filter(|device| device.reserved != 0 && device.arrives(scope)) {
        let shared = config.cell(device.cell)?.config.allow_shared_reserved;
        for memory in owners.reserved_of(device) {
            let claim = Claim { cell: device.cell, memory, shared };
            if let Some((memory, owner)) = owner_in_machine(hal, memory, units).or_else(|| owners.of_memory(&claim)) {
                return Err(Error::Refused { device: device.device, reason: Refusal::Owned { memory, owner } });
            }
        }
    }
    Ok(())
}

/// The parts of a cell's staged memory that it does not have as they are.
fn new_parts<'c>(cell: &'c Cell<'_>) -> impl Iterator<Item = &'c Part> {
    let mut before = cell.regions.parts().iter().peekable();
    cell.staged.parts().iter().filter(move |part| {
        let start = part.region.input.start();
        while before.next_if(|old| old.region.input.start() < start).is_some() {}
        before.peek() != Some(part)
    })
}

/// The first part of some memory that is the machine's or the platform's own.
fn owner_in_machine(hal: &impl Hal, memory: PhysRange, units: &[UnitInfo]) -> Option<(PhysRange, Owner)> {
    let of_unit = units.iter().find_map(|unit| {
        let registers = unit.window.memory()?.intersection(memory)?;
        Some((registers, Owner::Registers(unit.window)))
    });
    of_unit.or_else(|| Some((hal.own_memory(memory)?, Owner::Platform)))
}

/// What a cell is granted.
struct Claim {
    cell: CellId,
    memory: PhysRange,
    /// The cell has it so that others may have it, too.
    shared: bool,
}

/// Who may reach which memory, now or when the change is done.
struct Owners<'c, 's> {
    config: &'c Config<'s>,
    scope: CellSet,
    all_reserved: &'c [ReservedMemory],
}

impl<'c, 's> Owners<'c, 's> {
    /// The first part of a region that another cell may reach, and why it may.
    fn of_part(&self, cell: CellId, part: &Part) -> Option<(PhysRange, Owner)> {
        let memory = part.region.outputs()?;
        let claim = Claim { cell, memory, shared: part.shared };
        self.of_memory(&claim).or_else(|| self.in_reserved(&claim))
    }

    /// The memory that firmware reserves for a device, as far as the device is to reach it.
    fn reserved_of(&self, device: &Assignment) -> impl Iterator<Item = PhysRange> + use<'c> {
        Reserved::new(self.all_reserved, device.reserved).iter().filter_map(|region| region.outputs())
    }

    /// The first part of what is claimed that another cell has, or may still reach. What firmware reserves for two devices is the
    /// matter of `reserved_owners.rs`.
    #[inline(never)]
    fn of_memory(&self, claim: &Claim) -> Option<(PhysRange, Owner)> {
        let mut others = self.config.cells.iter().filter(|(id, _)| *id != claim.cell && !self.config.root.is(*id));
        let of_cell = others.find_map(|(id, cell)| Some((self.in_regions(id, cell, claim)?, Owner::Cell(id))));
        of_cell.or_else(|| self.in_withheld(claim))
    }

    /// What another cell has of it, or may have by a change of its own that is under way.
    fn in_regions(&self, id: CellId, cell: &Cell<'_>, claim: &Claim) -> Option<PhysRange> {
        let is_in_scope = self.scope.has(id);
        let committed = cell.regions.parts().iter().filter(|_| !is_in_scope);
        let staged = cell.staged.parts().iter().filter(|_| is_in_scope || cell.busy);
        let mut alone = committed.chain(staged).filter(|part| !(part.shared && claim.shared));
        alone.find_map(|part| part.region.outputs()?.intersection(claim.memory))
    }

    fn in_reserved(&self, claim: &Claim) -> Option<(PhysRange, Owner)> {
        let with_reserved = self.config.devices.iter().filter(|device| device.reserved != 0);
        let mut others = with_reserved.filter(|device| device.cell != claim.cell && !device.leaves(self.scope));
        others.find_map(|device| {
            let allowed = self.config.cell(device.cell).is_ok_and(|cell| cell.config.allow_shared_reserved);
            if allowed && claim.shared {
                return None;
            }
            let memory = self.reserved_of(device).find_map(|memory| memory.intersection(claim.memory))?;
            Some((memory, Owner::Reserved { device: device.device, cell: device.cell }))
        })
    }

    fn in_withheld(&self, claim: &Claim) -> Option<(PhysRange, Owner)> {
        let others = self.config.withheld.iter().filter(|range| range.cell != claim.cell);
        let alone = others.filter(|range| !(range.shared && claim.shared));
        let mut kept = alone.filter(|range| !self.is_destroyed(range.cell));
        kept.find_map(|range| Some((range.memory.intersection(claim.memory)?, Owner::Withheld(range.cell))))
    }

    /// True if this change, and no other, ends with this cell: before it grants anything, each unit has confirmed that the
    /// cell's devices reach nothing.
    fn is_destroyed(&self, cell: CellId) -> bool {
        self.scope.has(cell) && self.config.cell(cell).is_ok_and(|cell| cell.doomed)
    }
}
