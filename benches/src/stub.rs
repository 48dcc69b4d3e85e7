//! A machine whose units do at once and without a question what they are told, so that what is measured is the driver.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::{Hal, Window};

use crate::ours::Memory;
use crate::pool::{POOL, pointer};

/// Where the units' registers are, a page each.
const REGISTERS: u64 = 0xfed9_0000;

/// Units of four levels, with snoop control, page walks that snoop, and 65,536 domain-ids (VT-d 5.10, sections 11.4.1 to
/// 11.4.3).
const VERSION: u32 = 0x10;
const CAPABILITY: u64 = 0x00d2_008c_222f_0606;
const EXTENDED_CAPABILITY: u64 = 0x00f0_0fcb;

/// A remapping unit.
#[derive(Debug, Default)]
struct Unit {
    status: AtomicU32,
    queue: AtomicU64,
    tail: AtomicU64,
}

/// A machine of stub units. Frames come from the pool.
#[derive(Debug)]
pub struct Machine {
    units: Vec<Unit>,
    clock: AtomicU64,
    accesses: AtomicU64,
    apart: AtomicBool,
}

impl Machine {
    /// A machine with so many units.
    pub fn new(units: usize) -> Self {
        let units = (0..units).map(|_| Unit::default()).collect();
        Self { units, clock: AtomicU64::new(0), accesses: AtomicU64::new(0), apart: AtomicBool::new(false) }
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
    fn unit(&self, window: Window) -> &Unit {
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
    let mut head = unit.tail.load(Ordering::Relaxed);
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
    unit.tail.store(tail, Ordering::Relaxed);
}

// SAFETY: frames as `Memory` has them. The clock goes on with each look at it. Registers are as the specification has
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

    #[inline]
    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        pointer(frame.as_u64())
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        match offset {
            0x00 => VERSION,
            0x1c => self.unit(window).status.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        let unit = self.unit(window);
        if offset == 0x18 {
            // Each command is confirmed by the bit that gave it; setting the root table stays confirmed.
            let root_table = unit.status.load(Ordering::Relaxed) & 1 << 30;
            unit.status.store(value | root_table, Ordering::Relaxed);
        }
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        let unit = self.unit(window);
        match offset {
            0x08 => CAPABILITY,
            0x10 => EXTENDED_CAPABILITY,
            0x80 | 0x88 => unit.tail.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        let unit = self.unit(window);
        match offset {
            0x88 if self.apart.load(Ordering::Relaxed) => hardware_runs_the_queue(unit, value),
            0x88 if unit.status.load(Ordering::Relaxed) & 1 << 26 != 0 => run_queue(unit, value),
            0x88 => unit.tail.store(value, Ordering::Relaxed),
            0x90 => unit.queue.store(value, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Every function of bus 0 is a PCI Express endpoint without further capabilities.
    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        match (function.bus(), offset) {
            (1.., _) => u32::MAX,
            (0, 0x00) => 0x1234_8086,
            (0, 0x04) => 0x0010_0000,
            (0, 0x34) => 0x40,
            (0, 0x40) => 0x0002_0010,
            (0, _) => 0,
        }
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}
