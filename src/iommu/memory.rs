//! How the front's memory is cut into its parts, and how much that takes.
#![forbid(unsafe_code)]

use core::mem::MaybeUninit;

use super::lock::Mutex;
use super::state::{Assignment, Cells, Config, Flushes, Root, Windows, Withheld, WithheldRange};
use super::transaction::{UnitWork, Work};
use crate::cell::{Cell, Part, Regions, SLACK};
use crate::domain::Domain;
use crate::invalidation::{Flush, StaleDeviceTlb};
use crate::limits::{Carver, Full, Limits, List, words_of};
use crate::topology::{BridgeWindow, topology_words};
use crate::unit::{Scratch, Unit};

/// What a front has, beside what the firmware's table says.
pub(super) struct Parts<'s> {
    pub(super) units: List<'s, Unit>,
    pub(super) changes: List<'s, Mutex<Work<'s>>>,
    pub(super) config: Config<'s>,
}

impl<'s> Parts<'s> {
    /// Cuts memory for so many units.
    pub(super) fn cut(memory: &'s mut [MaybeUninit<u64>], limits: &Limits, units: usize) -> Result<Self, Full> {
        let carver = &mut Carver::new(memory);
        let list = |carver: &mut Carver<'s>, count: usize| carver.list(count.saturating_add(SLACK)).map(Regions::new);
        let regions = |carver: &mut Carver<'s>| list(carver, limits.regions);
        let of_root = |carver: &mut Carver<'s>| list(carver, limits.root_regions);
        let cells = carver.each(limits.cells, |carver| {
            Ok(Cell::none(regions(carver)?, regions(carver)?, carver.list(limits.domains)?))
        })?;
        let flushes = carver.each(units, |carver| carver.list(limits.device_tlbs).map(Flush::new))?;
        let config = Config {
            enabled: false,
            cells: Cells::new(cells),
            root: Root::new([of_root(carver)?, of_root(carver)?, of_root(carver)?, of_root(carver)?]),
            left: list(carver, most_regions(limits))?,
            turns: 0,
            withheld: Withheld::new(carver.list(withheld(limits))?),
            devices: carver.list(limits.devices)?,
            windows: Windows::new(carver.list(limits.windows)?),
            flushes: Flushes::new(flushes),
            scratch: Scratch::cut(carver, limits.device_tlbs)?,
        };
        let changes = carver.each(limits.changes, |carver| {
            let each = carver.each(units, |_| Ok(UnitWork::NONE))?;
            Ok(Mutex::new(Work::new(each)))
        })?;
        Ok(Self { units: carver.list(units)?, changes, config })
    }
}

impl Limits {
    /// How many words of 64 bits the front's memory takes with these capacities. `usize::MAX`, which no memory has, if one of
    /// them is out of its bounds: a [`Memory`](crate::limits::Memory) of that size does not build.
    pub const fn words(&self) -> usize {
        if self.flaw().is_some() {
            return usize::MAX;
        }
        let regions = words_of::<Part>(self.regions.saturating_add(SLACK));
        let of_unit = words_of::<StaleDeviceTlb>(self.device_tlbs);
        let of_cell = sum(&[regions, regions, words_of::<Domain>(self.domains)]);
        let of_root = words_of::<Part>(self.root_regions.saturating_add(SLACK));
        sum(&[
            topology_words(self),
            words_of::<Unit>(self.units),
            words_of::<Flush<'_>>(self.units),
            self.units.saturating_mul(of_unit),
            Scratch::words(self.device_tlbs),
            words_of::<Cell<'_>>(self.cells),
            self.cells.saturating_mul(of_cell),
            of_root.saturating_mul(4),
            words_of::<Part>(most_regions(self).saturating_add(SLACK)),
            words_of::<WithheldRange>(withheld(self)),
            words_of::<Assignment>(self.devices),
            words_of::<BridgeWindow>(self.windows),
            words_of::<Mutex<Work<'_>>>(self.changes),
            self.changes.saturating_mul(words_of::<UnitWork>(self.units)),
        ])
    }
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
