//! The queue on a unit that is as bad as the specification lets it be, or worse.

use core::iter::empty;
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

use cofferdam_support::random::Random;

use super::bench::{Bench, DEAD, SOON, Sent, device_error, unresponsive};
use super::fake_unit::{ITE, Manners, WINDOW, iotlb};
use crate::error::UnitError;

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
fn two_devices_that_die_at_once_are_named_one_by_one() {
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
    assert_ne!(bench.hardware().status & ITE, 0, "the unit has to go on");
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
