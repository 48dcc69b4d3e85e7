//! Ports that lose Access Control Services, and have them again: whom devices reach then without a unit.

use std::collections::BTreeSet;

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal as _;
use cofferdam::iommu::Difference;

use crate::express;
use crate::history::History;
use crate::plug;

/// Capability and Control, where the model has them.
const REGISTERS: u16 = 0x184;

impl History<'_> {
    /// Some ports lose what isolates devices, as by a reset, or all of them have it again.
    pub(crate) fn open_or_isolate(&mut self) {
        if !self.oracle.peers.is_empty() && self.random.one_in(2) {
            return self.isolate();
        }
        self.done.steps += 1;
        let ports: Vec<_> = express::PORTS.into_iter().filter(|_| self.random.one_in(2)).collect();
        for port in &ports {
            self.machine.set_config(*port, REGISTERS, self.machine.config_read(*port, REGISTERS) & 0xffff);
        }
        self.look_at_peers();
        self.done.ports_open += u64::from(!ports.is_empty());
        self.done.exposed += u64::from(!self.exposed().is_empty());
        self.tell(format_args!("ports lose control: {ports:?}, exposed: {:?}", self.exposed()));
        self.check_exposed();
    }

    pub(crate) fn isolate(&mut self) {
        self.done.steps += 1;
        let result = self.iommu.isolate();
        self.tell(format_args!("isolate: {result:?}"));
        self.others_are_blocked(result, false);
        self.look_at_peers();
        assert!(self.oracle.peers.is_empty(), "these reach each other: {:?}", self.oracle.peers);
        self.oracle.devices.iter_mut().for_each(|device| device.noted.clear());
        self.check_exposed();
    }

    /// Which devices reach each other without a unit, as the machine is now.
    pub(crate) fn look_at_peers(&mut self) {
        let mut peers = BTreeSet::new();
        let express = || self.oracle.devices.iter().enumerate().filter(|(_, device)| express::is_express(device.id));
        for (one, own) in express() {
            for (other, theirs) in express().filter(|(other, _)| *other != one) {
                if self.machine.reaches(own.id, theirs.id) {
                    peers.extend([(one, other), (other, one)]);
                }
            }
        }
        self.oracle.peers = peers;
    }

    /// What the audit has to say of that: each of two cells' devices that reach each other.
    fn exposed(&self) -> Vec<Difference> {
        let mut all = Vec::new();
        for &(one, other) in &self.oracle.peers {
            let [own, theirs] = [one, other].map(|index| &self.oracle.devices[index]);
            if let (Some(cell), Some(owner)) = (own.cell, theirs.cell)
                && cell != owner
            {
                let [cell, owner] = [cell, owner].map(|slot| self.oracle.cell(slot).id);
                all.push(Difference::NotIsolated { source: own.id, cell, other: theirs.id, owner });
            }
        }
        all
    }

    pub(crate) fn is_exposed(&self) -> bool {
        !self.exposed().is_empty()
    }

    /// Fails unless the audit names those, and of no others, and those in whose place others answer.
    pub(crate) fn check_exposed(&self) {
        let mut all = Vec::new();
        self.iommu.audit(|difference| all.push(difference)).unwrap();
        let (told, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_isolation);
        self.compare_exposed(&told);
        let others: Vec<_> = others.into_iter().filter(plug::is_about_another).collect();
        self.compare_others(&others);
    }

    pub(crate) fn compare_exposed(&self, told: &[Difference]) {
        let exposed = self.exposed();
        let (told, lost): (Vec<_>, Vec<_>) = told.iter().partition(|it| matches!(it, Difference::NotIsolated { .. }));
        self.compare_lost(&lost, &exposed);
        let fits = told.len() == exposed.len() && exposed.iter().all(|one| told.contains(one));
        assert!(fits, "the audit tells that {told:?}, and these reach each other: {exposed:?}");
    }

    /// Fails unless the audit tells of each device that reaches more than was noted, but none of another cell; and of none while
    /// all ports isolate.
    fn compare_lost(&self, lost: &[Difference], exposed: &[Difference]) {
        let is_open = |port: &SourceId| self.machine.config_read(*port, REGISTERS) >> 16 == 0;
        assert!(
            lost.is_empty() || express::PORTS.iter().any(is_open),
            "the audit tells that {lost:?}, and ports isolate"
        );
        for (index, device) in self.oracle.devices.iter().enumerate() {
            let Some(slot) = device.cell else { continue };
            let expected = Difference::LostIsolation { source: device.id, cell: self.oracle.cell(slot).id };
            let is_exposed =
                exposed.iter().any(|it| matches!(it, Difference::NotIsolated { source, .. } if *source == device.id));
            let reaches_more = !self.oracle.peers_of(index).is_subset(&device.noted);
            assert!(is_exposed || !reaches_more || lost.contains(&expected), "the audit does not tell: {expected}");
            assert!(!is_exposed || !lost.contains(&expected), "the audit tells twice: {expected}");
        }
    }
}

/// True of what an audit tells of isolation.
pub(crate) fn is_isolation(difference: &Difference) -> bool {
    matches!(difference, Difference::NotIsolated { .. } | Difference::LostIsolation { .. })
}
