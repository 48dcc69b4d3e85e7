//! A queue without the rest of its unit, for who measures what a batch costs.
#![forbid(unsafe_code)]

use super::Invalidation;
use super::descriptor::{Descriptor, Encoder};
use super::queue::Queue;
use crate::addr::{Iova, PAGE_BYTES};
use crate::error::UnitError;
use crate::hal::{Hal, RegisterWindow};
use crate::vtd::Capabilities;
use crate::vtd::registers::Registers;

const TIMEOUT_NS: u64 = 1_000_000_000;
const SLOTS: u16 = 256;
/// No address has more.
const HOST_BITS: u8 = 52;

/// An invalidation queue that is on, and a batch for it: 16 pages of one domain, each by itself.
#[derive(Debug)]
#[must_use = "its frames are lost with it"]
pub struct QueueAlone {
    queue: Queue,
    window: RegisterWindow,
    batch: [Descriptor; 16],
}

impl QueueAlone {
    /// Gives the unit at `window`, whose queue is off, a queue, and switches that on.
    ///
    /// # Errors
    ///
    /// There is no such unit or no frame, or the unit does not confirm.
    pub fn switch_on(hal: &impl Hal, window: RegisterWindow) -> Result<Self, UnitError> {
        let registers = Registers::of(hal, window);
        let capabilities = Capabilities::read(&registers)?;
        let queue = Queue::new(hal, SLOTS, HOST_BITS, false).map_err(UnitError::no_frame(window))?;
        queue.start(&registers, TIMEOUT_NS)?;
        let (encoder, mut page) = (Encoder::of(&capabilities), 0);
        let batch = [(); 16].map(|()| {
            page += 2 * PAGE_BYTES;
            let start = Iova::new(page);
            encoder.encode(Invalidation::IotlbPages { domain_id: 1, start, mask: 0, leaves_only: true })
        });
        Ok(Self { queue, window, batch })
    }

    /// Submits the batch, and waits until it is done.
    ///
    /// # Errors
    ///
    /// The unit refuses it, or does not confirm in time.
    pub fn submit_and_wait(&self, hal: &impl Hal) -> Result<(), UnitError> {
        let registers = Registers::of(hal, self.window);
        let batch = self.batch.iter().copied();
        let ticket = self.queue.begin(&registers, batch, core::iter::empty(), TIMEOUT_NS)?;
        self.queue.wait(&registers, ticket, TIMEOUT_NS)
    }
}
