//! What both tables need: units, scopes and reserved memory taken in one by one, each checked against those before.

use super::numbers::Numbers;
use super::{ReservedMemory, Role, Scope, Target, Topology, UnitIndex, UnitInfo, UnitKind};
use crate::addr::{Iova, PAGE_BYTES, PhysAddr, Region, Rights, SourceId, is_page_aligned, meets_interrupts};
use crate::firmware::dmar::ScopeKind;
use crate::firmware::{Finding, Flaw, TableError};
use crate::hal::RegisterWindow;
use crate::limits::Full;
use crate::pci::{self, ConfigSpace};

/// Bits of a physical address that x86 machines can have.
const WIDEST: u8 = 52;

/// A unit as a structure of the table defines it.
pub(super) struct Definition {
    pub(super) base: u64,
    pub(super) bytes: u32,
    pub(super) segment: u16,
    pub(super) offset: u32,
    pub(super) kind: UnitKind,
}

/// Reserved memory as a structure of the table defines it; both addresses belong to it.
pub(super) struct Range {
    pub(super) base: u64,
    pub(super) limit: u64,
    pub(super) rights: Rights,
    pub(super) offset: u32,
}

impl Topology<'_> {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.units.clear();
        self.scopes.clear();
        self.reserved.clear();
        (self.lost_units, self.lost_scopes, self.lost_buses) = (false, false, Numbers::NONE);
        self.host_address_width = 0;
        (self.interrupt_remapping, self.x2apic_opt_out, self.dma_opt_in) = (false, false, false);
    }

    /// A width that no x86 machine has is taken for the widest.
    pub(super) fn set_width(&mut self, host_address_width: u16, offset: u32, report: &mut dyn FnMut(Finding)) {
        let width = u8::try_from(host_address_width).ok().filter(|bits| (32..=WIDEST).contains(bits));
        if width.is_none() {
            report(Finding::new(offset, Flaw::AddressWidth { bits: host_address_width }));
        }
        self.host_address_width = width.unwrap_or(WIDEST);
    }

    /// Takes a unit in. The role of what it serves: a unit, new or known, or one that cannot be used.
    pub(super) fn add_unit(&mut self, unit: Definition, report: &mut dyn FnMut(Finding)) -> Result<Role, TableError> {
        let Definition { base, bytes, segment, offset, kind } = unit;
        if base == 0 {
            report(Finding::new(offset, Flaw::NoBase));
            return Ok(Role::UnusableUnit);
        }
        let end = base.checked_add(u64::from(bytes) - 1).and_then(|last| PhysAddr::try_new(last).ok());
        let (Some(_), Ok(start), true) = (end, PhysAddr::try_new(base), is_page_aligned(base)) else {
            report(Finding::new(offset, Flaw::BadBase { base }));
            return Ok(Role::UnusableUnit);
        };
        if !base.is_multiple_of(u64::from(bytes)) {
            report(Finding::new(offset, Flaw::UnalignedWindow { base, bytes }));
        }
        let window = RegisterWindow { base: start, bytes };
        let mut known = self.units.iter().zip(UnitIndex::all());
        if let Some((known, index)) = known.find(|(known, _)| known.window.base == start) {
            if known.window == window && known.segment == segment && known.kind == kind {
                report(Finding::new(offset, Flaw::DuplicateUnit { base }));
                return Ok(Role::Unit(index));
            }
            report(Finding::new(offset, Flaw::ConflictingUnit { base, segment }));
            return Ok(Role::UnusableUnit);
        }
        let unit = UnitInfo { window, segment, include_all: false, proximity: None, kind, offset };
        for other in self.units.iter().filter(|other| other.overlaps(&unit)) {
            let other = other.window.base.as_u64();
            report(Finding::new(offset, Flaw::OverlappingUnits { base, other }));
        }
        // Not lost alone: all that it serves would stay free.
        let full = TableError::Full { offset, full: Full { what: "units", capacity: self.units.capacity() } };
        let index = u16::try_from(self.units.len()).ok().filter(|index| *index < UnitIndex::END).ok_or(full)?;
        self.units.push(unit).map_err(|_| full)?;
        Ok(Role::Unit(UnitIndex::new(index)))
    }

    /// Takes in that a unit serves a device, unless another does already: the first counts.
    pub(super) fn add_served(&mut self, scope: Scope, config: &impl ConfigSpace, report: &mut dyn FnMut(Finding)) {
        let flaw = self.scopes.iter().filter(|known| known.role.is_server()).find_map(|known| clash(known, &scope));
        if let Some(flaw) = flaw {
            report(Finding::new(scope.offset, flaw));
        }
        match flaw {
            Some(Flaw::NamedTwice { .. } | Flaw::ClaimedTwice { .. } | Flaw::ServedTwice { .. }) => {}
            _ => {
                self.check_sender(&scope, report);
                self.add_scope(scope, config, report);
            }
        }
    }

    /// Takes in that a unit serves all of its segment that no other does. The first such unit counts.
    pub(super) fn add_include_all(
        &mut self,
        role: Role,
        segment: u16,
        (base, offset): (u64, u32),
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) {
        if let Some(first) = self.include_all(segment) {
            if first != role {
                report(Finding::new(offset, Flaw::SecondIncludeAll { base, first: self.base_of(first) }));
            }
            return;
        }
        if let Role::Unit(index) = role
            && let Some(unit) = self.units.get_mut(index.get())
        {
            unit.include_all = true;
        }
        let source = SourceId::from_requester(segment, 0);
        self.add_scope(Scope { source, target: Target::Segment, role, offset }, config, report);
    }

    /// The role of what no unit of the segment names.
    pub(super) fn include_all(&self, segment: u16) -> Option<Role> {
        let mut rest = self.scopes.iter().filter(|scope| scope.role.is_server() && scope.target == Target::Segment);
        rest.find(|scope| scope.source.segment() == segment).map(|scope| scope.role)
    }

    /// The register base of a unit, or 0 if it cannot be used.
    pub(super) fn base_of(&self, role: Role) -> u64 {
        match role {
            Role::Unit(index) => self.units.get(index.get()).map_or(0, |unit| unit.window.base.as_u64()),
            _ => 0,
        }
    }

    /// Takes reserved memory in, widened to whole pages. The role of its devices: they use it, or what cannot be honoured.
    pub(super) fn add_reserved(&mut self, range: Range, report: &mut dyn FnMut(Finding)) -> Role {
        let Range { base, limit, rights, offset } = range;
        if limit < base {
            report(Finding::new(offset, Flaw::ReversedRange { base, limit }));
            return Role::LostReserved;
        }
        if limit == base {
            report(Finding::new(offset, Flaw::OneByte { base }));
        } else if !is_page_aligned(base) || !is_page_aligned(limit.wrapping_add(1)) {
            report(Finding::new(offset, Flaw::UnalignedRange { base, limit }));
        }
        let (first, last) = (base & !(PAGE_BYTES - 1), limit | (PAGE_BYTES - 1));
        let is_within = |unit: &&UnitInfo| {
            let (start, bytes) = (unit.window.base.as_u64(), u64::from(unit.window.bytes));
            first < start + bytes && start <= last
        };
        if meets_interrupts(first, last) || last >> self.host_address_width != 0 {
            report(Finding::new(offset, Flaw::UnmappableRange { base, limit }));
        } else if let Some(unit) = self.units.iter().find(is_within) {
            let unit = unit.window.base.as_u64();
            report(Finding::new(offset, Flaw::ReservedRegisters { base, limit, unit }));
            return Role::LostReserved;
        }
        // An address that no CPU has stays what it is as the device sees it, so that mapping it is refused.
        // There is no number for all 2^64; without their last page they cannot be mapped either.
        let bytes = (last - first).checked_add(1).unwrap_or(!(PAGE_BYTES - 1));
        let input = Iova::new(first);
        let Some(region) = Region::new(input, PhysAddr::new_truncate(first), bytes, rights) else {
            return Role::LostReserved;
        };
        if self.reserved.iter().any(|known| known.region.input.overlaps(region.input)) {
            report(Finding::new(offset, Flaw::OverlappingRange { base, limit }));
        }
        let index = u16::try_from(self.reserved.len()).ok();
        let index = index.filter(|_| self.reserved.push(ReservedMemory { region, offset }).is_ok());
        if let Some(index) = index {
            return Role::Reserved(index);
        }
        report(Finding::new(offset, Flaw::NoRoomForRange { base, capacity: self.reserved.capacity() }));
        Role::LostReserved
    }

    /// Takes in what is said of a device. Where there is no room, the buses of the device are remembered instead.
    pub(super) fn add_scope(&mut self, scope: Scope, config: &impl ConfigSpace, report: &mut dyn FnMut(Finding)) {
        if matches!(scope.role, Role::Reserved(_) | Role::LostReserved)
            && matches!(scope.target, Target::Function | Target::Subtree | Target::Acpi(_))
            && self.include_all(scope.source.segment()).is_none()
            && self.units.iter().any(|unit| unit.segment == scope.source.segment())
            && self.server(config, scope.source).is_none()
        {
            report(Finding::new(scope.offset, Flaw::ReservedForUnserved { device: scope.source }));
        }
        if self.scopes.push(scope).is_ok() {
            return;
        }
        if self.lost_buses == Numbers::NONE {
            report(Finding::new(scope.offset, Flaw::NoRoomForScope { capacity: self.scopes.capacity() }));
        }
        let bus = |requester: u16| (requester >> 8) as u8;
        let (first, last) = match scope.target {
            Target::Segment => (0, u8::MAX),
            Target::Range { last } => (scope.source.bus(), bus(last)),
            Target::Subtree => {
                (scope.source.bus(), pci::bridge(config, scope.source).map_or(u8::MAX, |it| it.subordinate))
            }
            _ => (scope.source.bus(), scope.source.bus()),
        };
        (first..=last).for_each(|bus| self.lost_buses.insert(bus));
    }

    /// Reports a structure whose segment has no unit.
    pub(super) fn check_segment(
        &self,
        structure: &'static str,
        segment: u16,
        offset: u32,
        report: &mut dyn FnMut(Finding),
    ) {
        if !self.units.iter().any(|unit| unit.segment == segment) {
            report(Finding::new(offset, Flaw::SegmentWithoutUnit { structure, segment }));
        }
    }

    /// Reports what only the whole table shows.
    pub(super) fn check_whole(&self, offset: u32, report: &mut dyn FnMut(Finding)) -> Result<(), TableError> {
        if self.units.is_empty() {
            return Err(TableError::NoUnit { offset });
        }
        if self.interrupt_remapping && !self.has_ioapic() {
            report(Finding::new(offset, Flaw::NoIoApic));
        }
        Ok(())
    }
}

/// What is wrong with two scopes that say which unit serves a device.
fn clash(known: &Scope, new: &Scope) -> Option<Flaw> {
    let named = |kind, id| {
        Some(if known.role == new.role { Flaw::NamedTwice { kind, id } } else { Flaw::ClaimedTwice { kind, id } })
    };
    match (known.target, new.target) {
        (Target::IoApic(id), Target::IoApic(other)) if id == other => named(ScopeKind::IoApic, id),
        // Each timer of an HPET may have a source-id of its own, but all are at one unit.
        (Target::Hpet(id), Target::Hpet(other)) if id == other && known.role != new.role => named(ScopeKind::Hpet, id),
        (Target::Acpi(id), Target::Acpi(other)) if id == other => named(ScopeKind::Acpi, id),
        (Target::IoApic(_) | Target::Hpet(_) | Target::Segment, _) => None,
        (_, Target::IoApic(_) | Target::Hpet(_) | Target::Segment) => None,
        _ if known.role == new.role || !known.overlaps(new) => None,
        _ if known.named() == new.named() => Some(Flaw::ServedTwice { device: new.source }),
        _ => {
            let (first, last) = new.named();
            Some(Flaw::OverlappingDevices { first, last })
        }
    }
}
