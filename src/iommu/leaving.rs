//! What a device that leaves its cell has to do between its being blocked and its being free for another cell.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::devices::Assignment;
use super::flush::Guard;
use super::results::Results;
use super::stage::Touched;
use super::{Config, Error, Iommu};
use crate::cell::ResetPolicy;
use crate::hal::{Deadline, Hal};
use crate::pci::{self, Reset};

/// How many devices are reset at a time: what is to be restored is kept on the stack.
const AT_A_TIME: usize = 8;

fn not_reset(assignment: &mut Assignment, waited_ns: u64) -> Error {
    assignment.fenced = true;
    Error::NotReset { device: assignment.device, waited_ns }
}

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Switches off the bus mastering of devices that leave, and waits, without the lock, until nothing of theirs is under
    /// way, so that what one cell has told a device does not arrive in the next; then [resets](Self::reset) them.
    ///
    /// Only those are waited for that are blocked for certain. One that does not come to rest stays in its cell, fenced.
    pub(super) fn quiet<'l>(
        &'l self,
        mut config: Guard<'l, UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        results: &Results<UNITS>,
    ) -> (Guard<'l, UNITS, CELLS, DEVICES>, Result<(), Error>) {
        config.assignments.iter().filter(|a| a.leaves(touched)).for_each(|a| pci::stop_bus_master(&self.hal, a.device));
        let mut deadline = Deadline::new(self.hal.now_ns(), self.options.timeout_ns);
        let pending = |device| pci::pending(&self.hal, device);
        let mut result = Ok(());
        loop {
            let passed = deadline.passed(self.hal.now_ns());
            let mut awaited = config.assignments.iter_mut().filter(|a| a.is_released(touched, results));
            let found =
                awaited.find_map(|assignment| pending(assignment.device).map(|register| (assignment, register)));
            let Some((assignment, register)) = found else { return self.reset(config, touched, results, result) };
            let device = assignment.device;
            if let Some(waited_ns) = passed {
                assignment.fenced = true;
                result = result.and(Err(Error::NotIdle { device, register, bit: "Transactions Pending", waited_ns }));
                continue;
            }
            drop(config);
            while pending(device).is_some() && deadline.passed(self.hal.now_ns()).is_none() {
                self.hal.pause();
            }
            config = self.config.lock();
        }
    }

    /// Resets the devices that leave, as their cells have it, and waits for them without the lock, a few at a time. They are
    /// blocked, and their device-TLBs off (R49). One that does not come back stays in its cell, fenced.
    // Not inlined: what is to be restored is on the stack.
    #[inline(never)]
    fn reset<'l>(
        &'l self,
        mut config: Guard<'l, UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        results: &Results<UNITS>,
        mut result: Result<(), Error>,
    ) -> (Guard<'l, UNITS, CELLS, DEVICES>, Result<(), Error>) {
        // By their names, since the list may be another whenever the lock was free.
        let mut last = None;
        loop {
            let mut resets = Vec::<Reset, AT_A_TIME>::new();
            let Config { cells, assignments, .. } = &mut *config;
            while !resets.is_full() {
                let left = assignments.iter_mut().filter(|a| a.leaves(touched) && Some(a.device) > last);
                let Some(assignment) = left.min_by_key(|a| a.device) else { break };
                last = Some(assignment.device);
                let cell = cells.get(usize::from(assignment.cell.index)).and_then(Option::as_ref);
                let policy = cell.map(|cell| cell.config.reset).unwrap_or_default();
                if policy == ResetPolicy::Never || !assignment.is_released(touched, results) {
                    continue;
                }
                match Reset::of(&self.hal, assignment.device) {
                    Some(reset) => drop(resets.push(reset)),
                    None if policy == ResetPolicy::Required => result = result.and(Err(not_reset(assignment, 0))),
                    None => {}
                }
            }
            if resets.is_empty() {
                return (config, result);
            }
            drop(config);
            resets.iter().for_each(|reset| reset.begin(&self.hal));
            let start = self.hal.now_ns();
            let mut over = Deadline::new(start, pci::RESET_NS);
            while over.passed(self.hal.now_ns()).is_none() {
                self.hal.pause();
            }
            let mut deadline = Deadline::new(start, pci::RESET_NS.saturating_add(self.options.timeout_ns));
            let mut waited_ns = 0;
            resets.retain(|reset| {
                loop {
                    let passed = deadline.passed(self.hal.now_ns());
                    if reset.is_done(&self.hal) {
                        reset.restore(&self.hal);
                        return false;
                    }
                    if let Some(waited) = passed {
                        waited_ns = waited;
                        return true;
                    }
                    self.hal.pause();
                }
            });
            config = self.config.lock();
            for reset in &resets {
                let mut leaving = config.assignments.iter_mut().filter(|a| a.leaves(touched));
                if let Some(assignment) = leaving.find(|a| a.device == reset.function) {
                    result = result.and(Err(not_reset(assignment, waited_ns)));
                }
            }
        }
    }
}
