//! The machine: what the driver sees of it through the seam, and what a test sees of it.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam::addr::{Iova, PhysAddr, Rights, SourceId};
use cofferdam::hal::{Hal, Window};

use crate::arena::{Arena, WORDS};
use crate::device::{Answer, Devices};
use crate::journal::{Event, Journal};
use crate::memory::{LINE, Memory};
use crate::preset::Config;
use crate::ram::Ram;
use crate::random::Random;
use crate::unit::{Board, Defect, Fault, INTERRUPTS, Reason, Unit};
use crate::violation::Violation;

/// Where the driver's frames are.
const FRAMES_BASE: u64 = 0x1000_0000;
/// Where the registers of the first unit are, and how far apart the units' registers are.
const REGISTERS_BASE: u64 = 0xfed9_0000;
const REGISTERS_STEP: u64 = 0x1_0000;

/// Nanoseconds that accesses take.
const REGISTER_NS: u64 = 100;
const CLOCK_NS: u64 = 20;
/// A pause lasts until something happens, but between these two.
const PAUSE_NS: u64 = 40;
const LONGEST_PAUSE_NS: u64 = 20_000;
const LOAD_NS: u64 = 1;

/// A machine with remapping units, for a driver to run on.
///
/// It is a [`Hal`]. Cloning is not offered: share it by reference or in an [`Arc`]. When it is dropped, it fails the
/// test (it panics) if the driver broke a rule and nobody took the [`violations`](Self::take_violations).
pub struct Machine {
    arena: Arc<Arena>,
    windows: Vec<Window>,
    state: Mutex<State>,
}

struct State {
    units: Vec<Unit>,
    board: Board,
    /// The next moment at which a unit does something by itself.
    next_event: u64,
    /// What is left undone is so on purpose.
    abandoned: bool,
}

impl State {
    /// Time moves on, and units do what is due.
    fn tick(&mut self, ns: u64) {
        let now = self.board.journal.now + ns;
        self.board.journal.now = now;
        if now >= self.next_event {
            self.units.iter_mut().for_each(|unit| unit.run(now, &mut self.board));
            self.plan();
        }
    }

    fn plan(&mut self) {
        self.next_event = self.units.iter().filter_map(Unit::next_event).min().unwrap_or(u64::MAX);
    }

    /// A line reaches memory.
    fn arrive(&mut self, line: usize, content: [u64; LINE]) {
        let board = &mut self.board;
        let old = board.memory.arrive(line, content);
        let others = self.units.iter_mut().filter(|unit| !unit.snoops());
        others.for_each(|unit| unit.line_arrived(line, content, &old, board));
    }

    /// With a seed, a line may leave the CPU's caches at any time.
    fn evict(&mut self) {
        let Some(random) = &mut self.board.random else { return };
        if random.one_in(4)
            && let Some((line, content)) = self.board.memory.evict(random)
        {
            self.arrive(line, content);
        }
    }

    fn unit(&mut self, window: Window) -> Option<(&mut Unit, &mut Board)> {
        let unit = self.units.iter_mut().find(|unit| unit.config.window().base == window.base);
        match &unit {
            None => self.board.journal.violation("HAL", format_args!("no unit has its registers at {window}")),
            Some(unit) if unit.config.bytes != window.bytes => {
                let text = format_args!("{window} is taken for {} bytes, but has {}", window.bytes, unit.config.bytes);
                self.board.journal.violation("R6b", text);
            }
            Some(_) => {}
        }
        unit.map(|unit| (unit, &mut self.board))
    }

    /// The word that a pointer of the driver points to, if it may be used.
    fn word(&mut self, arena: &Arena, pointer: NonNull<u64>) -> Option<usize> {
        let index = arena.index_of(pointer).filter(|index| self.board.memory.is_allocated(*index));
        if index.is_none() {
            self.board.journal.violation("HAL", "an access outside of the frames that are allocated");
        }
        index
    }

    /// The physical address behind one address of a request.
    fn dma(&mut self, source: SourceId, at: u64, write: bool) -> Result<u64, Fault> {
        let result = self.ask(source, at, write, |unit, board| unit.request(source, at, write, board));
        let reason = result.err().map(|fault| fault.reason.code());
        self.board.journal.push(Event::Dma { source, address: at, write, reason });
        result
    }

    /// An interrupt request of a device.
    fn message(&mut self, source: SourceId, address: u64, data: u32) -> Result<(), Fault> {
        let refused = Fault { source, address: Iova::new(address), write: true, reason: Reason::NoTarget };
        let through =
            |unit: &mut Unit, _: &mut Board| if unit.remaps_interrupts() { Err(refused) } else { Ok(address) };
        self.ask(source, address, true, through)?;
        self.board.journal.push(Event::Message { address, data });
        self.board.journal.messages.push((address, data));
        Ok(())
    }

