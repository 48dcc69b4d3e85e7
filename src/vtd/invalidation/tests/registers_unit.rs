//! A unit without a queue that looks at how its registers are used: one command at a time, one invalidation at a time, each
//! with the address that was written for it (S 6.5.1, 11.4.4.1, 11.4.6). It confirms when it likes to.

use core::ptr::NonNull;
use std::string::String;
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use cofferdam_support::random::Random;

use crate::addr::{PhysAddr, PhysRange, SourceId};
use crate::hal::{Hal, MappedRegisters, RegisterWindow};

const TES: u32 = 1 << 31;
const WBF: u32 = 1 << 27;
const BUSY: u64 = 1 << 63;
pub(super) const IOTLB_OFFSET: u32 = 0xf0;

pub(super) struct RegistersUnit {
    state: Mutex<Registers>,
    /// Called at each access.
    yields: fn(),
}

pub(super) struct Registers {
    random: Random,
    now: u64,
    flushes_buffer: bool,
    context: u64,
    iotlb: u64,
    address: u64,
    /// Write buffers that were flushed.
    pub buffers: u64,
    /// IOTLB invalidations that were done: the domain-id and what IVA_REG held.
    pub done: Vec<(u16, u64)>,
    pub wrongs: Vec<String>,
}

impl RegistersUnit {
    pub(super) fn new(seed: u64, yields: fn()) -> Self {
        let state = Registers {
            random: Random::new(seed),
            now: 0,
            flushes_buffer: false,
            context: 0,
            iotlb: 0,
            address: 0,
            buffers: 0,
            done: Vec::new(),
            wrongs: Vec::new(),
        };
        Self { state: Mutex::new(state), yields }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Registers> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The unit does something, or nothing.
    fn act(&self) -> MutexGuard<'_, Registers> {
        (self.yields)();
        let mut state = self.state();
        state.now += 10;
        state.step();
        state
    }
}

impl Registers {
    fn step(&mut self) {
        match self.random.below(6) {
            0 if self.flushes_buffer => {
                self.flushes_buffer = false;
                self.buffers += 1;
            }
            // What was done is what was asked for: CIRG in 62:61 to CAIG in 60:59.
            1 if self.context & BUSY != 0 => self.context = self.context & !BUSY | (self.context >> 61 & 3) << 59,
            // IIRG in 61:60 to IAIG in 58:57.
            2 if self.iotlb & BUSY != 0 => {
                self.done.push(((self.iotlb >> 32) as u16, self.address));
                self.iotlb = self.iotlb & !BUSY | (self.iotlb >> 60 & 3) << 57;
            }
            _ => {}
        }
    }

    fn read(&self, offset: u32) -> u64 {
        match offset {
            0x1c => (TES | if self.flushes_buffer { WBF } else { 0 }).into(),
            0x28 => self.context,
            at if at == IOTLB_OFFSET + 8 => self.iotlb,
            _ => panic!("a read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: u32, value: u64) {
        let invalidates = (self.context | self.iotlb) & BUSY != 0;
        match offset {
            0x18 => {
                self.expect(!self.flushes_buffer, "a command while another is under way");
                self.expect(value as u32 == TES | WBF, "a command that changes what is on");
                self.flushes_buffer = true;
            }
            0x28 => {
                self.expect(!invalidates, "an invalidation of contexts while another is under way");
                self.context = value;
            }
            at if at == IOTLB_OFFSET => {
                self.expect(!invalidates, "an address while an invalidation is under way");
                self.address = value;
            }
            at if at == IOTLB_OFFSET + 8 => {
                self.expect(!invalidates, "an invalidation of translations while another is under way");
                self.iotlb = value;
            }
            _ => panic!("a write of {offset:#x}"),
        }
    }

    fn expect(&mut self, holds: bool, wrong: &str) {
        if !holds {
            self.wrongs.push(wrong.into());
        }
    }
}

// SAFETY: there is no memory; registers are plain values under a lock.
unsafe impl Hal for RegistersUnit {
    fn allocate(&self, _: u8) -> Option<PhysAddr> {
        None
    }

    unsafe fn free(&self, _: PhysAddr, _: u8) {}

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        Some(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        panic!("no frame at {frame:?}")
    }

    fn fence(&self) {}

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        Some(NonNull::dangling())
    }

    unsafe fn read32(&self, _: MappedRegisters, offset: u32) -> u32 {
        self.act().read(offset) as u32
    }

    unsafe fn write32(&self, _: MappedRegisters, offset: u32, value: u32) {
        self.act().write(offset, value.into());
    }

    unsafe fn read64(&self, _: MappedRegisters, offset: u32) -> u64 {
        self.act().read(offset)
    }

    unsafe fn write64(&self, _: MappedRegisters, offset: u32, value: u64) {
        self.act().write(offset, value);
    }

    fn config_read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        self.act().now
    }
}
