//! A DMAR table put together, and what is wrong with its structures together.

use super::builder::{Definition, Range};
use super::numbers::Numbers;
use super::{Role, Scope, Target, Topology, UnitKind};
use crate::addr::{Rights, SourceId};
use crate::firmware::dmar::{self, Atsr, Dmar, Drhd, Flags, Hop, Properties, Rmrr, ScopeKind, Scopes, Structure};
use crate::firmware::{Finding, Flaw, TableError};
use crate::pci::{self, ConfigSpace};

impl Topology<'_> {
    /// Takes in what a DMAR table says.
    pub(super) fn read_dmar(
        &mut self,
        table: &[u8],
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), TableError> {
        let dmar = Dmar::new(table, &mut *report)?;
        dmar.lint(&mut *report);
        let flags = dmar.flags();
        self.set_width(dmar.host_address_width(), 36, report);
        self.interrupt_remapping = flags.contains(Flags::INTR_REMAP);
        self.x2apic_opt_out = flags.contains(Flags::INTR_REMAP | Flags::X2APIC_OPT_OUT);
        self.dma_opt_in = flags.contains(Flags::DMA_CTRL_PLATFORM_OPT_IN);

        let mut declared = Numbers::default();
        let mut has_sidp = false;
        for structure in dmar.sound() {
            match structure {
                Structure::Andd(andd) => declared.insert(andd.number()),
                Structure::Sidp(_) => has_sidp = true,
                _ => {}
            }
        }
        let mut served = Numbers::default();
        for structure in dmar.sound() {
            if let Structure::Drhd(drhd) = structure {
                self.add_drhd(&drhd, &declared, &mut served, config, report)?;
            }
        }
        for structure in dmar.sound() {
            match structure {
                Structure::Rmrr(rmrr) => self.add_rmrr(&rmrr, config, report),
                Structure::Atsr(atsr) => self.add_atsr(&atsr, config, report),
                Structure::Rhsa(rhsa) => {
                    match self.units.iter_mut().find(|unit| unit.window.base.as_u64() == rhsa.base()) {
                        Some(unit) => unit.proximity = Some(rhsa.proximity()),
                        None => report(Finding::new(rhsa.offset(), Flaw::AffinityOfNoUnit { base: rhsa.base() })),
                    }
                }
                Structure::Andd(andd) if !served.contains(andd.number()) => {
                    report(Finding::new(andd.offset(), Flaw::DeclaredForNobody { number: andd.number() }));
                }
                // Section 8.9: who uses SIDP must ignore SATC.
                Structure::Satc(satc) if !has_sidp => {
                    self.check_segment("SATC", satc.segment(), satc.offset(), report);
                    let required = if satc.required() { Properties::ATC_REQUIRED } else { Properties::empty() };
                    let role = Role::Properties(Properties::ATC_HARDENED | required);
                    self.add_scopes(satc.segment(), satc.scopes(), |_| role, config, report);
                }
                Structure::Sidp(sidp) => {
                    self.check_segment("SIDP", sidp.segment(), sidp.offset(), report);
                    let role = |scope: &dmar::DeviceScope<'_>| Role::Properties(scope.properties());
                    self.add_scopes(sidp.segment(), sidp.scopes(), role, config, report);
                }
                _ => {}
            }
        }
        if !self.interrupt_remapping && self.has_ioapic() {
            report(Finding::new(37, Flaw::IoApicWithoutRemapping));
        }
        self.check_units(report);
        self.check_whole(dmar.structures_offset(), report)
    }

    /// Reports what is missing at units: affinity, and a unit for all the rest.
    fn check_units(&self, report: &mut dyn FnMut(Finding)) {
        let has_affinity = self.units.iter().any(|unit| unit.proximity.is_some());
        for unit in &self.units {
            let base = unit.window.base.as_u64();
            if has_affinity && unit.proximity.is_none() {
                report(Finding::new(unit.offset, Flaw::NoAffinity { base }));
            }
            let first = self.units.iter().find(|other| other.segment == unit.segment);
            if first.is_some_and(|first| core::ptr::eq(first, unit)) && self.include_all(unit.segment).is_none() {
                report(Finding::new(unit.offset, Flaw::NoIncludeAll { segment: unit.segment }));
            }
        }
    }

    fn add_drhd(
        &mut self,
        drhd: &Drhd<'_>,
        declared: &Numbers,
        served: &mut Numbers,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), TableError> {
        let (base, bytes, segment, offset) = (drhd.base(), drhd.bytes(), drhd.segment(), drhd.offset());
        if let Some(rest) = self.include_all(segment)
            && !drhd.include_all()
        {
            report(Finding::new(offset, Flaw::IncludeAllNotLast { base: self.base_of(rest) }));
        }
        let role = self.add_unit(Definition { base, bytes, segment, offset, kind: UnitKind::VtD }, report)?;
        if !drhd.include_all() && drhd.scopes().next().is_none() {
            report(Finding::new(offset, Flaw::ServesNobody { base }));
        }
        for scope in drhd.scopes().sound() {
            let Some((source, target)) = resolve(config, segment, &scope, report) else { continue };
            if let Target::Acpi(number) = target {
                served.insert(number);
                if !declared.contains(number) {
                    report(Finding::new(scope.offset(), Flaw::Undeclared { number }));
                }
            }
            self.add_served(Scope { source, target, role, offset: scope.offset() }, config, report);
        }
        if drhd.include_all() {
            self.add_include_all(role, segment, (base, offset), config, report);
        }
        Ok(())
    }

    fn add_rmrr(&mut self, rmrr: &Rmrr<'_>, config: &impl ConfigSpace, report: &mut dyn FnMut(Finding)) {
        if rmrr.scopes().sound().next().is_none() {
            return;
        }
        self.check_segment("RMRR", rmrr.segment(), rmrr.offset(), report);
        // Section 3.16: with read and write permissions.
        let rights = Rights::READ | Rights::WRITE;
        let range = Range { base: rmrr.base(), limit: rmrr.limit(), rights, offset: rmrr.offset() };
        let role = self.add_reserved(range, report);
        self.add_scopes(rmrr.segment(), rmrr.scopes(), |_| role, config, report);
    }

    fn add_atsr(&mut self, atsr: &Atsr<'_>, config: &impl ConfigSpace, report: &mut dyn FnMut(Finding)) {
        let (segment, offset) = (atsr.segment(), atsr.offset());
        self.check_segment("ATSR", segment, offset, report);
        if atsr.all_ports() {
            let source = SourceId::from_requester(segment, 0);
            self.add_scope(Scope { source, target: Target::Segment, role: Role::AtsPort, offset }, config, report);
        } else {
            self.add_scopes(segment, atsr.scopes(), |_| Role::AtsPort, config, report);
        }
    }

    fn add_scopes(
        &mut self,
        segment: u16,
        scopes: Scopes<'_>,
        role: impl Fn(&dmar::DeviceScope<'_>) -> Role,
        config: &impl ConfigSpace,
        report: &mut dyn FnMut(Finding),
    ) {
        for scope in scopes.sound() {
            if let Some((source, target)) = resolve(config, segment, &scope, report) {
                self.add_scope(Scope { source, target, role: role(&scope), offset: scope.offset() }, config, report);
            }
        }
    }
}

