//! What a unit records of the requests that it blocks (S 7).
#![forbid(unsafe_code)]

pub(super) mod event;
mod reason;
mod record;

use core::sync::atomic::Ordering;

use super::invalidation::queue::Queue;
use super::unit::VtdUnit;
use crate::addr::SourceId;
use crate::error::UnitError;
use crate::fault::{Fault, FaultLog};
use crate::hal::Hal;
use crate::interrupt::FaultEvent;
pub use reason::FaultReason;

impl VtdUnit {
    /// Reads and clears the pending fault records. Takes no lock that a change holds; if another CPU, or what an NMI
    /// interrupted, is reading already, it leaves them to it. Of a unit that is gone nothing is read, nor of one that cannot be
    /// used.
    #[inline(never)]
    pub(crate) fn read_faults(&self, hal: &impl Hal, log: &mut FaultLog, each: &mut dyn FnMut(Fault)) {
        if let Some(error) = self.unusable {
            log.unresponsive |= matches!(error, UnitError::Dead { .. });
            return;
        }
        if self.former.is_none() {
            return;
        }
        match self.reader.try_lock() {
            Some(_reading) => {
                let registers = self.registers(hal);
                let served = match self.queue() {
                    Some(_) if self.failed.load(Ordering::Acquire) => Queue::abandon(&registers),
                    Some(queue) => queue.clear_completion_error(&registers),
                    None => Ok(()),
                };
                let read = served.and_then(|()| {
                    record::drain(&registers, self.segment, &self.capabilities, log, |fault| {
                        self.counters.fault(fault.source.requester());
                        each(fault);
                    })
                });
                log.unresponsive |= read.is_err();
            }
            None => log.busy = true,
        }
    }

    /// Clears the pending fault records, whatever they say.
    #[inline(never)]
    pub(super) fn drop_faults(&self, hal: &impl Hal) {
        self.read_faults(hal, &mut FaultLog::default(), &mut |_| ());
    }

    /// The devices whose faults were read, and how many of each.
    pub(crate) fn faults_by_device(&self) -> impl Iterator<Item = (SourceId, u64)> + '_ {
        self.counters.faults().map(|(requester, faults)| (SourceId::from_requester(self.segment, requester), faults))
    }

    /// Has the unit send its fault event there, or none, also when it is switched on later. One that cannot be used sends none.
    pub(crate) fn set_fault_event(&self, hal: &impl Hal, to: Option<FaultEvent>) -> Result<(), UnitError> {
        if self.unusable.is_some() {
            return Ok(());
        }
        // One that is not the driver's yet, or no more, is somebody else's to change.
        if self.former.is_some() {
            event::set(&self.registers(hal), &self.capabilities, to)?;
        } else {
            event::check(&self.registers(hal), &self.capabilities, to)?;
        }
        *self.event.lock() = to;
        Ok(())
    }
}
