//! Which devices a cell has, and which it may have.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::results::Results;
use super::stage::Touched;
use super::{Config, DeviceConfig, Error, Iommu, Refusal};
use crate::addr::{Region, Requester, SourceId};
use crate::cell::{CellConfig, CellId, Difference, Regions, ResetPolicy, differences, outside, part};
use crate::contract::{DomainId, Features};
use crate::hal::Hal;
use crate::invalidation::DeviceTlb;
use crate::limits::{self, Full};
use crate::pci::{self, Ats, Reset};
use crate::topology::{MAX_REQUESTERS, Requesters};

/// Where a device is in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has its cell, before and after.
    Staying,
    /// It is going to have its cell: listed before its entry is live, so that no flush misses it (R44).
    Arriving,
    /// It has its cell until its entry is gone and flushed (R44).
    Leaving,
}

/// A device that belongs to a cell.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) device: SourceId,
    pub(super) cell: CellId,
    /// Index of the unit that serves it.
    pub(super) unit: usize,
    /// The domain that it uses, one of its cell's. `None` until one is chosen, in the change by which it arrives.
    pub(super) domain: Option<DomainId>,
    /// Every requester-id that its requests may carry.
    pub(super) requesters: Vec<Requester, MAX_REQUESTERS>,
    /// It is to have a device-TLB.
    pub(super) ats: Option<Ats>,
    /// It is blocked, and asked nothing until it is to leave (R21): it did not answer an invalidation of its device-TLB, or
    /// it was to leave, and did not come to rest, was not reset, or its unit failed.
    pub(super) fenced: bool,
    /// The windows of bridges that its requests do not pass: one bit for each that is noted.
    pub(super) windows: u64,
    pub(super) state: State,
}

impl Assignment {
    /// Its device-TLB, if what that has cached is of use to it.
    pub(super) fn device_tlb(&self) -> Option<DeviceTlb> {
        self.ats.as_ref().filter(|_| !self.fenced).map(DeviceTlb::of)
    }

    /// True if the device gets its cell by a change of these cells.
    pub(super) fn arrives<const CELLS: usize>(&self, touched: &Touched<CELLS>) -> bool {
        self.state == State::Arriving && touched.has(self.cell)
    }

    /// True if the device loses its cell by a change of these cells.
    pub(super) fn leaves<const CELLS: usize>(&self, touched: &Touched<CELLS>) -> bool {
        self.state == State::Leaving && touched.has(self.cell)
    }

    /// True unless the device arrives or leaves by a change of other cells, which asks it itself.
    pub(super) fn is_asked_by<const CELLS: usize>(&self, touched: &Touched<CELLS>) -> bool {
        self.state == State::Staying || touched.has(self.cell)
    }

    /// True if the device leaves, and nothing reaches memory in its name any more: its unit has said so, and so has the
    /// device, if it was asked.
    pub(super) fn is_released<const CELLS: usize, const UNITS: usize>(
        &self,
        touched: &Touched<CELLS>,
        results: &Results<UNITS>,
    ) -> bool {
        self.leaves(touched) && !self.fenced && results.is_confirmed(self.unit)
    }
}

/// A domain's attributes have one bit for each.
const _: () = assert!(limits::RESERVED <= 64);

