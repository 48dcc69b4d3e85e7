//! The queue of a unit that does all that the specification allows it to do, in any order, and worse if a test wants that.
//!
//! It fetches ahead, executes out of order where S 6.5.2.12 lets it, lets status writes linger, and at a time-out loses all
//! that S 6.5.2.11 lets it lose. It knows no more of the driver than the bits of S 6.5.2 and S 11.4.9, written down again.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use cofferdam_support::random::Random;

use crate::addr::{PhysAddr, PhysRange, SourceId};
use crate::hal::{Hal, MappedRegisters, RegisterWindow};
use crate::vtd::invalidation::descriptor::Descriptor;

const BASE: u64 = 0x10_0000;
const FRAME_WORDS: usize = 512;
/// No test takes so many accesses, by far: each wait ends at its deadline.
const MANY: u64 = 1 << 22;
const IQE: u32 = 1 << 4;
const ICE: u32 = 1 << 5;
pub(super) const ITE: u32 = 1 << 6;
pub(super) const WINDOW: RegisterWindow = RegisterWindow { base: PhysAddr::new_truncate(0xfed9_0000), bytes: 4096 };
pub(super) const MAPPED: Option<MappedRegisters> = Some(MappedRegisters { window: WINDOW, first: NonNull::dangling() });

/// An invalidation of the IOTLB, told from all others by its number.
pub(super) fn iotlb(id: u64) -> Descriptor {
    Descriptor { lower: 0x2 | 0b11 << 4, upper: id << 12 }
}

/// One of a device's TLB; the device takes `depth` at a time.
pub(super) fn device_tlb(id: u64, requester: u16, depth: u64) -> Descriptor {
    Descriptor { lower: 0x3 | (depth & 0x1f) << 16 | u64::from(requester) << 32, upper: id << 12 }
}

/// What is peculiar about a unit and the devices behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Manners {
    /// Devices that do not answer, and how many times.
    pub unresponsive: HashMap<u16, u32>,
    /// ITESID is not the device but this.
    pub named: Option<u16>,
    /// One fetch in so many ends in IQE, at most so often; with 1, each.
    pub refuses_one_in: Option<(u64, u32)>,
    /// The fetch that comes after so many others ends in IQE.
    pub refuses_after: Option<u64>,
    /// An ITE with no device behind it, at one step in so many.
    pub spurious_one_in: Option<u64>,
    /// An answer that nobody asked for, likewise.
    pub stray_one_in: Option<u64>,
    /// After an error, nothing is fetched before IQT is written.
    pub resumes_late: bool,
    /// IQH reads as anything.
    pub babbles: bool,
    /// Waits are never done.
    pub mute: bool,
    /// Nothing is fetched.
    pub asleep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fetched,
    /// The device has it.
    Sent,
    Done,
}

#[derive(Debug)]
pub(super) struct Hardware {
    pub manners: Manners,
    random: Random,
    now: u64,
    enabled: bool,
    armed: bool,
    pub status: u32,
    pub address: u64,
    pub head: u64,
    pub tail: u64,
    record: u64,
    pub fetched: u64,
    in_flight: VecDeque<([u64; 2], Stage)>,
    /// Status writes on their way.
    posted: Vec<(u64, u32)>,
    /// How often each invalidation was done.
    pub executed: HashMap<u64, u32>,
    pub refused: HashSet<u64>,
    /// Both, in the order in which they came: the words of the descriptor, and whether it was executed.
    pub order: Vec<([u64; 2], bool)>,
    /// What the refused waits would have stored, and whether that was there each time.
    pub refused_waits: HashMap<u32, bool>,
    pub timeouts: u32,
    /// How often each device was unresponsive.
    pub unanswered: HashMap<u16, u32>,
    pub accesses: u64,
    pub doorbells: u64,
    /// The most that one device had to answer at a time.
    pub most_outstanding: usize,
    pub wrongs: Vec<std::string::String>,
}

pub(super) struct FakeUnit {
    words: Vec<AtomicU64>,
    used: Mutex<usize>,
    hardware: Mutex<Hardware>,
    /// Called at each access.
    yields: fn(),
}

fn kind(words: [u64; 2]) -> u64 {
    words[0] & 0xf
}

fn requester(words: [u64; 2]) -> u16 {
    (words[0] >> 32) as u16
}

