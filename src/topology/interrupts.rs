//! IOAPICs and HPETs: who serves them, and how their scopes fit each other and the tables that have them, too.

use super::{Role, Scope, Target, Topology, UnitIndex, UnitKind};
use crate::addr::SourceId;
use crate::firmware::dmar::ScopeKind;
use crate::firmware::{Finding, Flaw};
use crate::pci::{self, Above, ConfigSpace};

impl Topology<'_> {
    /// The unit of an IOAPIC and the source-id of its interrupt requests, by the id that the table has for it.
    pub fn ioapic(&self, id: u8) -> Option<(UnitIndex, SourceId)> {
        self.interrupt_sources(Target::IoApic(id)).next()
    }

    /// The unit of an HPET and the source-ids of its interrupt requests, by its number: some have one for each timer.
    pub fn hpet(&self, number: u8) -> impl Iterator<Item = (UnitIndex, SourceId)> {
        self.interrupt_sources(Target::Hpet(number))
    }

    /// The same for one timer: the source-id of the n-th, if each has one, or else the only one.
    pub(crate) fn hpet_timer(&self, number: u8, timer: u8) -> Option<(UnitIndex, SourceId)> {
        self.hpet(number)
            .nth(timer.into())
            .or_else(|| self.hpet(number).next().filter(|_| self.hpet(number).count() == 1))
    }

    fn interrupt_sources(&self, target: Target) -> impl Iterator<Item = (UnitIndex, SourceId)> {
        self.scopes.iter().filter_map(move |scope| match scope.role {
            Role::Unit(index) if scope.target == target => Some((index, scope.source)),
            _ => None,
        })
    }

    pub(super) fn has_ioapic(&self) -> bool {
        self.scopes.iter().any(|scope| matches!(scope.target, Target::IoApic(_)))
    }

    /// The IOAPICs of the MADT, each with its id there, its unit and the source-id of its interrupt requests.
    ///
    /// Firmware may have one under two ids: where one is left in both tables, they are the same. Any other that no unit
    /// serves comes with `None`, and interrupts cannot be remapped safely ([R56](crate::guide::rules#r56)).
    pub fn match_ioapics<'a>(
        &'a self,
        madt: &'a [u8],
        mut report: impl FnMut(Finding) + 'a,
    ) -> impl Iterator<Item = (u8, Option<(UnitIndex, SourceId)>)> + 'a {
        let unmatched = || {
            self.scopes.iter().filter_map(|scope| match scope.target {
                Target::IoApic(id) if scope.role.is_server() && !madt.contains(&id) => Some((scope.offset, id)),
                _ => None,
            })
        };
        let mut ours = unmatched();
        let mut theirs = madt.iter().filter(|id| self.ioapic(**id).is_none());
        let left = match (ours.next(), ours.next(), theirs.next(), theirs.next()) {
            (Some(ours), None, Some(theirs), None) => Some((ours, *theirs)),
            _ => None,
        };
        if left.is_none() {
            unmatched().for_each(|(offset, id)| report(Finding::new(offset, Flaw::IoApicNotInMadt { id })));
        }
        madt.iter().map(move |&id| {
            let found = match (self.ioapic(id), left) {
                (Some(found), _) => Some(found),
                (None, Some(((offset, ours), theirs))) if theirs == id => {
                    report(Finding::new(offset, Flaw::OtherIoApicId { id: ours, madt: id }));
                    self.ioapic(ours)
                }
                _ => None,
            };
            if found.is_none() {
                report(Finding::new(0, Flaw::IoApicOfNoUnit { id }));
            }
            (id, found)
        })
    }

    /// Reports how the scopes of HPETs misfit the HPET table, which has one alone, with this number; `None` if there is no such
    /// table. Scopes of other numbers are of HPETs that only the ACPI name space has.
    pub fn check_hpet(&self, number: Option<u8>, mut report: impl FnMut(Finding)) {
        let mut scopes = self.scopes.iter().filter_map(|scope| match scope.target {
            Target::Hpet(id) if scope.role.is_server() => Some((scope.offset, id)),
            _ => None,
        });
        match (scopes.next(), number) {
            (Some((offset, id)), None) => report(Finding::new(offset, Flaw::HpetNotInTable { id })),
            (Some((_, id)), Some(number)) if id == number || scopes.any(|(_, id)| id == number) => {}
            (Some((offset, id)), Some(number)) => report(Finding::new(offset, Flaw::OtherHpetNumber { id, number })),
            (None, Some(number)) => report(Finding::new(0, Flaw::HpetOfNoUnit { number })),
            (None, None) => {}
        }
    }

    /// Reports IOAPICs and HPETs whose source-id a device behind a bridge may have, too. Reads configuration space of all
    /// functions on the buses below that of each.
    pub fn check_interrupt_buses(&self, config: &impl ConfigSpace, mut report: impl FnMut(Finding)) {
        for scope in self.scopes.iter().filter(|scope| scope.role.is_server()) {
            let Some((kind, id)) = sender(scope.target) else { continue };
            // Where a function is, it is the IOAPIC itself, or the one that the IOAPIC is in.
            let at = scope.source;
            let mut above = Above::of(at);
            if pci::is_there(config, at) || above.find(config).is_err() {
                continue;
            }
            if let Some(bridge) = above.iter().next().map(|bridge| bridge.function) {
                report(Finding::new(scope.offset, Flaw::SenderBehindBridge { kind, id, at, bridge }));
            }
        }
    }

    /// Reports what is wrong with the source-id of an IOAPIC or an HPET by what is known of others.
    pub(super) fn check_sender(&self, scope: &Scope, report: &mut dyn FnMut(Finding)) {
        let Some((kind, id)) = sender(scope.target) else { return };
        if scope.source.requester() == 0 {
            report(Finding::new(scope.offset, Flaw::NoRequesterId { kind, id }));
        }
        // AMD's chips have an IOAPIC and an HPET in one function.
        let are_one = self.units.iter().any(|unit| matches!(unit.kind, UnitKind::AmdVi(_)));
        let mut others = self.scopes.iter().filter(|other| other.role.is_server() && other.source == scope.source);
        let is_other = |of: &(ScopeKind, u8)| *of != (kind, id) && (of.0 == kind || !are_one);
        if let Some((other, other_id)) = others.find_map(|other| sender(other.target).filter(is_other)) {
            report(Finding::new(scope.offset, Flaw::SharedRequesterId { kind, id, other, other_id, at: scope.source }));
        }
    }
}

/// What a scope names that sends interrupts and is no PCI function.
fn sender(target: Target) -> Option<(ScopeKind, u8)> {
    match target {
        Target::IoApic(id) => Some((ScopeKind::IoApic, id)),
        Target::Hpet(number) => Some((ScopeKind::Hpet, number)),
        _ => None,
    }
}
