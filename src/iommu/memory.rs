//! How the front's memory is cut into its parts, and how much that takes.
#![forbid(unsafe_code)]

use super::lock::Mutex;
use super::probed::Probed;
use super::state::{
    Assignment, Cells, Config, Flushes, Interrupts, Line, Root, RoutedSlot, Windows, Withheld, WithheldRange,
};
use super::transaction::{UnitWork, Work};
use super::unit_lock::UnitLock;
use crate::cell::{Cell, Part, Regions, SLACK};
use crate::domain::Domain;
use crate::invalidation::{Flush, StaleDeviceTlb};
use crate::limits::{Carver, Full, Limits, List, words_of};
use crate::topology::{BridgeWindow, topology_words};
use crate::unit::Scratch;

/// Cuts what changes work with.
pub(super) fn cut_changes<'s>(
    carver: &mut Carver<'s>,
    limits: &Limits,
    units: usize,
) -> Result<List<'s, Mutex<Work<'s>>>, Full> {
    carver.each(limits.changes, |carver| Ok(Mutex::new(Work::new(carver.each(units, |_| Ok(UnitWork::NONE))?))))
}

impl<'s> Config<'s> {
    /// Cuts memory for so many units, in place: the whole is too large for a stack. After a failure it has part of it.
    pub(super) fn cut(&mut self, carver: &mut Carver<'s>, limits: &Limits, units: usize) -> Result<(), Full> {
        let list = |carver: &mut Carver<'s>, count| carver.list(with_slack(count)).map(Regions::new);
        let regions = |carver: &mut Carver<'s>| list(carver, limits.regions);
        let of_root = |carver: &mut Carver<'s>| list(carver, limits.root_regions);
        self.cells = Cells::new(carver.each(limits.cells, |carver| {
            Ok(Cell::none(regions(carver)?, regions(carver)?, carver.list(limits.domains)?))
        })?);
        self.root = Root::new([of_root(carver)?, of_root(carver)?, of_root(carver)?, of_root(carver)?]);
        self.left = list(carver, most_regions(limits))?;
        self.withheld = Withheld::new(carver.list(withheld(limits))?);
        self.devices = carver.list(limits.devices)?;
        self.windows = Windows::new(carver.list(limits.windows)?);
        self.interrupts = Interrupts::new(
            carver.list(limits.interrupts / 64)?,
            carver.list(limits.interrupts)?,
            carver.list(limits.lines)?,
        );
        self.flushes = Flushes::new(carver.each(units, |carver| carver.list(limits.device_tlbs).map(Flush::new))?);
        self.scratch = Scratch::cut(carver, limits.device_tlbs)?;
        Ok(())
    }
}

impl Limits {
    /// How many words of 64 bits the front's memory takes with these capacities. `usize::MAX`, which no memory has, if one of
    /// them is out of its bounds: a [`Memory`](crate::limits::Memory) of that size does not build.
    pub const fn words(&self) -> usize {
        if self.flaw().is_some() {
            return usize::MAX;
        }
        let regions = words_of::<Part>(with_slack(self.regions));
        let of_unit = words_of::<StaleDeviceTlb>(self.device_tlbs);
        let of_cell = sum(&[regions, regions, words_of::<Domain>(self.domains)]);
        let of_root = words_of::<Part>(with_slack(self.root_regions));
        sum(&[
            topology_words(self),
            words_of::<Probed<'_>>(1),
            words_of::<UnitLock>(self.units),
            words_of::<Flush<'_>>(self.units),
            self.units.saturating_mul(of_unit),
            Scratch::words(self.device_tlbs),
            words_of::<Cell<'_>>(self.cells),
            self.cells.saturating_mul(of_cell),
            of_root.saturating_mul(4),
            words_of::<Part>(with_slack(most_regions(self))),
            words_of::<WithheldRange>(withheld(self)),
            words_of::<Assignment>(self.devices),
            words_of::<BridgeWindow>(self.windows),
            self.interrupts / 64,
            words_of::<RoutedSlot>(self.interrupts),
            words_of::<Line>(self.lines),
            words_of::<Mutex<Work<'_>>>(self.changes),
            self.changes.saturating_mul(words_of::<UnitWork>(self.units)),
        ])
    }
}

/// How many places a list of so many regions has.
const fn with_slack(regions: usize) -> usize {
    regions.saturating_add(SLACK)
}

/// How many regions any cell can have.
const fn most_regions(limits: &Limits) -> usize {
    if limits.root_regions > limits.regions { limits.root_regions } else { limits.regions }
}

/// How many ranges can be withheld: more than two for each cell, whatever the limits.
const fn withheld(limits: &Limits) -> usize {
    limits.regions.saturating_add(limits.cells.saturating_mul(2)).saturating_add(1)
}

const fn sum(parts: &[usize]) -> usize {
    let (mut sum, mut rest) = (0_usize, parts);
    while let [first, others @ ..] = rest {
        sum = sum.saturating_add(*first);
        rest = others;
    }
    sum
}