    /// The same for a device that translates for itself: what it has cached, or what it then asks for.
    fn ats(&mut self, source: SourceId, at: u64, write: bool) -> Result<u64, Fault> {
        let right = if write { Rights::WRITE } else { Rights::READ };
        let cached = self.board.devices.of(source).lookup(at, right);
        let result = self.ask(source, at, write, |unit, board| unit.translated(source, at, write, cached, board));
        let reason = result.err().map(|fault| fault.reason.code());
        self.board.journal.push(Event::Dma { source, address: at, write, reason });
        result
    }

    fn transfer_in(
        &mut self,
        address: Iova,
        buffer: &mut [u8],
        place: impl Fn(&mut Self, u64) -> Result<u64, Fault>,
    ) -> Result<(), Fault> {
        let mut places = Vec::new();
        for (start, len) in pages(address.as_u64(), buffer.len()) {
            places.push((place(self, start)?, len));
        }
        let mut rest = buffer;
        for (from, len) in places {
            let (piece, tail) = rest.split_at_mut(len);
            self.board.fetch(from, piece);
            rest = tail;
        }
        Ok(())
    }

    fn transfer_out(
        &mut self,
        address: Iova,
        bytes: &[u8],
        place: impl Fn(&mut Self, u64) -> Result<u64, Fault>,
    ) -> Result<(), Fault> {
        let mut places = Vec::new();
        for (start, len) in pages(address.as_u64(), bytes.len()) {
            places.push((place(self, start)?, len));
        }
        let mut rest = bytes;
        for (to, len) in places {
            let (piece, tail) = rest.split_at(len);
            self.board.deposit(to, piece);
            rest = tail;
        }
        Ok(())
    }

