//! Windows of bridges that matter to the devices of cells.
#![forbid(unsafe_code)]

use super::Assignment;
use crate::addr::SourceId;
use crate::hal::Hal;
use crate::limits::{Full, List};
use crate::topology::BridgeWindow;

/// One place for each window that some device has a bit for; what no device has a bit for is out of date.
#[derive(Debug)]
pub(in crate::iommu) struct Windows<'s> {
    places: List<'s, BridgeWindow>,
}

impl<'s> Windows<'s> {
    pub(in crate::iommu) const fn without_room() -> Self {
        Self { places: List::without_room() }
    }

    /// Room for at most 64.
    pub(in crate::iommu) fn new(places: List<'s, BridgeWindow>) -> Self {
        Self { places }
    }

    /// Notes a window that matters to a device that arrives and has noted those of `mask` already, in a place that no device
    /// uses: adds its bit to the mask.
    fn note(&mut self, devices: &[Assignment], window: BridgeWindow, mask: &mut u64) -> Result<(), Full> {
        let used = devices.iter().fold(*mask, |used, device| used | device.windows);
        let is_used = |index: usize| used >> index & 1 == 1;
        let noted = self.places.iter().enumerate();
        let known = noted.clone().position(|(index, place)| is_used(index) && *place == window);
        let free = || noted.clone().position(|(index, _)| !is_used(index));
        let index = known.or_else(free).unwrap_or(self.places.len());
        match self.places.get_mut(index) {
            Some(place) => *place = window,
            None => {
                let full = Full { what: "windows of bridges", capacity: self.places.capacity() };
                self.places.push(window).map_err(|_| full)?;
            }
        }
        *mask |= 1 << index;
        Ok(())
    }

    /// Notes the windows of bridges where a device's requests pass no unit, as configuration space has them now: a bit for each.
    #[inline(never)]
    pub(in crate::iommu) fn note_all(
        &mut self,
        hal: &impl Hal,
        devices: &[Assignment],
        source: SourceId,
    ) -> Result<u64, Full> {
        let (mut mask, mut noted) = (0, Ok(()));
        let looked = BridgeWindow::each(hal, source, &mut |window| {
            let is_within = |other: BridgeWindow| other.range.contains(window.range);
            if noted.is_ok() && !self.of(mask).any(is_within) {
                noted = self.note(devices, window, &mut mask);
            }
        });
        looked.and(noted).map(|()| mask)
    }

    /// Those of a mask.
    pub(in crate::iommu) fn of(&self, mask: u64) -> impl Iterator<Item = BridgeWindow> + Clone + '_ {
        self.places.iter().enumerate().filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, window)| *window)
    }
}
