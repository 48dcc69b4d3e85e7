//! What a device that leaves its cell has to do between its being blocked and its being free for another cell.
#![forbid(unsafe_code)]

use super::devices::{Assignment, State};
use super::flush::Guard;
use super::results::Results;
use super::stage::Touched;
use super::{Error, Iommu};
use crate::hal::{Deadline, Hal};
use crate::pci;

impl<H: Hal, const UNITS: usize, const CELLS: usize, const DEVICES: usize> Iommu<H, UNITS, CELLS, DEVICES> {
    /// Switches off the bus mastering of devices that leave, and waits, without the lock, until nothing of theirs is under
    /// way, so that what one cell has told a device does not arrive in the next.
    ///
    /// Only those are waited for that are `blocked` for certain. One that does not come to rest stays in its cell, fenced.
    pub(super) fn quiet<'l>(
        &'l self,
        mut config: Guard<'l, UNITS, CELLS, DEVICES>,
        touched: &Touched<CELLS>,
        blocked: &Results<UNITS>,
    ) -> (Guard<'l, UNITS, CELLS, DEVICES>, Result<(), Error>) {
        let leaves = |device: &Assignment| device.leaves(touched);
        config.assignments.iter().filter(|a| leaves(a)).for_each(|a| pci::stop_bus_master(&self.hal, a.device));
        let mut deadline = Deadline::new(self.hal.now_ns(), self.options.timeout_ns);
        let is_pending = |device| pci::transactions_pending(&self.hal, device);
        let mut result = Ok(());
        loop {
            let passed = deadline.passed(self.hal.now_ns());
            let is_awaited = |a: &Assignment| leaves(a) && blocked.is_done(a.unit);
            let found = config.assignments.iter_mut().find(|a| is_awaited(a) && is_pending(a.device));
            let Some(assignment) = found else { return (config, result) };
            let device = assignment.device;
            if let Some(waited_ns) = passed {
                assignment.state = State::Staying;
                assignment.fenced = true;
                result = result.and(Err(Error::NotIdle {
                    device,
                    register: "Device Status",
                    bit: "Transactions Pending",
                    waited_ns,
                }));
                continue;
            }
            drop(config);
            while is_pending(device) && deadline.passed(self.hal.now_ns()).is_none() {
                self.hal.pause();
            }
            config = self.config.lock();
        }
    }
}
