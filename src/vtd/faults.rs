//! What a unit records of the requests that it blocks (S 7).
#![forbid(unsafe_code)]

mod event;
mod reason;
mod record;

use super::unit::VtdUnit;
use crate::addr::SourceId;
use crate::error::UnitError;
use crate::fault::{Fault, FaultLog};
use crate::hal::Hal;
use crate::interrupt::Destination;
pub use reason::FaultReason;

impl VtdUnit {
    /// Reads and clears the pending fault records. Takes no lock that a change holds; if another CPU, or what an NMI
    /// interrupted, is reading already, it leaves them to it.
    pub(crate) fn read_faults(&self, hal: &impl Hal, log: &mut FaultLog, mut each: impl FnMut(Fault)) {
        match self.reader.try_lock() {
            Some(_reading) => {
                let registers = self.registers(hal);
                if let Some(queue) = self.queue() {
                    queue.clear_completion_error(&registers);
                }
                record::drain(&registers, self.segment, &self.capabilities, log, |fault| {
                    self.counters.fault(fault.source.requester());
                    each(fault);
                });
            }
            None => log.busy = true,
        }
    }

    /// The devices whose faults were read, and how many of each.
    pub(crate) fn faults_by_device(&self) -> impl Iterator<Item = (SourceId, u64)> + '_ {
        self.counters.faults().map(|(requester, faults)| (SourceId::from_requester(self.segment, requester), faults))
    }

    /// Has the unit send its fault event there, or none.
    pub(crate) fn set_fault_event(&self, hal: &impl Hal, to: Option<Destination>) -> Result<(), UnitError> {
        event::set(&self.registers(hal), &self.capabilities, to)
    }
}
