#![forbid(unsafe_code)]

use heapless::Vec;

use super::{CellSet, Held};
use crate::addr::{Requester, SourceId};
use crate::cell::CellId;
use crate::contract::DomainId;
use crate::domain::Domain;
use crate::hal::Hal;
use crate::invalidation::DeviceTlb;
use crate::pci::{self, Ats, Reset};
use crate::topology::{Group, MAX_REQUESTERS, UnitIndex};

/// Where a device is in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::iommu) enum Stay {
    /// It has its cell, before and after.
    Staying,
    /// It is going to have its cell: listed before its entry is live, so that no flush misses it (R44).
    Arriving,
    /// It has its cell until its entry is gone and flushed (R44).
    Leaving,
}

/// A device that belongs to a cell.
#[derive(Clone, Debug)]
pub(in crate::iommu) struct Assignment {
    pub(in crate::iommu) device: SourceId,
    pub(in crate::iommu) cell: CellId,
    /// The unit that serves it.
    pub(in crate::iommu) unit: UnitIndex,
    /// The id of the domain that it uses, one of its cell's. `None` until one is chosen, in the change by which it arrives.
    pub(in crate::iommu) domain: Option<DomainId>,
    /// Every requester-id that its requests may carry.
    pub(in crate::iommu) requesters: Vec<Requester, MAX_REQUESTERS>,
    /// What kind of device it was when it arrived, if it said so.
    pub(in crate::iommu) identity: Option<[u32; 2]>,
    /// The bridge right above it then, if there was one.
    pub(in crate::iommu) port: Option<SourceId>,
    /// What nothing kept apart from it when it arrived.
    pub(in crate::iommu) group: Group,
    /// The reserved memory that it is to reach in its cell: bit n for the n-th of the topology.
    pub(in crate::iommu) reserved: u64,
    /// It is to have a device-TLB.
    pub(in crate::iommu) ats: Option<Ats>,
    /// The slots of its messages, if it has any.
    pub(in crate::iommu) interrupts: Option<Held>,
    /// It is blocked, and its device-TLB is asked nothing until it is to leave (R21): it did not answer an invalidation, or
    /// it was to leave, and did not come to rest, was not reset, or its unit failed.
    pub(in crate::iommu) quarantined: bool,
    /// The windows of bridges that its requests do not pass: one bit for each that is noted.
    pub(in crate::iommu) windows: u64,
    /// Its reset, until that is over: while it is waited for, and in quarantine.
    pub(in crate::iommu) reset: Option<Reset>,
    pub(in crate::iommu) stay: Stay,
}

impl Assignment {
    /// True if this is the domain that it uses.
    #[inline]
    pub(in crate::iommu) fn uses(&self, domain: &Domain) -> bool {
        self.domain == Some(domain.id) && self.cell.generation == domain.owner
    }

    /// True if another kind of device answers in its place now.
    pub(in crate::iommu) fn is_another(&self, hal: &impl Hal) -> bool {
        self.identity.zip(pci::identity(hal, self.device)).is_some_and(|(noted, now)| noted != now)
    }

    /// Forgets its device-TLB if that is gone with its device. One that is still reset is silent, too, and there. Another device in its
    /// place may have filled its own.
    #[inline(never)]
    pub(in crate::iommu) fn look_for_device_tlb(&mut self, hal: &impl Hal) {
        let is_gone = match self.reset {
            None => pci::is_gone(hal, self.device),
            Some(_) => pci::is_unplugged(hal, self.device, self.port),
        };
        if is_gone {
            self.ats = None;
        } else if self.is_another(hal) {
            self.ats = Ats::of(hal, self.device);
        }
    }

    /// Its device-TLB, if what that has cached is of use to it.
    pub(in crate::iommu) fn device_tlb(&self) -> Option<DeviceTlb> {
        self.ats.as_ref().filter(|_| !self.quarantined).map(DeviceTlb::of)
    }

    /// True if the device gets its cell by a change of these cells.
    pub(in crate::iommu) fn arrives(&self, scope: CellSet) -> bool {
        self.stay == Stay::Arriving && scope.has(self.cell)
    }

    /// True if the device loses its cell by a change of these cells.
    pub(in crate::iommu) fn leaves(&self, scope: CellSet) -> bool {
        self.stay == Stay::Leaving && scope.has(self.cell)
    }

    /// True unless the device arrives or leaves by a change of other cells, which flushes its device-TLB itself.
    pub(in crate::iommu) fn is_flushed_by(&self, scope: CellSet) -> bool {
        self.stay == Stay::Staying || scope.has(self.cell)
    }

    /// True if requests of the two may carry the same source-id.
    pub(in crate::iommu) fn shares_requester(&self, other: &Self) -> bool {
        self.device.segment() == other.device.segment() && self.carries_any(&other.requesters)
    }

    /// True if its requests may carry one of these ids of its segment.
    pub(in crate::iommu) fn carries_any(&self, requesters: &[Requester]) -> bool {
        self.requesters.iter().any(|requester| requesters.contains(requester))
    }

    /// The requester-ids of the device but those of one that stays: their entries are in use for that.
    pub(in crate::iommu) fn own_requesters(&self, devices: &[Self]) -> Vec<Requester, MAX_REQUESTERS> {
        let stays = |other: &&Self| {
            other.stay == Stay::Staying
                && other.device != self.device
                && other.device.segment() == self.device.segment()
        };
        let is_own =
            |requester: &&Requester| !devices.iter().filter(stays).any(|other| other.requesters.contains(requester));
        let mut own = Vec::new();
        for &requester in self.requesters.iter().filter(is_own) {
            let _ = own.push(requester);
        }
        own
    }
}
