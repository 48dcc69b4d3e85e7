//! Which interrupts are routed, and where they go. A slot is an entry with the same index in the table of each unit, and belongs
//! to one source behind one of them; one that a former owner of the units had in use may belong to one behind each.
#![forbid(unsafe_code)]

use super::{Assignment, CellSet, Held, Stay};
use crate::addr::{PhysAddr, Requester};
use crate::cell::CellId;
use crate::contract::InterruptConfig;
use crate::interrupt::{Course, Posting, Senders, SlotBlock, SlotTable, Source};
use crate::limits::{Full, List};
use crate::topology::UnitIndex;

/// A slot: where its interrupts go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::iommu) struct RoutedSlot {
    /// As its unit's table has it.
    pub(in crate::iommu) now: Option<Course>,
    /// As it is to be, in a change; the same otherwise.
    pub(in crate::iommu) staged: Option<Course>,
    /// The descriptor that its unit may post to besides, since it has not confirmed that it is left.
    pub(in crate::iommu) left: Option<PhysAddr>,
}

impl RoutedSlot {
    /// Its unit may know this course until it has confirmed another one.
    pub(in crate::iommu) fn leave(&mut self, course: Option<Course>) {
        self.left = course.and_then(Course::posting).map(Posting::descriptor).or(self.left);
    }

    fn goes_nowhere(&self) -> bool {
        self.now.is_none() && self.staged.is_none()
    }

    /// True if interrupts are posted to this descriptor, or may be, or are to be.
    fn posts_to(&self, descriptor: PhysAddr) -> bool {
        let known = [self.now, self.staged].into_iter().flatten().filter_map(Course::posting).map(Posting::descriptor);
        known.chain(self.left).any(|other| other == descriptor)
    }
}

/// A pin of an IOAPIC, a timer of an HPET, or a message of a device that goes on by the entry that it had: what a cell has routed
/// one by one.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) struct Line {
    pub(in crate::iommu) source: Source,
    pub(in crate::iommu) cell: CellId,
    /// The unit that its requests pass.
    pub(in crate::iommu) unit: UnitIndex,
    pub(in crate::iommu) held: Held,
    pub(in crate::iommu) routed: RoutedSlot,
    pub(in crate::iommu) stay: Stay,
}

impl Line {
    /// True if it goes nowhere, and stays listed since its unit has not confirmed that.
    pub(in crate::iommu) fn is_cut(&self) -> bool {
        self.stay == Stay::Staying && self.routed.goes_nowhere()
    }

    pub(in crate::iommu) fn leaves(&self, scope: CellSet) -> bool {
        self.stay == Stay::Leaving && scope.has(self.cell)
    }

    pub(in crate::iommu) fn arrives(&self, scope: CellSet) -> bool {
        self.stay == Stay::Arriving && scope.has(self.cell)
    }
}

/// All interrupts.
#[derive(Debug)]
pub(in crate::iommu) struct Interrupts<'s> {
    used: SlotTable<'s>,
    /// One for each, in use or not. Those of lines are unused: lines have their own.
    pub(in crate::iommu) slots: List<'s, RoutedSlot>,
    pub(in crate::iommu) lines: List<'s, Line>,
    /// How units remap them, if they do.
    pub(in crate::iommu) config: Option<InterruptConfig>,
}

impl<'s> Interrupts<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        Self { used: SlotTable::without_room(), slots: List::without_room(), lines: List::without_room(), config: None }
    }

    /// None in use.
    pub(in crate::iommu) fn new(used: List<'s, u64>, mut slots: List<'s, RoutedSlot>, lines: List<'s, Line>) -> Self {
        while slots.push(RoutedSlot::default()).is_ok() {}
        Self { used: SlotTable::new(used), slots, lines, config: None }
    }

    /// Takes so many slots, for which nothing is routed yet: a block that `is_good`.
    pub(in crate::iommu) fn take(
        &mut self,
        count: u16,
        is_good: impl Fn(SlotBlock) -> bool,
    ) -> Result<SlotBlock, Full> {
        let full = Full { what: "interrupts", capacity: self.slots.len() };
        SlotBlock::order_for(count).and_then(|order| self.used.take(order, is_good)).ok_or(full)
    }

    /// Takes a slot for a line behind a unit, also that of one that leaves. False if it is in use there, or there are not so many.
    pub(in crate::iommu) fn take_this(&mut self, slot: u16, unit: UnitIndex, scope: CellSet) -> bool {
        let mut others = self.lines.iter().filter(|line| line.held.block.first == slot).peekable();
        if others.peek().is_none() {
            return self.used.take_this(slot);
        }
        others.all(|line| line.unit != unit || line.leaves(scope))
    }

    /// Has slots be free again whose entries no unit knows any more.
    pub(in crate::iommu) fn give_back(&mut self, block: SlotBlock) {
        of(&mut self.slots, block).for_each(|(_, slot)| *slot = RoutedSlot::default());
        self.used.give_back(block);
    }

    /// Takes lines out of the list, and gives back their slots, whose entries no unit knows.
    #[inline(never)]
    pub(in crate::iommu) fn remove_lines(&mut self, is_removed: &dyn Fn(&Line) -> bool) {
        let mut index = 0;
        while let Some(line) = self.lines.get(index) {
            if !is_removed(line) {
                index += 1;
            } else if let Some(Line { held, .. }) = self.lines.swap_remove(index)
                && !self.lines.iter().any(|other| other.held.block == held.block)
            {
                self.give_back(held.block);
            }
        }
    }

    /// Has what a device sends go nowhere, also by the entries that it goes on with, and calls `each` with the slots of that.
    #[inline(never)]
    pub(in crate::iommu) fn cut(&mut self, device: &Assignment, each: &mut dyn FnMut(u16)) {
        let is_its = |source: Source| matches!(source, Source::Message { device: of, .. } if of == device.device);
        let lines = self.lines.iter_mut().filter(|line| line.unit == device.unit && is_its(line.source));
        let lines = lines.map(|line| (line.held.block.first, &mut line.routed));
        let nothing = SlotBlock { first: 0, order: 0 };
        let own = of(&mut self.slots, device.interrupts.map_or(nothing, |held| held.block));
        for (slot, routed) in own.filter(|_| device.interrupts.is_some()).chain(lines) {
            let course = routed.now.take();
            routed.leave(course);
            routed.staged = None;
            each(slot);
        }
    }

    /// The CPUs are in x2APIC mode.
    pub(in crate::iommu) fn is_extended(&self) -> bool {
        self.config.is_some_and(|config| config.extended)
    }

    pub(in crate::iommu) fn get(&self, slot: u16) -> RoutedSlot {
        self.slots.get(usize::from(slot)).copied().unwrap_or_default()
    }
}