impl FakeUnit {
    /// With room for a queue of so many slots.
    pub(super) fn new(slots: usize, seed: u64, manners: Manners, yields: fn()) -> Self {
        let frames = slots.max(256).next_power_of_two() / 128 + 1;
        let words = (0..frames * FRAME_WORDS + FRAME_WORDS).map(|_| AtomicU64::new(0)).collect();
        let hardware = Hardware {
            manners,
            random: Random::new(seed),
            now: 0,
            enabled: false,
            armed: false,
            status: 0,
            address: 0,
            head: 0,
            tail: 0,
            record: 0,
            fetched: 0,
            in_flight: VecDeque::new(),
            posted: Vec::new(),
            executed: HashMap::new(),
            refused: HashSet::new(),
            order: Vec::new(),
            refused_waits: HashMap::new(),
            timeouts: 0,
            unanswered: HashMap::new(),
            accesses: 0,
            doorbells: 0,
            most_outstanding: 0,
            wrongs: Vec::new(),
        };
        Self { words, used: Mutex::new(0), hardware: Mutex::new(hardware), yields }
    }

    pub(super) fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.hardware.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The first word that is aligned as a frame is.
    fn first(&self) -> NonNull<u64> {
        let skip = self.words.as_ptr().align_offset(4096);
        NonNull::from(&self.words[skip]).cast()
    }

    fn memory(&self, address: u64) -> &AtomicU64 {
        let skip = self.words.as_ptr().align_offset(4096);
        &self.words[skip + ((address - BASE) / 8) as usize]
    }

    /// Has the word at `offset` of a frame hold this.
    pub(super) fn poke(&self, frame: u64, offset: u64, value: u64) {
        self.memory(BASE + frame * 4096 + offset).store(value, Ordering::SeqCst);
    }

    /// The unit does something, or nothing.
    fn act(&self) {
        (self.yields)();
        let hardware = &mut *self.hardware();
        hardware.accesses += 1;
        assert!(hardware.accesses < MANY, "the driver looks for ever");
        hardware.now += 10;
        for _ in 0..hardware.below(4) {
            hardware.step(self);
        }
    }
}

impl Hardware {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn one_in(&mut self, count: Option<u64>) -> bool {
        count.is_some_and(|count| self.below(count) == 0)
    }

    fn slots(&self) -> u64 {
        256 << (self.address & 7)
    }

    fn stopped(&self) -> bool {
        self.status & (IQE | ITE) != 0 || self.manners.resumes_late && !self.armed
    }

    fn stop(&mut self, bit: u32) {
        self.status |= bit;
        self.armed = false;
    }

    fn step(&mut self, unit: &FakeUnit) {
        match self.below(5) {
            0 | 1 => self.fetch(unit),
            2 | 3 => self.execute(),
            _ => self.deliver(unit),
        }
        if self.enabled && self.one_in(self.manners.spurious_one_in) && self.status & ITE == 0 {
            self.time_out(self.manners.named.unwrap_or(0), usize::MAX);
        }
        if self.enabled && self.one_in(self.manners.stray_one_in) {
            self.status |= ICE;
        }
    }

    fn fetch(&mut self, unit: &FakeUnit) {
        if !self.enabled || self.manners.asleep || self.stopped() || self.head == self.tail {
            return;
        }
        let at = (self.address & !0xfff) + self.head * 16;
        let words = [at, at + 8].map(|at| unit.memory(at).load(Ordering::SeqCst));
        if !matches!(kind(words), 1 | 2 | 3 | 5) {
            self.wrongs.push(std::format!("slot {} holds {words:x?}", self.head));
        }
        let after = self.manners.refuses_after;
        let mut refuses = after == Some(0);
        self.manners.refuses_after = after.and_then(|count| count.checked_sub(1));
        if let Some((one_in, left)) = self.manners.refuses_one_in
            && left > 0
            && self.below(one_in) == 0
        {
            self.manners.refuses_one_in = Some((one_in, left - 1));
            refuses = true;
        }
        if refuses {
            let data = (words[0] >> 32) as u32;
            if kind(words) == 5 {
                let stored = unit.memory(words[1]).load(Ordering::SeqCst) as u32 == data;
                *self.refused_waits.entry(data).or_insert(stored) &= stored;
            } else {
                self.refused.insert(words[1] >> 12);
                self.order.push((words, false));
            }
            self.record = self.record & !0xf | 4;
            return self.stop(IQE);
        }
        self.in_flight.push_back((words, Stage::Fetched));
        self.head = (self.head + 1) % self.slots();
        self.fetched += 1;
    }

