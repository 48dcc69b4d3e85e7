//! The queue once more, over locks and atomics of an explorer of schedules: it switches between the threads of a test
//! wherever they touch what they share, the unit among it, in thousands of orders that it draws.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec::Vec;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::fake_unit::{FakeUnit, Manners, WINDOW, device_tlb, iotlb};
use crate::error::UnitError;
use crate::vtd::invalidation::descriptor::Descriptor;
use crate::vtd::registers::Registers;
use queue::Queue;

#[path = "../queue.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "with other locks and atomics, and a part is enough here")]
pub(super) mod queue;

/// In place of `vtd::sync`.
pub(super) mod sync {
    pub(in crate::vtd::invalidation::tests) use shuttle::sync::MutexGuard;
    pub(in crate::vtd::invalidation::tests) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    #[derive(Debug)]
    pub(in crate::vtd::invalidation::tests) struct UnitMutex<T>(shuttle::sync::Mutex<T>);

    impl<T> UnitMutex<T> {
        pub(in crate::vtd::invalidation::tests) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(in crate::vtd::invalidation::tests) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub(in crate::vtd::invalidation::tests) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap()
        }
    }
}

const SOON: u64 = 500_000;
/// A device that never answers, and one that does.
const DEAD: u16 = 7;
const ALIVE: u16 = 8;

struct Bench {
    unit: FakeUnit,
    queue: Queue,
}

impl Bench {
    fn new(manners: Manners) -> Arc<Self> {
        let unit = FakeUnit::new(256, thread_rng().r#gen(), manners, thread::yield_now);
        let queue = Queue::new(&unit, 256, 52, false).unwrap();
        queue.start(&Registers::of(&unit, WINDOW), SOON).unwrap();
        Arc::new(Self { unit, queue })
    }

    /// Submits, waits in one way or the other, and compares the result with what the unit did.
    fn run(&self, pages: &[u64], devices: &[(u64, u16)], polls: bool) {
        let registers = Registers::of(&self.unit, WINDOW);
        let pages: Vec<Descriptor> = pages.iter().map(|&id| iotlb(id)).collect();
        let tlbs: Vec<Descriptor> = devices.iter().map(|&(id, device)| device_tlb(id, device, 0)).collect();
        let (unit, devices) = (pages.iter().copied(), tlbs.iter().copied());
        let ticket = self.queue.begin(&registers, unit, devices, SOON).unwrap();
        let numbers = ticket.end - (pages.len() + tlbs.len()) as u64..=ticket.end;
        let result = if polls {
            (0..SOON)
                .find_map(|_| {
                    thread::yield_now();
                    self.queue.poll(&registers, &ticket)
                })
                .unwrap()
        } else {
            self.queue.wait(&registers, ticket, SOON)
        };
        let hardware = self.unit.hardware();
        let all = || pages.iter().chain(&tlbs);
        let refused = all().any(|descriptor| hardware.refused.contains(&(descriptor.upper >> 12)))
            || numbers.clone().any(|number| hardware.refused_waits.get(&(number as u32)) == Some(&false));
        let done = all().all(|descriptor| hardware.executed.contains_key(&(descriptor.upper >> 12)));
        let dead = tlbs.iter().any(|descriptor| descriptor.device_tlb() == Some((DEAD, 32)));
        match result {
            Ok(()) => assert!(done && !refused, "reported done: {done}, refused: {refused}"),
            Err(UnitError::Queue { bit: "IQE", .. }) => assert!(refused, "reported refused"),
            Err(UnitError::Device { requester, .. }) if requester.get() == DEAD => {
                assert!(dead, "a device is named that had nothing to answer")
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn explore(test: impl Fn() + Send + Sync + 'static, schedules: usize) {
    let test = Arc::new(test);
    let again = Arc::clone(&test);
    shuttle::check_random(move || test(), schedules);
    // Few switches, at the worst of places.
    shuttle::check_pct(move || again(), schedules, 3);
}

#[test]
fn three_cpus_use_the_queue_while_a_descriptor_is_refused() {
    explore(
        || {
            let bench = Bench::new(Manners { refuses_one_in: Some((6, 1)), ..Manners::default() });
            let threads: Vec<_> = (0..3)
                .map(|cpu: u64| {
                    let bench = Arc::clone(&bench);
                    thread::spawn(move || {
                        for round in 0..2 {
                            bench.run(&[cpu * 10 + round * 2 + 1, cpu * 10 + round * 2 + 2], &[], cpu == 1);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(bench.unit.hardware().wrongs.is_empty(), "{:?}", bench.unit.hardware().wrongs);
        },
        400,
    );
}

#[test]
fn three_cpus_get_over_an_unresponsive_device_of_one_of_them() {
    explore(
        || {
            let unresponsive = HashMap::from([(DEAD, u32::MAX), (ALIVE, 1)]);
            let bench = Bench::new(Manners { unresponsive, resumes_late: true, ..Manners::default() });
            let threads: Vec<_> = [DEAD, ALIVE, 0]
                .into_iter()
                .zip(1..)
                .map(|(device, cpu)| {
                    let bench = Arc::clone(&bench);
                    thread::spawn(move || {
                        let devices = [(cpu * 10, device)];
                        bench.run(&[cpu * 10 + 1], if device == 0 { &[] } else { &devices }, cpu == 3);
                        bench.run(&[cpu * 10 + 2], &[], false);
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(bench.unit.hardware().wrongs.is_empty(), "{:?}", bench.unit.hardware().wrongs);
        },
        200,
    );
}

#[test]
fn a_cpu_that_looks_late_finds_its_slots_in_other_hands() {
    explore(
        || {
            let bench = Bench::new(Manners { refuses_one_in: Some((150, 1)), ..Manners::default() });
            let late = Arc::clone(&bench);
            let late = thread::spawn(move || late.run(&[1, 2], &[], true));
            for batch in 1..6 {
                let ids: Vec<u64> = (0..90).map(|id| batch * 100 + id).collect();
                bench.run(&ids, &[], false);
            }
            late.join().unwrap();
        },
        15,
    );
}