/// The slots of a block, each with its index.
fn of(slots: &mut [RoutedSlot], block: SlotBlock) -> impl Iterator<Item = (u16, &mut RoutedSlot)> {
    let first = usize::from(block.first);
    let slots = slots.get_mut(first..).unwrap_or_default();
    (block.first..=u16::MAX).zip(slots).take(block.len() as usize)
}

/// An entry of a unit's table, and whose requests it takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) struct UnitSlot {
    pub(in crate::iommu) unit: UnitIndex,
    pub(in crate::iommu) slot: u16,
    pub(in crate::iommu) senders: Senders,
}

/// Calls `each` with the slots of all that some cells have, where each goes, and whether its device or line comes, stays or goes.
#[inline(never)]
pub(in crate::iommu) fn each_slot(
    devices: &[Assignment],
    interrupts: &mut Interrupts<'_>,
    scope: CellSet,
    each: &mut dyn FnMut(UnitSlot, &mut RoutedSlot, Stay),
) {
    // Nobody has any.
    if interrupts.config.is_none() {
        return;
    }
    for device in devices.iter().filter(|device| scope.has(device.cell)) {
        let Some(Held { block, senders }) = device.interrupts else { continue };
        for (slot, routed) in of(&mut interrupts.slots, block) {
            each(UnitSlot { unit: device.unit, slot, senders }, routed, device.stay);
        }
    }
    for Line { unit, held, routed, stay, .. } in interrupts.lines.iter_mut().filter(|line| scope.has(line.cell)) {
        each(UnitSlot { unit: *unit, slot: held.block.first, senders: held.senders }, routed, *stay);
    }
}

/// Who holds slots, of all cells: devices and lines, with the cell, the unit, and whether they come, stay or go.
pub(in crate::iommu) fn holders(
    devices: &[Assignment],
    lines: &[Line],
) -> impl Iterator<Item = (CellId, UnitIndex, Held, Stay)> {
    let of_devices =
        devices.iter().filter_map(|device| Some((device.cell, device.unit, device.interrupts?, device.stay)));
    of_devices.chain(lines.iter().map(|line| (line.cell, line.unit, line.held, line.stay)))
}

/// The cells whose interrupts are posted to a descriptor, or may be, or are to be; a cell may be there several times.
pub(in crate::iommu) fn posting_to<'c>(
    devices: &'c [Assignment],
    interrupts: &'c Interrupts<'_>,
    descriptor: PhysAddr,
) -> impl Iterator<Item = CellId> + 'c {
    let held = devices.iter().filter_map(|device| Some((device.cell, device.interrupts?)));
    let slots =
        held.flat_map(|(cell, held)| (0..=u16::MAX).map_while(move |index| Some((cell, held.block.nth(index)?))));
    let of_devices = slots.map(|(cell, slot)| (cell, interrupts.get(slot)));
    let of_lines = interrupts.lines.iter().map(|line| (line.cell, line.routed));
    of_devices.chain(of_lines).filter(move |(_, routed)| routed.posts_to(descriptor)).map(|(cell, _)| cell)
}

/// The first device of another cell behind the unit that can send what the slots take.
pub(in crate::iommu) fn forger(
    devices: &[Assignment],
    scope: CellSet,
    (cell, unit, senders): (CellId, UnitIndex, Senders),
) -> Option<&Assignment> {
    let mut others = devices.iter().filter(|other| other.unit == unit && other.cell != cell && !other.leaves(scope));
    others.find(|other| other.requesters.iter().any(|requester: &Requester| senders.takes(*requester)))
}
