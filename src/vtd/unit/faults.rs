//! What a unit tells of the requests that it blocks, and of whom it is to tell nothing.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;

use super::Unit;
use crate::addr::SourceId;
use crate::error::UnitError;
use crate::hal::{FrameList, Hal};
use crate::vtd::context_entry::{ContextEntry, with_fpd};
use crate::vtd::{Destination, Fault, FaultLog, Flush, fault, fault_event};

impl Unit {
    /// Reads and clears the pending fault records. Takes no lock that a change holds; if another CPU, or what an NMI
    /// interrupted, is reading already, it leaves them to it.
    pub(crate) fn read_faults(&self, hal: &impl Hal, log: &mut FaultLog, mut each: impl FnMut(Fault)) {
        match self.reader.try_lock() {
            Some(_reading) => {
                let registers = self.registers(hal);
                if let Some(queue) = self.queue() {
                    queue.clear_completion_error(&registers);
                }
                fault::drain(&registers, self.segment, &self.capabilities, log, |fault| {
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
        fault_event::set(&self.registers(hal), &self.capabilities, to)
    }

    /// Has the unit record no faults of a requester, or record them again, whether its entry is present or not (S 9.3). It
    /// does once `flush` is done, and until it is told otherwise: FPD outlives P.
    ///
    /// FPD alone changes, by one store of the half that holds it, so the entry says before and after what it has to; a
    /// 16-byte store would only be needed if the domain-id changed, too (R36, S 6.2.2.1).
    ///
    /// # Errors
    ///
    /// No frame for a context table, or the unit is not on: nothing changed.
    pub(crate) fn mute(&self, hal: &impl Hal, requester: u16, muted: bool, flush: &mut Flush) -> Result<(), UnitError> {
        // Without an entry the fault is that of the root entry, which cannot be muted (table 30).
        self.check_on()?;
        let bus = (requester >> 8) as u8;
        if !muted && self.lacks_context_table(hal, bus) {
            return Ok(());
        }
        let needed = usize::from(self.lacks_context_table(hal, bus));
        let spare = FrameList::allocate(hal, needed, self.host_bits);
        let mut spare = spare.map_err(UnitError::no_frame(self.window))?;
        self.ensure_context_table(hal, bus, &mut spare);
        self.for_entry(hal, requester, |table, word| {
            let entry = ContextEntry { lower: table.load(hal, word), upper: table.load(hal, word + 1) };
            let lower = with_fpd(entry.lower, muted);
            if lower == entry.lower {
                return;
            }
            table.store(hal, word, lower);
            match entry.domain_id() {
                Some(id) => flush.context_cleared(&[requester], id, None),
                // As for any other entry, what is not present is cached with domain-id 0, if at all.
                None => {
                    let root_entry = self.root_changed.swap(false, Ordering::Relaxed);
                    flush.context_set(&self.capabilities, &[requester], 0, root_entry);
                }
            }
        });
        Ok(())
    }
}
