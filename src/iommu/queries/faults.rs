//! What the units blocked, and who learns of it.
#![forbid(unsafe_code)]

use crate::addr::SourceId;
use crate::fault::{Fault, FaultLog};
use crate::hal::Hal;
use crate::interrupt::{Destination, FaultEvent};
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::transaction::Transaction;

/// A local APIC takes no interrupt with a vector below this: they are of the CPU's exceptions.
const FIRST_VECTOR: u8 = 16;

impl<H: Hal> Iommu<'_, H> {
    /// Reads and clears the faults that the units recorded, oldest first for each unit. An answer of a device that nobody had
    /// asked for is only counted ([`Statistics`](crate::iommu::Statistics)).
    ///
    /// Those of a unit that was not switched on yet, or was handed back, are somebody else's, and are left alone.
    ///
    /// Each call reads each record at most once, so it ends however fast a device faults. It takes no lock that a change
    /// holds, so it may be called from an NMI handler, given that `each` may.
    pub fn faults(&self, mut each: impl FnMut(Fault)) -> FaultLog {
        let mut log = FaultLog::default();
        for unit in &self.probed().units {
            match unit.try_read() {
                Some(unit) => unit.read_faults(&self.hal, &mut log, &mut each),
                None => log.busy = true,
            }
        }
        log
    }

    /// The devices that had requests blocked since their unit was switched on, and how many faults of each were
    /// [read](Self::faults); faults that were lost, or are not read yet, are not among them. Each unit counts those of the
    /// first [`FAULTING_DEVICES`](crate::limits::FAULTING_DEVICES) apart, and the rest
    /// [together](crate::iommu::Statistics::other_faults). Those of a unit that is being switched on or off are left out. Takes no
    /// lock that a change holds.
    pub fn faults_by_device(&self, mut each: impl FnMut(SourceId, u64)) {
        let free = self.probed().units.iter().filter_map(|unit| unit.try_read());
        free.for_each(|unit| unit.faults_by_device().for_each(|(device, faults)| each(device, faults)));
    }

    /// Has every unit interrupt a CPU, by a vector or an NMI, when it records a fault or its queue stops; none of them does if `to`
    /// is `None`, as at first. The handler calls [`faults`](Self::faults), or no further event comes; and again if that left some
    /// [`pending`](FaultLog::pending), now or from somewhere else. A unit that is not on yet sends its event there from when it is.
    ///
    /// # Errors
    ///
    /// [`Error::Vector`], or [`Error::Asleep`]: nothing changed. Or a unit cannot reach that CPU, cannot send an NMI, or is gone:
    /// the error is that of the first, which sends its event where it did before, and all others send theirs there. A unit that is
    /// not on yet is not tried: one that cannot send an NMI fails then, and is out of service.
    pub fn set_fault_event(&self, to: Option<FaultEvent>) -> Result<(), Error> {
        if let Some(FaultEvent::Vector(Destination { vector: vector @ ..FIRST_VECTOR, .. })) = to {
            return Err(Error::Vector(vector));
        }
        // One at a time: the message is several registers.
        let config = self.locked()?;
        config.check_awake()?;
        let each = self.each_unit().map(|(unit, _)| unit.set_fault_event(&self.hal, to));
        Ok(each.fold(Ok(()), Result::and)?)
    }

    /// Has no faults of a device recorded any more, so that it cannot crowd out those of others, or has them recorded
    /// again. What it may reach stays as it is, and so does this, whatever cell it is given to, until
    /// [`disable`](Self::disable).
    ///
    /// All source-ids that its requests may carry are muted, with whatever other functions share them behind a bridge.
    ///
    /// # Errors
    ///
    /// A device of some cell is being reset for too long ([`Error::InChange`]), no unit serves the device, its unit is not
    /// on, or there is no frame for the table that its entry is in: faults are recorded as before, except those of its
    /// source-ids that came before. Or its unit failed, or a device behind it did not answer, which is quarantined as in a
    /// [change](Self::commit): the unit may have had an earlier flush to repeat.
    pub fn mute(&self, device: SourceId, muted: bool) -> Result<(), Error> {
        let mut call = Transaction::claim(self, &[], true)?;
        if !call.config.enabled {
            return Err(Error::NotEnabled);
        }
        let muted = call.mute(device, muted);
        call.flush();
        muted.and(call.failure().map_or(Ok(()), Err))
    }
}

impl<H: Hal> Transaction<'_, '_, H> {
    /// Changes what is recorded of a device: once units have done what is collected for them.
    #[inline(never)]
    fn mute(&mut self, device: SourceId, muted: bool) -> Result<(), Error> {
        let front = self.front;
        let requesters = front.topology().requesters(&front.hal, device)?;
        for &source in requesters.ids() {
            let index = front.topology().unit_of(&front.hal, source).ok_or(Error::NoSuchDevice(source))?;
            let Some((unit, flush)) = self.config.flushes.of(&front.probed().units, index) else { continue };
            unit.mute(&front.hal, source.into(), muted, flush)?;
            drop(unit);
            self.repeat_failed_flush(index);
        }
        Ok(())
    }
}
