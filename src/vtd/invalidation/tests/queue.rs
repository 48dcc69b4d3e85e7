//! The queue on a unit that is as bad as the specification lets it be, or worse.

use core::iter::empty;
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

use cofferdam_support::random::Random;

use super::fake_unit::{FakeUnit, Hardware, ITE, Manners, WINDOW, device_tlb, iotlb};
use crate::addr::Requester;
use crate::error::UnitError;
use crate::vtd::invalidation::descriptor::Descriptor;
use crate::vtd::invalidation::queue::{Queue, Ticket};
use crate::vtd::registers::Registers;

const SOON: u64 = 2_000_000;
/// Answers never.
const DEAD: u32 = u32::MAX;

struct Bench {
    unit: FakeUnit,
    queue: Queue,
    last_id: u64,
}

/// A batch that was submitted, and what the unit has to have done for it.
struct Sent {
    ticket: Ticket,
    end: u64,
    /// How many descriptors, waits among them.
    slots: u64,
    ids: Vec<u64>,
    devices: Vec<u16>,
}

impl Bench {
    fn new(slots: u16, seed: u64, manners: Manners) -> Self {
        let unit = FakeUnit::new(slots.into(), seed, manners, || ());
        let queue = Queue::new(&unit, slots, 52).unwrap();
        queue.start(&Registers { hal: &unit, window: WINDOW }, SOON).unwrap();
        Self { unit, queue, last_id: 0 }
    }

