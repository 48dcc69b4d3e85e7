//! What the live tables say, next to the plain maps.

use std::collections::BTreeMap;

use cofferdam::addr::SourceId;
use cofferdam::hal::RegisterWindow;
use cofferdam::iommu::Difference;
use cofferdam::{CoherencyPolicy, Sharing};

use crate::history::History;
use crate::oracle::{Device, coherency};
use crate::pages::{Extent, Pages};
use crate::plug::is_about_another;
use crate::ports::is_isolation;

/// What a source-id reaches, and whether it is made to snoop.
type Reached = BTreeMap<SourceId, (Pages, Option<bool>)>;

impl History<'_> {
    /// Fails if the audit tells of anything but what a failure has left, or if the tables lead anywhere but where the plain
    /// maps do.
    pub(crate) fn audit(&self) {
        let mut differences = Vec::new();
        let audit = self.iommu.audit(|difference| differences.push(difference)).unwrap();
        assert_eq!(audit.differences, differences.len() as u64);
        let dark = self.broken.iter().flat_map(|broken| &broken.dark).filter(|dark| **dark).count();
        let unresponsive = differences.iter().filter(|it| matches!(it, Difference::Unresponsive { .. })).count();
        assert_eq!(unresponsive, dark, "units that are not there");
        let was_broken = self.broken.as_ref().is_some_and(|broken| broken.ever.contains(&true));
        let is_lost = self.oracle.units.iter().any(|unit| unit.lost);
        let is_stuck = self.oracle.devices.iter().any(|device| device.stuck);
        if !was_broken && !is_lost && !is_stuck {
            assert_eq!(audit.quarantined_frames, 0, "frames are kept, and each unit has confirmed each change");
        }
        let (isolation, differences): (Vec<_>, Vec<_>) = differences.into_iter().partition(is_isolation);
        self.compare_exposed(&isolation);
        let (others, differences): (Vec<_>, Vec<_>) = differences.into_iter().partition(is_about_another);
        self.compare_others(&others);
        for difference in differences {
            match difference {
                // Or the driver could not switch it on again.
                Difference::NotTranslating { unit } | Difference::RootTable { unit, .. } if self.is_open(unit) => {}
                Difference::Unresponsive { unit } if self.is_dark(unit) => {}
                Difference::InterruptsOpen { unit } if self.is_open(unit) || !self.remaps_behind(unit) => {}
                // The half of an entry that does not let anything through.
                Difference::IgnoredBits { unit, at, .. } if at.as_u64() % 16 == 8 && self.has_residues(unit) => {}
                // A change failed that was to begin or end the sharing of it.
                Difference::NotConfirmed { cell, memory, .. }
                    if self.broken.is_some() && self.oracle.may_share(cell, memory.first().as_u64() >> 12) => {}
                difference => panic!("the audit tells of a difference: {difference}"),
            }
        }

        let mut found = Reached::new();
        let tell = |reach: cofferdam::iommu::Reach| {
            let (region, first) = (reach.region, reach.region.input.start().as_u64() >> 12);
            let end = (region.input.last().as_u64() >> 12) + 1;
            let extent = Extent { end, output: region.output.as_u64() >> 12, rights: region.rights, shared: false };
            let (pages, snoops) = found.entry(reach.source).or_default();
            assert!(snoops.is_none_or(|snoops| snoops == reach.snoop), "{reach}: snooped, and not");
            *snoops = Some(reach.snoop);
            pages.add(first, extent);
        };
        self.iommu.reach(tell).unwrap();
        let is_read = |unit: usize| {
            let is_dark = self.broken.as_ref().is_some_and(|broken| broken.dark[unit]);
            !is_dark && !self.oracle.units[unit].open
        };
        let is_looked_at = |device: &&Device| !device.stuck && is_read(device.unit);
        for device in self.oracle.devices.iter().filter(is_looked_at) {
            self.compare(device, &found);
        }
        let assigned = self.oracle.devices.iter().filter(|device| !device.stuck && device.cell.is_some());
        assigned.flat_map(|device| &device.function.requesters).for_each(|source| drop(found.remove(source)));
        assert!(found.is_empty(), "these reach something, and ought not to: {found:x?}");
    }

    fn has_residues(&self, unit: RegisterWindow) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.residues[self.unit_at(unit)])
    }

    fn is_dark(&self, unit: RegisterWindow) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.dark[self.unit_at(unit)])
    }

    fn is_open(&self, unit: RegisterWindow) -> bool {
        self.oracle.units[self.unit_at(unit)].open
    }

    fn remaps_behind(&self, unit: RegisterWindow) -> bool {
        self.oracle.units[self.unit_at(unit)].remaps
    }

    fn unit_at(&self, window: RegisterWindow) -> usize {
        self.machine.windows().iter().position(|other| *other == window).expect("no other unit is named")
    }

    /// Compares what the source-ids of a device reach with what it is granted.
    fn compare(&self, device: &Device, found: &Reached) {
        let Some(slot) = device.cell else { return };
        let cell = self.oracle.cell(slot);
        let pages = if cell.short { self.listed(slot) } else { cell.pages.in_tables() };
        let granted = crate::oracle::Oracle::with_reserved(device, &pages);
        for source in &device.function.requesters {
            let (reached, snoops) = found.get(source).cloned().unwrap_or_default();
            assert!(reached == granted, "{source} reaches {reached:x?} instead of {granted:x?}");
            let Some(snoops) = snoops else { continue };
            let can = self.oracle.units[device.unit].snoops && cell.config.coherency != CoherencyPolicy::NotEnforced;
            let may_share = cell.config.sharing == Sharing::FewestTables;
            assert!(snoops == can || can && may_share, "{source}: snooping is enforced: {snoops}");
            assert!(
                snoops || cell.learned == coherency(false),
                "{source} is not made to snoop, and that was not reported"
            );
        }
    }
}