/// Walks a scope's path (section 8.3.1).
fn resolve(
    config: &impl ConfigSpace,
    segment: u16,
    scope: &dmar::DeviceScope<'_>,
    report: &mut dyn FnMut(Finding),
) -> Option<(SourceId, Target)> {
    let id = scope.enumeration_id();
    let target = match scope.kind() {
        ScopeKind::Endpoint => Target::Function,
        ScopeKind::Subtree => Target::Subtree,
        ScopeKind::IoApic => Target::IoApic(id),
        ScopeKind::Hpet => Target::Hpet(id),
        ScopeKind::Acpi => Target::Acpi(id),
        ScopeKind::Unknown(_) => return None,
    };
    let mut hops = scope.path().iter();
    let mut at = follow(segment, scope.start_bus(), hops.next()?);
    for hop in hops {
        let Ok(bridge) = at else { break };
        at = match pci::bridge(config, bridge) {
            Some(found) => follow(segment, found.secondary, hop),
            None if pci::is_there(config, bridge) => Err(Flaw::PathThroughNoBridge { at: bridge }),
            None => Err(Flaw::PathThroughNothing { at: bridge }),
        };
    }
    let source = match at {
        Ok(source) => source,
        Err(flaw) => {
            report(Finding::new(scope.offset(), flaw));
            return None;
        }
    };
    let mismatch = match target {
        Target::Function if pci::is_there(config, source) && pci::is_bridge(config, source) => {
            Some(Flaw::EndpointIsBridge { at: source })
        }
        Target::Subtree if pci::is_there(config, source) && !pci::is_any_bridge(config, source) => {
            Some(Flaw::BridgeIsEndpoint { at: source })
        }
        _ => None,
    };
    if let Some(flaw) = mismatch {
        report(Finding::new(scope.offset(), flaw));
    }
    Some((source, target))
}

/// The function that one hop leads to.
fn follow(segment: u16, bus: u8, hop: &Hop) -> Result<SourceId, Flaw> {
    SourceId::new(segment, bus, hop.device, hop.function).ok_or(Flaw::BadHop { hop: *hop })
}
