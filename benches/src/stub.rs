//! A machine whose units obey each command without a check, so that what is measured is the driver: at once, or
//! after a time in which the CPU can do something else.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use spin::Mutex;

use crate::ours::Memory;
use crate::pool::{POOL, pointer};

/// Where the units' registers are, a page each.
const REGISTERS: u64 = 0xfed9_0000;

/// Units of four levels, with snoop control, page walks that snoop, remapping of interrupts, and 65,536 domain-ids (VT-d 5.10, sections 11.4.1 to
/// 11.4.3).
const VERSION: u32 = 0x10;
const CAPABILITY: u64 = 0x00d2_008c_222f_0606;
const EXTENDED_CAPABILITY: u64 = 0x00f0_0fcb;

/// A remapping unit.
#[derive(Debug, Default)]
struct Unit {
    status: AtomicU32,
    root: AtomicU64,
    interrupts: AtomicU64,
    queue: AtomicU64,
    /// Up to where the queue's descriptors are done.
    head: AtomicU64,
    /// Doorbells that rang not long enough ago: when the unit is to be done, and the tail that was written.
    late: Mutex<VecDeque<(u64, u64)>>,
    /// When it is to be done with the first of them.
    due: AtomicU64,
}

/// A machine of stub units. Frames come from the pool.
#[derive(Debug)]
pub struct Machine {
    units: Vec<Unit>,
    /// How long a unit takes from a doorbell on; none at all if `None`. However many there are, they wait side by side.
    latency: Option<Duration>,
    began: Instant,
    /// Without latency, time is how often it was looked at.
    clock: AtomicU64,
    accesses: AtomicU64,
    apart: AtomicBool,
}

impl Machine {
    /// A machine with so many units, which confirm at once.
    pub fn new(units: usize) -> Self {
        let units = (0..units).map(|_| Unit { due: AtomicU64::new(u64::MAX), ..Unit::default() }).collect();
        let (clock, accesses, apart) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self { units, latency: None, began: Instant::now(), clock, accesses, apart }
    }

    /// A machine with so many units, which confirm a command so long after its doorbell.
    pub fn with_latency(units: usize, latency: Duration) -> Self {
        Self { latency: Some(latency), ..Self::new(units) }
    }

    /// The doorbell of a unit rings. Not inlined, so that where hardware runs apart, it adds nothing to the driver's count.
    #[inline(never)]
    fn ring(&self, unit: &Unit, tail: u64) {
        let is_enabled = unit.status.load(Ordering::Relaxed) & 1 << 26 != 0;
        match self.latency {
            _ if !is_enabled => unit.head.store(tail, Ordering::Relaxed),
            Some(latency) => unit.ring(tail, self.now_ns() + latency.as_nanos() as u64),
            None => run_queue(unit, tail),
        }
    }

    /// Where each unit's registers are.
    pub fn windows(&self) -> impl Iterator<Item = u64> {
        (0..self.units.len() as u64).map(|index| REGISTERS + index * 4096)
    }

    /// How many registers were read and written so far.
    pub fn register_accesses(&self) -> u64 {
        self.accesses.load(Ordering::Relaxed)
    }

    /// From now on the hardware's work is done in a function by itself, whose name tells a counter what to leave out. Before,
    /// while work is made ready, the counter is off, and that name would switch it on.
    pub fn set_hardware_apart(&self) {
        self.apart.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn unit(&self, window: RegisterWindow) -> &Unit {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        &self.units[(window.base.as_u64() - REGISTERS) as usize / 4096]
    }
}

/// As [`run_queue`], for [`Machine::set_hardware_apart`].
#[inline(never)]
fn hardware_runs_the_queue(unit: &Unit, tail: u64) {
    run_queue(unit, tail);
}

/// Does what the queue's descriptors say, which is to store the status of each wait.
#[inline(always)]
fn run_queue(unit: &Unit, tail: u64) {
    let ring = unit.queue.load(Ordering::Relaxed) & !0xfff;
    let mut head = unit.head.load(Ordering::Relaxed);
    while head != tail {
        let at = pointer(ring + head);
        // SAFETY: the driver gave this frame as the ring; head is a multiple of 16 within it.
        let lower = unsafe { at.read_volatile() };
        // A wait that asks for its status to be stored.
        if lower & 0x2f == 0x25 {
            // SAFETY: the upper half follows the lower one.
            let upper = unsafe { at.add(1) };
            // SAFETY: as above.
            let to = unsafe { upper.read_volatile() };
            // SAFETY: the driver gave this address, in a frame of its own, for a store of 32 bits.
            let word = unsafe { pointer(to & !0b11).cast::<AtomicU32>().as_ref() };
            word.store((lower >> 32) as u32, Ordering::Release);
        }
        head = (head + 16) % 4096;
    }
    unit.head.store(tail, Ordering::Relaxed);
}

impl Unit {
    /// The doorbell rings; what the queue says then is done at that time, or when somebody [looks](Self::catch_up).
    fn ring(&self, tail: u64, done_at: u64) {
        let mut late = self.late.lock();
        late.push_back((done_at, tail));
        self.due.store(late[0].0, Ordering::Release);
    }