    /// Asks the unit that serves a source.
    fn ask(
        &mut self,
        source: SourceId,
        at: u64,
        write: bool,
        question: impl FnOnce(&mut Unit, &mut Board) -> Result<u64, Fault>,
    ) -> Result<u64, Fault> {
        self.tick(REGISTER_NS);
        self.evict();
        match self.units.iter_mut().find(|unit| unit.answers_for(source)) {
            Some(unit) => question(unit, &mut self.board),
            None => Err(Fault { source, address: Iova::new(at), write, reason: Reason::NoTarget }),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("windows", &self.windows).finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that has just come out of reset.
    pub fn new(config: Config) -> Self {
        let arena = Arc::new(Arena::new(FRAMES_BASE, config.frames));
        let mut units: Vec<Unit> = (0..)
            .zip(config.units)
            .map(|(number, mut unit)| {
                if unit.base == 0 {
                    unit.base = REGISTERS_BASE + number as u64 * REGISTERS_STEP;
                }
                Unit::new(number, unit, config.host_address_width, config.frames)
            })
            .collect();
        let buses: Vec<(u16, Vec<u8>)> =
            units.iter().map(|unit| (unit.config.segment, unit.config.buses.clone())).collect();
        for unit in &mut units {
            let others = buses.iter().filter(|(segment, _)| *segment == unit.config.segment);
            unit.buses_of_others = others.flat_map(|(_, buses)| buses.iter().copied()).collect();
        }
        let windows = units.iter().map(|unit| unit.config.window()).collect();
        let all_snoop = units.iter().all(Unit::snoops);
        let random = config.seed.map(Random::new);
        let memory = Memory::new(Arc::clone(&arena), config.frames, all_snoop, random.is_some());
        let forgiven = units.iter().flat_map(|unit| unit.config.forgives.iter().copied()).collect();
        let journal = Journal::new(forgiven);
        let board = Board {
            arena: Arc::clone(&arena),
            memory,
            ram: Ram::default(),
            journal,
            random,
            devices: Devices::default(),
        };
        let state = State { units, board, next_event: u64::MAX, abandoned: false };
        Self { arena, windows, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the registers of the units are, in the order of the configuration.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// A device reads memory. Nothing is read if a page of it is refused.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn dma_read(&self, source: SourceId, address: Iova, buffer: &mut [u8]) -> Result<(), Fault> {
        self.state().transfer_in(address, buffer, |state, at| state.dma(source, at, false))
    }

    /// A device writes memory. Nothing is written if a page of it is refused. A write of 4 bytes to the interrupt range
    /// (0xFEEx_xxxx) is a message and not translated (section 3.15); see [`messages`](Self::messages).
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn dma_write(&self, source: SourceId, address: Iova, bytes: &[u8]) -> Result<(), Fault> {
        let state = &mut *self.state();
        match <[u8; 4]>::try_from(bytes) {
            Ok(data) if INTERRUPTS.contains(&address.as_u64()) => {
                state.message(source, address.as_u64(), u32::from_le_bytes(data))
            }
            _ => state.transfer_out(address, bytes, |state, at| state.dma(source, at, true)),
        }
    }

    /// A device with a device-TLB reads memory: at the physical address that it has cached, or else asks for.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn ats_read(&self, source: SourceId, address: Iova, buffer: &mut [u8]) -> Result<(), Fault> {
        self.state().transfer_in(address, buffer, |state, at| state.ats(source, at, false))
    }

    /// A device with a device-TLB writes memory.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn ats_write(&self, source: SourceId, address: Iova, bytes: &[u8]) -> Result<(), Fault> {
        self.state().transfer_out(address, bytes, |state, at| state.ats(source, at, true))
    }

    /// How a device answers invalidations from now on, and how many it takes at a time (1 to 32).
    pub fn set_device_tlb(&self, source: SourceId, answer: Answer, queue_depth: usize) {
        let state = &mut *self.state();
        let device = state.board.devices.of(source);
        device.answer = answer;
        device.queue_depth = queue_depth;
    }

    /// Reads the memory of cells, or of the driver, as the CPU sees it.
    pub fn peek(&self, address: PhysAddr, buffer: &mut [u8]) {
        self.state().board.fetch(address.as_u64(), buffer);
    }

    /// Writes the memory of cells.
    pub fn poke(&self, address: PhysAddr, bytes: &[u8]) {
        self.state().board.ram.write(address.as_u64(), bytes);
    }

    /// Frames that the driver holds.
    pub fn frames_in_use(&self) -> usize {
        self.state().board.memory.in_use()
    }

    /// Lets the next `count` allocations succeed and all later ones fail; `None` lifts the limit.
    pub fn allow_allocations(&self, count: Option<u64>) {
        self.state().board.memory.allocations_left = count;
    }

    /// Lets a unit go wrong, in addition to what is wrong with it already.
    pub fn break_unit(&self, unit: usize, defect: Defect) {
        if let Some(unit) = self.state().units.get_mut(unit) {
            unit.suffer(defect);
        }
    }

    /// Takes all [`Defect`]s of a unit away.
    pub fn mend_unit(&self, unit: usize) {
        let state = &mut *self.state();
        if let Some(unit) = state.units.get_mut(unit) {
            unit.heal(&mut state.board);
        }
        state.plan();
    }

    /// Sets the 32-bit configuration register at `offset` of a PCI function. All others of it then read as zero, and
    /// those of functions without any as all ones.
    pub fn set_config(&self, function: SourceId, offset: u16, value: u32) {
        self.state().board.devices.set_config(function, offset, value);
    }

    /// Messages that units and devices have sent so far and that got through: address and data. None of a device gets
    /// through while interrupt remapping is on, since the model has no interrupt-remapping table entries yet.
    pub fn messages(&self) -> Vec<(u64, u32)> {
        self.state().board.journal.messages.clone()
    }

    /// The rules that the driver has broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.state().board.journal.violations.clone()
    }

    /// The same, and forgets them, so that the machine may be dropped.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.state().board.journal.violations)
    }

    /// Drops the machine without a check, and returns the rules that were broken up to now.
    pub fn abandon(self) -> Vec<Violation> {
        self.state().abandoned = true;
        self.take_violations()
    }

    /// The last `lines` things that happened, one a line.
    pub fn journal(&self, lines: usize) -> String {
        self.state().board.journal.text(lines)
    }

    /// Looks for what a driver has left undone that says it is done: caches that still hold what memory does not say
    /// any more, tables that are not written back. Each becomes a violation. Call it after an operation of the driver
    /// has returned; units that had a [`Defect`] are left out.
    pub fn settle(&self) {
        let state = &mut *self.state();
        let board = &mut state.board;
        state.units.iter_mut().for_each(|unit| unit.settle(board));
    }

    /// [`settle`](Self::settle)s, and fails the test if the driver broke a rule.
    ///
    /// # Panics
    ///
    /// With the violations and the journal before each.
    pub fn check(&self) {
        self.settle();
        let violations = self.take_violations();
        let report: String = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "the driver broke rules of the hardware:\n{report}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test fails already; this may be why.
            self.violations().iter().for_each(|violation| eprintln!("{violation}"));
        } else if !self.state().abandoned {
            self.check();
        }
    }
}

