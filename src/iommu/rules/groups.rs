//! Devices that nothing keeps apart: those of a group, and those with a source-id in common, belong to one cell.
#![forbid(unsafe_code)]

use crate::iommu::error::{Error, Others, Refusal};
use crate::iommu::state::{Assignment, CellSet, Config, Stay};
use crate::topology::Isolation;

/// Fails if a change would have devices in different cells that nothing keeps apart.
#[inline(never)]
pub(in crate::iommu) fn check(config: &Config<'_>, scope: CellSet) -> Result<(), Error> {
    for own in config.devices.iter().filter(|own| own.arrives(scope) || own.leaves(scope)) {
        let refused = |reason| Err(Error::Refused { device: own.device, reason });
        let others = || config.devices.iter().filter(|other| !other.leaves(scope) && other.device != own.device);
        // One that leaves is blocked before another of its cell arrives, but not before one that stays.
        let splits = |other: &&Assignment| {
            let apart = match own.stay {
                Stay::Leaving => other.stay == Stay::Staying,
                _ => other.cell != own.cell || other.quarantined,
            };
            apart && other.shares_requester(own)
        };
        if let Some(other) = others().find(splits) {
            return refused(Refusal::SharesRequester(other.device));
        }
        if own.stay == Stay::Leaving {
            continue;
        }
        let group = &own.group;
        if group.isolation() == Isolation::Unknown && !config.cell(own.cell)?.config.allow_unknown_isolation {
            return refused(Refusal::UnknownIsolation);
        }
        let mut elsewhere = Others::default();
        // Either may have been looked at when the other was not there yet.
        let is_member = |other: &Assignment| group.contains(other.device) || other.group.contains(own.device);
        let may_share = |other: &Assignment| other.cell == own.cell || config.may_share_group(own.cell, other.cell);
        let members = others().filter(|other| !may_share(other) && is_member(other));
        members.for_each(|other| elsewhere.add(other.device));
        if elsewhere.count() != 0 {
            return refused(Refusal::SharesGroup(elsewhere));
        }
    }
    Ok(())
}
