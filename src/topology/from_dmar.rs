//! A DMAR table put together, and what is wrong with its structures together.

use heapless::Vec;

use super::config_space::{self, ConfigSpace, Function};
use super::{ReservedMemory, Role, Scope, Target, Topology, UnitInfo};
use crate::addr::{Iova, PAGE_BYTES, PhysAddr, Region, Rights, SourceId, is_page_aligned};
use crate::firmware::dmar::{self, Dmar, Drhd, Properties, Rmrr, ScopeKind, Structure};
use crate::firmware::{Error, Finding, Flaw};
use crate::hal::Window;
use crate::limits::Full;

/// First and last address of the interrupt range (section 3.15).
const INTERRUPTS: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

impl<const UNITS: usize, const SCOPES: usize, const RESERVED: usize> Topology<UNITS, SCOPES, RESERVED> {
    /// What a DMAR table says. Findings go to `report`, at most a few for each structure; each costs what it names and
    /// no more. A caller that wants to be stricter looks at them ([`Strictness`](crate::firmware::Strictness)).
    ///
    /// `config` is read where a path passes bridges.
    ///
    /// # Errors
    ///
    /// The bytes are no DMAR, describe no unit that can be used, or hold more than the capacities.
    pub fn from_dmar(table: &[u8], config: &impl ConfigSpace, mut report: impl FnMut(Finding)) -> Result<Self, Error> {
        let report: &mut dyn FnMut(Finding) = &mut report;
        let dmar = Dmar::new(table, &mut *report)?;
        dmar.lint(&mut *report);
        let mut topology = Self {
            units: Vec::new(),
            scopes: Vec::new(),
            reserved: Vec::new(),
            host_address_width: address_width(&dmar, report),
            flags: dmar.flags(),
        };
        for structure in dmar.sound() {
            if let Structure::Drhd(drhd) = structure {
                topology.add_drhd(&dmar, &drhd, config, report)?;
            }
        }
        if topology.units.is_empty() {
            return Err(Error::NoUnit { offset: dmar.structures_offset() });
        }
        let has_sidp = dmar.sound().any(|structure| matches!(structure, Structure::Sidp(_)));
        for structure in dmar.sound() {
            topology.add_other(&dmar, &structure, has_sidp, config, report)?;
        }
        if topology.interrupt_remapping()
            && !topology.scopes.iter().any(|scope| matches!(scope.target, Target::IoApic(_)))
        {
            report(Finding::new(37, Flaw::NoIoApic));
        }
        Ok(topology)
    }

    fn add_drhd(
        &mut self,
        dmar: &Dmar<'_>,
        drhd: &Drhd<'_>,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        let (segment, offset) = (drhd.segment(), drhd.offset());
        let role = self.add_unit(drhd, report)?;
        for scope in drhd.scopes().sound() {
            let Some((source, target)) = resolve(config, segment, &scope, report) else { continue };
            if let Target::Acpi(number) = target
                && !declared(dmar, number)
            {
                report(Finding::new(scope.offset(), Flaw::Undeclared { number }));
            }
            if let Some(flaw) = self.second_server(source, target, role, &scope) {
                report(Finding::new(scope.offset(), flaw));
                continue;
            }
            self.add_scope(Scope { source, target, role, offset: scope.offset() })?;
        }
        if let Some(first) = self.unit_of_segment(segment) {
            match (drhd.include_all(), self.base_of(first)) {
                (true, first) => report(Finding::new(offset, Flaw::SecondIncludeAll { base: drhd.base(), first })),
                (false, base) => report(Finding::new(offset, Flaw::IncludeAllNotLast { base })),
            }
        } else if drhd.include_all() {
            let source = SourceId::from_requester(segment, 0);
            self.add_scope(Scope { source, target: Target::Segment, role, offset })?;
            if let Role::Unit(index) = role
                && let Some(unit) = self.units.get_mut(usize::from(index))
            {
                unit.include_all = true;
            }
        }
        Ok(())
    }

    /// The role of what a DRHD serves: a unit, new or known, or one that cannot be used.
    fn add_unit(&mut self, drhd: &Drhd<'_>, report: &mut dyn FnMut(Finding)) -> Result<Role, Error> {
        let (base, bytes, segment, offset) = (drhd.base(), drhd.bytes(), drhd.segment(), drhd.offset());
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
        let window = Window { base: start, bytes };
        let unit = UnitInfo { window, segment, include_all: false, proximity: None, offset };
        if let Some((known, index)) = self.units.iter().zip(0..).find(|(known, _)| known.window.base == start) {
            if *known == (UnitInfo { include_all: known.include_all, offset: known.offset, ..unit }) {
                report(Finding::new(offset, Flaw::DuplicateUnit { base }));
                return Ok(Role::Unit(index));
            }
            report(Finding::new(offset, Flaw::ConflictingUnit { base, segment }));
            return Ok(Role::UnusableUnit);
        }
        for other in self.units.iter().filter(|other| other.overlaps(&unit)) {
            let other = other.window.base.as_u64();
            report(Finding::new(offset, Flaw::OverlappingUnits { base, other }));
        }
        let full = Error::Full { offset, full: Full { what: "units", capacity: UNITS } };
        let index = u16::try_from(self.units.len()).map_err(|_| full)?;
        self.units.push(unit).map_err(|_| full)?;
        Ok(Role::Unit(index))
    }

