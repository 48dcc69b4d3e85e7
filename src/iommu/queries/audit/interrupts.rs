//! A unit's live table of interrupts next to what is routed.
#![forbid(unsafe_code)]

use super::auditor::Auditor;
use crate::audit::{Difference, LiveInterrupt, LiveRegisters};
use crate::hal::Hal;
use crate::interrupt::{Course, Cpus, Delivery, FoundCourse, InterruptTargets, Route};
use crate::iommu::state::{Assignment, Config, Held, behind, posting_to};
use crate::topology::UnitIndex;
use crate::unit::Unit;

impl<H: Hal> Auditor<'_, '_, H> {
    /// Compares what a unit does with interrupts with what is routed.
    #[inline(never)]
    pub(super) fn interrupts(&mut self, index: UnitIndex, unit: &Unit, registers: &LiveRegisters) {
        let window = unit.window();
        if !unit.remaps_interrupts() {
            self.audit.unremapped += behind(&self.config.devices, index).count() as u64;
            if registers.remaps_interrupts() {
                self.findings.report(Difference::RemapsInterrupts { unit: window });
            } else if self.config.interrupts.config.is_some() {
                self.findings.report(Difference::InterruptsOpen { unit: window });
            }
            return;
        }
        if !registers.remaps_all_interrupts() {
            return self.findings.report(Difference::InterruptsOpen { unit: window });
        }
        let (found, expected) =
            (registers.interrupt_table_address(&self.iommu.hal, unit.mapped()), unit.interrupt_table());
        if Some(found) != expected {
            return self.findings.report(Difference::RemapsInterrupts { unit: window });
        }
        let mut seen = 0;
        let all_read = registers.interrupts(found).entries(&self.iommu.hal, |entry| {
            for device in behind(&self.config.devices, index).filter(|device| crosses(self.config, device, entry)) {
                let (index, source, cell) = (entry.index, device.device, device.cell);
                self.findings.report(Difference::InterruptCrosses { unit: window, index, source, cell });
            }
            let compared = compare(self.config, index, entry);
            seen += u64::from(compared != Some(false));
            match (compared, entry.index, entry.course()) {
                (None, ..) => {}
                (Some(true), index, found) => {
                    self.findings.report(Difference::OtherInterrupt { unit: window, index, found });
                }
                (Some(false), index, found) => {
                    self.findings.report(Difference::ExtraInterrupt { unit: window, index, found });
                }
            }
        });
        self.audit.interrupts += seen;
        if !all_read {
            return self.findings.report(Difference::Unreadable { unit: window, table: found & !0xfff });
        }
        if seen != self.routed(index) {
            self.findings.report(Difference::MissingInterrupts {
                unit: window,
                found: seen,
                routed: self.routed(index),
            });
        }
    }

    /// How many interrupts are routed behind a unit.
    fn routed(&self, unit: UnitIndex) -> u64 {
        let interrupts = &self.config.interrupts;
        let held = behind(&self.config.devices, unit).filter_map(|device| device.interrupts);
        let slots = held.flat_map(|held| (0..=u16::MAX).map_while(move |index| held.block.nth(index)));
        let messages = slots.filter(|slot| interrupts.get(*slot).now.is_some()).count();
        let lines = interrupts.lines.iter().filter(|line| line.unit == unit && line.routed.now.is_some());
        (messages + lines.count()) as u64
    }
}

/// Compares an entry that is present with what is routed: `None` if it is that, and otherwise whether anything is routed by it.
#[inline(never)]
fn compare(config: &Config<'_>, unit: UnitIndex, entry: LiveInterrupt) -> Option<bool> {
    let Some((held, expected)) = routed(config, unit, entry.index) else { return Some(false) };
    let is_alike = match expected {
        Course::Remapped(route) => {
            entry.route() == Some(route) && entry.goes_to_one() == (route.delivery == Delivery::LowestPriority)
        }
        Course::Posted(posting) => {
            entry.posting() == Some((posting.descriptor(), posting.vector(), posting.is_urgent()))
        }
    };
    if is_alike && entry.senders() == Some(held.senders) { None } else { Some(true) }
}

/// What is routed by an entry.
fn routed(config: &Config<'_>, unit: UnitIndex, index: u16) -> Option<(Held, Course)> {
    let mut lines = config.interrupts.lines.iter();
    if let Some(line) = lines.find(|line| line.unit == unit && line.held.block.first == index) {
        return Some((line.held, line.routed.now?));
    }
    let mut held = behind(&config.devices, unit).filter_map(|device| device.interrupts);
    Some((held.find(|held| held.block.contains(index))?, config.interrupts.get(index).now?))
}

/// True if a device can send by an entry what is neither for CPUs and vectors of its own cell nor posted for that.
#[inline(never)]
fn crosses(config: &Config<'_>, device: &Assignment, entry: LiveInterrupt) -> bool {
    let targets = config.cell(device.cell).map(|cell| cell.config.interrupts).unwrap_or(InterruptTargets::NONE);
    let stays = || match entry.course() {
        FoundCourse::Remapped(route) => is_within(&targets, entry.is_extended(), route),
        FoundCourse::Posted { descriptor, .. } => {
            posting_to(&config.devices, &config.interrupts, descriptor).any(|cell| cell == device.cell)
        }
        FoundCourse::Neither => false,
    };
    device.requesters.iter().any(|requester| entry.takes(*requester)) && !stays()
}

/// True if all CPUs that a route names are the cell's, and so is the vector.
fn is_within(targets: &InterruptTargets, extended: bool, route: Route) -> bool {
    let own = |id: u32| targets.cpus.has(id);
    let cpus = match (route.cpus, extended) {
        (Cpus::Physical(id), true) => id < u32::MAX && own(id),
        (Cpus::Physical(id), false) => id < 255 && own(id),
        (Cpus::Logical(set), true) => {
            set < u32::MAX && set & 0xffff != 0 && (0..16).all(|n| set & 1 << n == 0 || own((set >> 16) * 16 + n))
        }
        (Cpus::Logical(set), false) => (1..255).contains(&set) && set & !u32::from(targets.flat_ids) == 0,
    };
    let is_interrupt = matches!(route.delivery, Delivery::Fixed | Delivery::LowestPriority) && route.vector > 15;
    cpus && is_interrupt && targets.vectors.has(route.vector)
}