impl Board {
    fn fetch(&self, address: u64, buffer: &mut [u8]) {
        for (at, byte) in (address..).zip(buffer) {
            match self.memory.index(at) {
                Some(index) => *byte = (self.arena.get(index) >> (8 * (at & 7))) as u8,
                None => self.ram.read(at, std::slice::from_mut(byte)),
            }
        }
    }

    /// A device's write. The driver's frames are in no memory that a device may have (`Hal::allocate`).
    fn deposit(&mut self, address: u64, bytes: &[u8]) {
        if self.memory.index(address).is_some() {
            self.journal.violation("HAL", format_args!("a device writes to {address:#x}, a frame of the driver"));
        } else {
            self.ram.write(address, bytes);
        }
    }
}

/// Splits a range at page boundaries.
fn pages(address: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut at = address;
    let mut left = len;
    std::iter::from_fn(move || {
        let piece = left.min(4096 - (at & 0xfff) as usize);
        let start = at;
        at = at.wrapping_add(piece as u64);
        left -= piece;
        (piece != 0).then_some((start, piece))
    })
}

// SAFETY: frames are handed out once, aligned to their size and zeroed as the CPU reads them, and pointers to them stay
// valid as long as the machine lives. Each store and load is one access to an atomic word. Time never goes back and
// moves with each look at it. No device of the machine reaches memory of the process.
unsafe impl Hal for Machine {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        let state = &mut *self.state();
        state.board.memory.allocate(order, &mut state.board.journal).map(PhysAddr::new_truncate)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        let state = &mut *self.state();
        let board = &mut state.board;
        let address = frames.as_u64();
        board.journal.push(Event::Free { address, order });
        match board.memory.allocation(address, order) {
            Some(frames) => {
                state.units.iter_mut().for_each(|unit| unit.check_free(frames.clone(), board));
                frames.clone().for_each(|frame| board.memory.check_frame(frame, &mut board.journal));
                board.memory.release(frames);
            }
            None => {
                board.journal.violation("HAL", format_args!("{address:#x}, order {order}, is freed but not allocated"));
            }
        }
    }

    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        let state = &mut *self.state();
        let index = self.arena.index(frame.as_u64()).filter(|index| state.board.memory.is_allocated(*index));
        if index.is_none_or(|index| index % WORDS != 0) {
            let address = frame.as_u64();
            state.board.journal.violation("HAL", format_args!("{address:#x} is no frame that is allocated"));
        }
        self.arena.pointer(index.unwrap_or(0))
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        let state = &mut *self.state();
        let Some(index) = state.word(&self.arena, entry) else { return };
        let board = &mut state.board;
        state.units.iter().for_each(|unit| unit.check_store(index, value, board));
        let old = board.memory.store(index, value, &mut board.journal);
        let snooping = state.units.iter_mut().filter(|unit| unit.snoops());
        snooping.for_each(|unit| unit.store_arrived(index, old, board));
        state.evict();
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        let state = &mut *self.state();
        state.tick(LOAD_NS);
        state.word(&self.arena, entry).map_or(u64::MAX, |index| self.arena.get(index))
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        let state = &mut *self.state();
        if let Some(index) = state.word(&self.arena, first) {
            state.board.memory.write_back(index, bytes, &mut state.board.journal);
        }
    }

    fn fence(&self) {
        let state = &mut *self.state();
        for (line, content) in state.board.memory.fence(&mut state.board.journal) {
            state.arrive(line, content);
        }
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        state.unit(window).map_or(u32::MAX, |(unit, board)| unit.read32(offset, board))
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        state.before_command(window, offset, value);
        if let Some((unit, board)) = state.unit(window) {
            unit.write32(offset, value, board);
        }
        state.plan();
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        state.unit(window).map_or(u64::MAX, |(unit, board)| unit.read64(offset, board))
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        if let Some((unit, board)) = state.unit(window) {
            unit.write64(offset, value, board);
        }
        state.plan();
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.state().board.devices.config(function, offset)
    }

    fn now_ns(&self) -> u64 {
        let state = &mut *self.state();
        state.tick(CLOCK_NS);
        state.board.journal.now
    }

    fn pause(&self) {
        let state = &mut *self.state();
        let wait = state.next_event.saturating_sub(state.board.journal.now);
        state.tick(wait.clamp(PAUSE_NS, LONGEST_PAUSE_NS));
    }
}

impl State {
    /// R11: the queue is on in all units before a root table is set in any.
    fn before_command(&mut self, window: Window, offset: u32, value: u32) {
        let sets_root = self.unit(window).is_some_and(|(unit, _)| unit.sets_root(offset, value));
        if sets_root && !self.units.iter().all(Unit::queue_ready) {
            self.board.journal.violation("R11", "a root table is set while a unit's queue is off");
        }
    }
}
