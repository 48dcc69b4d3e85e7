//! A route moves from CPU to CPU a thousand times while the device sends interrupts: none is lost.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cofferdam::interrupt::{Route, Source};
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam_pc::Cpus;
use cofferdam_tests_qemu::{Edu, Words};
use heapless::Vec;
use spin::Once;

use crate::job::Job;

const VECTOR: u8 = 0x60;
const MOVES: u32 = 1000;
const PAUSE_NS: u64 = 2_000_000;

/// What the CPU that sends shares with the one that moves the route.
struct Sender {
    device: Edu,
    cpus: Cpus,
    ids: Vec<u32, 8>,
    /// Moves that have begun, and those that are complete. After n of them, the route leads to CPU n modulo their number.
    begun: AtomicU32,
    complete: AtomicU32,
    sent: AtomicU32,
    /// Interrupts that arrived where the route did not lead meanwhile.
    elsewhere: AtomicU32,
    stop: AtomicBool,
    is_done: AtomicBool,
}

static SENDER: Once<Sender> = Once::new();

impl Sender {
    /// How many have arrived at each CPU.
    fn arrived(&self) -> Vec<u32, 8> {
        self.ids.iter().map(|&id| self.cpus.taken(id, VECTOR)).collect()
    }

    /// True if the route has led to this CPU between these moves.
    fn led_to(&self, cpu: usize, mut moves: core::ops::RangeInclusive<u32>) -> bool {
        moves.any(|n| n as usize % self.ids.len() == cpu)
    }

    /// Sends one interrupt after the other, each when the one before has arrived. Ends early if one is lost.
    fn send(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let (from, before) = (self.complete.load(Ordering::Acquire), self.arrived());
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.device.interrupt();
            if !self.cpus.wait_for(|| self.arrived() != before) {
                break;
            }
            let (to, after) = (self.begun.load(Ordering::Acquire), self.arrived());
            let new = before.iter().zip(&after).position(|(before, after)| before != after);
            if !new.is_some_and(|cpu| self.led_to(cpu, from..=to)) {
                self.elsewhere.fetch_add(1, Ordering::Relaxed);
            }
            self.device.acknowledge();
        }
        self.is_done.store(true, Ordering::Release);
    }
}

fn send() {
    if let Some(sender) = SENDER.get() {
        sender.send();
    }
}

impl Job<'_> {
    pub(crate) fn moves(&self, device: Edu) -> Result<(), Words> {
        let cell = self.cell((self.boot, self.last), (VECTOR, VECTOR))?;
        let source = Source::Message { device: device.source(), index: 0 };
        let one = DeviceConfig { messages: 1, ..DeviceConfig::default() };
        let assign = Edit::Assign(device.source(), cell, one);
        self.iommu.commit(&[assign, Edit::Route(cell, source, Route::to(self.boot, VECTOR))])?;
        device.resume();
        device.program(self.iommu.message(source)?);
        let sender = SENDER.call_once(|| Sender {
            device,
            cpus: self.cpus,
            ids: self.ids.clone(),
            begun: AtomicU32::new(0),
            complete: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
        });
        let before = sender.arrived();
        let all_before = self.cpus.taken_by_all();
        self.cpus.run(self.last, send);
        let sent = || sender.sent.load(Ordering::Relaxed);
        let is_done = || sender.is_done.load(Ordering::Acquire);
        for (n, id) in (1..=MOVES).zip(self.ids.iter().cycle().skip(1)) {
            if is_done() {
                break;
            }
            // One more is under way since the last move, unless the host has no time for the CPU that sends.
            let already = sent();
            self.cpus.wait_at_most(PAUSE_NS, || sent() != already);
            sender.begun.store(n, Ordering::Release);
            self.iommu.route(cell, source, Route::to(*id, VECTOR))?;
            sender.complete.store(n, Ordering::Release);
        }
        sender.stop.store(true, Ordering::Release);
        let has_ended = self.cpus.wait_for(is_done) && self.cpus.settle();
        let mut arrived = sender.arrived();
        arrived.iter_mut().zip(&before).for_each(|(count, before)| *count -= before);
        let (moves, all) = (sender.complete.load(Ordering::Relaxed), self.cpus.taken_by_all() - all_before);
        let seen = Words::new(format_args!("{moves} moves, {} sent, at each CPU {arrived:?}", sent()));
        let is_whole = has_ended && moves == MOVES && all == sent() && arrived.iter().sum::<u32>() == sent();
        let what = "a route moves a thousand times while its device sends, and no interrupt is lost";
        self.report.expect(is_whole, what, format_args!("{}", seen.as_str()));
        let what = "each CPU gets some of them";
        self.report.expect(arrived.iter().all(|&count| count > 0), what, format_args!("{arrived:?}"));
        let elsewhere = sender.elsewhere.load(Ordering::Relaxed);
        let what = "each arrives where the route led before or leads after the move";
        self.report.expect(elsewhere == 0, what, format_args!("{elsewhere} elsewhere"));
        self.iommu.release(sender.device.source())?;
        self.iommu.destroy_cell(cell)?;
        Ok(())
    }
}
