//! The machine as the driver sees it.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use cofferdam::addr::{PhysAddr, PhysRange, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};

use crate::judge::journal::Event;
use crate::machine::assembly::Machine;
use crate::machine::clock::{CLOCK_NS, LOAD_NS, LOADS_AT_ONCE, LONGEST_PAUSE_NS, PAUSE_NS, REGISTER_NS};
use crate::memory::arena::WORDS;
use crate::memory::frames::FREED;

// SAFETY: frames are handed out once, aligned to their size and zeroed as the CPU reads them, and pointers to them stay
// valid as long as the machine lives. Each store and load is one access to an atomic word. Time never goes back and
// moves with each look at it. No device of the machine reaches memory of the process.
unsafe impl Hal for Machine {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        let state = &mut *self.state();
        let address = state.board.memory.allocate(order, &mut state.board.journal)?;
        if let Some(frames) = state.board.memory.allocation(address, order) {
            let snooping = state.units.iter_mut().filter(|unit| unit.snoops());
            snooping.for_each(|unit| unit.zeroed(frames.clone()));
        }
        Some(PhysAddr::new_truncate(address))
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

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        PhysRange::new(PhysAddr::new_truncate(self.arena.address(0)), self.arena.bytes())?.intersection(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
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
        snooping.for_each(|unit| unit.stores_arrived(index, &[old], board));
        state.evict();
    }

    unsafe fn store_pair(&self, entry: NonNull<[u64; 2]>, value: [u64; 2]) {
        let state = &mut *self.state();
        let Some(index) = state.word(&self.arena, entry.cast()) else { return };
        let board = &mut state.board;
        if !index.is_multiple_of(2) {
            board.journal.violation("HAL", "a store of 16 bytes at an odd word");
            return;
        }
        state.units.iter().for_each(|unit| unit.check_pair(index, value, board));
        let [first, second] = value;
        let old =
            [(index, first), (index + 1, second)].map(|(at, value)| board.memory.store(at, value, &mut board.journal));
        let snooping = state.units.iter_mut().filter(|unit| unit.snoops());
        snooping.for_each(|unit| unit.stores_arrived(index, &old, board));
        state.evict();
    }

    fn has_pair_store(&self) -> bool {
        self.pair_stores.load(Ordering::Relaxed)
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        let value = self.arena.index_of(entry).map_or(FREED, |index| self.arena.get(index));
        // Loads are most of what a driver does, so only some of them look for more than the value: now and then, for
        // time to move on, and where the value is what a freed frame holds.
        let loads = self.loads.fetch_add(1, Ordering::Relaxed);
        if loads < LOADS_AT_ONCE && value != FREED {
            return value;
        }
        self.loads.store(0, Ordering::Relaxed);
        let state = &mut *self.state();
        state.tick(LOAD_NS * loads);
        state.word(&self.arena, entry).map_or(u64::MAX, |index| self.arena.get(index))
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        self.arena.index(at.as_u64()).map(|index| self.arena.get(index))
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        let state = &mut *self.state();
        if let Some(index) = state.word(&self.arena, first) {
            state.board.memory.write_back(index, bytes, &mut state.board.journal);
        }
    }

    fn fence(&self) {
        let state = &mut *self.state();
        let board = &mut state.board;
        for (line, content) in board.memory.fence(board.random.as_mut(), &mut board.journal) {
            state.arrive(line, content);
        }
    }

    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        let index = self.arena.index(memory.first().as_u64())?;
        self.gives_found_memory.load(Ordering::Relaxed).then(|| self.arena.pointer(index))
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        let unit = self.windows().iter().position(|known| *known == window);
        let is_mapped = unit.is_none_or(|unit| {
            self.unmapped.load(Ordering::Relaxed).checked_shr(unit as u32).is_none_or(|bits| bits & 1 == 0)
        });
        is_mapped.then_some(NonNull::dangling())
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        state.unit(registers.window).map_or(u32::MAX, |(unit, board)| unit.read32(offset, board))
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        state.before_command(registers.window, offset, value);
        if let Some((unit, board)) = state.unit(registers.window) {
            unit.write32(offset, value, board);
        }
        state.plan();
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        state.unit(registers.window).map_or(u64::MAX, |(unit, board)| unit.read64(offset, board))
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        let state = &mut *self.state();
        state.tick(REGISTER_NS);
        if let Some((unit, board)) = state.unit(registers.window) {
            unit.write64(offset, value, board);
        }
        state.plan();
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        if !self.buses.may_have(function) {
            return u32::MAX;
        }
        let state = &mut *self.state();
        let (devices, journal) = (&state.board.devices, &mut state.board.journal);
        let Some(device) = devices.get(function) else { return u32::MAX };
        match device.in_reset(journal.now) {
            None => device.shown(offset),
            Some(early) => {
                if early {
                    journal.violation("R49", format_args!("{function} is looked at 100 ms before its reset is over"));
                }
                u32::MAX
            }
        }
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        let state = &mut *self.state();
        let now = state.board.journal.now;
        let device = state.board.devices.of(function);
        if device.in_reset(now).is_some() {
            state.board.journal.violation("R49", format_args!("{function} is written to before its reset is over"));
            return;
        }
        if device.starts_reset(offset, value) {
            let board = &mut state.board;
            state.units.iter().filter(|unit| unit.serves(function)).for_each(|unit| unit.check_reset(function, board));
            if !board.devices.of(function).reset(now) {
                board.journal.violation("R49", format_args!("{function} is reset while it has requests under way"));
            }
            return;
        }
        if device.write(offset, value) == Some(true) {
            let board = &mut state.board;
            let units = state.units.iter().filter(|unit| unit.serves(function));
            units.for_each(|unit| unit.check_ats_on(function, board));
        }
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