    /// What is wrong with one more unit that serves `source`.
    fn second_server(&self, source: SourceId, target: Target, role: Role, scope: &dmar::Scope<'_>) -> Option<Flaw> {
        let named = Flaw::NamedTwice { kind: scope.kind(), id: scope.enumeration_id() };
        self.scopes.iter().filter(|known| is_server(known.role)).find_map(|known| match (known.target, target) {
            (Target::IoApic(_) | Target::Hpet(_), _) => (known.target == target).then_some(named),
            (Target::Acpi(_), Target::Acpi(_)) if known.target == target => Some(named),
            (Target::Segment, _) | (_, Target::IoApic(_) | Target::Hpet(_)) => None,
            // ACPI devices may share a source-id, even with a PCI function, but not between units.
            _ if known.source != source || known.role == role => None,
            _ => Some(Flaw::ServedTwice { device: source }),
        })
    }

    fn unit_of_segment(&self, segment: u16) -> Option<Role> {
        let mut scopes = self.scopes.iter().filter(|scope| is_server(scope.role) && scope.target == Target::Segment);
        scopes.find(|scope| scope.source.segment() == segment).map(|scope| scope.role)
    }

    fn base_of(&self, role: Role) -> u64 {
        match role {
            Role::Unit(index) => self.units.get(usize::from(index)).map_or(0, |unit| unit.window.base.as_u64()),
            _ => 0,
        }
    }

    fn add_other(
        &mut self,
        dmar: &Dmar<'_>,
        structure: &Structure<'_>,
        has_sidp: bool,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        let _ = dmar;
        match structure {
            Structure::Rmrr(rmrr) => self.add_rmrr(rmrr, config, report),
            Structure::Atsr(atsr) => {
                self.check_segment("ATSR", atsr.segment(), atsr.offset(), report);
                if atsr.all_ports() {
                    let source = SourceId::from_requester(atsr.segment(), 0);
                    self.add_scope(Scope {
                        source,
                        target: Target::Segment,
                        role: Role::AtsPort,
                        offset: atsr.offset(),
                    })?;
                }
                self.add_scopes(atsr.segment(), atsr.scopes(), |_| Role::AtsPort, config, report)
            }
            Structure::Rhsa(rhsa) => {
                match self.units.iter_mut().find(|unit| unit.window.base.as_u64() == rhsa.base()) {
                    Some(unit) => unit.proximity = Some(rhsa.proximity()),
                    None => report(Finding::new(rhsa.offset(), Flaw::AffinityOfNoUnit { base: rhsa.base() })),
                }
                Ok(())
            }
            Structure::Andd(andd) => {
                let number = andd.number();
                if !self.scopes.iter().any(|scope| scope.target == Target::Acpi(number)) {
                    report(Finding::new(andd.offset(), Flaw::DeclaredForNobody { number }));
                }
                Ok(())
            }
            // Section 8.9: who uses SIDP must ignore SATC.
            Structure::Satc(satc) if !has_sidp => {
                self.check_segment("SATC", satc.segment(), satc.offset(), report);
                let required = if satc.required() { Properties::ATC_REQUIRED } else { Properties::empty() };
                let role = Role::Properties(Properties::ATC_HARDENED | required);
                self.add_scopes(satc.segment(), satc.scopes(), |_| role, config, report)
            }
            Structure::Sidp(sidp) => {
                self.check_segment("SIDP", sidp.segment(), sidp.offset(), report);
                let role = |scope: &dmar::Scope<'_>| Role::Properties(scope.properties());
                self.add_scopes(sidp.segment(), sidp.scopes(), role, config, report)
            }
            Structure::Drhd(_) | Structure::Satc(_) | Structure::Unknown { .. } => Ok(()),
        }
    }

