//! A queue that has room or is full, and the batches and tickets that go through it.

use core::iter::empty;
use std::vec::Vec;

use super::bench::{Bench, SOON};
use super::fake_unit::{FakeUnit, Manners, WINDOW};
use crate::error::UnitError;
use crate::vtd::invalidation::queue::Queue;
use crate::vtd::registers::Registers;

#[test]
fn the_size_is_rounded_up_and_written_to_the_unit() {
    for (slots, order) in [(0, 0), (1, 0), (256, 0), (257, 1), (1000, 2), (1 << 14, 6), (1 << 15, 7), (u16::MAX, 7)] {
        let unit = FakeUnit::new(1 << 15, 1, Manners::default(), || ());
        let queue = Queue::new(&unit, slots, 52, false).unwrap();
        queue.start(&Registers::of(&unit, WINDOW), SOON).unwrap();
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
    drop(bench.submit(&first).unwrap());
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