impl<const UNITS: usize, const CELLS: usize, const DEVICES: usize> Config<UNITS, CELLS, DEVICES> {
    /// The lowest domain-id that no domain has; never 0, which caching mode keeps for itself (R38, R39).
    pub(super) fn free_domain_id(&self, unit: &Features) -> Result<DomainId, Error> {
        let used = |id| self.cells.iter().flatten().flat_map(|cell| &cell.domains).any(|domain| domain.id == id);
        let last = u16::try_from(unit.domain_ids - 1).unwrap_or(u16::MAX);
        let full = Full { what: "domain-ids of the unit", capacity: last.into() };
        (1..=last).filter_map(DomainId::new).find(|&id| !used(id)).ok_or(Error::Full(full))
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// The device with its unit and requesters, if the cell may have it.
    pub(super) fn candidate(
        &self,
        config: &Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        device: SourceId,
        cell: CellId,
        device_config: DeviceConfig,
    ) -> Result<Assignment, Error> {
        let refused = |reason| Err(Error::Refused { device, reason });
        if !config.enabled {
            return Err(Error::NotEnabled);
        }
        if !config.cell(cell)?.config.allow_unsafe_interrupts {
            return refused(Refusal::UnsafeInterrupts);
        }
        // Those that leave are blocked before this one is let in.
        let others = config.assignments.iter().filter(|other| !other.leaves(touched));
        if let Some(other) = others.clone().find(|other| other.device == device) {
            return Err(Error::Busy { device, cell: other.cell });
        }
        let unit = self.topology.unit_of(&self.hal, device).ok_or(Error::NoSuchDevice(device))?;
        let all = self.topology.requesters(&self.hal, device)?;
        if let Some(reason) = self.refusal(device, unit, &all) {
            return refused(reason);
        }
        let mut requesters = Vec::new();
        for &source in all.ids() {
            let full = Full { what: "requester-ids of one device", capacity: MAX_REQUESTERS };
            requesters.push(source.into()).map_err(|_| full)?;
        }
        let needs_reset = config.cell(cell)?.config.reset == ResetPolicy::Required;
        if needs_reset && Reset::of(&self.hal, device).is_none() {
            return refused(Refusal::NoReset);
        }
        let capabilities = self.units.get(unit).ok_or(Error::NoSuchDevice(device))?.features();
        let ats = self.ats_for(device, capabilities, &all, device_config);
        let ats = ats.map_err(|reason| Error::Refused { device, reason })?;
        // Those that leave count as well, but once if they move: all of them may be asked in one batch.
        let leaving = config.assignments.iter().filter(|other| other.leaves(touched) && other.device != device);
        let gone = leaving.filter(|leaving| others.clone().all(|other| other.device != leaving.device));
        let alike = others.clone().chain(gone).filter(|other| other.unit == unit && other.ats.is_some());
        if ats.is_some() && alike.count() >= limits::DEVICE_TLBS {
            let what = "devices with a device-TLB behind this unit";
            return Err(Full { what, capacity: limits::DEVICE_TLBS }.into());
        }
        Ok(Assignment {
            device,
            cell,
            unit,
            domain: None,
            requesters,
            ats,
            fenced: false,
            windows: 0,
            state: State::Arriving,
        })
    }

    /// Why a device that this unit serves is given to no cell.
    pub(super) fn refusal(&self, device: SourceId, unit: usize, requesters: &Requesters) -> Option<Refusal> {
        if !self.topology.is_certain(&self.hal, device) {
            return Some(Refusal::UncertainUnit);
        }
        let elsewhere = |source: &&SourceId| self.topology.unit_of(&self.hal, **source) != Some(unit);
        requesters.ids().iter().find(elsewhere).map(|&source| Refusal::SeveralUnits(source))
    }

    /// True if the DMA of a device behind this unit can be made to snoop (C2).
    pub(super) fn can_enforce_snoop(&self, unit: &Features, device: SourceId) -> bool {
        unit.snoop_control && !self.topology.snoop_forbidden(&self.hal, device)
    }

    /// The reserved memory that a device is to reach in such a cell, as a domain's attributes have it (R66).
    pub(super) fn reserved_of(&self, device: SourceId, cell: &CellConfig) -> u64 {
        if cell.leave_out_relaxable && pci::is_display_or_usb(&self.hal, device) {
            return 0;
        }
        let all = self.topology.reserved_memory();
        let bit = |memory| all.iter().position(|other| *other == memory).map_or(0, |index| 1 << index);
        self.topology.reserved(&self.hal, device).map(bit).fold(0, |mask, bit| mask | bit)
    }

    /// What a change does to a page table that maps this reserved memory beside the cell's own: nothing to that, even where the
    /// cell has the same.
    pub(super) fn differences<'r>(
        &'r self,
        reserved: u64,
        before: &'r Regions,
        after: &'r Regions,
    ) -> impl Iterator<Item = Difference> + 'r {
        let holes = self.reserved_in(reserved).map(|memory| memory.input);
        differences(before, after).flat_map(move |difference| difference.outside(holes.clone()))
    }

    /// What such a table maps for a cell with these regions.
    pub(super) fn mapped<'r>(&'r self, reserved: u64, regions: &'r Regions) -> impl Iterator<Item = Region> + 'r {
        let holes = self.reserved_in(reserved).map(|memory| memory.input);
        let own = regions
            .as_slice()
            .iter()
            .flat_map(move |region| outside(region.input, holes.clone()).filter_map(|range| part(*region, range)));
        own.chain(self.reserved_in(reserved))
    }

    /// The other way round.
    pub(super) fn reserved_in(&self, mask: u64) -> impl Iterator<Item = Region> + Clone + '_ {
        let all = self.topology.reserved_memory().iter().enumerate();
        all.filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, memory)| memory.region)
    }
}