    /// Executes any of what was fetched that may be.
    fn execute(&mut self) {
        let fetched: Vec<usize> =
            (0..self.in_flight.len()).filter(|&index| self.in_flight[index].1 == Stage::Fetched).collect();
        if fetched.is_empty() {
            return;
        }
        let index = fetched[self.below(fetched.len() as u64) as usize];
        let (words, _) = self.in_flight[index];
        let ahead = || self.in_flight.iter().take(index);
        let fenced = ahead().any(|&(words, stage)| kind(words) == 5 && words[0] & 1 << 6 != 0 && stage != Stage::Done);
        if fenced {
            return;
        }
        match kind(words) {
            1 | 2 => {
                self.order.push((words, true));
                *self.executed.entry(words[1] >> 12).or_default() += 1;
                self.in_flight[index].1 = Stage::Done;
            }
            3 if ahead().all(|&(words, stage)| !matches!(kind(words), 1 | 2) || stage == Stage::Done) => {
                self.in_flight[index].1 = Stage::Sent;
                let to = requester(words);
                let sent = |&&(words, stage): &&([u64; 2], Stage)| stage == Stage::Sent && requester(words) == to;
                let outstanding = self.in_flight.iter().filter(sent).count();
                self.most_outstanding = self.most_outstanding.max(outstanding);
                let depth = match words[0] >> 16 & 0x1f {
                    0 => 32,
                    depth => depth as usize,
                };
                if outstanding > depth {
                    self.wrongs.push(std::format!("{outstanding} for {to:x}, which takes {depth}"));
                }
            }
            5 if !self.manners.mute => {
                // Only what is behind the wait before has to be done (S 6.5.2.12).
                let since = ahead().rposition(|&(words, _)| kind(words) == 5).map_or(0, |wait| wait + 1);
                if self.in_flight.range(since..index).all(|&(_, stage)| stage == Stage::Done) {
                    if words[0] & 1 << 5 != 0 {
                        self.posted.push((words[1], (words[0] >> 32) as u32));
                    }
                    self.in_flight[index].1 = Stage::Done;
                }
            }
            _ => {}
        }
        while self.in_flight.front().is_some_and(|&(_, stage)| stage == Stage::Done) {
            self.in_flight.pop_front();
        }
    }

    /// A status write arrives, or a device answers, or it does not.
    fn deliver(&mut self, unit: &FakeUnit) {
        if !self.posted.is_empty() && self.below(2) == 0 {
            let index = self.below(self.posted.len() as u64) as usize;
            return self.land(unit, index);
        }
        let sent: Vec<usize> =
            (0..self.in_flight.len()).filter(|&index| self.in_flight[index].1 == Stage::Sent).collect();
        if sent.is_empty() {
            return;
        }
        let index = sent[self.below(sent.len() as u64) as usize];
        let (words, _) = self.in_flight[index];
        match self.manners.unresponsive.get(&requester(words)).copied().unwrap_or(0) {
            0 => {
                *self.executed.entry(words[1] >> 12).or_default() += 1;
                self.in_flight[index].1 = Stage::Done;
            }
            times if self.status & ITE == 0 && self.below(4) == 0 => {
                self.manners.unresponsive.insert(requester(words), if times == u32::MAX { times } else { times - 1 });
                let named = self.manners.named.unwrap_or(requester(words));
                self.in_flight.remove(index);
                *self.unanswered.entry(requester(words)).or_default() += 1;
                self.time_out(named, index);
            }
            _ => {}
        }
    }

    /// Waits are lost, and anything from the oldest invalidation on that a device has not answered: what stood at `index`,
    /// or one before it.
    fn time_out(&mut self, named: u16, index: usize) {
        self.timeouts += 1;
        self.record = self.record & !(0xffff << 32) | u64::from(named) << 32;
        self.stop(ITE);
        let (mut behind, mut fenced) = (false, false);
        let mut kept = VecDeque::new();
        for (at, (words, stage)) in core::mem::take(&mut self.in_flight).into_iter().enumerate() {
            behind |= at >= index || kind(words) == 3 && stage != Stage::Done;
            let wait = kind(words) == 5 && stage != Stage::Done;
            // What a fence held back had not begun, and now has nothing to wait for.
            let lost = wait || fenced || (behind && self.below(2) == 0);
            fenced |= wait && words[0] & 1 << 6 != 0;
            if !lost {
                kept.push_back((words, stage));
            }
        }
        self.in_flight = kept;
    }

