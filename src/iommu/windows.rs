//! Windows of bridges: where a cell's devices cannot reach memory, whatever is mapped there.
#![forbid(unsafe_code)]

use super::devices::State;
use super::stage::Touched;
use super::{Config, Error, Iommu, Refusal};
use crate::addr::{Region, SourceId};
use crate::hal::Hal;
use crate::limits::{self, Full};
use crate::topology::{BridgeWindow, FULL};

/// An assignment has one bit for each.
const _: () = assert!(limits::WINDOWS <= 64);

impl<const UNITS: usize, const CELLS: usize, const DEVICES: usize> Config<UNITS, CELLS, DEVICES> {
    /// Notes the windows that matter to a device that arrives, in places that no device uses: bit n for the n-th.
    fn note_windows(&mut self, windows: &[BridgeWindow]) -> Result<u64, Full> {
        let in_use = self.assignments.iter().fold(0, |in_use, device| in_use | device.windows);
        let mut mask = 0_u64;
        for window in windows {
            let is_used = |index: usize| (in_use | mask) >> index & 1 == 1;
            let places = || self.windows.iter().enumerate();
            let known = places().position(|(index, place)| is_used(index) && *place == Some(*window));
            let index = known.or_else(|| places().position(|(index, _)| !is_used(index))).ok_or(FULL)?;
            let place = self.windows.get_mut(index).ok_or(FULL)?;
            *place = Some(*window);
            mask |= 1 << index;
        }
        Ok(mask)
    }

    /// The other way round.
    pub(super) fn windows_in(&self, mask: u64) -> impl Iterator<Item = BridgeWindow> + '_ {
        let noted = self.windows.iter().enumerate().filter(move |(index, _)| mask >> index & 1 == 1);
        noted.filter_map(|(_, window)| *window)
    }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Notes those that matter to a device that arrives.
    // Not inlined: they are off the stack before tables are made.
    #[inline(never)]
    pub(super) fn note_windows_of(
        &self,
        config: &mut Config<UNITS, CELLS, DEVICES>,
        device: SourceId,
    ) -> Result<u64, Full> {
        config.note_windows(&BridgeWindow::of(&self.hal, device)?)
    }

    /// Fails if a cell is to have memory, or a device needs some that is reserved for it, where requests of the cell's
    /// devices do not pass a unit.
    pub(super) fn check_windows(
        &self,
        config: &Config<UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
    ) -> Result<(), Error> {
        let concerned = config.assignments.iter().filter(|it| it.windows != 0 && touched.has(it.cell));
        for it in concerned.filter(|it| it.state != State::Leaving) {
            let arrives = it.state == State::Arriving;
            let cell = &config.cell(it.cell)?.config;
            let reserved = self.reserved_in(if arrives { self.reserved_of(it.device, cell) } else { 0 });
            let staged = config.staged(it.cell)?.as_slice();
            for window in config.windows_in(it.windows) {
                let lies_there = |region: Region| region.input.overlaps(window.range);
                if staged.iter().copied().chain(reserved.clone()).any(lies_there) {
                    let refused = Error::Refused { device: it.device, reason: Refusal::Window(window) };
                    return Err(if arrives { refused } else { Error::Window(window) });
                }
            }
        }
        Ok(())
    }
}
