//! Devices that never stop, one of which writes and the other interrupts, and what is lost of that.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cofferdam_pc::Cpus;
use cofferdam_tests_qemu::{Edu, Nic};
use spin::Once;

/// The driver waits no longer for the devices; the host may be busy.
const PAUSE_NS: u64 = 500_000_000;

/// A CPU that has the devices write and interrupt, over and over.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) writes: Nic,
    pub(crate) interrupts: Edu,
    cpus: Cpus,
    /// Where interrupts go: a CPU and a vector.
    at: (u32, u8),
    /// How many writes, each with an interrupt, were begun, and how many of them are over.
    begun: AtomicU32,
    over: AtomicU32,
    lost_writes: AtomicU32,
    lost_interrupts: AtomicU32,
    stop: AtomicBool,
    is_done: AtomicBool,
}

static WORKER: Once<Worker> = Once::new();

impl Worker {
    /// Has another CPU begin to work.
    pub(crate) fn start(writes: Nic, interrupts: Edu, cpus: Cpus, cpu: u32, at: (u32, u8)) -> &'static Self {
        let worker = WORKER.call_once(|| Self {
            writes,
            interrupts,
            cpus,
            at,
            begun: AtomicU32::new(0),
            over: AtomicU32::new(0),
            lost_writes: AtomicU32::new(0),
            lost_interrupts: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
        });
        cpus.run(cpu, work);
        worker
    }

    /// One after the other, each when the interrupt of the one before is there. Ends early if one is lost.
    fn work(&self) {
        let (cpu, vector) = self.at;
        while !self.stop.load(Ordering::Acquire) {
            let before = self.cpus.taken(cpu, vector);
            self.begun.fetch_add(1, Ordering::Release);
            let has_arrived = self.writes.send();
            self.lost_writes.fetch_add(u32::from(!has_arrived), Ordering::Relaxed);
            self.interrupts.interrupt();
            let is_there = self.cpus.wait_for(|| self.cpus.taken(cpu, vector) != before);
            self.interrupts.acknowledge();
            self.over.fetch_add(1, Ordering::Release);
            if !is_there {
                self.lost_interrupts.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        self.is_done.store(true, Ordering::Release);
    }

    /// How many were sent so far.
    pub(crate) fn sent(&self) -> u32 {
        self.over.load(Ordering::Acquire)
    }

    /// How many writes and how many interrupts were lost so far.
    pub(crate) fn lost(&self) -> (u32, u32) {
        (self.lost_writes.load(Ordering::Relaxed), self.lost_interrupts.load(Ordering::Relaxed))
    }

    /// Has it come to its end: how many interrupts have arrived in all. `None` if it does not end.
    pub(crate) fn stop(&self) -> Option<u32> {
        self.stop.store(true, Ordering::Release);
        let is_over = self.cpus.wait_for(|| self.is_done.load(Ordering::Acquire)) && self.cpus.settle();
        is_over.then(|| self.cpus.ids().map(|id| self.cpus.taken(id, self.at.1)).sum())
    }

    /// Waits until one was begun and is over.
    fn wait_for_one(&self) {
        let next = self.begun.load(Ordering::Acquire) + 1;
        let is_over = || self.sent() >= next || self.is_done.load(Ordering::Acquire);
        self.cpus.wait_at_most(PAUSE_NS, is_over);
    }
}

fn work() {
    if let Some(worker) = WORKER.get() {
        worker.work();
    }
}

/// Before each write to a register of a unit: the devices get something done, so no two writes come without.
pub(crate) fn get_something_done() {
    if let Some(worker) = WORKER.get() {
        worker.wait_for_one();
    }
}
