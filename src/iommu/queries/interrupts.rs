//! What is routed, and what is programmed into sources for that.

use core::ptr::NonNull;

use crate::addr::SourceId;
use crate::cell::CellId;
use crate::hal::Hal;
use crate::interrupt::{Course, FoundCourse, Message, Source};
use crate::iommu::error::{Error, Unroutable};
use crate::iommu::front::Iommu;
use crate::iommu::state::{Config, Held, Line, Stay};
use crate::iommu::unit_lock::UnitGuard;
use crate::pci;

/// An interrupt that a cell has routed or posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoutedInterrupt {
    /// What sends it.
    pub source: Source,
    /// The cell.
    pub cell: CellId,
    /// What becomes of it.
    pub course: FoundCourse,
}

impl<H: Hal> Iommu<'_, H> {
    /// What a device or a timer has to send so that its interrupt is taken. It stays the same while the device has its cell, or the
    /// timer its route, wherever the interrupt goes.
    ///
    /// For MSI, this is what its address and data are for message 0; the device itself adds the number of the message to the data. For
    /// MSI-X, each entry has its own. The driver programs nothing of a device.
    ///
    /// # Errors
    ///
    /// Its cell does not have the device with so many [messages](crate::iommu::DeviceConfig::messages), or the timer is not routed, or
    /// it is a pin, which sends what its [redirection entry](Self::redirection) says: [`Error::Route`]. Or the configuration stays
    /// locked: [`Error::InChange`].
    pub fn message(&self, source: Source) -> Result<Message, Error> {
        let config = self.locked()?;
        let not_held = Error::Route { source, reason: Unroutable::NotHeld };
        let (unit, first) = match (source, line(&config, source)) {
            (Source::Pin { .. }, _) => return Err(not_held),
            (_, Some(line)) => (line.unit, line.held.block.first),
            (Source::Message { device, index }, None) => {
                let own = config.devices.iter().find(|it| it.device == device && it.stay != Stay::Arriving);
                let (own, held) = own.and_then(|own| own.interrupts.map(|held| (own, held))).ok_or(not_held)?;
                (own.unit, held.block.nth(index).ok_or(not_held)?)
            }
            (Source::Timer { .. }, None) => return Err(not_held),
        };
        Ok(self.unit(unit).ok_or(not_held)?.message(first))
    }

    /// Has a device send its interrupts by MSI as its cell has them: message 0 as [`message`](Self::message) says, and as many as it was
    /// assigned with and can send. For those who do not write its registers themselves.
    ///
    /// # Errors
    ///
    /// The device has no cell, or no [messages](crate::iommu::DeviceConfig::messages) ([`Unroutable::NotHeld`]), or no capability for
    /// them ([`Unroutable::NoMsi`]): it sends none by MSI. Or a device is being reset for too long: [`Error::InChange`].
    pub fn program_msi(&self, device: SourceId) -> Result<(), Error> {
        let config = self.between_resets()?;
        let (unit, held) = self.held(&config, device)?;
        let Message { address, data } = unit.message(held.block.first);
        let is_done = pci::program_msi(&self.hal, device, (address, data), held.block.order);
        if is_done { Ok(()) } else { Err(failed(device, Unroutable::NoMsi)) }
    }

    /// Where a device has its table of MSI-X, by its configuration space as it is now. It lies in memory of the device, which the
    /// caller maps for [`program_msi_x`](Self::program_msi_x).
    ///
    /// # Errors
    ///
    /// The device has none, or configuration space does not show where, as for a virtual function: [`Unroutable::NoMsiX`].
    pub fn msi_x_table(&self, device: SourceId) -> Result<pci::MsiXTable, Error> {
        pci::msi_x_table(&self.hal, device).ok_or(failed(device, Unroutable::NoMsiX))
    }

    /// Has a device send its interrupts by MSI-X as its cell has them: the n-th entry of its table as [`message`](Self::message) says
    /// for index n, as many as it was assigned with and has. All other entries are masked, and so is the function while they change. For those
    /// who do not write the table themselves. `table` is where the CPU sees it.
    ///
    /// # Errors
    ///
    /// The device has no cell, or no [messages](crate::iommu::DeviceConfig::messages) ([`Unroutable::NotHeld`]), or no MSI-X
    /// ([`Unroutable::NoMsiX`]): nothing is written. Or a device is being reset for too long: [`Error::InChange`].
    ///
    /// # Safety
    ///
    /// `table` is valid for writes of all entries that [`msi_x_table`](Self::msi_x_table) counts, 16 bytes each, reaches the device's own
    /// table, uncached, and is aligned to 4 bytes. Nobody else writes there meanwhile.
    pub unsafe fn program_msi_x(&self, device: SourceId, table: NonNull<u32>) -> Result<(), Error> {
        let config = self.between_resets()?;
        let (unit, held) = self.held(&config, device)?;
        let slots = (0..=u16::MAX).map_while(|index| held.block.nth(index));
        let messages = slots.map(|slot| unit.message(slot)).map(|Message { address, data }| (address, data));
        // SAFETY: passed on from the caller.
        let is_done = unsafe { pci::program_msi_x(&self.hal, device, table, messages) };
        if is_done { Ok(()) } else { Err(failed(device, Unroutable::NoMsiX)) }
    }

    /// The unit of a device, and the slots of its messages.
    fn held(&self, config: &Config<'_>, device: SourceId) -> Result<(UnitGuard<'_>, Held), Error> {
        let own = config.devices.iter().find(|it| it.device == device && it.stay != Stay::Arriving);
        let own = own.and_then(|own| Some((self.unit(own.unit)?, own.interrupts?)));
        own.ok_or(failed(device, Unroutable::NotHeld))
    }

    /// What the redirection entry of a pin of an IOAPIC has to be, unmasked (bit 16) and active high (bit 13): the caller sets either
    /// as the pin needs. It has the route's vector and trigger mode, so it is another after each change of those.
    ///
    /// # Errors
    ///
    /// The pin is not routed: [`Error::Route`]. Or the configuration stays locked: [`Error::InChange`].
    pub fn redirection(&self, io_apic: u8, pin: u8) -> Result<u64, Error> {
        let (config, source) = (self.locked()?, Source::Pin { io_apic, pin });
        let not_routed = Error::Route { source, reason: Unroutable::NotRouted };
        let line = line(&config, source).ok_or(not_routed)?;
        let route = line.routed.now.and_then(Course::route).ok_or(not_routed)?;
        Ok(self.unit(line.unit).ok_or(not_routed)?.redirection(line.held.block.first, route))
    }

    /// Calls `each` with all interrupts that are routed or posted, in no particular order, as they are now.
    ///
    /// The configuration is locked meanwhile: `each` must not call the front.
    ///
    /// # Errors
    ///
    /// The configuration stays locked: [`Error::InChange`].
    pub fn routes(&self, mut each: impl FnMut(RoutedInterrupt)) -> Result<(), Error> {
        let config = self.locked()?;
        for device in config.devices.iter() {
            let Some(held) = device.interrupts else { continue };
            for (index, slot) in (0..=u16::MAX).map_while(|index| Some((index, held.block.nth(index)?))) {
                if let Some(course) = config.interrupts.get(slot).now {
                    let source = Source::Message { device: device.device, index };
                    each(RoutedInterrupt { source, cell: device.cell, course: course.into() });
                }
            }
        }
        for &Line { source, cell, routed, .. } in &config.interrupts.lines {
            if let Some(course) = routed.now {
                each(RoutedInterrupt { source, cell, course: course.into() });
            }
        }
        Ok(())
    }
}

fn failed(device: SourceId, reason: Unroutable) -> Error {
    Error::Route { source: Source::Message { device, index: 0 }, reason }
}

/// What a cell has routed one by one.
fn line<'c>(config: &'c Config<'_>, source: Source) -> Option<&'c Line> {
    config.interrupts.lines.iter().find(|line| line.source == source && line.stay != Stay::Arriving)
}