    fn land(&mut self, unit: &FakeUnit, index: usize) {
        let (address, value) = self.posted.remove(index);
        let word = unit.memory(address & !7);
        let shift = 8 * (address & 4);
        let old = word.load(Ordering::SeqCst);
        word.store(old & !(0xffff_ffff << shift) | u64::from(value) << shift, Ordering::SeqCst);
    }

    fn read(&mut self, offset: u32, unit: &FakeUnit) -> u64 {
        match offset {
            0x1c => u64::from(self.enabled) << 26,
            0x34 => self.status.into(),
            0x80 if self.manners.babbles => self.below(u64::MAX),
            0x80 => self.head << 4,
            0x88 => self.tail << 4,
            // Pushes all status writes (S 6.5.2.10).
            0x9c => {
                while !self.posted.is_empty() {
                    self.land(unit, 0);
                }
                0
            }
            0xb0 => self.record,
            _ => panic!("a read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: u32, value: u64) {
        match offset {
            0x18 => {
                self.enabled = value >> 26 & 1 == 1;
                if !self.enabled {
                    self.head = 0;
                }
            }
            0x34 => self.status &= !(value as u32),
            0x88 => {
                self.tail = value >> 4;
                self.doorbells += u64::from(self.enabled);
                self.armed |= self.status & (IQE | ITE) == 0;
                if self.enabled && self.tail >= self.slots() {
                    self.wrongs.push(std::format!("IQT := {value:#x}"));
                }
            }
            0x90 => self.address = value,
            _ => panic!("a write of {offset:#x}"),
        }
    }
}

// SAFETY: memory is handed out once, aligned and zeroed, and lives as long as this; each access is one of an atomic word.
unsafe impl Hal for FakeUnit {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        let mut used = self.used.lock().unwrap();
        let (frames, first) = (1 << order, used.next_multiple_of(1 << order));
        *used = first + frames;
        let fits = *used * FRAME_WORDS + FRAME_WORDS <= self.words.len();
        fits.then(|| PhysAddr::new(BASE + first as u64 * 4096))
    }

    unsafe fn free(&self, _: PhysAddr, _: u8) {}

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        Some(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: the frame is within the words.
        unsafe { self.first().add((frame.as_u64() - BASE) as usize / 8) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        self.act();
        let at = BASE + (entry.addr().get() - self.first().addr().get()) as u64;
        {
            let hardware = &mut *self.hardware();
            let offset = at.wrapping_sub(hardware.address & !0xfff) / 16;
            let slots = hardware.slots();
            let from_head = offset.wrapping_sub(hardware.head) & (slots - 1);
            let pending = hardware.tail.wrapping_sub(hardware.head) & (slots - 1);
            let runs = hardware.enabled && hardware.status & (IQE | ITE) == 0;
            if runs && offset < slots && from_head < pending {
                hardware.wrongs.push(std::format!("slot {offset} is stored while the unit may fetch it"));
            }
        }
        self.memory(at).store(value, Ordering::SeqCst);
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        self.act();
        self.memory(BASE + (entry.addr().get() - self.first().addr().get()) as u64).load(Ordering::SeqCst)
    }

    unsafe fn write_back(&self, _: NonNull<u64>, _: usize) {}

    fn fence(&self) {}

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        Some(NonNull::dangling())
    }

    unsafe fn read32(&self, _: MappedRegisters, offset: u32) -> u32 {
        self.act();
        self.hardware().read(offset, self) as u32
    }

    unsafe fn write32(&self, _: MappedRegisters, offset: u32, value: u32) {
        self.act();
        self.hardware().write(offset, value.into());
    }

    unsafe fn read64(&self, _: MappedRegisters, offset: u32) -> u64 {
        self.act();
        self.hardware().read(offset, self)
    }

    unsafe fn write64(&self, _: MappedRegisters, offset: u32, value: u64) {
        self.act();
        self.hardware().write(offset, value);
    }

    fn config_read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        self.act();
        self.hardware().now
    }

    fn pause(&self) {
        self.act();
    }
}
