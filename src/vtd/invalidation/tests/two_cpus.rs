//! Two CPUs at one queue, through the default methods of [`Hal`]: as an interpreter that looks for data races runs it, none is
//! found. The unit is the least that serves a queue.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::Mutex;
use std::vec::Vec;

use crate::addr::{PhysAddr, PhysRange, SourceId};
use crate::hal::{Hal, MappedRegisters, RegisterWindow};
use crate::internals::QueueAlone;

const FRAME: u64 = 0x1000;
const FRAMES: usize = 4;
const GSTS: u32 = 0x1c;
const IQH: u32 = 0x80;

/// Frames from [`FRAME`] on, and the registers of one unit.
struct Pc {
    words: Vec<AtomicU64>,
    used: AtomicU64,
    ring: AtomicU64,
    head: AtomicU64,
    status: AtomicU32,
    clock: AtomicU64,
    doorbell: Mutex<()>,
}

impl Pc {
    fn new() -> Self {
        let words = (0..FRAMES * 512).map(|_| AtomicU64::new(0)).collect();
        let [used, ring, head, clock] = [(); 4].map(|()| AtomicU64::new(0));
        Self { words, used, ring, head, status: AtomicU32::new(0), clock, doorbell: Mutex::new(()) }
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[((at - FRAME) / 8) as usize]
    }

    /// Does all that is in the queue at once: of a wait, the store of its number into the lower half of its word.
    fn serve(&self, tail: u64) {
        let _turn = self.doorbell.lock().unwrap();
        let (ring, mut head) = (self.ring.load(Ordering::Relaxed) & !0xfff, self.head.load(Ordering::Relaxed));
        while head != tail {
            let [lower, upper] = [0, 8].map(|half| self.word(ring + head + half).load(Ordering::Acquire));
            if lower & 0xf == 5 {
                let number = lower >> 32;
                let stored = |word: u64| Some(word & !0xffff_ffff | number);
                self.word(upper & !3).fetch_update(Ordering::Release, Ordering::Relaxed, stored).unwrap();
            }
            head = (head + 16) % 4096;
        }
        self.head.store(head, Ordering::Relaxed);
    }
}

// SAFETY: frames are handed out once, in order, and live as long as this. What is loaded and stored goes through the default
// methods. The clock moves with each look.
unsafe impl Hal for Pc {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        let first = self.used.fetch_add(1 << order, Ordering::Relaxed);
        (first + (1 << order) <= FRAMES as u64).then(|| PhysAddr::new(FRAME * (1 + first)))
    }

    unsafe fn free(&self, _: PhysAddr, _: u8) {}

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        Some(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // The rest of the words may be reached from the first one.
        let first = ((frame.as_u64() - FRAME) / 8) as usize;
        NonNull::from(&self.words[first..]).cast()
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        Some(NonNull::dangling())
    }

    unsafe fn read32(&self, _: MappedRegisters, offset: u32) -> u32 {
        match offset {
            0 => 0x10,
            GSTS => self.status.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    unsafe fn write32(&self, _: MappedRegisters, offset: u32, value: u32) {
        if offset == 0x18 {
            self.status.store(value, Ordering::Relaxed);
        }
    }

    unsafe fn read64(&self, _: MappedRegisters, offset: u32) -> u64 {
        match offset {
            0x08 => 0x00d2_008c_222f_0606,
            0x10 => 0x00f0_0f4a,
            IQH => self.head.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    unsafe fn write64(&self, _: MappedRegisters, offset: u32, value: u64) {
        match offset {
            0x90 => self.ring.store(value, Ordering::Relaxed),
            0x88 => self.serve(value),
            _ => {}
        }
    }

    fn config_read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}

/// I13: the status words of a queue are loaded by one CPU while another stores beside them, and that is no data race.
#[test]
fn two_cpus_at_one_queue_have_no_data_race() {
    let hal = Pc::new();
    let window = RegisterWindow { base: PhysAddr::new(0xfed9_0000), bytes: 4096 };
    let queue = QueueAlone::switch_on(&hal, window).unwrap();
    std::thread::scope(|scope| {
        for batches in [2, 40] {
            let (queue, hal) = (&queue, &hal);
            scope.spawn(move || (0..batches).for_each(|_| queue.submit_and_wait(hal).unwrap()));
        }
    });
}