    /// Does what is to be done by now, unless another thread is about it.
    fn catch_up(&self, now: u64) {
        if now < self.due.load(Ordering::Acquire) {
            return;
        }
        let Some(mut late) = self.late.try_lock() else { return };
        while let Some((_, tail)) = late.pop_front_if(|(done_at, _)| *done_at <= now) {
            run_queue(self, tail);
        }
        self.due.store(late.front().map_or(u64::MAX, |(done_at, _)| *done_at), Ordering::Release);
    }

    /// What the tail register shows: what was written there last.
    fn tail(&self) -> u64 {
        self.late.lock().back().map_or_else(|| self.head.load(Ordering::Relaxed), |(_, tail)| *tail)
    }
}

/// Buses with devices: 32 on each.
const BUSES: u8 = 8;

// SAFETY: frames as `Memory` has them. The clock goes on with each look at it, or is the system's. Registers are as the specification has
// them, as far as this driver looks at them.
unsafe impl Hal for Machine {
    #[inline]
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        Memory.allocate(order)
    }

    #[inline]
    unsafe fn free(&self, frames: PhysAddr, _order: u8) {
        POOL.free(frames.as_u64());
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        Memory.own_memory(memory)
    }

    #[inline]
    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        pointer(frame.as_u64())
    }

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        Some(NonNull::dangling())
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        match offset {
            0x00 => VERSION,
            0x1c => self.unit(registers.window).status.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        let unit = self.unit(registers.window);
        if offset == 0x18 {
            // Each command is confirmed by the bit that gave it; setting the root table, or that of interrupts, stays confirmed.
            let tables = unit.status.load(Ordering::Relaxed) & (1 << 30 | 1 << 24);
            unit.status.store(value | tables, Ordering::Relaxed);
        }
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        let unit = self.unit(registers.window);
        match offset {
            0x08 => CAPABILITY,
            0x10 => EXTENDED_CAPABILITY,
            0x20 => unit.root.load(Ordering::Relaxed),
            0x80 => unit.head.load(Ordering::Relaxed),
            0x88 => unit.tail(),
            0xb8 => unit.interrupts.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        let unit = self.unit(registers.window);
        match offset {
            0x88 if self.apart.load(Ordering::Relaxed) => hardware_runs_the_queue(unit, value),
            0x88 => self.ring(unit, value),
            0x20 => unit.root.store(value, Ordering::Relaxed),
            0x90 => unit.queue.store(value, Ordering::Relaxed),
            0xb8 => unit.interrupts.store(value, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Every function of bus 0 is a PCI Express endpoint without further capabilities.
    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        match (function.bus(), offset) {
            (BUSES.., _) => u32::MAX,
            (_, 0x00) => 0x1234_8086,
            (_, 0x04) => 0x0010_0000,
            (_, 0x34) => 0x40,
            (_, 0x40) => 0x0002_0010,
            (_, _) => 0,
        }
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        match self.latency {
            Some(_) => self.began.elapsed().as_nanos() as u64,
            None => self.clock.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// With latency, a CPU whose thread waits is free for another one. To sleep for microseconds takes too long.
    fn pause(&self) {
        if self.latency.is_some() {
            thread::yield_now();
            let now = self.now_ns();
            self.units.iter().for_each(|unit| unit.catch_up(now));
        } else {
            std::hint::spin_loop();
        }
    }
}
