//! T4: all that can be seen of the driver after a call, failed ones most of all, next to what the plain maps know by themselves.

use std::collections::BTreeMap;
use std::ops::Range;

use cofferdam::error::UnitError;
use cofferdam::hal::{Hal as _, RegisterWindow};
use cofferdam::iommu::UnitState;
use cofferdam_support::front::faults_by_device;

use crate::history::History;
use crate::oracle::Slot;
use crate::pages::Pages;
use crate::stage::After;

/// Command, and Bus Master Enable there.
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const BUS_MASTER: u32 = 1 << 2;

/// The unit that an error is about.
fn named(error: UnitError) -> RegisterWindow {
    match error {
        UnitError::Timeout { unit, .. }
        | UnitError::Dead { unit, .. }
        | UnitError::Reset { unit, .. }
        | UnitError::Unsupported { unit, .. }
        | UnitError::Queue { unit, .. }
        | UnitError::Invalidation { unit, .. }
        | UnitError::Device { unit, .. }
        | UnitError::NoRoom { unit }
        | UnitError::Failed { unit }
        | UnitError::NoFrame { unit, .. } => unit,
        error => panic!("{error}"),
    }
}

/// True if all of some memory is in one of these ranges or the next.
fn is_within(memory: &Range<u64>, ranges: &[Range<u64>]) -> bool {
    let mut next = memory.start;
    while next < memory.end {
        match ranges.iter().find(|range| range.contains(&next)) {
            Some(range) => next = range.end,
            None => return false,
        }
    }
    true
}

impl History<'_> {
    /// Fails if anything that the driver says, or has left in a device, is another than what is known.
    pub(crate) fn look_at_all(&mut self) {
        self.look_at_assigned();
        self.look_at_bus_masters();
        self.look_at_units();
        self.look_at_counts();
    }

    fn look_at_assigned(&self) {
        let mut listed = BTreeMap::new();
        let list = |it: cofferdam::iommu::AssignedDevice| {
            assert!(listed.insert(it.device, (it.cell, it.quarantined)).is_none(), "{} is listed twice", it.device);
        };
        self.iommu.assigned(list).unwrap();
        for device in &self.oracle.devices {
            let expected = device.cell.map(|slot| (self.oracle.cell(slot).id, device.stuck));
            assert_eq!(listed.remove(&device.id), expected, "the cell of {}, and whether it is quarantined", device.id);
        }
        assert!(listed.is_empty(), "{listed:?}");
    }

    fn look_at_bus_masters(&self) {
        for device in &self.oracle.devices {
            let Some(master) = device.master else { continue };
            let found = self.machine.config_read(device.id, COMMAND) & BUS_MASTER != 0;
            assert_eq!(found, master, "{} is a bus master", device.id);
        }
    }

    fn look_at_units(&mut self) {
        let windows = self.machine.windows();
        for (index, unit) in self.iommu.units().enumerate() {
            let facts = &self.oracle.units[index];
            let (mut suspect, mut dark, mut was_broken) = (facts.lost, false, false);
            if let Some(broken) = &mut self.broken {
                broken.ever[index] |= broken.suspects[index];
                suspect |= broken.suspects[index];
                (dark, was_broken) = (broken.dark[index], broken.ever[index]);
            }
            match unit.state {
                UnitState::On => assert!(!facts.lost && !facts.open && !dark, "unit {index} is on"),
                UnitState::Off => assert!(facts.open, "unit {index} is off"),
                UnitState::Failed { error, blocking } => {
                    assert!(suspect || facts.open, "unit {index}: {error}");
                    assert_eq!(named(error), windows[index], "{error}");
                    assert!(!(dark && blocking), "unit {index} is not there");
                }
            }
            assert!(was_broken || !unit.needs_flush, "unit {index} owes a flush");
        }
    }

    /// Faults that were read are counted, and all others are none.
    fn look_at_counts(&self) {
        let statistics = self.iommu.statistics();
        assert_eq!(statistics.completion_errors, 0);
        // What was read before a unit was to be switched on again may be forgotten or not.
        if self.oracle.units.iter().any(|unit| unit.open && !unit.lost) {
            return;
        }
        let mut counted = 0;
        for (source, count) in faults_by_device(&self.iommu) {
            assert_eq!(self.faults_read.get(&source), Some(&count), "faults of {source}");
            counted += count;
        }
        assert_eq!(counted + statistics.other_faults, self.faults_read.values().sum::<u64>(), "faults of all");
    }

    /// True if an error names a unit that is broken.
    pub(crate) fn names_suspect(&self, error: UnitError) -> bool {
        let index = self.machine.windows().iter().position(|window| *window == named(error));
        self.broken.as_ref().zip(index).is_some_and(|(broken, index)| broken.suspects[index])
    }

    /// After a change that failed: what a unit has not confirmed is withheld, which the change took from a cell or was to give it,
    /// and nothing that no change ever moved.
    pub(crate) fn look_at_withheld(&self, before: &[Option<Pages>], after: &After, error: UnitError) {
        let mut withheld: BTreeMap<Slot, Vec<Range<u64>>> = BTreeMap::new();
        let list = |it: cofferdam::iommu::WithheldMemory| {
            let slot = self.oracle.slots().find(|slot| self.oracle.cell(*slot).id == it.cell);
            let memory = it.memory.first().as_u64() >> 12..(it.memory.last().as_u64() >> 12) + 1;
            for edge in [memory.start, memory.end - 1] {
                let was_moved = self.oracle.moved.iter().any(|(first, end)| (*first..*end).contains(&edge));
                assert!(was_moved, "{edge:#x} is withheld for {}, and no change was to move it", it.cell);
            }
            withheld.entry(slot.expect("of a cell that exists")).or_default().push(memory);
        };
        self.iommu.withheld(list).unwrap();
        if matches!(error, UnitError::Device { .. }) {
            return;
        }
        let units: Vec<_> = self.iommu.units().collect();
        let is_confirmed = |slot: Slot| {
            let mut its = self.oracle.devices.iter().filter(|device| device.cell == Some(slot));
            its.all(|device| units[device.unit].state == UnitState::On && !units[device.unit].needs_flush)
        };
        let is_about = |slot: &Slot| {
            after.touched[*slot] && self.oracle.root() != Some(*slot) && before[*slot].is_some() && !is_confirmed(*slot)
        };
        let slots: Vec<Slot> = self.oracle.slots().filter(is_about).collect();
        let none = Vec::new();
        let is_withheld = |moved: &dyn Fn(&Pages, &Pages) -> Vec<Range<u64>>| {
            slots.iter().all(|slot| {
                let before = before[*slot].as_ref().expect("it was there");
                let ranges = withheld.get(slot).unwrap_or(&none);
                moved(before, &after.pages[*slot]).iter().all(|memory| is_within(memory, ranges))
            })
        };
        let revoked = |before: &Pages, after: &Pages| before.elsewhere_in(after);
        let granted = |before: &Pages, after: &Pages| after.elsewhere_in(before);
        assert!(is_withheld(&revoked) || is_withheld(&granted), "{error}: withheld are {withheld:x?}");
    }
}
