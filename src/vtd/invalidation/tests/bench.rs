//! A queue on a unit of the tests, and a judge of what the queue says the unit did.

use core::iter::empty;
use std::collections::HashMap;
use std::vec::Vec;

use super::fake_unit::{FakeUnit, Hardware, Manners, WINDOW, device_tlb, iotlb};
use crate::addr::Requester;
use crate::error::UnitError;
use crate::vtd::invalidation::descriptor::Descriptor;
use crate::vtd::invalidation::queue::{Queue, Ticket};
use crate::vtd::registers::Registers;

/// The deadline of a wait.
pub(super) const SOON: u64 = 2_000_000;
/// Answers never.
pub(super) const DEAD: u32 = u32::MAX;

pub(super) struct Bench {
    pub unit: FakeUnit,
    pub queue: Queue,
    last_id: u64,
}

/// A batch that was submitted, and what the unit has to have done for it.
pub(super) struct Sent {
    pub ticket: Ticket,
    end: u64,
    /// How many descriptors, waits among them.
    pub slots: u64,
    ids: Vec<u64>,
    devices: Vec<u16>,
}

impl Bench {
    pub(super) fn new(slots: u16, seed: u64, manners: Manners) -> Self {
        let unit = FakeUnit::new(slots.into(), seed, manners, || ());
        let queue = Queue::new(&unit, slots, 52, false).unwrap();
        queue.start(&Registers::of(&unit, WINDOW), SOON).unwrap();
        Self { unit, queue, last_id: 0 }
    }

    pub(super) fn registers(&self) -> Registers<'_, FakeUnit> {
        Registers::of(&self.unit, WINDOW)
    }

    pub(super) fn hardware(&self) -> impl std::ops::DerefMut<Target = Hardware> + '_ {
        self.unit.hardware()
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A batch of so many invalidations of the IOTLB, and of these devices, which take so many at a time.
    pub(super) fn batch(&mut self, pages: usize, devices: &[u16], depth: u64) -> Vec<Descriptor> {
        let mut batch: Vec<_> = (0..pages).map(|_| iotlb(self.id())).collect();
        batch.extend(devices.iter().map(|&device| device_tlb(self.id(), device, depth)));
        batch
    }

    pub(super) fn submit(&self, batch: &[Descriptor]) -> Option<Sent> {
        let before = self.queue.counts();
        let (devices, unit): (Vec<_>, Vec<_>) = batch.iter().partition(|descriptor| descriptor.device_tlb().is_some());
        let ticket = self.queue.submit(&self.registers(), unit.into_iter(), devices.into_iter())?;
        let after = self.queue.counts();
        assert_eq!(after.doorbells, before.doorbells + 1);
        let devices = batch.iter().filter_map(|descriptor| descriptor.device_tlb()).map(|(device, _)| device).collect();
        let ids = batch.iter().map(|descriptor| descriptor.upper >> 12).collect();
        Some(Sent { end: ticket.end, slots: after.descriptors - before.descriptors, ticket, ids, devices })
    }

    pub(super) fn wait(&self, sent: Sent) -> Result<(), UnitError> {
        let Sent { end, slots, ids, devices, .. } = &sent;
        let what = (*end, *slots, ids.clone(), devices.clone());
        let result = self.queue.wait(&self.registers(), sent.ticket, SOON);
        self.judge(what, result);
        result
    }

    pub(super) fn poll(&self, sent: &Sent) -> bool {
        let result = self.queue.poll(&self.registers(), &sent.ticket);
        if let Some(result) = result {
            self.judge((sent.end, sent.slots, sent.ids.clone(), sent.devices.clone()), result);
        }
        result.is_some()
    }

    /// The result of a ticket has to be what the unit did.
    fn judge(&self, (end, slots, ids, devices): (u64, u64, Vec<u64>, Vec<u16>), result: Result<(), UnitError>) {
        let hardware = self.unit.hardware();
        let refused_wait = |number: u64| hardware.refused_waits.get(&(number as u32));
        // When all that is left is issued again, a wait comes before it that stores what the one before has stored.
        let waits =
            (end - slots + 1..end).any(|number| refused_wait(number).is_some()) || refused_wait(end) == Some(&false);
        let refused = waits || ids.iter().any(|id| hardware.refused.contains(id));
        match result {
            Ok(()) => {
                assert!(!refused, "reported done though refused: {ids:?}");
                ids.iter().for_each(|id| assert!(hardware.executed.contains_key(id), "reported done too early: {id}"));
            }
            Err(UnitError::Queue { cause: "one of too many failures at a time", .. }) => {
                assert!(self.queue.counts().waits > 32, "only as many are forgotten as are too many");
            }
            Err(UnitError::Queue { register: "FSTS_REG", bit: "IQE", .. }) => assert!(refused, "{ids:?}"),
            Err(UnitError::Device { requester, .. }) => {
                let requester = requester.get();
                assert!(devices.contains(&requester), "{requester:x} is not in {devices:x?}");
                let guess = hardware.manners.named.is_some() || hardware.manners.spurious_one_in.is_some();
                let unanswered = if guess { hardware.timeouts } else { hardware.unanswered[&requester] };
                assert!(unanswered > 1, "{requester:x} has had no second chance");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Moves the queue on by so many slots.
    pub(super) fn skip(&mut self, slots: u64) {
        for _ in 0..slots / 2 {
            let page = iotlb(self.id());
            let ticket = self.queue.begin(&self.registers(), [page].into_iter(), empty(), SOON).unwrap();
            self.queue.wait(&self.registers(), ticket, SOON).unwrap();
        }
        if slots % 2 == 1 {
            let sent = self.submit(&[]).unwrap();
            self.wait(sent).unwrap();
        }
    }

    fn wrongs(&self) {
        assert_eq!(self.unit.hardware().wrongs, [""; 0]);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.wrongs();
        }
    }
}

pub(super) fn unresponsive<const N: usize>(devices: [(u16, u32); N]) -> Manners {
    Manners { unresponsive: HashMap::from(devices), ..Manners::default() }
}

pub(super) fn device_error(requester: u16) -> Result<(), UnitError> {
    Err(UnitError::Device { unit: WINDOW, requester: Requester::new(requester) })
}