    fn add_rmrr(
        &mut self,
        rmrr: &Rmrr<'_>,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        let (base, limit, offset) = (rmrr.base(), rmrr.limit(), rmrr.offset());
        self.check_segment("RMRR", rmrr.segment(), offset, report);
        if limit <= base {
            report(Finding::new(offset, Flaw::ReversedRange { base, limit }));
            return Ok(());
        }
        if !is_page_aligned(base) || !is_page_aligned(limit.wrapping_add(1)) {
            report(Finding::new(offset, Flaw::UnalignedRange { base, limit }));
        }
        let (first, last) = (base & !(PAGE_BYTES - 1), limit | (PAGE_BYTES - 1));
        let reaches_interrupts = first <= INTERRUPTS.1 && INTERRUPTS.0 <= last;
        if reaches_interrupts || last >> self.host_address_width != 0 {
            report(Finding::new(offset, Flaw::UnmappableRange { base, limit }));
        }
        if rmrr.scopes().sound().next().is_none() {
            return Ok(());
        }
        let read_write = Rights::READ | Rights::WRITE;
        let bytes = (last - first).saturating_add(1);
        let Some(region) = Region::new(Iova::new(first), PhysAddr::new_truncate(first), bytes, read_write) else {
            return Ok(());
        };
        if self.reserved.iter().any(|known| known.region.input.overlaps(region.input)) {
            report(Finding::new(offset, Flaw::OverlappingRange { base, limit }));
        }
        let full = Error::Full { offset, full: Full { what: "reserved memory", capacity: RESERVED } };
        let index = u16::try_from(self.reserved.len()).map_err(|_| full)?;
        self.reserved.push(ReservedMemory { region, offset }).map_err(|_| full)?;
        self.add_scopes(rmrr.segment(), rmrr.scopes(), |_| Role::Reserved(index), config, report)
    }

    fn add_scopes(
        &mut self,
        segment: u16,
        scopes: dmar::Scopes<'_>,
        role: impl Fn(&dmar::Scope<'_>) -> Role,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        for scope in scopes.sound() {
            if let Some((source, target)) = resolve(config, segment, &scope, report) {
                self.add_scope(Scope { source, target, role: role(&scope), offset: scope.offset() })?;
            }
        }
        Ok(())
    }

    fn add_scope(&mut self, scope: Scope) -> Result<(), Error> {
        let full = Full { what: "device scopes", capacity: SCOPES };
        self.scopes.push(scope).map_err(|scope| Error::Full { offset: scope.offset, full })
    }

    fn check_segment(&self, structure: &'static str, segment: u16, offset: u32, report: &mut dyn FnMut(Finding)) {
        if !self.scopes.iter().any(|scope| is_server(scope.role) && scope.source.segment() == segment)
            && !self.units.iter().any(|unit| unit.segment == segment)
        {
            report(Finding::new(offset, Flaw::SegmentWithoutUnit { structure, segment }));
        }
    }
}

fn is_server(role: Role) -> bool {
    matches!(role, Role::Unit(_) | Role::UnusableUnit)
}

fn declared(dmar: &Dmar<'_>, number: u8) -> bool {
    dmar.sound().any(|structure| matches!(structure, Structure::Andd(andd) if andd.number() == number))
}

/// The width, if it is one that an x86 machine can have; else the widest of those.
fn address_width(dmar: &Dmar<'_>, report: &mut dyn FnMut(Finding)) -> u8 {
    match u8::try_from(dmar.host_address_width()) {
        Ok(bits @ 32..=52) => bits,
        _ => {
            report(Finding::new(36, Flaw::AddressWidth { bits: dmar.host_address_width() }));
            52
        }
    }
}

/// Walks a scope's path (section 8.3.1). The path is as long as firmware made it; each hop reads a few registers.
fn resolve(
    config: &impl ConfigSpace,
    segment: u16,
    scope: &dmar::Scope<'_>,
    report: &mut dyn FnMut(Finding),
) -> Option<(SourceId, Target)> {
    let target = match scope.kind() {
        ScopeKind::Endpoint => Target::Function,
        ScopeKind::Subtree => Target::Subtree,
        ScopeKind::IoApic => Target::IoApic(scope.enumeration_id()),
        ScopeKind::Hpet => Target::Hpet(scope.enumeration_id()),
        ScopeKind::Acpi => Target::Acpi(scope.enumeration_id()),
        ScopeKind::Unknown(_) => return None,
    };
    let mut bus = scope.start_bus();
    let mut at: Option<SourceId> = None;
    for hop in scope.path() {
        if let Some(bridge) = at {
            match config_space::look(config, bridge) {
                Function::Bridge(found) => bus = found.secondary,
                Function::Absent => {
                    report(Finding::new(scope.offset(), Flaw::PathThroughNothing { at: bridge }));
                    return None;
                }
                Function::Plain => {
                    report(Finding::new(scope.offset(), Flaw::PathThroughNoBridge { at: bridge }));
                    return None;
                }
            }
        }
        at = SourceId::new(segment, bus, hop.device, hop.function);
        if at.is_none() {
            report(Finding::new(scope.offset(), Flaw::BadHop { hop: *hop }));
            return None;
        }
    }
    at.map(|source| (source, target))
}