    fn registers(&self) -> Registers<'_, FakeUnit> {
        Registers { hal: &self.unit, window: WINDOW }
    }

    fn hardware(&self) -> impl std::ops::DerefMut<Target = Hardware> + '_ {
        self.unit.hardware()
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A batch of so many invalidations of the IOTLB, and of these devices, which take so many at a time.
    fn batch(&mut self, pages: usize, devices: &[u16], depth: u64) -> Vec<Descriptor> {
        let mut batch: Vec<_> = (0..pages).map(|_| iotlb(self.id())).collect();
        batch.extend(devices.iter().map(|&device| device_tlb(self.id(), device, depth)));
        batch
    }

    fn submit(&self, batch: &[Descriptor]) -> Option<Sent> {
        let before = self.queue.counts();
        let (devices, unit): (Vec<_>, Vec<_>) = batch.iter().partition(|descriptor| descriptor.device_tlb().is_some());
        let ticket = self.queue.submit(&self.registers(), unit.into_iter(), devices.into_iter())?;
        let after = self.queue.counts();
        assert_eq!(after.doorbells, before.doorbells + 1);
        let devices = batch.iter().filter_map(|descriptor| descriptor.device_tlb()).map(|(device, _)| device).collect();
        let ids = batch.iter().map(|descriptor| descriptor.upper >> 12).collect();
        Some(Sent { end: ticket.end, slots: after.descriptors - before.descriptors, ticket, ids, devices })
    }

    fn wait(&self, sent: Sent) -> Result<(), UnitError> {
        let Sent { end, slots, ids, devices, .. } = &sent;
        let what = (*end, *slots, ids.clone(), devices.clone());
        let result = self.queue.wait(&self.registers(), sent.ticket, SOON);
        self.judge(what, result);
        result
    }

    fn poll(&self, sent: &Sent) -> bool {
        let result = self.queue.poll(&self.registers(), &sent.ticket);
        if let Some(result) = result {
            self.judge((sent.end, sent.slots, sent.ids.clone(), sent.devices.clone()), result);
        }
        result.is_some()
    }

    /// What a ticket was told has to be what the unit did.
    fn judge(&self, (end, slots, ids, devices): (u64, u64, Vec<u64>, Vec<u16>), result: Result<(), UnitError>) {
        let hardware = self.unit.hardware();
        let refused_wait = |number: u64| hardware.refused_waits.get(&(number as u32));
        // When all that is left is issued again, a wait comes before it that stores what the one before has stored.
        let waits =
            (end - slots + 1..end).any(|number| refused_wait(number).is_some()) || refused_wait(end) == Some(&false);
        let refused = waits || ids.iter().any(|id| hardware.refused.contains(id));
        match result {
            Ok(()) => {
                assert!(!refused, "told done though refused: {ids:?}");
                ids.iter().for_each(|id| assert!(hardware.executed.contains_key(id), "told done too early: {id}"));
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
    fn skip(&mut self, slots: u64) {
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

fn unresponsive<const N: usize>(devices: [(u16, u32); N]) -> Manners {
    Manners { unresponsive: HashMap::from(devices), ..Manners::default() }
}

fn device_error(requester: u16) -> Result<(), UnitError> {
    Err(UnitError::Device { unit: WINDOW, requester: Requester::new(requester) })
}

#[test]
fn the_size_is_rounded_up_and_told_to_the_unit() {
    for (slots, order) in [(0, 0), (1, 0), (256, 0), (257, 1), (1000, 2), (1 << 14, 6), (1 << 15, 7), (u16::MAX, 7)] {
        let unit = FakeUnit::new(1 << 15, 1, Manners::default(), || ());
        let queue = Queue::new(&unit, slots, 52).unwrap();
        queue.start(&Registers { hal: &unit, window: WINDOW }, SOON).unwrap();
        assert_eq!(unit.hardware().address & 0xfff, order, "{slots}");
        assert_eq!(queue.frames(), 2 << order, "{slots}");
    }
}

#[test]
fn the_largest_queue_is_filled_and_goes_round() {
    let mut bench = Bench::new(1 << 15, 7, Manners::default());
    for round in 0..2 {
        let mut sent = Vec::new();
        bench.hardware().manners.asleep = true;
        loop {
            let batch = bench.batch(99, &[], 0);
            let Some(batch) = bench.submit(&batch) else { break };
            sent.push(batch);
        }
        assert_eq!(sent.len(), ((1 << 14) - 1) / 100, "{round}");
        bench.hardware().manners.asleep = false;
        sent.into_iter().for_each(|sent| bench.wait(sent).unwrap());
    }
    bench.skip(200);
    assert!(bench.hardware().tail < 200, "round it went");
}

#[test]
fn a_full_queue_says_so_writes_nothing_and_has_room_again() {
    let mut bench = Bench::new(256, 3, Manners { asleep: true, ..Manners::default() });
    let batch = bench.batch(126, &[], 0);
    let sent = bench.submit(&batch).unwrap();
    let tail = bench.hardware().tail;
    assert_eq!(bench.queue.submit(&bench.registers(), empty(), empty()), None);
    assert_eq!(bench.hardware().tail, tail);
    assert!(!bench.poll(&sent));
    let error = bench.queue.begin(&bench.registers(), empty(), empty(), 1000).unwrap_err();
    assert!(matches!(error, UnitError::Timeout { register: "IQH_REG", bit: "QH", .. }), "{error}");
    bench.hardware().manners.asleep = false;
    let late = bench.queue.begin(&bench.registers(), empty(), empty(), SOON).unwrap();
    bench.queue.wait(&bench.registers(), late, SOON).unwrap();
    bench.wait(sent).unwrap();
}

#[test]
fn a_batch_waits_for_all_the_room_that_it_takes() {
    let mut bench = Bench::new(256, 3, Manners { asleep: true, ..Manners::default() });
    let (first, devices) = (bench.batch(119, &[], 0), bench.batch(0, &[7; 4], 0));
    let _ = bench.submit(&first).unwrap();
    // Room for seven, and each of a device counts twice.
    let error = bench.queue.begin(&bench.registers(), empty(), devices.into_iter(), 1000).unwrap_err();
    assert!(matches!(error, UnitError::Timeout { register: "IQH_REG", bit: "QH", .. }), "{error}");
}

#[test]
fn the_smallest_queue_takes_the_longest_batch_and_none_longer() {
    let mut bench = Bench::new(256, 3, Manners::default());
    let batch = bench.batch(Queue::BATCH + 1, &[], 0);
    assert!(bench.submit(&batch).is_none());
    let sent = bench.submit(&batch[1..]).unwrap();
    bench.wait(sent).unwrap();
    let half = Queue::BATCH / 2;
    let batch = bench.batch(0, &[7; Queue::BATCH / 2 + 1], 1);
    assert!(bench.submit(&batch).is_none(), "each may need a wait");
    let sent = bench.submit(&batch[1..]).unwrap();
    assert_eq!(sent.slots as usize, 2 * half);
    bench.wait(sent).unwrap();
}

#[test]
fn tickets_that_nobody_waits_for_keep_no_slots() {
    let manners = Manners { refuses_one_in: Some((5, u32::MAX)), ..Manners::default() };
    let mut bench = Bench::new(256, 11, manners);
    for _ in 0..2000 {
        let batch = bench.batch(2, &[], 0);
        let _ = bench.queue.begin(&bench.registers(), batch.into_iter(), empty(), SOON).unwrap();
    }
    bench.hardware().manners.refuses_one_in = None;
    bench.skip(3);
}

#[test]
fn a_ticket_is_good_long_after_its_slots_were_used_again() {
    let mut bench = Bench::new(256, 5, Manners { refuses_after: Some(3), ..Manners::default() });
    let batch = bench.batch(1, &[], 0);
    let good = bench.submit(&batch).unwrap();
    let batch = bench.batch(4, &[], 0);
    let bad = bench.submit(&batch).unwrap();
    bench.skip(5000);
    bench.wait(good).unwrap();
    assert!(bench.poll(&bad) && bench.poll(&bad), "as often as one likes");
    assert!(matches!(bench.wait(bad), Err(UnitError::Queue { slot: 3, .. })));
}

#[test]
fn what_a_status_word_held_before_says_nothing() {
    let mut bench = Bench::new(256, 5, Manners { asleep: true, ..Manners::default() });
    // The ring is the first frame, and the wait is number 1: after 2^32 descriptors, its word holds this again.
    bench.unit.poke(1, 16, 2);
    let batch = bench.batch(1, &[], 0);
    let sent = bench.submit(&batch).unwrap();
    assert!(!bench.poll(&sent));
    bench.hardware().manners.asleep = false;
    bench.wait(sent).unwrap();
}

#[test]
fn a_refused_descriptor_fails_its_batch_alone_at_every_slot() {
    for offset in 0..256 {
        for bad in 0..9 {
            let mut bench = Bench::new(256, offset * 9 + bad, Manners::default());
            bench.skip(offset);
            bench.hardware().manners =
                Manners { refuses_after: Some(bad), resumes_late: offset % 2 == 0, asleep: true, ..Manners::default() };
            let sent: Vec<_> = (0..3)
                .map(|_| {
                    let batch = bench.batch(2, &[], 0);
                    bench.submit(&batch).unwrap()
                })
                .collect();
            bench.hardware().manners.asleep = false;
            for (index, sent) in sent.into_iter().enumerate() {
                assert_eq!(bench.wait(sent).is_err(), index as u64 == bad / 3, "{offset} {bad} {index}");
            }
            bench.skip(2);
        }
    }
}

#[test]
fn what_a_time_out_lost_is_issued_again_at_every_slot() {
    for offset in 0..256 {
        let mut bench = Bench::new(256, offset, unresponsive([(7, 1)]));
        bench.skip(offset);
        bench.hardware().manners.asleep = true;
        let sent: Vec<_> = [vec![], vec![7], vec![], vec![8, 7], vec![]]
            .map(|devices| {
                let batch = bench.batch(20, &devices, 0);
                bench.submit(&batch).unwrap()
            })
            .into();
        bench.hardware().manners.asleep = false;
        // The last first: whoever waits puts it right for all.
        sent.into_iter().rev().for_each(|sent| bench.wait(sent).unwrap());
        assert_eq!(bench.hardware().timeouts, 1, "unresponsive once, and it has a second chance");
        bench.skip(2);
    }
}

#[test]
fn an_unresponsive_device_fails_only_batches_that_name_it() {
    for seed in 0..200 {
        let mut bench = Bench::new(256, seed, unresponsive([(7, DEAD)]));
        let sent: Vec<_> = [vec![], vec![8], vec![7], vec![8, 9], vec![7, 8], vec![]]
            .map(|devices| {
                let batch = bench.batch(3, &devices, 0);
                bench.submit(&batch).unwrap()
            })
            .into();
        let results: Vec<_> = sent.into_iter().map(|sent| bench.wait(sent)).collect();
        assert_eq!(results, [Ok(()), Ok(()), device_error(7), Ok(()), device_error(7), Ok(())]);
        assert!(bench.hardware().timeouts <= 4, "twice for each batch at most");
        assert!(bench.hardware().most_outstanding <= 2);
    }
}

#[test]
fn two_devices_that_die_at_once_are_told_one_after_the_other() {
    for seed in 0..200 {
        let mut bench = Bench::new(256, seed, unresponsive([(7, DEAD), (9, DEAD)]));
        // As the floor above does: without the one that is named, again.
        let mut devices = vec![7, 8, 9];
        let mut named = Vec::new();
        let other = bench.submit(&[iotlb(1_000_000)]).unwrap();
        loop {
            let batch = bench.batch(1, &devices, 0);
            let sent = bench.submit(&batch).unwrap();
            match bench.wait(sent) {
                Ok(()) => break,
                Err(UnitError::Device { requester, .. }) => {
                    named.push(requester.get());
                    devices.retain(|device| *device != requester.get());
                }
                Err(error) => panic!("{error}"),
            }
        }
        named.sort_unstable();
        assert_eq!(named, [7, 9]);
        bench.wait(other).unwrap();
    }
}

#[test]
fn the_unresponsive_device_is_found_if_the_unit_names_none() {
    for seed in 0..200 {
        let mut bench = Bench::new(256, seed, Manners { named: Some(0), ..unresponsive([(7, DEAD)]) });
        let batch = bench.batch(1, &[8], 0);
        let innocent = bench.submit(&batch).unwrap();
        let batch = bench.batch(1, &[8, 7], 0);
        let sent = bench.submit(&batch).unwrap();
        let batch = bench.batch(1, &[], 0);
        let other = bench.submit(&batch).unwrap();
        // Which device of the batch is named cannot be known.
        let Err(UnitError::Device { requester, .. }) = bench.wait(sent) else { panic!() };
        assert!([7, 8].contains(&requester.get()));
        bench.wait(other).unwrap();
        bench.wait(innocent).unwrap();
        let batch = bench.batch(1, &[7], 0);
        let sent = bench.submit(&batch).unwrap();
        assert_eq!(bench.wait(sent), device_error(7));
    }
}

#[test]
fn a_time_out_and_a_refusal_at_once_cost_what_each_costs() {
    let mut both = 0;
    for (seed, bad) in (0..300).flat_map(|seed| [(seed, 1), (seed, 2), (seed, 3), (seed, 4), (seed, 6)]) {
        let manners = Manners { refuses_after: Some(bad), ..unresponsive([(7, 1)]) };
        let mut bench = Bench::new(256, seed, manners);
        let batch = bench.batch(1, &[7], 0);
        let first = bench.submit(&batch).unwrap();
        // Nobody looks, so that both come about.
        for _ in 0..200 {
            crate::hal::Hal::pause(&bench.unit);
        }
        let batch = bench.batch(3, &[], 0);
        let second = bench.submit(&batch).unwrap();
        // The fourth is the wait that comes before all that is issued again, and nobody's.
        let results = [bench.wait(first), bench.wait(second)].map(|result| result.is_err());
        both += u32::from(results != [false; 2] && bench.hardware().timeouts == 1);
    }
    assert!(both > 100, "{both}");
}

#[test]
fn time_outs_and_answers_out_of_nowhere_do_no_harm() {
    for seed in 0..50 {
        let manners = Manners { spurious_one_in: Some(300), stray_one_in: Some(100), ..Manners::default() };
        let mut bench = Bench::new(256, seed, manners);
        bench.skip(400);
    }
}

#[test]
fn a_unit_that_stops_for_ever_ends_in_a_time_out() {
    let endless = [
        Manners { refuses_one_in: Some((1, u32::MAX)), ..Manners::default() },
        Manners { spurious_one_in: Some(1), ..Manners::default() },
        Manners { refuses_one_in: Some((1, u32::MAX)), spurious_one_in: Some(1), ..Manners::default() },
        Manners { named: Some(0x4711), ..unresponsive([(7, DEAD)]) },
        Manners { mute: true, ..Manners::default() },
        Manners { asleep: true, ..Manners::default() },
    ];
    for manners in endless {
        let mut bench = Bench::new(256, 1, manners);
        let batch = bench.batch(3, &[7], 0);
        let sent = bench.submit(&batch).unwrap();
        let error = bench.queue.wait(&bench.registers(), sent.ticket, 200_000).unwrap_err();
        assert!(
            matches!(error, UnitError::Timeout { unit: WINDOW, register: "IQ status word", waited_ns: 200_000.., .. }),
            "{error}"
        );
        // When it comes to its senses, the slots are found free.
        bench.hardware().manners = Manners::default();
        if bench.hardware().fetched < 5 {
            let late = bench.queue.begin(&bench.registers(), empty(), empty(), SOON).unwrap();
            bench.queue.wait(&bench.registers(), late, SOON).unwrap();
        }
    }
}

#[test]
fn a_head_that_cannot_be_ends_every_wait() {
    for seed in 0..100 {
        let manners = Manners {
            babbles: true,
            refuses_one_in: Some((4, u32::MAX)),
            spurious_one_in: Some(50),
            ..unresponsive([(7, DEAD)])
        };
        let mut bench = Bench::new(256, seed, manners);
        for _ in 0..20 {
            let batch = bench.batch(4, &[7], 0);
            if let Some(sent) = bench.submit(&batch) {
                let _ = bench.queue.wait(&bench.registers(), sent.ticket, 20_000);
            }
        }
        bench.hardware().wrongs.clear();
    }
}

#[test]
fn a_head_beyond_what_was_submitted_is_left_alone() {
    let mut bench = Bench::new(256, 1, Manners::default());
    bench.skip(80);
    bench.hardware().manners.asleep = true;
    let batch = bench.batch(1, &[7], 0);
    let sent = bench.submit(&batch).unwrap();
    {
        let mut hardware = bench.hardware();
        hardware.head = hardware.tail + 20;
        hardware.status |= ITE;
    }
    bench.queue.wait(&bench.registers(), sent.ticket, 20_000).unwrap_err();
    assert_ne!(bench.hardware().status & ITE, 0, "the unit is told to go on");
}

#[test]
fn devices_are_asked_until_the_batch_that_asks_them_is_done() {
    let mut bench = Bench::new(256, 1, Manners::default());
    let (page, device) = (bench.batch(1, &[], 0), bench.batch(0, &[7], 0));
    for (batch, asks) in [(&page, false), (&device, true), (&page, false)] {
        let sent = bench.submit(batch).unwrap();
        assert_eq!((sent.ticket.for_devices, bench.queue.asks_devices()), (asks, asks));
        bench.wait(sent).unwrap();
    }
}

#[test]
fn a_device_gets_as_many_at_a_time_as_it_takes() {
    for (depth, count, fences) in [(0, 32, 0), (0, 33, 1), (0, 100, 3), (1, 5, 4), (2, 5, 2), (31, 31, 0), (31, 32, 1)]
    {
        for seed in 0..20 {
            let mut bench = Bench::new(1024, seed, Manners::default());
            let before = bench.queue.counts();
            let devices = vec![7; count];
            let sent: Vec<_> = (0..2)
                .map(|_| {
                    let batch = bench.batch(1, &devices, depth);
                    bench.submit(&batch).unwrap()
                })
                .collect();
            let after = bench.queue.counts();
            assert_eq!(after.waits - before.waits, 2 * (1 + fences), "{depth} {count}");
            sent.into_iter().for_each(|sent| bench.wait(sent).unwrap());
            assert!(bench.hardware().most_outstanding <= if depth == 0 { 32 } else { depth as usize });
        }
    }
}

#[test]
fn each_ticket_of_a_random_history_ends_as_the_unit_did() {
    let mut seen = HashSet::new();
    for seed in 0..40_u64 {
        let mut random = Random::new(seed);
        let mut below = |bound| random.below(bound);
        let manners = Manners {
            unresponsive: HashMap::from([
                (7, if below(3) == 0 { DEAD } else { below(4) as u32 }),
                (9, below(2) as u32 * DEAD),
            ]),
            named: (below(4) == 0).then_some(0),
            refuses_one_in: (below(2) == 0).then_some((10 + below(60), 25)),
            spurious_one_in: (below(3) == 0).then_some(500 + below(2000)),
            stray_one_in: (below(3) == 0).then_some(500),
            resumes_late: below(2) == 0,
            ..Manners::default()
        };
        let mut bench = Bench::new(256, seed, manners);
        let mut open: Vec<Sent> = Vec::new();
        for _ in 0..100 {
            let pages = 1 + below(12) as usize;
            let devices: Vec<u16> = (0..below(5)).map(|_| 7 + below(4) as u16).collect();
            let batch = bench.batch(pages, &devices, below(4));
            match bench.submit(&batch) {
                Some(sent) if below(10) != 0 => open.push(sent),
                _dropped_or_refused => {}
            }
            if !open.is_empty() && (below(2) == 0 || open.len() > 20) {
                let index = below(open.len() as u64) as usize;
                match below(3) {
                    0 => assert!(!bench.poll(&open[index]) || bench.poll(&open[index])),
                    _ => {
                        let result = bench.wait(open.swap_remove(index));
                        seen.insert(result.map_err(|error| std::mem::discriminant(&error)));
                    }
                }
            }
        }
        open.into_iter().for_each(|sent| {
            let _ = bench.wait(sent);
        });
    }
    assert_eq!(seen.len(), 3, "done, refused, and named an unresponsive device");
}
