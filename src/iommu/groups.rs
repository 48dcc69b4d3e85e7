//! Devices that nothing keeps apart: those of a group, and those with a source-id in common, belong to one cell.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::devices::{Assignment, State};
use super::stage::Touched;
use super::{Config, Error, Iommu, Others, Refusal};
use crate::addr::Requester;
use crate::hal::Hal;
use crate::topology::{Isolation, MAX_REQUESTERS};

impl Assignment {
    /// True if requests of the two may carry the same source-id.
    pub(super) fn shares_requester(&self, other: &Self) -> bool {
        self.device.segment() == other.device.segment()
            && self.requesters.iter().any(|requester| other.requesters.contains(requester))
    }
}

/// The requester-ids of a device but those of one that stays: their entries are in use for that.
pub(super) fn own_requesters(assignments: &[Assignment], device: &Assignment) -> Vec<Requester, MAX_REQUESTERS> {
    let stays = |other: &&Assignment| {
        other.state == State::Staying
            && other.device != device.device
            && other.device.segment() == device.device.segment()
    };
    let others = || assignments.iter().filter(stays);
    let is_own = |requester: &&Requester| !others().any(|other| other.requesters.contains(requester));
    let mut own = Vec::new();
    for &requester in device.requesters.iter().filter(is_own) {
        let _ = own.push(requester);
    }
    own
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Fails if a change would have devices in different cells that nothing keeps apart.
    pub(super) fn check_groups(
        &self,
        config: &Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<(), Error> {
        for own in config.assignments.iter().filter(|own| own.arrives(touched) || own.leaves(touched)) {
            let refused = |reason| Err(Error::Refused { device: own.device, reason });
            let others =
                || config.assignments.iter().filter(|other| !other.leaves(touched) && other.device != own.device);
            // One that leaves is blocked before another of its cell arrives, but not before one that stays.
            let splits = |other: &&Assignment| {
                let apart = match own.state {
                    State::Leaving => other.state == State::Staying,
                    _ => other.cell != own.cell || other.fenced,
                };
                apart && other.shares_requester(own)
            };
            if let Some(other) = others().find(splits) {
                return refused(Refusal::SharesRequester(other.device));
            }
            if own.state == State::Leaving {
                continue;
            }
            let group = self.topology.group(&self.hal, own.device);
            if group.isolation() == Isolation::Unknown && !config.cell(own.cell)?.config.allow_unknown_isolation {
                return refused(Refusal::UnknownIsolation);
            }
            let mut elsewhere = Others::default();
            let members = others().filter(|other| other.cell != own.cell && group.contains(other.device));
            members.for_each(|other| elsewhere.add(other.device));
            if elsewhere.count() != 0 {
                return refused(Refusal::SharesGroup(elsewhere));
            }
        }
        Ok(())
    }
}
